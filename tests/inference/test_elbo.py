"""The bound: its closed forms are the exact divergence, the mean of draws, and Pyro's own analytic bound."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from probae import ELBO, ParameterError
from probae.encoders import LinearGaussianEncoder, MLPEncoder
from probae.encoders.laws import GaussianCode, LowRankCode
from probae.inference.objectives.closed_forms import entropy, expected_likelihood, expected_prior, moments
from probae.inference.training import minibatches
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA
from probae.priors import CorrelatedGaussian, Gaussian, Independent, Laplace, Scaled, StudentT

ENCODERS = {
    "linear": lambda: LinearGaussianEncoder(5, 2),
    "full": lambda: MLPEncoder(5, 2, hidden=(6,)),
    "diagonal": lambda: MLPEncoder(5, 2, hidden=(6,), covariance="diagonal"),
    "low rank": lambda: MLPEncoder(5, 2, hidden=(6,), covariance="low_rank", rank=1),
}
PRIORS = {
    "gaussian": Gaussian(),
    "correlated": CorrelatedGaussian([[1.0, 0.6], [0.6, 1.0]]),
    "laplace": Laplace(),
    "scaled": Scaled(Laplace(), sd=2.0),
    "mixed": Independent([Gaussian(), Laplace()]),
}


@pytest.fixture(scope="module")
def x():
    return torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(params=ENCODERS)
def encoder(request, x):
    found = ENCODERS[request.param]().double()
    found.start(x, torch.Generator().manual_seed(1))
    return found


@pytest.mark.parametrize("model", [FactorAnalysis(5, 2), ProbabilisticPCA(5, 2)], ids=repr)
def test_the_closed_bound_is_the_likelihood_minus_the_divergence(model, encoder, x):
    """log p(x) - KL(q || p(z given x)) from torch's own formula: both exact, so to 1e-10."""
    bound = ELBO()(model, encoder, x)
    q, p = encoder(x), model.posterior(x)
    q = (
        torch.distributions.MultivariateNormal(q.mean, covariance_matrix=torch.diag_embed(q.variance))
        if (getattr(encoder, "covariance", "") == "diagonal")
        else torch.distributions.MultivariateNormal(q.mean, scale_tril=q.scale_tril)
    )
    p = torch.distributions.MultivariateNormal(p.mean, scale_tril=p.scale_tril)
    exact = model.log_likelihood(x) - torch.distributions.kl_divergence(q, p)
    assert torch.allclose(bound, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("prior", PRIORS)
def test_closed_and_drawn_bounds_have_one_expectation(prior, encoder, x):
    """Per row within 5 standard errors of 4000 draws; 30 x 15 comparisons at 5 sigma err once in 4000 suites."""
    model = LinearFactorModel(5, 2, prior=PRIORS[prior])
    with torch.no_grad():
        closed = ELBO()(model, encoder, x)
        torch.manual_seed(3)
        z, log_q = encoder(x).rsample_and_log_prob((4000,))
        drawn = model.log_joint(x, z) - log_q
    error = drawn.std(0) / 4000**0.5
    assert ((closed - drawn.mean(0)).abs() <= 5 * error + 1e-12).all()


def test_a_closed_bound_draws_nothing(encoder, x):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ELBO()(FactorAnalysis(5, 2), encoder, x)
    assert torch.equal(torch.get_rng_state(), before)


class Curved(LinearFactorModel):
    """A model whose likelihood has no closed expectation."""

    def likelihood(self, z):
        return dist.Normal(torch.tanh(z @ self.loadings.mT), 0.7, validate_args=False).to_event(1)

    def log_joint(self, x, z):
        return self.prior.joint_log_prob(z) + self.likelihood(z).log_prob(x)


def test_a_drawn_likelihood_with_a_closed_divergence_is_pyros_mean_field_bound(x):
    """Value and gradient on the same noise to 1e-12: sums of 30 rows in another order."""
    model = Curved(5, 2)
    encoder = MLPEncoder(5, 2, hidden=(6,), covariance="diagonal").double()
    encoder.start(x, torch.Generator().manual_seed(1))
    parameters = [*encoder.parameters()]
    torch.manual_seed(5)
    ours = -ELBO()(model, encoder, x).mean()
    with pyro.settings.context(module_local_params=True):
        torch.manual_seed(5)
        theirs = TraceMeanField_ELBO().differentiable_loss(model, encoder.guide(), x) / len(x)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    for one, two in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True
    ):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-12 * (1 + two.abs().max().item()))


def low_rank_and_full(leaves):
    """The Gaussian law N(m, U U' + diag(d)) of some rows, as itself and with its dense covariance."""
    loc, factor, own = leaves
    dense = torch.linalg.cholesky(factor @ factor.mT + torch.diag_embed(own))
    return LowRankCode(loc, factor, own), GaussianCode(loc, dense)


LINEAR = {
    "isotropic": lambda: ProbabilisticPCA(8, 5),
    "diagonal": lambda: FactorAnalysis(8, 5),
    "laplace": lambda: LinearFactorModel(8, 5, prior=Laplace()),
    "correlated": lambda: LinearFactorModel(
        8, 5, prior=CorrelatedGaussian(0.5 * torch.eye(5, dtype=torch.float64) + 0.5)
    ),
}


