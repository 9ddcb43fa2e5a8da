"""Gibbs sampling of the codes: exact laws, invariance of the joint law, and what a posterior promises."""

import math

import pytest
import torch

import probae as pa
from probae import DataError, GibbsPosterior, NotExactError, ParameterError
from probae.inference import gibbs_posterior, scale_conditional
from probae.inference.gibbs_posterior import sweep
from probae.inference.scale_conditional import ScaleConditional
from probae.models import IndependentComponents, LinearFactorModel, SparseCoding
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
    SpikeSlab(0.3, 0.3),
    MultivariateStudentT(5),
    Gaussian(),
    Independent([Laplace(), StudentT(4), Gaussian()]),
    Scaled(Laplace(), 0.7),
]


def one_dimensional(loading, noise, prior=None):
    model = LinearFactorModel(1, 1, prior=Laplace() if prior is None else prior, noise="isotropic")
    model.loadings = torch.full((1, 1), loading, dtype=torch.float64)
    model.noise_variance = torch.tensor(noise, dtype=torch.float64)
    return model


def overcomplete(prior, noise="isotropic", features=2):
    model = LinearFactorModel(features, 3, prior=prior, noise=noise)
    generator = torch.Generator().manual_seed(5)
    model.loadings = torch.randn(features, 3, generator=generator, dtype=torch.float64)
    shape = model.noise_variance.shape
    model.noise_variance = 0.3 + 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    return model


def test_the_mean_of_the_published_case():
    """h Laplace of scale b = 1, s = .5, x = 1: E[h | x] = .773432 (oracles.md). W = sqrt 2 has z of unit variance."""
    found = GibbsPosterior(one_dimensional(2**0.5, 0.25), draws=400, chains=40)(torch.ones(1, 1).double())
    sd = 2**0.5 * found.variance.sqrt().item()
    error = sd / found.effective_sample_size.item() ** 0.5
    assert 2**0.5 * found.mean.item() == pytest.approx(0.773432, abs=4 * error)
    assert error < 0.01


def test_the_posterior_mean_beats_ridge_beats_map():
    """Laplace b = s = 1: risks .6315 < .6667 < .7056, integrated over x by a grid; 10,000 draws leave about .002."""
    model = one_dimensional(2**0.5, 1.0)
    x = torch.linspace(-16, 16, 161, dtype=torch.float64)[:, None]
    weight = model.log_likelihood(x).exp() * 0.2
    assert weight.sum().item() == pytest.approx(1.0, abs=1e-6)
    found = GibbsPosterior(model, draws=250, chains=40)(x)
    mean, variance = 2**0.5 * found.mean[:, 0], 2 * found.variance[:, 0]

    def risk(estimate):
        return (weight * (variance + (estimate - mean).square())).sum().item()

    posterior, ridge, soft = (
        risk(mean),
        risk(x[:, 0] / 1.5),
        risk(x[:, 0].sign() * (x[:, 0].abs() - 1).relu()),
    )
    assert posterior == pytest.approx(0.63153, abs=0.01)
    assert ridge == pytest.approx(0.66667, abs=0.01)
    assert soft == pytest.approx(0.70561, abs=0.01)
    assert posterior < ridge < soft


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
@pytest.mark.parametrize("prior", LAWS, ids=repr)
def test_more_codes_than_features_against_draws_from_the_prior(prior, noise):
    """Moments of 300,000 prior draws weighted by the likelihood, an unrelated route; 5 standard errors of both."""
    model = overcomplete(prior, noise)
    x = torch.tensor([[1.0, -2.0], [0.2, 0.1]], dtype=torch.float64)
    z = prior.sample(300_000, 3).double()
    with torch.no_grad():
        weight = torch.stack([model.likelihood(z).log_prob(row) for row in x]).softmax(1)
    size = 1 / weight.square().sum(1, keepdim=True)
    found = GibbsPosterior(model, draws=100, chains=40)(x)  # many chains cost little: all move at once
    for power, moment in ((1, found.mean), (2, found.variance + found.mean.square())):
        exact = weight @ z**power
        spread = (weight @ z ** (2 * power) - exact.square()).sqrt()
        error = spread * (1 / size + 1 / found.effective_sample_size.clamp_max(4000)).sqrt()
        assert ((moment - exact).abs() < 5 * error + 1e-3).all()


