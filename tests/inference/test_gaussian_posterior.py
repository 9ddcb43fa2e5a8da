"""The best Gaussian posterior: its gap to the exact evidence, optimality, and the expected log prior it rests on."""

import pytest
import torch

from probae import GaussianPosterior, NotExactError, ParameterError, VariationalPosterior
from probae.inference import gaussian_posterior
from probae.inference.expected_log_prior import expected_log_prior
from probae.models import LinearFactorModel, SparseCoding
from probae.priors import Gaussian, Independent, Laplace, MultivariateStudentT, Scaled, SpikeSlab, StudentT

LAWS = [Laplace(), StudentT(5), SpikeSlab(0.3, 0.3), Gaussian(), Scaled(Laplace(), 0.7)]


@pytest.mark.parametrize(("s", "gap"), [(0.1, 0.00004), (0.5, 0.00309), (1.0, 0.01321), (2.0, 0.03358)])
def test_the_gap_of_the_best_gaussian(s, gap):
    """sc_vi_gap: nats per dimension for Laplace b = 1 and noise s, averaged over x ~ p(x) by a grid; +-2e-4."""
    model = LinearFactorModel(1, 1, prior=Laplace(), noise="isotropic")
    model.loadings = torch.full((1, 1), 2**0.5, dtype=torch.float64)
    model.noise_variance = torch.tensor(s**2, dtype=torch.float64)
    x = torch.linspace(-25, 25, 2001, dtype=torch.float64)[:, None]
    exact = model.log_likelihood(x)
    shortfall = exact - GaussianPosterior(model).bound(x)
    assert (shortfall > -1e-12).all()
    assert ((exact.exp() * 0.025) @ shortfall).item() == pytest.approx(gap, abs=2e-4)


def test_the_gaps_of_an_orthonormal_dictionary_add_up():
    """W'W = I: four codes have four times the gap of one, row by row."""
    Q = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64))[0]
    model = LinearFactorModel(6, 4, prior=Laplace(), noise="isotropic")
    model.loadings, model.noise_variance = 2**0.5 * Q, torch.tensor(0.25, dtype=torch.float64)
    single = LinearFactorModel(1, 1, prior=Laplace(), noise="isotropic")
    single.loadings, single.noise_variance = torch.tensor([[2**0.5]]).double(), torch.tensor(0.25).double()
    x = model.sample(30, seed=0)
    scores = x @ Q
    one = single.log_likelihood(scores.reshape(-1, 1)) - GaussianPosterior(single).bound(
        scores.reshape(-1, 1)
    )
    together = model.log_likelihood(x) - GaussianPosterior(model).bound(x)
    assert torch.allclose(together, one.view(30, 4).sum(1), atol=1e-6)


@pytest.mark.parametrize("latents", [2, 5])
@pytest.mark.parametrize("prior", LAWS, ids=repr)
def test_the_bound_is_the_elbo_of_the_posterior(prior, latents):
    """E_q [log p(x, z) - log q(z)] by 20,000 draws of q, on average over the rows."""
    model = SparseCoding(3, latents, prior=prior)
    x = model.sample(20, seed=1)
    posterior = GaussianPosterior(model)
    q = posterior(x)
    z = q.sample((20_000,))
    terms = (model.log_joint(x, z).detach() - q.log_prob(z)).mean(1)
    error = terms.std().item() / 20_000**0.5
    assert terms.mean().item() == pytest.approx(posterior.bound(x).mean().item(), abs=5 * error + 1e-6)


