"""Importance sampling on the scores, against quadrature and the separable closed form."""

import math

import pytest
import torch

from probae import DataError
from probae.inference.importance import (
    ImportancePosterior,
    differentiable_scores,
    standard_draws,
    weighted_draws,
)
from probae.models import FactorAnalysis, LinearFactorModel, SparseCoding
from probae.models.marginal import Scores
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    SpikeSlab,
    StudentT,
    Uniform,
)

PRIORS = [Laplace(), StudentT(4), Logistic(), GeneralizedNormal(3.0), Uniform(), SpikeSlab()]


def model_with(prior, features=5, latents=1, noise="diagonal"):
    generator = torch.Generator().manual_seed(2)
    model = LinearFactorModel(features, latents, prior=prior, noise=noise)
    model.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    if noise == "diagonal":
        model.noise_variance = 0.5 + torch.rand(features, generator=generator, dtype=torch.float64)
    return model


def standard_error(draws, log_scale=True):
    """Of log mean w by the delta method: sd(w) / (mean w sqrt S)."""
    weights = draws.weights * len(draws.draws)
    return weights.std(0) / len(draws.draws) ** 0.5


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_evidence_against_the_exact_one_latent_likelihood(prior):
    """20 rows, each within five of its own standard errors."""
    model = model_with(prior)
    x = model.sample(20, seed=0)
    posterior = ImportancePosterior(model, count=4000, seed=1)
    error = posterior.log_likelihood(x) - model.log_likelihood(x)
    assert (error.abs() < 5 * standard_error(posterior(x)) + 1e-9).all()
    assert error.abs().max() < 0.5


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_moments_against_quadrature(prior):
    """E[z given x] and its variance by the trapezium rule on the joint density."""
    model = model_with(prior)
    x = model.sample(5, seed=3)
    grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    joint = torch.stack([model.log_joint(row.expand(len(grid), -1), grid[:, None]) for row in x], 1).softmax(
        0
    )
    mean = (joint * grid[:, None]).sum(0)
    variance = (joint * (grid[:, None] - mean).square()).sum(0)
    draws = ImportancePosterior(model, count=20_000)(x)
    size = draws.effective_sample_size
    assert ((draws.mean[:, 0] - mean).abs() < 5 * (variance / size).sqrt() + 1e-3).all()
    assert ((draws.variance[:, 0] / variance - 1).abs() < 5 * (4 / size).sqrt() + 1e-2).all()


def test_evidence_against_the_separable_closed_form():
    """W' Psi^-1 W diagonal with four unequal laws."""
    prior = Independent([Laplace(), StudentT(5), GeneralizedNormal(3.0), Gaussian()])
    model = LinearFactorModel(6, 4, prior=prior)
    psi = torch.tensor([0.2, 0.4, 0.6, 0.3, 0.5, 0.7], dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64))[0]
    model.loadings = psi.sqrt()[:, None] * U * torch.tensor([3.0, 2.0, 1.0, 2.0], dtype=torch.float64)
    model.noise_variance = psi
    x = model.sample(50, seed=0)
    posterior = ImportancePosterior(model, count=4000)
    error = posterior.log_likelihood(x) - model.log_likelihood(x)
    assert (error.abs() < 5 * standard_error(posterior(x)) + 1e-9).all()
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize("latents", [1, 2, 6, 12])
def test_a_gaussian_prior_gives_the_gaussian_answers(latents):
    """The same machine on a model with closed forms."""
    model = model_with(Gaussian(), features=14, latents=latents)
    x = model.sample(10, seed=0)
    draws = ImportancePosterior(model, count=5000)(x)
    exact = model.posterior(x)
    size = draws.effective_sample_size
    assert (size > 50).all()
    sd = exact.variance.sqrt()
    assert ((draws.mean - exact.mean).abs() < 5 * sd / size.sqrt()[:, None]).all()
    error = ImportancePosterior(model, count=5000).log_likelihood(x) - model.log_likelihood(x)
    assert (error.abs() < 5 * standard_error(draws)).all()


