"""The lines are the profiles, the band their error; the legend says how exact they are and hides nothing."""

import inspect
import math

import numpy as np
import pytest
import torch

import probae as pa
from probae.checks import ParameterError
from probae.identifiability.likelihood_ratio import RotationProfile, rotation_profile


def profile(change=None, error=0.0, plane=(0, 1), samples=100, exact=True, stop=180.0):
    degrees = torch.arange(0.0, stop + 1, 5.0, dtype=torch.float64)
    change = torch.zeros_like(degrees) if change is None else change(torch.deg2rad(degrees))
    return RotationProfile(plane, degrees, change, torch.full_like(degrees, error), samples, exact)


PEAKED = profile(lambda angle: -50 * (2 * angle).sin().square(), error=3.0, exact=False)


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_line_is_the_profile():
    ax = pa.plots.rotation(PEAKED)
    [line] = ax.lines
    assert np.array_equal(line.get_xdata(), PEAKED.degrees.numpy())
    assert np.array_equal(line.get_ydata(), PEAKED.change.numpy())
    assert ax.get_xlabel() == "rotation of z[0] and z[1] (degrees)"
    assert ax.get_ylabel() == "change in log-likelihood\n(nats over 100 rows)"


def test_the_band_is_two_sided_95_percent():
    [band] = pa.plots.rotation(PEAKED).collections
    corners = band.get_paths()[0].vertices
    middle = corners[corners[:, 0] == 45.0, 1]
    # norm.ppf(.975) = 1.959964; the change at 45 degrees is -50
    assert (middle.min(), middle.max()) == pytest.approx((-50 - 5.88, -50 + 5.88), abs=1e-3)


def test_gaussian_factors_are_flat_and_look_flat(factors, pupils):
    ax = pa.plots.rotation(rotation_profile(factors, pupils.x))
    assert np.abs(ax.lines[0].get_ydata()).max() < 1e-9
    assert len(ax.collections) == 0
    low, high = ax.get_ylim()
    assert high - low >= 2.0
    assert entries(ax) == ["exact"]


def test_laplace_sources_peak_at_their_axes():
    """Two Laplace sources without noise, turned by 45 degrees, lose 3 / sqrt(2) - 2 = .1213 nats per row.

    With m the smaller and m + e the larger of |z1|, |z2|, the change is (2 sqrt(2) - 2) m - (2 - sqrt(2)) e.
    Here m and e are independent exponentials of mean 1 / sqrt(8) and 1 / sqrt(2), so its standard deviation
    is .51.
    """
    axes = torch.eye(2, dtype=torch.float64)
    data = pa.datasets.linear_factors(2000, 2, 2, noise=0.0, loadings=axes, seed=1)
    sources = pa.fit(pa.IndependentComponents(2, 2), data.x)
    ax = pa.plots.rotation([("Laplace", rotation_profile(sources, data.x)), ("flat", profile())])
    laplace, flat = (line.get_ydata() for line in ax.lines)
    assert laplace[9] == pytest.approx(-0.1213 * 2000, abs=4 * 0.51 * 2000**0.5)
    assert laplace[[0, 18, 36]] == pytest.approx(0.0, abs=1e-8)  # 0, 90 and 180 degrees
    assert np.ptp(flat) == 0
    assert entries(ax) == ["Laplace, 2,000 rows: exact", "flat, 100 rows: exact"]


def test_several_profiles_are_distinguishable_without_colour():
    many = [(f"law {index}", profile(samples=100)) for index in range(8)]
    lines = pa.plots.rotation(many).lines
    looks = {(line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(looks) == 8
    offsets = [line.get_markevery()[0] for line in lines[:4]]
    assert len(set(offsets)) == 4  # markers of equal lines stand apart


def test_the_legend_says_exact_or_monte_carlo_and_what_differs():
    ax = pa.plots.rotation([("Gaussian", profile()), ("Laplace", PEAKED)])
    assert entries(ax) == ["Gaussian: exact", "Laplace: Monte Carlo, 95 % shaded"]
    ax = pa.plots.rotation([("Gaussian", profile(plane=(0, 2), samples=7)), ("Laplace", PEAKED)])
    assert entries(ax) == [
        "Gaussian, z[0] and z[2], 7 rows: exact",
        "Laplace, z[0] and z[1], 100 rows: Monte Carlo, 95 % shaded",
    ]
    assert ax.get_xlabel() == "rotation of two factors (degrees)"
    assert ax.get_ylabel() == "change in log-likelihood\n(nats)"


@pytest.mark.parametrize("count", [1, 6])
def test_the_legend_covers_no_part_of_the_plot_and_stays_on_the_figure(count):
    ax = pa.plots.rotation([(f"law {index}", PEAKED) for index in range(count)])
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1
    assert legend.y1 <= ax.figure.bbox.y1
    assert legend.x1 <= ax.figure.bbox.x1


def test_impossible_angles_leave_the_axis_finite():
    """A bounded law without noise rules out most rotations: their log-likelihood is minus infinity."""
    walls = profile(lambda angle: torch.where((2 * angle).sin().abs() < 1e-6, 0.0, -math.inf))
    ax = pa.plots.rotation(walls)
    assert np.isfinite(ax.get_ylim()).all()
    ax.figure.draw_without_rendering()


def test_ticks_are_round_angles():
    ax = pa.plots.rotation(profile())
    shown = [tick for tick in ax.get_xticks() if 0 <= tick <= 180]
    assert shown == [0, 30, 60, 90, 120, 150, 180]
    assert len(pa.plots.rotation(profile(stop=10.0)).get_xticks()) >= 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ([], "got an empty one"),
        ([PEAKED], "got a list with RotationProfile"),
        ([("Laplace", 3.0)], r"got a list with tuple \('Laplace', 3.0\)"),
        ("Laplace", "got str"),
        (3.0, "got float"),
    ],
)
def test_what_is_no_profile_is_refused(wrong, sentence):
    with pytest.raises(ParameterError, match=f"profile should be a RotationProfile.*{sentence}"):
        inspect.unwrap(pa.plots.rotation)(wrong)
