"""Draws of z in the tree of a fit: of samplers, closed forms, encoders and codes."""

import numpy as np
import pytest
import torch

import probae as pa

D, K = 5, 2


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_latents_of_a_sampler_are_drawn_in_the_frame_of_each_draw(correlation, frame, sampler_fit):
    factors = pa.priors.CorrelatedGaussian(torch.tensor([[1.0, correlation], [correlation, 1.0]]))
    prior = factors if correlation else None
    run = sampler_fit(pa.LinearFactorModel(D, K, prior=prior), draws=100, spread=0.0)
    z = pa.to_datatree(run, frame, latents=True, draws=2)["posterior"]["z"]
    law = pa.LinearFactorModel(D, K, prior=prior)
    for name in law.parameter_names:
        setattr(law, name, run.draws[name][0, 0])
    law = law.posterior(frame)
    # the mean of 200 draws: within 5 of its errors for each of 50 numbers
    error = (law.variance / 200).sqrt().numpy()
    assert (np.abs(z.values.mean((0, 1)) - law.mean.numpy()) < 5 * error).all()
    spread = z.values.var((0, 1)) / law.variance.numpy()
    assert (np.abs(spread - 1) < 5 * np.sqrt(2 / 200)).all()
    assert np.array_equal(z.isel(obs=[4]).values, z.values[:, :, [4]])


def test_a_point_fit_has_draws_of_z_and_its_parameters_are_constants(exact):
    x = pa.datasets.linear_factors(30, D, K, seed=2).x
    tree = pa.to_datatree(exact, x, draws=2000)
    z, law = tree["posterior"]["z"], exact.posterior(x)
    assert z.dims == ("chain", "draw", "obs", "factor")
    # means of 2,000 independent draws
    error = (law.variance / 2000).sqrt().numpy()
    assert (np.abs(z.values.mean((0, 1)) - law.mean.numpy()) < 5 * error).all()
    assert np.array_equal(tree["constant_data"]["loadings"].values, exact.model.loadings.numpy())
    value = tree["log_likelihood"]["x"]
    assert value.shape == (1, 2000, 30)
    assert np.array_equal(value[0, 7].values, exact.model.log_likelihood(x).numpy())
    assert "fixed" in tree["log_likelihood"].attrs["parameters"]
    assert "prior_predictive" not in tree.children


def test_an_encoder_gives_z_and_the_model_the_exact_likelihood(quiet_fit):
    x = pa.datasets.linear_factors(60, D, K, seed=1).x
    run = quiet_fit(pa.FactorAnalysis(D, K), x, pa.SVI(pa.MLPEncoder(D, K, hidden=(4,)), epochs=2))
    tree = pa.to_datatree(run, x, draws=1000)
    law = run.posterior(x)
    error = (law.variance / 1000).sqrt().numpy()
    assert (np.abs(tree["posterior"]["z"].values.mean((0, 1)) - law.mean.numpy()) < 5 * error).all()
    assert "EncoderPosterior" in tree["posterior"].attrs["z"]
    expected = run.model.log_likelihood(x).numpy()
    assert np.array_equal(tree["log_likelihood"]["x"][0, 0].values, expected)


def test_a_point_mass_is_one_draw(quiet_fit):
    model = pa.SparseCoding(4, 3)
    x = model.sample(20, seed=0)
    run = quiet_fit(model, x, pa.MAP(penalty=0.3, steps=2))
    tree = pa.to_datatree(run, x, groups=["posterior", "constant_data"])
    assert np.array_equal(tree["posterior"]["z"][0, 0].values, run.posterior(x).mean.numpy())
    assert tree["posterior"].sizes["draw"] == 1
    assert float(tree["constant_data"]["penalty"]) == 0.3


def test_chains_of_codes_stay_chains(quiet_fit):
    model = pa.SparseCoding(3, 2)
    x = model.sample(4, seed=0)
    run = quiet_fit(model, x, pa.MAP(steps=2))
    object.__setattr__(run, "posterior", pa.HMCPosterior(run.model, draws=5, warmup=5, chains=3))
    tree = pa.to_datatree(run, x, groups=["posterior", "log_likelihood"])
    assert tree["posterior"]["z"].shape == (3, 5, 4, 2)
    assert tree["log_likelihood"]["x"].shape == (3, 5, 4)