def test_proposal_density_is_normalised():
    """With p = q every weight is one: replace the target by the Student proposal through its own density."""
    scores = Scores(
        torch.zeros(1, 2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
    )
    draws = standard_draws(200_000, 1, 2, torch.Generator().manual_seed(0))
    _, weights = weighted_draws(MultivariateStudentT(8), scores, draws)
    ones = (weights - (weights.logsumexp(0) - math.log(len(draws)))).exp()
    assert ones.mean().item() == pytest.approx(1.0, rel=1e-9)
    evidence = weights.logsumexp(0) - math.log(len(draws))
    grid = torch.linspace(-10, 10, 801, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    gaussian = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    exact = (MultivariateStudentT(8).log_prob(z) + gaussian).logsumexp(0) + 2 * math.log(0.025)
    assert evidence.item() == pytest.approx(exact.item(), abs=5 * ones.std().item() / len(draws) ** 0.5)


def test_the_same_rows_give_the_same_draws():
    model = model_with(Laplace())
    x = model.sample(4, seed=0)
    posterior = ImportancePosterior(model, seed=3)
    assert torch.equal(posterior(x).draws, posterior(x).draws)
    assert torch.equal(posterior.log_likelihood(x), posterior.log_likelihood(x))
    assert not torch.equal(posterior(x).draws, ImportancePosterior(model, seed=4)(x).draws)


def test_blocks_of_rows_agree_with_one_block(monkeypatch):
    from probae.inference import importance

    model = model_with(Laplace())
    x = model.sample(40, seed=0)
    posterior = ImportancePosterior(model, count=2000)
    whole = posterior.log_likelihood(x)
    monkeypatch.setattr(importance, "CHUNK", 2000 * 7)
    parts = posterior.log_likelihood(x)
    assert parts.shape == (40,)
    assert torch.allclose(whole, parts, atol=0.2)


def test_resampled_draws_follow_the_weights():
    model = model_with(Laplace())
    draws = ImportancePosterior(model, count=500)(model.sample(3, seed=0))
    z = draws.sample((20_000,))
    assert z.shape == (20_000, 3, 1)
    sd = draws.variance.sqrt()
    assert ((z.mean(0) - draws.mean).abs() < 5 * sd / 20_000**0.5).all()
    assert draws.sample().shape == (3, 1)
    assert draws.sample((2, 4)).shape == (2, 4, 3, 1)


def test_dtype_and_refusals():
    model = model_with(Laplace())
    x = model.sample(3, seed=0)
    posterior = ImportancePosterior(model)
    assert posterior(x.float()).mean.dtype == posterior.log_likelihood(x.float()).dtype == torch.float32
    assert posterior(x).mean.dtype == torch.float64
    with pytest.raises(DataError, match="shape"):
        posterior(x[:, :2])
    x[0, 0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        posterior(x)


def test_differentiable_scores_are_the_scores():
    model = model_with(Laplace(), latents=2)
    x = model.sample(9, seed=0)
    parameters = [p.detach() for p in (model.loadings, model.noise_variance, model.mean)]
    one, two = differentiable_scores(x, *parameters), model.sufficient_scores(x)
    for name in ("values", "covariance", "remainder"):
        assert torch.allclose(getattr(one, name), getattr(two, name), rtol=1e-10)


def test_gradient_of_the_estimate():
    """With fixed draws the estimated likelihood is a smooth function of the parameters: gradcheck."""
    model = model_with(StudentT(5), features=4, latents=2)
    x = model.sample(3, seed=0)
    draws = standard_draws(8, 3, 2, torch.Generator().manual_seed(0))

    def value(loadings, log_noise, mean):
        scores = differentiable_scores(x, loadings, log_noise.exp(), mean)
        return scores.remainder + weighted_draws(model.prior, scores, draws)[1].logsumexp(0)

    point = (model.loadings.detach(), model.noise_variance.detach().log(), model.mean.detach())
    inputs = tuple(p.clone().requires_grad_() for p in point)
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-6)


def test_weights_are_finite_at_a_high_ratio_of_signal_to_noise():
    model = SparseCoding(5, 2)
    model.noise_variance = torch.tensor(1e-8, dtype=torch.float64)
    x = model.sample(20, seed=0)
    draws = ImportancePosterior(model, count=500)(x)
    assert draws.mean.isfinite().all()
    assert (draws.effective_sample_size > 100).all()
    exact = FactorAnalysis(5, 2)
    assert exact.gaussian
