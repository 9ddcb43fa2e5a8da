"""Groups, names, axes and attributes of the tree of a fit."""

import dataclasses

import numpy as np
import torch
import xarray

import probae as pa

CHAINS, DRAWS, D, K = 2, 30, 5, 2


def test_groups_have_the_names_of_sites_and_data(tree, frame):
    dims = {
        f"{group}.{name}": v.dims[2:] for group in tree.children for name, v in tree[group].data_vars.items()
    }
    assert dims == {
        "posterior.loadings": ("feature", "factor"),
        "posterior.noise_variance": ("feature",),
        "posterior.mean": ("feature",),
        "posterior_predictive.x": ("obs", "feature"),
        "sample_stats.lp": (),
        "sample_stats.diverging": (),
        "prior.loadings": ("feature", "factor"),
        "prior.noise_variance": ("feature",),
        "prior_predictive.x": ("obs", "feature"),
        "observed_data.x": (),
        "log_likelihood.x": ("obs",),
        **{f"constant_data.{name}": () for name in tree["constant_data"].data_vars},
    }
    assert tree["observed_data"]["x"].dims == ("obs", "feature")
    assert all(v.dims[:2] == ("chain", "draw") for v in tree["posterior"].data_vars.values())
    for group in ("observed_data", "posterior_predictive"):
        assert tree[group]["feature"].values.tolist() == list("abcde")
        assert tree[group]["obs"].values.tolist() == list(frame.index)
    assert tree["posterior"]["loadings"].sel(feature="c", factor=1, chain=1, draw=3).dims == ()


def test_draws_are_stored_as_they_were_drawn(run, tree):
    for name, value in run.draws.items():
        assert np.array_equal(tree["posterior"][name].values, value.numpy())
    assert tree["sample_stats"]["diverging"].dtype == bool
    assert "none" in tree["posterior"].attrs["alignment"]


def test_the_root_says_what_was_fitted(tree):
    assert tree.attrs["inference_library"] == "probae"
    assert tree.attrs["fit_warnings"] == "a sentence\nanother"
    assert "log_likelihood_missing" not in tree.attrs


def test_axes_of_length_one_stay(frame, sampler_fit):
    one = sampler_fit(pa.FactorAnalysis(D, 1))
    tree = pa.to_datatree(one, frame.to_numpy(), draws=4)
    assert tree["prior"]["loadings"].shape == (1, 4, D, 1)
    assert tree["posterior"]["loadings"].shape == (CHAINS, DRAWS, D, 1)
    common = pa.to_datatree(sampler_fit(pa.ProbabilisticPCA(D, K)), frame.to_numpy(), draws=4)
    assert common["posterior"]["noise_variance"].dims == ("chain", "draw")
    assert common["prior"]["noise_variance"].dims == ("chain", "draw")


def test_hyperparameters_are_told_from_features_by_name(normal, sampler_fit):
    square = sampler_fit(
        pa.FactorAnalysis(4, 4), loadings_precision=normal(CHAINS, DRAWS, 4), other=normal(CHAINS, DRAWS, 7)
    )
    posterior = pa.to_datatree(square, groups=["posterior"])["posterior"]
    assert posterior["loadings_precision"].dims[2:] == ("factor",)
    assert posterior["noise_variance"].dims[2:] == ("feature",)
    assert posterior["other"].dims[2:] == ("other_dim_0",)


def test_numbers_of_a_prior_are_told_from_factors(sampler_fit):
    """With as many factors as features a scale of loadings, one for each feature, could be taken for factors."""
    run = sampler_fit(pa.FactorAnalysis(4, 4))
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    program = run.model.with_priors(loadings=pa.parameter_priors.Normal(scale))
    tree = pa.to_datatree(dataclasses.replace(run, program=program), groups=["constant_data"])
    assert tree["constant_data"]["loadings_prior_scale"].dims == ("feature",)
    assert np.array_equal(tree["constant_data"]["loadings_prior_scale"].values, scale.numpy())


def test_only_the_groups_asked_for_are_made(run, frame):
    tree = pa.to_datatree(run, frame, groups=["observed_data", "posterior"])
    assert set(tree.children) == {"observed_data", "posterior"}


def test_a_nonlinear_model_has_a_tree_too(quiet_fit):
    x = pa.datasets.linear_factors(40, 4, 2, seed=1).x.float()
    model = pa.Autoencoder(4, 2, decoder=pa.decoders.MLPDecoder(2, 4, hidden=(3,)))
    run = quiet_fit(model, x, pa.SVI(pa.MLPEncoder(4, 2, hidden=(3,)), epochs=2))
    tree = pa.to_datatree(run, x[:5], draws=3)
    assert tree["observed_data"]["x"].dtype == np.float32
    assert tree["posterior_predictive"]["x"].dtype == np.float32
    assert tree["posterior_predictive"]["x"].shape == (1, 3, 5, 4)
    assert tree["log_likelihood"]["x"].dtype == np.float64
    assert tree["log_likelihood"].attrs["importance_draws"] == 1000


def test_one_seed_gives_one_tree_and_leaves_the_state_alone(run, random_state, frame):
    before = random_state()
    one, two = (pa.to_datatree(run, frame, draws=4, latents=True, seed=7).load() for _ in range(2))
    assert random_state() == before
    for group in one.children:
        xarray.testing.assert_equal(one[group].to_dataset(), two[group].to_dataset())
    other = pa.to_datatree(run, frame, draws=4, latents=True, seed=8)
    for group, name in (("posterior", "z"), ("posterior_predictive", "x"), ("prior", "loadings")):
        assert not np.array_equal(one[group][name].values, other[group][name].values)
