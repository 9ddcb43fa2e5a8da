"""The tangent bound of a Gaussian scale mixture: a lower bound at every xi, and the posterior at the best one."""

import pytest
import torch

import probae as pa
from probae import DataError, NotExactError, ParameterError, VariationalPosterior
from probae.inference import scale_conditional
from probae.inference.scale_conditional import ScaleConditional
from probae.inference.variational_posterior import tangent_bound, tangent_variances
from probae.models import FactorAnalysis, IndependentComponents, LinearFactorModel, SparseCoding
from probae.priors import (
    Gaussian,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    Scaled,
    SpikeSlab,
    StudentT,
)

LAWS = [
    Laplace(),
    StudentT(5),
    SpikeSlab(0.3, 0.2),
    MultivariateStudentT(5),
    Gaussian(),
    Independent([Laplace(), StudentT(4), Gaussian()]),
    Scaled(Laplace(), 0.7),
]


def tight_and_loose(prior, features=4):
    model = LinearFactorModel(features, 3, prior=prior, noise="isotropic")
    model.noise_variance = torch.tensor(0.3, dtype=torch.float64)
    return model


@pytest.mark.parametrize("prior", LAWS, ids=repr)
def test_the_tangent_lies_below_the_prior_and_touches_it(prior):
    """log p(z) >= log p(xi) - sum (z^2 - xi^2) / (2 tau) for every z and xi, with equality at z = +-xi."""
    z, xi = (4 * torch.randn(5000, 3, dtype=torch.float64) for _ in range(2))
    xi = xi.abs()
    with torch.no_grad():
        tau = tangent_variances(prior, xi)
        top = prior.joint_log_prob(xi)
        below = top - 0.5 * ((z.square() - xi.square()) / tau).sum(1)
        assert (below <= prior.joint_log_prob(z) + 1e-9).all()
    assert (tau > 0).all()


@pytest.mark.parametrize("prior", LAWS, ids=repr)
def test_the_variance_is_the_mean_precision_of_the_mixture(prior):
    """1 / tau = E[1 / tau | z = xi], by draws of the scales; 5 standard errors."""
    xi = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    drawn = 1 / prior.sample_scales(xi.expand(40_000, 3))
    error = drawn.std(0) / 200
    assert ((drawn.mean(0) - 1 / tangent_variances(prior, xi[None])[0]).abs() < 5 * error + 1e-9).all()


@pytest.mark.parametrize("features", [1, 3, 6])
def test_a_lower_bound_at_any_xi(features):
    """Against the exact likelihood of one code."""
    for prior in (Laplace(), StudentT(4), SpikeSlab(0.3, 0.2)):
        model = LinearFactorModel(features, 1, prior=prior)
        x = model.sample(200, seed=0)
        W, psi, mean = model._gaussian_parameters()
        law = ScaleConditional(W, psi)
        exact = model.log_likelihood(x)
        for scale in (1e-3, 0.1, 1.0, 10.0):
            xi = scale * torch.rand(200, 1, dtype=torch.float64)
            assert (tangent_bound(prior, law, law.whiten(x - mean), xi) <= exact + 1e-9).all()


@pytest.mark.parametrize("prior", LAWS, ids=repr)
def test_the_fixed_point_is_the_best_xi(prior):
    """The gradient of the bound in log xi vanishes there, and every round on the way raised the bound."""
    model = tight_and_loose(prior)
    x = model.sample(20, seed=1)
    W, psi, mean = model._gaussian_parameters()
    law = ScaleConditional(W, psi)
    y = law.whiten(x - mean)
    values = [VariationalPosterior(model, steps=steps).bound(x) for steps in (1, 2, 5, 20)]
    for before, after in zip(values[:-1], values[1:], strict=True):
        assert (after >= before - 1e-10).all()
    q = VariationalPosterior(model, steps=600)(x)
    log_xi = (q.mean.square() + q.variance).sqrt().log().requires_grad_()
    (gradient,) = torch.autograd.grad(tangent_bound(prior, law, y, log_xi.exp()).sum(), log_xi)
    assert gradient.abs().max() < 1e-6