@pytest.mark.parametrize("latents", [2, 5])
def test_no_other_gaussian_has_a_higher_elbo(latents):
    """The ELBO of a Laplace prior is concave: nearby laws, with the same exact terms, are all lower."""
    model = SparseCoding(3, latents)
    x = model.sample(10, seed=1)
    W, psi, _ = model._gaussian_parameters()
    posterior = GaussianPosterior(model)
    best = posterior.bound(x)
    q = posterior(x)

    def elbo(mean, covariance):
        expected = expected_log_prior(model.prior, mean, covariance.diagonal(dim1=1, dim2=2).sqrt())
        residual = ((x - mean @ W.T).square() + ((W @ covariance) * W).sum(-1)) / psi
        gaussian = -0.5 * (residual + (2 * torch.pi * psi).log()).sum(1)
        entropy = 0.5 * (torch.logdet(covariance) + latents * (1 + torch.tensor(2 * torch.pi).log()))
        return gaussian + expected.value.sum(1) + entropy

    assert torch.allclose(elbo(q.mean, q.covariance_matrix), best, atol=1e-9)
    for size in (1e-3, 0.1):
        for _ in range(5):
            turn = torch.eye(latents).double() + size * torch.randn(latents, latents, dtype=torch.float64)
            moved = q.mean + size * torch.randn_like(q.mean)
            assert (elbo(moved, turn @ q.covariance_matrix @ turn.T) < best).all()


@pytest.mark.parametrize("latents", [2, 5])
def test_it_is_tighter_than_the_tangents(latents):
    model = SparseCoding(3, latents)
    x = model.sample(50, seed=1)
    assert (GaussianPosterior(model).bound(x) > VariationalPosterior(model).bound(x)).all()


def test_a_gaussian_prior_gives_the_exact_answers():
    model = LinearFactorModel(4, 6)
    x = model.sample(7, seed=0)
    q, exact = GaussianPosterior(model)(x), model.posterior(x)
    assert torch.allclose(GaussianPosterior(model).bound(x), model.log_likelihood(x), rtol=1e-10)
    assert torch.allclose(q.mean, exact.mean, rtol=1e-9, atol=1e-12)
    assert torch.allclose(q.covariance_matrix, exact.covariance_matrix, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prior", [*LAWS, Independent([Laplace(), StudentT(4), Gaussian()])], ids=repr)
def test_the_expected_log_prior_and_its_derivatives(prior):
    """Value by 400,000 draws; slope = -d value / dm and curvature = -2 d value / ds^2 by central differences."""
    m = torch.tensor([[0.0, 0.5, -2.0]], dtype=torch.float64)
    s = torch.tensor([[0.3, 1.0, 0.6]], dtype=torch.float64)
    found = expected_log_prior(prior, m, s)
    z = m + s * torch.randn(400_000, 3, dtype=torch.float64)
    terms = prior.joint_log_prob(z)
    assert found.value.sum().item() == pytest.approx(
        terms.mean().item(), abs=5 * terms.std().item() / 400_000**0.5
    )
    step = 1e-5
    up, down = (expected_log_prior(prior, m + d, s).value for d in (step, -step))
    assert torch.allclose(found.slope, (down - up) / (2 * step), atol=1e-6)
    up, down = (expected_log_prior(prior, m, (s.square() + d).sqrt()).value for d in (step, -step))
    quadrature = not isinstance(prior, (Laplace, Scaled, Gaussian))
    assert torch.allclose(found.curvature, (down - up) / step, atol=1e-3 if quadrature else 1e-6)


def test_blocks_change_nothing(monkeypatch):
    model = SparseCoding(3, 4)
    x = model.sample(20, seed=0)
    whole = GaussianPosterior(model).bound(x)
    monkeypatch.setattr(gaussian_posterior, "BLOCK", 16 * 6)
    assert torch.allclose(GaussianPosterior(model).bound(x), whole, atol=1e-7)  # rows stop at gains of 1e-8


def test_dtype_and_refusals():
    model = SparseCoding(3, 4)
    x = model.sample(4, seed=0)
    posterior = GaussianPosterior(model)
    assert posterior(x.float()).mean.dtype == posterior.bound(x.float()).dtype == torch.float32
    with pytest.raises(NotExactError, match="VariationalPosterior"):
        GaussianPosterior(SparseCoding(3, 4, prior=MultivariateStudentT(5)))
    with pytest.raises(ParameterError, match="tol"):
        GaussianPosterior(model, tol=0.0)