@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("prior", LAWS, ids=repr)
def test_a_sweep_leaves_the_joint_law_as_it_is(prior, features):
    """From exact draws of (z, x), z after three sweeps given x is an exact draw again (Geweke's test, many chains).

    Paired differences of bounded statistics over 20,000 rows, each within 4.5 of its own standard errors; 2 x 7 x 8
    comparisons exceed that by chance once in 1,300 runs.
    """
    model, rows = overcomplete(prior, features=features), 20_000
    W, psi = model.loadings.detach(), model.noise_variance.detach()
    z = prior.sample(rows, 3).double()
    x = z @ W.T + psi.sqrt() * torch.randn(rows, features, dtype=torch.float64)
    law = ScaleConditional(W, psi)
    after = z.clone()
    for _ in range(3):
        after = sweep(prior, law, after, law.whiten(x)).z

    def statistics(z):
        residual = (x - z @ W.T) / psi.sqrt()
        columns = [z.abs().tanh(), (z.abs() < 0.2).double(), residual.square().mean(1, keepdim=True)]
        return torch.cat([*columns, (z[:, :1] * z[:, 1:2]).tanh()], 1)

    difference = statistics(after) - statistics(z)
    error = difference.std(0) / rows**0.5
    assert (difference.mean(0).abs() < 4.5 * error + 1e-12).all()
    assert prior.event_dim or isinstance(prior, Gaussian) or not torch.equal(after, z)


def test_an_orthonormal_dictionary_separates_into_single_codes():
    """W'W = I: each code has the posterior of its own score, whose mean is y - v * noisy_score(y) (Tweedie)."""
    Q = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64))[0]
    model = LinearFactorModel(6, 4, prior=Laplace(), noise="isotropic")
    model.loadings, model.noise_variance = Q, torch.tensor(0.4, dtype=torch.float64)
    x = model.sample(20, seed=0)
    y = x @ Q
    exact = y - 0.4 * Laplace().noisy_score(y, 0.4)
    found = GibbsPosterior(model, draws=100, chains=20)(x)
    error = (found.variance / found.effective_sample_size).sqrt()
    assert ((found.mean - exact).abs() < 5 * error).all()


def test_gaussian_codes_are_independent_draws_of_the_exact_posterior():
    model = pa.LinearFactorModel(5, 3)
    x = model.sample(8, seed=0)
    found, exact = GibbsPosterior(model, draws=400, warmup=0, chains=10)(x), model.posterior(x)
    assert torch.allclose(found.mean, exact.mean, rtol=1e-9)  # Rao-Blackwell: every sweep has the exact mean
    assert torch.allclose(found.variance, exact.variance, rtol=6 * (2 / 4000) ** 0.5)
    assert found.effective_sample_size.mean().item() == pytest.approx(4000, rel=0.1)


def test_the_averaged_mean_varies_less_than_the_draws():
    model = overcomplete(Laplace())
    x = model.sample(200, seed=0)
    long = GibbsPosterior(model, draws=150, chains=40, seed=9)(x).mean
    short = GibbsPosterior(model, draws=50, chains=1)(x)
    averaged, plain = (short.mean - long).square().mean(), (short.draws.mean((0, 1)) - long).square().mean()
    assert averaged < 0.8 * plain


def test_sampling_picks_among_the_draws_of_each_row():
    found = GibbsPosterior(overcomplete(Laplace()), draws=400)(
        torch.tensor([[1.0, 2.0], [3.0, 0.0]]).double()
    )
    z = found.sample((5000,))
    assert z.shape == (5000, 2, 3)
    assert found.sample((2, 3)).shape == (2, 3, 2, 3)
    assert found.sample().shape == (2, 3)
    average = found.draws.mean((0, 1))
    assert ((z.mean(0) - average).abs() < 5 * found.variance.sqrt() / 5000**0.5).all()


