"""The posterior of factors with random scales, averaged over draws of the parameters."""

import pytest
import torch

import probae as pa
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.priors import Laplace, StudentT

FEATURES, DRAWS = 3, 12


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(latents):
    loadings = torch.tensor([1.0, -0.5, 2.0]).double()[:, None] + 0.3 * normal(DRAWS, FEATURES, latents)
    return loadings, (0.3 * normal(DRAWS, FEATURES, seed=1)).exp(), 0.3 * normal(DRAWS, FEATURES, seed=2)


def exact_moments(prior, x):
    """Mean and variance of one factor of each row by a fine sum over z, averaged over the draws."""
    z = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    loadings, noise, mean = parameters(1)
    residual = x[None, :, None] - mean[:, None, None] - z[:, None] * loadings.mT[:, None]
    energy = -0.5 * (residual.square() / noise[:, None, None]).sum(-1)
    weights = (prior.log_prob(z) + energy).softmax(-1).mean(0)
    first = weights @ z
    return first, weights @ z.square() - first.square()


@pytest.mark.parametrize("prior", [Laplace(), StudentT(3.0)])
def test_moments_are_those_of_the_mixture(prior):
    x = torch.cat([2.0 * normal(4, FEATURES, seed=3), torch.tensor([[6.0, -3.0, 12.0]]).double()])
    model = pa.LinearFactorModel(FEATURES, 1, prior=prior)
    posterior = CodeDrawsPosterior(model, *parameters(1), draws=120, warmup=10)
    law = posterior(x)
    mean, variance = exact_moments(prior, x)
    worth = 2 * DRAWS * 120 / 10  # sweeps of these laws are worth a tenth of independent draws at the least
    assert (law.mean[:, 0] - mean).abs().max() < 5 * (variance.max() / worth) ** 0.5
    # relative standard error of a variance: sqrt((kurtosis - 1) / n), kurtosis below 9
    torch.testing.assert_close(law.variance[:, 0], variance, rtol=5 * (8 / worth) ** 0.5, atol=0.0)


def test_one_seed_gives_one_result_and_the_callers_state_is_kept():
    model, x = pa.SparseCoding(FEATURES, 5), normal(7, FEATURES)
    state = torch.get_rng_state()
    one, same, other = (CodeDrawsPosterior(model, *parameters(5), seed=seed)(x) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.draws, same.draws)
    assert not torch.equal(one.draws, other.draws)
    assert one.draws.shape == (2, 3 * DRAWS, 7, 5)


def test_too_many_draws_are_thinned_after_the_mean_has_counted_them(monkeypatch):
    model, x = pa.SparseCoding(FEATURES, 2), normal(7, FEATURES)
    posterior = CodeDrawsPosterior(model, *parameters(2))
    every = posterior(x)
    monkeypatch.setattr("probae.inference.code_draws_posterior.NUMBERS", every.draws.numel() // 4)
    some = posterior(x)
    assert torch.equal(some.draws, every.draws[:, ::4])
    assert torch.equal(some.mean, every.mean)


def test_answers_have_the_dtype_of_x():
    posterior = CodeDrawsPosterior(pa.SparseCoding(FEATURES, 1), *parameters(1))
    law = posterior(normal(2, FEATURES).float())
    assert law.mean.dtype == law.sample().dtype == torch.float32


def test_draws_are_kept_evenly():
    loadings, noise, mean = normal(1001, 3, 1), normal(1001, 3).exp(), normal(1001, 3)
    kept = CodeDrawsPosterior.of(pa.SparseCoding(3, 1), loadings, noise, mean)
    assert kept.loadings.shape == (200, 3, 1)
    assert torch.equal(kept.loadings[[0, -1]], loadings[[0, -1]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"draws": 0}, "draws"), ({"warmup": -1}, "warmup"), ({"chains": 0}, "chains"), ({"seed": -1}, "seed")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(pa.ParameterError, match=f"{message} should be a whole number"):
        CodeDrawsPosterior(pa.SparseCoding(FEATURES, 1), *parameters(1), **settings)


def test_missing_entries_are_refused():
    posterior = CodeDrawsPosterior(pa.SparseCoding(FEATURES, 1), *parameters(1))
    with pytest.raises(pa.DataError, match="missing"):
        posterior([[1.0, float("nan"), 0.0]])
