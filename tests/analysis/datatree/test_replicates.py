"""Simulated rows in the tree of a fit, of the posterior and of the prior."""

import numpy as np
import torch

import probae as pa
from probae.analysis.recipes import SiteDraws

CHAINS, DRAWS, ROWS, D, K = 2, 30, 25, 5, 2


def test_replicates_have_the_moments_of_their_draw(frame, normal, sampler_fit):
    run = sampler_fit(spread=0.0)  # every draw is the same
    tree = pa.to_datatree(run, frame, draws=40)
    x = tree["posterior_predictive"]["x"].values.reshape(-1, D)
    covariance = run.model.loadings @ run.model.loadings.T + torch.eye(D, dtype=torch.float64)
    n = len(x)
    # covariances of n = 1,000 normal rows vary by sqrt((s_ij^2 + s_ii s_jj) / n), means by sqrt(s_ii / n)
    s = covariance.numpy()
    error = np.sqrt((s**2 + np.outer(np.diag(s), np.diag(s))) / n)
    assert (np.abs(np.cov(x.T) - s) < 5 * error).all()
    assert (np.abs(x.mean(0) - run.model.mean.numpy()) < 5 * np.sqrt(np.diag(s) / n)).all()


def test_replicates_carry_the_numbers_of_their_draws(tree, frame, sampler_fit):
    replicates = tree["posterior_predictive"]
    assert replicates.sizes["draw"] * CHAINS == 20
    numbers = replicates["draw"].values
    assert numbers[0] == 0
    assert numbers[-1] == DRAWS - 1
    # without factors or noise a replicate is the mean of its own draw
    still = sampler_fit(draws=DRAWS)
    still.draws["loadings"].zero_()
    still.draws["noise_variance"].fill_(1e-30)
    x = pa.to_datatree(still, frame, draws=20)["posterior_predictive"]["x"]
    mean = still.draws["mean"][:, numbers.tolist()]
    np.testing.assert_allclose(x.isel(obs=3).values, mean.numpy(), atol=1e-12)


def test_the_prior_predictive_comes_from_the_draws_of_the_prior(run, tree):
    again = SiteDraws(run.program, "loadings", ROWS, (0, 0))(torch.arange(20), torch.arange(D))
    assert np.array_equal(tree["prior"]["loadings"][0].values, again.numpy())
    assert tree["prior"].sizes == {"chain": 1, "draw": 20, "feature": D, "factor": K}
    assert "mean" not in tree["prior"].data_vars
    assert "flat" in tree["prior"].attrs["mean"]
    assert float(tree["constant_data"]["loadings_prior_scale"]) == 2.0
