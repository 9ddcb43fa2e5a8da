"""Plots of draws: what stands where, intervals of the right share, legends that hide nothing, wrong input refused."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Patch

import probae as pa
from probae.analysis.covariance_residual import CovarianceResidual
from probae.errors import ParameterError
from probae.plots.rank_steps import shares


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loadings(chains=4, draws=100, features=5, latents=2):
    return normal(features, latents, seed=1) + 0.1 * normal(chains, draws, features, latents)


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


MIXING = pa.mixing(loadings())


def test_traces_are_the_chains_in_lanes():
    ax = pa.plots.trace(MIXING, lanes=2)
    chains = [line for line in ax.lines if len(line.get_xdata()) == 100]
    assert len(chains) == 8
    order = MIXING.covariance.r_hat.argsort(descending=True)[:2]
    for lane, number in enumerate(order.tolist()):
        assert labels(ax)[lane] == f"W W'\n{MIXING.covariance.labels[number]}"
        values = MIXING.covariance.draws[..., number].numpy()
        drawn = np.stack([line.get_ydata() for line in chains[4 * lane : 4 * lane + 4]])
        assert np.corrcoef(values.ravel(), drawn.ravel())[0, 1] == pytest.approx(1, abs=1e-12)
        assert np.abs(drawn + lane).max() <= 0.45 + 1e-12  # within its lane
    notes = [text.get_text() for text in ax.texts]
    assert notes[0].startswith(f"R-hat {float(MIXING.covariance.r_hat.max()):.3f}\nbulk ESS ")


def test_long_chains_are_thinned():
    ax = pa.plots.trace(pa.mixing(loadings(draws=4000, features=2, latents=1)), lanes=1)
    assert {len(line.get_xdata()) for line in ax.lines} == {1000}
    assert ax.lines[0].get_xdata()[-1] == 3996


def test_ranks_of_a_shifted_chain_are_high():
    values = normal(3, 100).numpy()
    values[2] += 10
    found = shares(values)
    assert found.shape == (3, 20)
    # the shifted chain has the upper third of the ranks: 3 times the expected count there
    assert np.allclose(found[2, :13], 0)
    assert np.allclose(found[2, 14:], 3)
    assert np.allclose(found.mean(0), 1)
    assert np.allclose(found.mean(1), 1)


def test_rank_steps_stand_about_the_expected_count():
    ax = pa.plots.ranks(MIXING.raw, lanes=1)
    steps = np.stack([patch.get_data().values for patch in ax.patches])
    assert steps.shape == (4, 20)
    assert np.allclose(steps.mean(0), 0, atol=1e-12)  # all ranks together are uniform
    assert np.abs(steps).max() <= 0.42 + 1e-12
    assert labels(ax)[0].startswith("W as drawn\n")
    assert "95 % of independent draws" in entries(ax)


@pytest.mark.parametrize("plot", [pa.plots.trace, pa.plots.ranks])
@pytest.mark.parametrize(("chains", "more"), [(1, []), (6, ["chain 5"]), (12, ["chains 5 to 11"])])
def test_chains_are_named_above_the_plot_by_looks_of_their_own(plot, chains, more):
    ax = plot(pa.mixing(loadings(chains=chains, features=2)))
    ax.figure.draw_without_rendering()
    legend = ax.get_legend()
    assert legend.get_window_extent().y0 >= ax.get_window_extent().y1
    assert legend.get_window_extent().x1 <= ax.figure.bbox.x1
    named = [entry for entry in entries(ax) if entry.startswith("chain")]
    assert named == [f"chain {i}" for i in range(min(chains, 5))] + more
    colours = {
        handle.get_edgecolor() if isinstance(handle, Patch) else handle.get_color()
        for handle in legend.legend_handles[: len(named)]
    }
    assert len(colours) == len(named)


@pytest.mark.parametrize("plot", [pa.plots.trace, pa.plots.ranks])
def test_what_has_not_mixed_is_no_result_or_varies(plot):
    with pytest.raises(ParameterError, match=r"result should be a Mixing, as pa.mixing gives.*got list"):
        inspect.unwrap(plot)([1.0])
    still = pa.mixing(torch.ones(2, 8, 3, 1))
    with pytest.raises(ParameterError, match="a number that varies"):
        plot(still)


def test_the_forest_has_means_and_intervals():
    alignment = pa.align(loadings(), pa.SignedPermutations())
    ax = pa.plots.forest(alignment)
    points = [line for line in ax.lines if line.get_marker() in "os"]
    assert np.allclose(np.stack([p.get_xdata() for p in points], 1), alignment.mean.numpy())
    heights = [p.get_ydata() for p in points]
    assert np.allclose(np.round(heights[0]), np.arange(5))  # a feature's factors stand about its row
    assert (heights[0] < heights[1]).all()
    outer, inner = (np.array([s[:, 0] for s in c.get_segments()]) for c in ax.collections[:2])
    for ends, level in ((outer, 0.9), (inner, 0.5)):
        lower, upper = alignment.interval(level)
        assert np.allclose(ends, np.stack([lower[:, 0], upper[:, 0]], 1), atol=1e-12)
    assert entries(ax) == ["z[0]", "z[1]"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first feature on top


def test_rows_of_the_forest_carry_names_where_they_have_room():
    wide = pa.align(loadings(draws=5, features=200), pa.SignedPermutations())
    ax = pa.plots.forest(wide)
    assert labels(ax) == []
    assert ax.get_ylabel() == "200 features"
    assert labels(pa.plots.forest(pa.align(loadings(), pa.SignedPermutations()))) == ["0", "1", "2", "3", "4"]


def test_factors_of_the_forest_tell_apart_without_colour():
    ax = pa.plots.forest(pa.align(loadings(draws=5, latents=4), pa.SignedPermutations()))
    assert len({line.get_marker() for line in ax.lines if line.get_marker() != "None"}) == 4
    with pytest.raises(
        ParameterError, match=r"alignment should be an Alignment, as pa.align gives, got Tensor"
    ):
        inspect.unwrap(pa.plots.forest)(loadings())


def residual(means, samples=400):
    draws = torch.as_tensor(means).double() + 0.001 * normal(2, 50, len(means))
    pairs = torch.triu_indices(4, 4, offset=1).T[: len(means)]
    return CovarianceResidual(draws, pairs, tuple("abcd"), samples)


def test_largest_residuals_come_first_and_outside_the_band_look_different():
    ax = pa.plots.residuals(residual([0.01, -0.2, 0.05, 0.0, 0.15, -0.09]), pairs=4)
    assert labels(ax) == ["a, c", "b, d", "c, d", "a, d"]
    [band] = ax.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.1, 0.2))  # 2 / sqrt(400)
    shapes = {line.get_marker(): line.get_ydata().tolist() for line in ax.lines if line.get_marker() in "o^"}
    assert shapes == {"^": [0.0, 1.0], "o": [2.0, 3.0]}
    assert ax.get_xlabel().endswith("\nthe 4 largest of 6 pairs")
    assert ax.get_ylabel() == "pair of features"
    assert "pairs" not in pa.plots.residuals(residual([0.01, -0.2, 0.05, 0.0, 0.15, -0.09])).get_xlabel()


def test_residuals_of_something_else_are_refused():
    with pytest.raises(ParameterError, match="result should be a CovarianceResidual"):
        inspect.unwrap(pa.plots.residuals)(3.0)


@pytest.mark.parametrize(
    ("plot", "subject"),
    [
        (pa.plots.trace, MIXING),
        (pa.plots.ranks, MIXING),
        (pa.plots.forest, pa.align(loadings(), pa.SignedPermutations())),
        (pa.plots.residuals, residual([0.1, 0.0])),
    ],
)
def test_axes_of_ones_own_are_drawn_on_and_given_back(plot, subject):
    ax = plt.figure().subplots()
    assert plot(subject, ax) is ax
    with pytest.raises(ParameterError, match="ax should be a matplotlib Axes"):
        inspect.unwrap(plot)(subject, 3)
