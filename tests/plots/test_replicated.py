"""Simulated values are drawn as they are, and the observed ones where they are."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import probae as pa
from probae.analysis.predictive_result import StatisticCheck
from probae.analysis.row_statistics import Correlations, MardiaKurtosis, Mean, Own


def checked(statistic, observed, scale=1.0, features="abcdef"):
    """Fifty simulated values of each entry, standard normal times a scale."""
    observed = torch.as_tensor(observed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    simulated = torch.randn(50, len(observed), generator=generator, dtype=torch.float64) * torch.as_tensor(
        scale
    )
    return StatisticCheck.of(statistic, observed.expand(50, -1), simulated, tuple(features[: len(observed)]))


def points(ax, label):
    lines = {line.get_label(): line for line in ax.lines}
    line = lines.get(label)
    return [] if line is None else list(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_entries_inside_and_outside_their_interval_look_different():
    ax = pa.plots.predictive(checked(Mean(), [0.0, 5.0, 0.2]))
    assert points(ax, "x, inside") == [(0.0, 0), (0.2, 2)]
    assert points(ax, "x, outside") == [(5.0, 1)]
    inside, outside = (line for line in ax.lines)
    assert inside.get_marker() != outside.get_marker()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "c"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first entry on top


def test_intervals_hold_95_percent_of_the_sets():
    check = checked(Mean(), [0.0, 0.0])
    ax = pa.plots.predictive(check)
    (bars,) = ax.collections
    for entry, ((low, _), (high, _)) in enumerate(bars.get_segments()):
        expected = np.quantile(check.replicated[:, entry].numpy(), [0.025, 0.975])
        assert [low, high] == pytest.approx(expected)


def test_columns_in_different_units_are_drawn_in_standard_deviations():
    alike = pa.plots.predictive(checked(Mean(), [1.0, 2.0], [1.0, 2.0]))
    assert alike.get_xlabel() == "mean"
    check = checked(Mean(), [2.0, 2000.0], [1.0, 1000.0])
    ax = pa.plots.predictive(check)
    assert "standard deviations" in ax.get_xlabel()
    drawn = sorted(x for label in ("x, inside", "x, outside") for x, _ in points(ax, label))
    expected = (check.observed - check.replicated.mean(0)) / check.replicated.std(0, correction=0)
    assert drawn == pytest.approx(sorted(expected.tolist()))


def test_only_the_entries_farthest_out_are_drawn_in_their_order():
    observed = torch.zeros(15)
    observed[[3, 11]] = torch.tensor([4.0, -9.0])
    ax = pa.plots.predictive(checked(Correlations(), observed, features="abcdefghijklmno"), largest=2)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a, d", "b, f"]
    assert ax.get_xlabel() == "correlation\nthe 2 of 15 entries farthest out"


def test_one_number_is_drawn_among_the_sets():
    check = checked(MardiaKurtosis(), [1.5])
    ax = pa.plots.predictive(check)
    assert sum(bar.get_height() for bar in ax.patches) == 50
    assert list(ax.lines[0].get_xdata()) == [1.5, 1.5]
    assert f"x (p = {float(check.p_value[0]):.3f})" in [
        text.get_text() for text in ax.get_legend().get_texts()
    ]


def test_the_callers_axes_are_used():
    figure, ax = plt.subplots()
    assert pa.plots.predictive(checked(Mean(), [0.0, 1.0]), ax) is ax
    plt.close(figure)


def test_what_is_refused():
    with pytest.raises(pa.ParameterError, match='check\\["sd"\\]'):
        pa.plots.predictive([1.0])
    with pytest.raises(pa.ParameterError, match="has no value"):
        pa.plots.predictive(checked(Own(len), [float("nan")]))
    with pytest.raises(pa.ParameterError, match="largest"):
        pa.plots.predictive(checked(Mean(), [0.0, 1.0]), largest=0)


def test_sets_of_a_histogram_are_counted_in_whole_numbers():
    check = checked(MardiaKurtosis(), [3.0])
    ax = pa.plots.predictive(replace(check, replicated=check.replicated[:8]))
    assert all(float(tick).is_integer() for tick in ax.get_yticks())
