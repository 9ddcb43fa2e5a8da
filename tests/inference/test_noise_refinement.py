"""The noise variance of a dictionary whose atoms stay."""

import pytest
import torch

from probae import NotExactError
from probae.datasets import linear_factors
from probae.inference.noise_refinement import refine_noise
from probae.models import LinearFactorModel, SparseCoding
from probae.priors import Gaussian, Laplace, Logistic, StudentT


def wrong_scale(data, prior=None):
    """The true atoms with another noise variance and scale."""
    features, latents = data.truth["loadings"].shape
    model = SparseCoding(features, latents, prior=prior)
    model.loadings, model.mean = 5 * data.truth["loadings"], data.x.mean(0)
    model.noise_variance = torch.tensor(3.0, dtype=torch.float64)
    return model


@pytest.mark.parametrize("prior", [Laplace(), StudentT(5)], ids=repr)
@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_noise_and_scale_are_those_of_the_truth(noise, prior):
    """8 - 4 dimensions hold nothing but noise: sd sqrt(2 / (2000 * 4)) = .016 of it; 5 of these."""
    data = linear_factors(2000, 8, 4, prior=prior, noise=noise, seed=2)
    model = wrong_scale(data, prior)
    refine_noise(model, data.x)
    assert model.noise_variance.item() == pytest.approx(noise, rel=0.08)
    c = model.loadings.norm() / data.truth["loadings"].norm()
    assert c.item() == pytest.approx(
        1.0, abs=0.06
    )  # the power of heavy-tailed codes: sd of 5 / (2 sqrt(8000))


def test_the_trace_of_the_covariance_is_kept():
    data = linear_factors(3000, 8, 4, noise=0.3, seed=2)
    model = wrong_scale(data)
    refine_noise(model, data.x)
    power = (data.x - model.mean).square().sum(1).mean().item()
    found = model.loadings.square().sum() + 8 * model.noise_variance
    assert found.item() == pytest.approx(power, rel=1e-9)
    cosines = torch.cosine_similarity(model.loadings.detach(), data.truth["loadings"], dim=0)
    assert torch.allclose(cosines, torch.ones(4, dtype=torch.float64))


def test_gaussian_codes_reach_the_maximum_of_the_exact_likelihood():
    """On the curve where the trace is kept; the sampled answer is within .02 in the log, 1e-3 nats."""
    data = linear_factors(1500, 4, 6, prior=Gaussian(), noise=0.5, seed=1)
    model = LinearFactorModel(4, 6, noise="isotropic")
    model.loadings, model.mean = data.truth["loadings"], data.x.mean(0)
    refine_noise(model, data.x)
    found = model.log_likelihood(data.x).mean()
    power = (data.x - model.mean).square().sum(1).mean()
    atoms = data.truth["loadings"] / data.truth["loadings"].norm()
    best = -torch.inf
    for noise in torch.linspace(0.05, 1.5, 291, dtype=torch.float64):
        model.noise_variance, model.loadings = noise, (power - 4 * noise).sqrt() * atoms
        best = max(best, model.log_likelihood(data.x).mean())
    assert (best - found).item() < 1e-3


def test_one_seed_is_one_result_and_the_callers_state_is_untouched(random_state):
    data = linear_factors(300, 5, 7, noise=0.3, seed=2)
    before = random_state()
    values = []
    for seed in (0, 0, 1):
        model = wrong_scale(data)
        refine_noise(model, data.x, seed)
        values.append(model.noise_variance.item())
    assert random_state() == before
    assert values[0] == values[1] != values[2]


def test_a_law_without_scales_is_refused():
    with pytest.raises(NotExactError, match="Gaussian scale mixture"):
        refine_noise(SparseCoding(4, 2, prior=Logistic()), torch.randn(20, 4))