@pytest.mark.parametrize("model", LINEAR)
@pytest.mark.parametrize("rank", [1, 2, 5, 7])
def test_a_covariance_of_low_rank_has_the_closed_forms_of_its_dense_one(rank, model):
    """Values and gradients in m, U and d of every part, by two ways to one determinant and trace: 1e-10 of size 10."""
    generator = torch.Generator().manual_seed(rank)
    shapes = ((6, 5), (6, 5, rank), (6, 5))
    loc, factor, own = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    leaves = [one.requires_grad_() for one in (loc, factor, own.exp())]
    rows = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    fitted = LINEAR[model]()
    few, full = (moments(law) for law in low_rank_and_full(leaves))
    torch.testing.assert_close(few.variance, full.variance, rtol=1e-12, atol=0)
    parts = (
        entropy,
        lambda q: expected_prior(fitted.prior, q),
        lambda q: expected_likelihood(fitted, rows, q),
    )
    for part in parts:
        torch.testing.assert_close(part(few), part(full), rtol=1e-10, atol=1e-10)
        slopes = [
            torch.autograd.grad(part(q).sum(), leaves, retain_graph=True, allow_unused=True)
            for q in (few, full)
        ]
        for one, two in zip(*slopes, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_its_divergence_from_the_prior_is_torchs():
    generator = torch.Generator().manual_seed(0)
    shapes = ((6, 5), (6, 5, 2), (6, 5))
    loc, factor, own = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    law, _ = low_rank_and_full((loc, factor, own.exp()))
    zero, one = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    prior = torch.distributions.LowRankMultivariateNormal(zero, torch.zeros(5, 1, dtype=torch.float64), one)
    q = moments(law)
    exact = torch.distributions.kl_divergence(law, prior)
    torch.testing.assert_close(-expected_prior(Gaussian(), q) - entropy(q), exact, rtol=1e-10, atol=0)


def test_its_closed_forms_hold_where_the_dense_covariance_is_singular_to_rounding():
    """U U' of 1e8 beside d of 1e-8: log det S = log(d^(K-1) (d + |U|^2)) by the matrix determinant lemma."""
    factor, own = (
        torch.full((1, 4, 1), 5e3, dtype=torch.float64),
        torch.full((1, 4), 1e-8, dtype=torch.float64),
    )
    q = moments(LowRankCode(torch.zeros(1, 4, dtype=torch.float64), factor, own))
    exact = 3 * math.log(1e-8) + math.log(1e-8 + 4 * 25e6)
    assert 2 * q.half_log_det.item() == pytest.approx(exact, rel=1e-12)


def test_without_a_closed_divergence_every_part_is_drawn_together(encoder, x):
    model = LinearFactorModel(5, 2, prior=StudentT(5))
    torch.manual_seed(2)
    one = ELBO()(model, encoder, x)
    torch.manual_seed(2)
    two = ELBO(analytic=False)(model, encoder, x)
    assert torch.equal(one, two)


def test_missing_entries_are_left_out_and_not_summed(encoder, x):
    """The closed form steps aside; a row without holes keeps its distribution around the closed value."""
    holes = x.clone()
    holes[0, 0] = torch.nan
    q = moments(encoder(x))
    assert expected_likelihood(FactorAnalysis(5, 2), holes, q) is None
    assert ELBO()(FactorAnalysis(5, 2), encoder, holes, seen=x).isfinite().all()


def test_the_closed_bound_is_flat_at_the_exact_posterior(x):
    """It is the maximum over q of a linear model, so the gradient there is 0."""
    model = ProbabilisticPCA(5, 2)
    posterior = model.posterior(x)
    mean, root = posterior.mean.clone().requires_grad_(), posterior.scale_tril.clone().requires_grad_()
    q = moments(GaussianCode(mean, root))
    value = (expected_likelihood(model, x, q) + expected_prior(model.prior, q) + entropy(q)).sum()
    slopes = torch.autograd.grad(value, (mean, root))
    assert slopes[0].abs().max() < 1e-12  # terms of size 10 cancel
    assert slopes[1].tril().abs().max() < 1e-12


@pytest.mark.parametrize("batch", [7, 10, 30])
def test_the_plate_scales_model_and_guide_of_the_same_rows(batch, encoder, x):
    """Pyro's loss of a minibatch of B rows is N times our mean bound of the same rows, on the same noise.

    The mean over the minibatches of an epoch, each weighted by its rows, of that scaled bound is then the bound of all
    rows: exactly so for the closed bound, which draws nothing. Both to 1e-12, the rounding of sums of 30 rows.
    """
    model, whole = FactorAnalysis(5, 2), ELBO()(FactorAnalysis(5, 2), encoder, x).sum().item()
    scaled = 0.0
    parts = list(minibatches(x, batch, torch.Generator().manual_seed(4)))
    assert len(parts) == -(-30 // batch)
    for part in parts:
        scaled += 30 * ELBO()(model, encoder, part).mean().item() * len(part) / 30
        with pyro.settings.context(module_local_params=True):
            torch.manual_seed(0)
            loss = Trace_ELBO().loss(model, encoder.guide(), part, size=30)
        torch.manual_seed(0)
        assert -loss == pytest.approx(
            30 * ELBO(analytic=False)(model, encoder, part).mean().item(), rel=1e-12
        )
    assert scaled == pytest.approx(whole, rel=1e-12)


def test_settings_are_checked(as_installed):
    with pytest.raises(ParameterError, match="analytic"):
        ELBO(analytic="yes")
