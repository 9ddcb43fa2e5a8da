"""Differences and their errors are drawn as they are."""

import pytest
import torch

import probae as pa
from probae.analysis.cross_validation import CrossValidation


def test_differences_from_the_best_with_two_standard_errors():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(120, generator=generator, dtype=torch.float64)
    worse = base - 1 + 0.5 * torch.randn(120, generator=generator, dtype=torch.float64)
    found = pa.compare({"w": CrossValidation(worse, "s", "r"), "b": CrossValidation(base, "s", "r")})
    ax = pa.plots.comparison(found)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "w"]
    (bars,) = ax.containers
    assert bars.lines[0].get_xdata().tolist() == found.difference.tolist()
    low, high = bars.lines[2][0].get_segments()[1][:, 0]
    assert high - low == pytest.approx(4 * float(found.difference_error[1]))
    assert "that of b" in ax.get_xlabel()


def test_anything_else_is_refused():
    with pytest.raises(pa.ParameterError, match="result of compare"):
        pa.plots.comparison({})