def test_the_bound_is_the_expectation_under_q():
    """ELBO with the tangents in place of the prior: E_q log p(x | z) + tangents + entropy, by 20,000 draws of q."""
    model = tight_and_loose(Laplace())
    x = model.sample(5, seed=1)
    posterior = VariationalPosterior(model, steps=500)
    q = posterior(x)
    z = q.sample((20_000,))
    with torch.no_grad():
        xi = (q.mean.square() + q.variance).sqrt()
        tangent = (model.prior.log_prob(xi) - 0.5 * (z.square() - xi.square()) / q.tau).sum(-1)
        terms = model.likelihood(z).log_prob(x) + tangent - q.log_prob(z)
        exact = model.log_joint(x, z) - q.log_prob(z)
    bound = posterior.bound(x)
    assert ((terms.mean(0) - bound).abs() < 5 * terms.std(0) / 20_000**0.5 + 1e-6).all()
    assert (exact.mean(0) > bound).all()


@pytest.mark.parametrize("features", [2, 5])
def test_a_gaussian_prior_gives_the_exact_answers(features):
    model = LinearFactorModel(features, 3)
    x = model.sample(9, seed=0)
    posterior, exact = VariationalPosterior(model), FactorAnalysis.posterior(model, x)
    q = posterior(x)
    assert torch.allclose(posterior.bound(x), model.log_likelihood(x), rtol=1e-10)
    assert torch.allclose(q.mean, exact.mean, rtol=1e-9, atol=1e-12)
    assert torch.allclose(q.covariance_matrix, exact.covariance_matrix, rtol=1e-9, atol=1e-12)
    z = exact.sample((4,))
    assert torch.allclose(q.log_prob(z), exact.log_prob(z), rtol=1e-9)
    assert torch.allclose(q.entropy(), exact.entropy(), rtol=1e-9)


def test_draws_follow_the_density():
    model = SparseCoding(3, 5)
    q = VariationalPosterior(model)(model.sample(2, seed=0))
    z = q.sample((20_000,))
    assert z.shape == (20_000, 2, 5)
    assert q.sample().shape == (2, 5)
    sd = q.variance.sqrt()
    assert ((z.mean(0) - q.mean).abs() < 5 * sd / 20_000**0.5).all()
    assert torch.allclose(q.covariance_matrix.diagonal(dim1=1, dim2=2), q.variance, rtol=1e-9)
    cross_entropy = -q.log_prob(z)
    assert ((cross_entropy.mean(0) - q.entropy()).abs() < 5 * cross_entropy.std(0) / 20_000**0.5).all()


def test_blocks_change_nothing(monkeypatch):
    model = SparseCoding(3, 5)
    x = model.sample(20, seed=0)
    posterior = VariationalPosterior(model)
    mean, bound = posterior(x).mean, posterior.bound(x)
    monkeypatch.setattr(scale_conditional, "BLOCK", 9 * 6)
    assert torch.allclose(posterior(x).mean, mean, rtol=1e-9, atol=1e-12)
    assert torch.allclose(posterior.bound(x), bound, rtol=1e-12)


def test_dtype_and_refusals():
    model = SparseCoding(3, 5)
    x = model.sample(4, seed=0)
    posterior = VariationalPosterior(model)
    assert posterior(x.float()).mean.dtype == posterior.bound(x.float()).dtype == torch.float32
    assert posterior(x.float()).sample().dtype == torch.float32
    with pytest.raises(DataError, match="shape"):
        posterior(x[:, :2])
    with pytest.raises(NotExactError, match="Gaussian scale mixture"):
        VariationalPosterior(LinearFactorModel(3, 2, prior=Logistic()))
    with pytest.raises(ParameterError, match="model with noise"):
        VariationalPosterior(IndependentComponents(3, 3))
    with pytest.raises(ParameterError, match="steps"):
        pa.VariationalPosterior(model, steps=0)
