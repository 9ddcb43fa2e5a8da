"""The Gaussian beside p(z given x): the joint density is its product with what is left of the prior."""

import pytest
import torch

from probae import ParameterError
from probae.inference.reference import gaussian_reference
from probae.models import FactorAnalysis, IndependentComponents, LinearFactorModel
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    Scaled,
    SpikeSlab,
    StudentT,
)

PRIORS = [
    Laplace(),
    StudentT(4),
    Logistic(),
    GeneralizedNormal(3.0),
    SpikeSlab(),
    Scaled(Laplace(), sd=3.0),
    Gaussian(),
    MultivariateStudentT(5),
    Independent([Laplace(), Gaussian(), GeneralizedNormal(3.0), StudentT(5)]),
]


def model_with(prior, features=3, latents=4, noise=0.3):
    generator = torch.Generator().manual_seed(2)
    model = LinearFactorModel(features, latents, prior=prior, noise="isotropic")
    model.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    model.noise_variance = torch.tensor(noise, dtype=torch.float64)
    return model


@pytest.mark.parametrize("features", [2, 6])
@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_joint_is_reference_times_ratio(prior, features):
    """log p(x, z) = log N(x; mu, W V W' + Psi) + log N(z; m, Sigma) + log r(z), with more or fewer latents."""
    model = model_with(prior, features)
    x = model.sample(5, seed=0)
    reference = gaussian_reference(model, x)
    z = torch.randn(5, 7, 4, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(
        reference.centre.unsqueeze(1), reference.covariance.unsqueeze(1)
    )
    product = reference.log_evidence.unsqueeze(1) + law.log_prob(z) + reference.log_ratio(z)
    joint = model.log_joint(x, z.transpose(0, 1)).T
    # sums of 20 terms of size 10: 1e-13; the covariance is factored again here, with condition below 1e3
    assert torch.allclose(product, joint, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_slope_is_the_derivative_of_the_ratio(prior):
    model = model_with(prior)
    reference = gaussian_reference(model, model.sample(5, seed=0))
    z = torch.randn(5, 7, 4, dtype=torch.float64)
    step = 1e-6
    for k in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[k] = step
        numeric = (reference.log_ratio(z + shift) - reference.log_ratio(z - shift)) / (2 * step)
        # rounding 1e-15 * 30 / 1e-6 and truncation 1e-12 f'''; no z is within 1e-6 of the kink
        assert torch.allclose(reference.slope(z)[..., k], numeric, rtol=1e-6, atol=1e-6)


def test_gaussian_factors_leave_nothing():
    model = model_with(Gaussian())
    x = model.sample(4, seed=0)
    reference = gaussian_reference(model, x)
    assert torch.allclose(reference.log_evidence, model.log_likelihood(x), atol=1e-12)
    assert reference.log_ratio(torch.randn(4, 3, 4, dtype=torch.float64)).abs().max() < 1e-13
    assert torch.allclose(reference.centre, model.posterior(x).mean, atol=1e-12)


@pytest.mark.parametrize("features", [2, 6])
def test_variance_is_twice_the_fixed_point(features):
    """Laplace: 1 / V = sqrt(2) / xi. The test forms Sigma densely for half of V."""
    model = model_with(Laplace(), features)
    x = torch.cat([model.sample(4, seed=0), 100.0 + torch.zeros(1, features, dtype=torch.float64)])
    half = gaussian_reference(model, x).variance / 2
    precision = model.loadings.T @ model.loadings / model.noise_variance
    sigma = torch.linalg.inv(torch.diag_embed(1 / half) + precision)
    mean = (sigma @ ((x - model.mean) @ model.loadings / model.noise_variance).unsqueeze(2)).squeeze(2)
    size = (mean.square() + sigma.diagonal(dim1=1, dim2=2)).sqrt()
    # the iteration stops at a relative change of 1e-3 in all rows; what is left is a geometric series of such steps
    assert torch.allclose(half, size / 2**0.5, rtol=5e-3)


def test_blocks_are_rows():
    reference = gaussian_reference(model_with(Laplace()), torch.randn(5, 3))
    parts = list(reference.split(2))
    assert [len(part.centre) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.log_evidence for part in parts]), reference.log_evidence)


def test_models_without_a_posterior_density_are_refused():
    with pytest.raises(ParameterError, match="noise"):
        gaussian_reference(IndependentComponents(2, 2), torch.zeros(1, 2))
    import pyro.distributions as dist

    random = FactorAnalysis(2, 1).with_priors(loadings=dist.Normal(0.0, 1.0))
    with pytest.raises(ParameterError, match="carry a prior"):
        gaussian_reference(random, torch.zeros(1, 2))
