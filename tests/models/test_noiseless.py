"""Models without noise: x is an invertible image of z."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from probae import ParameterError, SufficientStatistics
from probae.models import (
    IndependentComponents,
    LinearFactorModel,
)


def test_noiseless_density_is_the_change_of_variables(noiseless_model, assert_close):
    model = noiseless_model
    x = model.sample(7, seed=5)
    loadings, mean = model.loadings.detach().numpy(), model.mean.detach().numpy()
    z = np.linalg.solve(loadings, (x.numpy() - mean).T).T
    joint = stats.multivariate_normal(np.zeros(model.latents), model.factor_correlation.numpy())
    density = {
        "Gaussian": joint.logpdf,
        "CorrelatedGaussian": joint.logpdf,
        "Laplace": lambda z: stats.laplace(scale=1 / math.sqrt(2)).logpdf(z).sum(1),
        "Logistic": lambda z: stats.logistic(scale=math.sqrt(3) / math.pi).logpdf(z).sum(1),
    }[type(model.prior).__name__]
    expected = density(z) - np.linalg.slogdet(loadings)[1]
    assert_close(model.log_likelihood(x), torch.from_numpy(expected), 1e-10)
    assert_close(model.marginal().log_prob(x), torch.from_numpy(expected), 1e-10)
    assert_close(model.posterior(x).mean, torch.from_numpy(z), 1e-10)


def test_noiseless_density_integrates_to_one():
    model = IndependentComponents(1, 1)
    model.loadings, model.mean = (
        torch.tensor([[2.5]], dtype=torch.float64),
        torch.tensor([1.0], dtype=torch.float64),
    )

    def density(x):
        return math.exp(model.log_likelihood(torch.tensor([[x]], dtype=torch.float64)).item())

    assert sum(integrate.quad(density, *ends)[0] for ends in ((-60, 1), (1, 60))) == pytest.approx(
        1.0, abs=1e-8
    )


def test_noiseless_queries_that_need_noise_say_so(noiseless_model):
    x = noiseless_model.sample(7, seed=5)
    z = torch.zeros(7, noiseless_model.latents, dtype=torch.float64)
    with pytest.raises(ParameterError, match='noise="none"'):
        noiseless_model.likelihood(z)
    with pytest.raises(ParameterError, match='noise="none"'):
        noiseless_model.log_joint(x, z)
    with pytest.raises(ParameterError, match='noise="none"'):
        noiseless_model.sufficient_scores(x)


def test_collapsed_without_noise(randomize):
    model = randomize(LinearFactorModel(3, 3, noise="none"))
    x = model.sample(20, seed=5)
    total = model.collapsed(SufficientStatistics.from_data(x))
    assert total.item() == pytest.approx(model.log_likelihood(x).sum().item(), rel=1e-9)


def test_noiseless_model_needs_as_many_latents_as_features():
    with pytest.raises(ParameterError, match="reduce the data"):
        IndependentComponents(4, 3)


def test_a_prior_of_an_absent_parameter_is_refused():
    import pyro.distributions as dist

    with pytest.raises(ParameterError, match="noise_variance"):
        IndependentComponents(3, 3).with_priors(noise_variance=dist.Gamma(1.0, 1.0))
