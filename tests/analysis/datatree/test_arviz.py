"""What ArviZ makes of the tree of a fit."""

import warnings

import arviz_base
import arviz_stats
import numpy as np
import pytest

ROWS = 25


def test_arviz_takes_the_tree(tree):
    table = arviz_stats.summary(tree, var_names=["noise_variance"])
    assert list(table.index) == [f"noise_variance[{name}]" for name in "abcde"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # k-hat of 60 draws
        loo = arviz_stats.loo(tree, pointwise=True)
    assert loo.elpd_i.dims == ("obs",)
    assert loo.n_data_points == ROWS
    stacked = arviz_base.extract(tree, group="posterior_predictive")
    assert stacked.dims == ("obs", "feature", "sample")


@pytest.fixture(name="plots")
def plots_fixture():
    """The plots of ArviZ; what they drew is closed afterwards."""
    yield pytest.importorskip("arviz_plots")
    from matplotlib import pyplot

    pyplot.close("all")


def test_traces_are_the_draws_of_each_chain(run, tree, plots):
    drawn = plots.plot_trace(tree, var_names=["noise_variance"], coords={"feature": ["a", "d"]})
    axes = drawn.viz["plot"]["noise_variance"]
    assert [axis.item().get_title() for axis in axes] == ["noise_variance\na", "noise_variance\nd"]
    for axis, feature in zip(axes, (0, 3), strict=True):
        for chain, line in enumerate(axis.item().lines):
            assert np.array_equal(line.get_ydata(), run.draws["noise_variance"][chain, :, feature].numpy())


def test_a_forest_has_the_mean_of_each_chain_beside_its_feature(run, tree, plots):
    drawn = plots.plot_forest(tree, var_names=["mean"], point_estimate="mean")
    labels = [text.item().get_text() for text in drawn.viz["feature_label"]["mean"]]
    assert labels == list("abcde")
    points = drawn.viz["point_estimate"]["mean"].transpose("chain", "feature")
    places = [[float(point.item().get_offsets()[0, 0]) for point in chain] for chain in points]
    np.testing.assert_allclose(places, run.draws["mean"].mean(1).numpy(), rtol=1e-12)  # sums of 30 numbers


def test_ranks_have_a_line_for_each_chain(tree, plots):
    drawn = plots.plot_rank(tree, var_names=["noise_variance"], coords={"feature": ["a"]})
    assert dict(drawn.viz["ecdf_lines"]["noise_variance"].sizes) == {"feature": 1, "chain": 2}


def test_rows_are_held_against_replicates(tree, plots):
    drawn = plots.plot_ppc_dist(tree, num_samples=5)
    replicates, observed = drawn.viz["predictive_dist"]["x"], drawn.viz["observed_dist"]["x"].item()
    assert replicates.sizes["sample"] == 5
    assert set(replicates["draw"].values) <= set(tree["posterior_predictive"]["draw"].values)
    # the density of the 125 numbers is drawn in equal cells from the least to the largest, at their centres
    x, grid = tree["observed_data"]["x"].values, observed.get_xdata()
    half = np.ptp(x) / len(grid) / 2
    np.testing.assert_allclose(grid[[0, -1]], [x.min() + half, x.max() - half], atol=1e-9)


def test_the_prior_is_wider_than_the_posterior(tree, plots):
    """Draws of the noise variance are exp(.1 e) here, those of its prior inverse gamma with an infinite variance."""
    drawn = plots.plot_prior_posterior(tree, var_names=["noise_variance"], coords={"feature": ["a"]})
    lines = drawn.viz["dist"]["noise_variance"].sel(feature="a")
    widths = {name: np.ptp(lines.sel(group=name).item().get_xdata()) for name in ("prior", "posterior")}
    assert widths["prior"] > widths["posterior"] > 0
