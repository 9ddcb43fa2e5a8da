"""The posterior of the factors over draws of the parameters, against single models and dense mixtures."""

import pytest
import torch

import probae as pa
from probae.inference.draws_posterior import DrawsPosterior

NAN = float("nan")


def parameters(draws=3, features=5, latents=2):
    generator = torch.Generator().manual_seed(1)
    loadings = torch.randn(draws, features, latents, generator=generator, dtype=torch.float64)
    noise = torch.rand(draws, features, generator=generator, dtype=torch.float64) + 0.3
    mean = torch.randn(draws, features, generator=generator, dtype=torch.float64)
    return loadings, noise, mean


def models(loadings, noise, mean):
    for w, psi, mu in zip(loadings, noise, mean, strict=True):
        model = pa.FactorAnalysis(*w.shape)
        model.loadings, model.noise_variance, model.mean = w, psi, mu
        yield model


def rows(missing):
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if missing:
        x[0, 1] = x[2, 0] = x[2, 3] = NAN
    return x


@pytest.mark.parametrize("missing", [False, True])
def test_it_is_the_mixture_of_the_posteriors_of_each_draw(missing):
    theta, x = parameters(), rows(missing)
    law = DrawsPosterior(*theta)(x)
    laws = [model.posterior(x) for model in models(*theta)]
    means = torch.stack([each.mean for each in laws])
    variances = torch.stack([each.variance for each in laws])
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    densities = torch.stack([each.log_prob(z) for each in laws])
    torch.testing.assert_close(law.mean, means.mean(0))
    torch.testing.assert_close(law.variance, variances.mean(0) + means.var(0, correction=0))
    torch.testing.assert_close(law.log_prob(z), densities.logsumexp(0) - torch.tensor(3.0).double().log())


@pytest.mark.parametrize("missing", [False, True])
def test_samples_have_its_mean_and_variance(missing):
    law = DrawsPosterior(*parameters())(rows(missing))
    torch.manual_seed(0)
    z = law.sample((20_000,))
    # 16 comparisons at 5 standard errors; the error of a variance is bounded by that of a fourth moment
    error = (law.variance / 20_000).sqrt()
    assert bool(((z.mean(0) - law.mean).abs() < 5 * error).all())
    fourth = (z - law.mean).pow(4).mean(0)
    spread = ((fourth - law.variance.square()) / 20_000).sqrt()
    assert bool(((z.var(0) - law.variance).abs() < 5 * spread).all())


def test_many_draws_are_thinned_evenly():
    loadings, noise, mean = parameters(draws=3000)
    kept = DrawsPosterior.of(loadings, noise, mean)
    assert len(kept.loadings) == 1000
    assert torch.equal(kept.loadings[0], loadings[0])
    assert torch.equal(kept.loadings[-1], loadings[-1])
