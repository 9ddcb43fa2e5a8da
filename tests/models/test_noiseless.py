"""Models without noise: x is an invertible image of z."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from probae import ParameterError, SufficientStatistics
from probae.models import IndependentComponents, LinearFactorModel
from probae.priors import Gaussian, Independent, Laplace


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


def test_queries_that_need_a_density_of_x_given_z_say_so(invertible_model):
    model = invertible_model
    x = model.sample(7, seed=5)
    z = torch.zeros(7, model.latents, dtype=torch.float64)
    for query in (
        lambda: model.likelihood(z),
        lambda: model.log_joint(x, z),
        lambda: model.sufficient_scores(x),
    ):
        with pytest.raises(ParameterError, match=f'noise="{model.noise}"'):
            query()


def test_collapsed_without_noise(randomize):
    model = randomize(LinearFactorModel(3, 3, noise="none"))
    x = model.sample(20, seed=5)
    total = model.collapsed(SufficientStatistics.from_data(x))
    assert total.item() == pytest.approx(model.log_likelihood(x).sum().item(), rel=1e-9)


@pytest.mark.parametrize("latents", [3, 5])
def test_noiseless_model_needs_as_many_latents_as_features(latents):
    with pytest.raises(ParameterError, match=f"got {latents} latents and 4 features"):
        LinearFactorModel(4, latents, prior=Laplace(), noise="none")


def test_more_sources_than_features_are_refused():
    with pytest.raises(ParameterError, match="got 5 latents and 4 features.*SparseCoding"):
        IndependentComponents(4, 5)


@pytest.mark.parametrize(("latents", "prior"), [(4, Laplace()), (5, Laplace()), (2, None)])
def test_noise_in_the_complement_needs_a_complement_and_sources_with_axes(latents, prior):
    with pytest.raises(ParameterError, match="complement"):
        LinearFactorModel(4, latents, prior=prior, noise="complement")


@pytest.fixture
def complemented(randomize):
    """Two Laplace sources of five features."""
    return randomize(IndependentComponents(5, 2))


def test_density_with_noise_in_the_complement_is_that_of_a_square_model(complemented, assert_close):
    """Gaussian sources sigma U on an orthonormal basis U of the complement make the model square."""
    model = complemented
    loadings, sigma = model.loadings.detach(), model.noise_variance.detach().sqrt()
    basis = torch.linalg.qr(loadings, mode="complete")[0][:, 2:]
    square = LinearFactorModel(
        5, 5, prior=Independent([Laplace(), Laplace(), Gaussian(), Gaussian(), Gaussian()]), noise="none"
    )
    square.loadings, square.mean = torch.cat([loadings, sigma * basis], 1), model.mean.detach()
    x = 3 * torch.randn(20, 5, dtype=torch.float64)
    assert_close(model.log_likelihood(x), square.log_likelihood(x), 1e-12)
    assert_close(model.posterior(x).mean, square.posterior(x).mean[:, :2], 1e-12)


def test_a_prior_of_an_absent_parameter_is_refused():
    import pyro.distributions as dist

    with pytest.raises(ParameterError, match="noise_variance"):
        IndependentComponents(3, 3).with_priors(noise_variance=dist.Gamma(1.0, 1.0))