def test_one_seed_is_one_result_and_nothing_else_matters(random_state):
    model = overcomplete(Laplace())
    x = model.sample(5, seed=0)
    first = GibbsPosterior(model, draws=20, seed=3)(x)
    torch.manual_seed(77)
    before = random_state()
    again = GibbsPosterior(model, draws=20, seed=3)(x)
    assert random_state() == before
    assert torch.equal(first.draws, again.draws)
    assert torch.equal(first.mean, again.mean)
    assert not torch.equal(first.draws, GibbsPosterior(model, draws=20, seed=4)(x).draws)


def test_rows_in_blocks_and_thinned_draws_agree(monkeypatch):
    model = overcomplete(Laplace())
    x = model.sample(30, seed=0)
    whole = GibbsPosterior(model, draws=200, chains=10)(x)
    monkeypatch.setattr(scale_conditional, "BLOCK", 4 * 10 * 7)  # seven rows a block
    monkeypatch.setattr(gibbs_posterior, "KEPT", 10 * 200 * 30 * 3 // 4)
    parts = GibbsPosterior(model, draws=200, chains=10)(x)
    assert parts.draws.shape == (10, 50, 30, 3)
    error = (whole.variance / whole.effective_sample_size).sqrt()
    assert ((whole.mean - parts.mean).abs() < 5 * 2**0.5 * error).all()


def test_mixing_is_reported():
    found = GibbsPosterior(overcomplete(Laplace()), draws=500, chains=4)(torch.tensor([[1.0, -2.0]]).double())
    assert found.r_hat.shape == found.effective_sample_size.shape == (1, 3)
    assert (found.r_hat < 1.05).all()
    assert (found.effective_sample_size > 100).all()


def test_a_row_of_zeros_has_a_symmetric_posterior():
    model = overcomplete(Laplace())
    found = GibbsPosterior(model, draws=100, chains=20)(torch.zeros(1, 2).double())
    assert (found.mean.abs() < 5 * (found.variance / found.effective_sample_size).sqrt()).all()


def test_duplicate_and_empty_atoms():
    """Codes of one atom twice share it; the code of an empty atom keeps its prior variance of 1."""
    model = SparseCoding(2, 3)
    model.loadings = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    found = GibbsPosterior(model, draws=200, chains=40)(torch.tensor([[3.0, 0.0]]).double())
    size = found.effective_sample_size[0]
    sd = found.variance[0].sqrt()
    assert abs(found.mean[0, 0] - found.mean[0, 1]) < 5 * (sd[0] + sd[1]) / size[:2].min() ** 0.5
    assert abs(found.mean[0, 2]) < 5 * sd[2] / size[2] ** 0.5
    assert found.variance[0, 2].item() == pytest.approx(1.0, abs=5 * (5 / size[2].item()) ** 0.5)


def test_dtype_and_refusals():
    model = overcomplete(Laplace())
    posterior = GibbsPosterior(model, draws=5, warmup=0)
    x = model.sample(3, seed=0)
    found = posterior(x.float())
    assert found.mean.dtype == found.draws.dtype == found.variance.dtype == torch.float32
    with pytest.raises(DataError, match="shape"):
        posterior(x[:, :1])
    with pytest.raises(DataError, match="NaN"):
        posterior(x * math.nan)
    with pytest.raises(NotExactError, match="Gaussian scale mixture"):
        GibbsPosterior(LinearFactorModel(3, 2, prior=Logistic()))
    with pytest.raises(ParameterError, match="model with noise"):
        GibbsPosterior(IndependentComponents(3, 3))
    with pytest.raises(ParameterError, match="draws"):
        GibbsPosterior(model, draws=0)
    with pytest.raises(ParameterError, match="chains"):
        GibbsPosterior(model, chains=0)
