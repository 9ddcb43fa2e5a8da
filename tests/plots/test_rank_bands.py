"""The lines are ECDFs of the ranks, the band is that of the test, and the legend names what is flagged."""

import inspect

import numpy as np
import pytest
import torch

import probae as pa
from probae.analysis.uniform_ranks import ecdf_band


def ranked(*spoil):
    """Ranks of five quantities; draws of the first are spoiled, by a scale and a shift each."""
    theta = torch.randn(100, 1000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = theta[1:].clone()
    for k, (scale, shift) in enumerate(spoil):
        draws[..., k] = scale * draws[..., k] + shift
    return pa.Calibration.from_draws(list("abcde"), theta[0], draws)


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def named(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_line_is_the_ecdf_less_the_uniform_one():
    found = ranked((0.8, 0.0))
    line = named(pa.plots.calibration(found))["a, flagged"]
    below = (found.ranks[:, 0] <= 24).double().mean()  # a quarter of 100 ranks
    assert line.get_xdata()[25] == 0.25
    assert line.get_ydata()[25] == pytest.approx(float(below) - 0.25, abs=1e-12)
    assert line.get_ydata()[[0, -1]].tolist() == [0.0, 0.0]


def test_what_the_ecdf_flags_leaves_the_band_and_the_rest_stays_inside():
    """The band is that of the test at its level: to a rank of the simulated null the two decide alike."""
    found = ranked((0.7, 0.0), (1.0, 0.25))
    ax = pa.plots.calibration(found)
    place, half = ecdf_band(1000, 99, 5)
    ecdf = (
        np.cumsum(np.stack([np.bincount(r, minlength=100) for r in found.ranks.T.numpy()]), 1)[:, :-1] / 1000
    )
    outside = (np.abs(ecdf - place) > half).any(1)
    assert outside.tolist() == (found.ecdf < found.level).tolist() == [True, True, False, False, False]
    [band] = ax.collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(half.max())
    assert entries(ax)[:2] == ["band of uniform ranks", "3 quantities, not flagged"]
    assert set(entries(ax)[2:]) == {"a, flagged", "b, flagged"}


def test_a_narrow_posterior_is_above_at_low_ranks_and_one_too_high_is_an_arch_above():
    lines = named(pa.plots.calibration(ranked((0.7, 0.0), (1.0, 0.3))))
    narrow, high = (lines[f"{name}, flagged"].get_ydata() for name in "ab")
    assert narrow[10] > 0 > narrow[90]
    assert (high[5:95] > 0).all()


def test_looks_differ_without_colour():
    lines = named(pa.plots.calibration(ranked((0.7, 0.0), (1.0, 0.3), (1.4, 0.0))))
    assert len({lines[f"{name}, flagged"].get_linestyle() for name in "abc"}) == 3


@pytest.mark.parametrize("spoiled", [0, 5])
def test_the_legend_covers_no_part_of_the_plot_and_stays_on_the_figure(spoiled):
    ax = pa.plots.calibration(ranked(*[(0.6, 0.0)] * spoiled))
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1
    assert legend.y1 <= ax.figure.bbox.y1


def test_what_is_no_calibration_is_refused():
    with pytest.raises(pa.ParameterError, match="result should be a Calibration, .* got list"):
        inspect.unwrap(pa.plots.calibration)([1, 2])
