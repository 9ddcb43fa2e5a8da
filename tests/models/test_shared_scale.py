"""Factors with one random scale: the integral against scipy, Bayes' rule, no axes, more latents than features."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import torch

from probae import DataError
from probae.linalg import haar_rotation
from probae.models import LinearFactorModel
from probae.models.shared_scale import ScaleRule, shared_scale_log_density, trapezoid_step
from probae.priors import MultivariateStudentT, StudentT

SHAPES = [(5, 2, 5.0), (5, 2, 2.05), (3, 5, 4.0), (4, 1, 60.0), (12, 6, 3.0), (4, 4, 2.5)]


def drawn(features, latents, df, noise="diagonal", seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = LinearFactorModel(features, latents, prior=MultivariateStudentT(df), noise=noise)
    model.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    if noise != "none":
        model.noise_variance = 0.3 + torch.rand(
            model.noise_variance.shape, generator=generator, dtype=torch.float64
        )
    return model


def by_scipy(model, row):
    """log p(x) by adaptive quadrature over log tau, in the coordinates where W W' and the noise are diagonal."""
    df = float(model.prior.df)
    a, b = df / 2, (df - 2) / 2
    loadings, mean = model.loadings.detach().numpy(), model.mean.detach().numpy()
    noise = model.noise_variance.detach().expand(model.features).numpy()
    power, axes = scipy.linalg.eigh(loadings @ loadings.T, np.diag(noise))
    power[: max(model.features - model.latents, 0)] = 0.0  # exactly, so that no scale makes rounding count
    square = (axes.T @ (row.numpy() - mean)) ** 2
    constant = a * math.log(b) - math.lgamma(a) - 0.5 * np.log(2 * np.pi * noise).sum()

    def log_integrand(t):
        spread = 1 + math.exp(t) * power
        return constant - a * t - b * math.exp(-t) - 0.5 * (np.log(spread) + square / spread).sum()

    grid = np.linspace(-15, 25, 801)
    values = [log_integrand(t) for t in grid]
    top, mode = max(values), grid[int(np.argmax(values))]
    ends = mode + np.concatenate([np.arange(-12.0, 12.0), [12.0, 24.0, 40.0]])
    parts = [
        scipy.integrate.quad(lambda t: math.exp(log_integrand(t) - top), *pair, epsabs=1e-11, epsrel=1e-11)[0]
        for pair in itertools.pairwise(ends)
    ]
    return top + math.log(sum(parts))


@pytest.mark.parametrize(("features", "latents", "df"), SHAPES)
def test_the_density_is_the_integral_over_the_scale(features, latents, df):
    """At rows from the middle to a thousand standard deviations out; scipy is asked for 1e-11."""
    model = drawn(features, latents, df)
    direction = torch.randn(features, dtype=torch.float64)
    x = model.mean.detach() + direction * torch.tensor([[0.0], [1.0], [30.0], [1e3]], dtype=torch.float64)
    expected = [by_scipy(model, row) for row in x]
    assert model.log_likelihood(x).tolist() == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_without_signal_the_rows_are_normal():
    x = torch.randn(4, 3, dtype=torch.float64)
    nothing = torch.zeros(3, 2, dtype=torch.float64)
    noise, mean = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    assert torch.allclose(shared_scale_log_density(x, nothing, noise, mean, 3.0), expected, rtol=1e-12)


def test_many_degrees_of_freedom_are_the_gaussian_model():
    """The kurtosis of the law is 6 / (nu - 4), and so is, to an order of magnitude, the difference."""
    model = drawn(5, 2, 1e6)
    gaussian = LinearFactorModel(5, 2)
    for name in model.parameter_names:
        setattr(gaussian, name, getattr(model, name).detach())
    x = gaussian.sample(50, seed=0)
    assert (model.log_likelihood(x) - gaussian.log_likelihood(x)).abs().max() < 1e-3


def test_little_noise_is_the_law_of_x_itself():
    """Square loadings and noise of 1e-10: the density of W z, off by the relative size of the noise."""
    model = drawn(4, 4, 5.0)
    model.noise_variance = torch.full((4,), 1e-10, dtype=torch.float64)
    exact = LinearFactorModel(4, 4, prior=MultivariateStudentT(5.0), noise="none")
    exact.loadings, exact.mean = model.loadings.detach(), model.mean.detach()
    x = exact.sample(50, seed=0)
    assert torch.allclose(model.log_likelihood(x), exact.log_likelihood(x), atol=1e-6)


@pytest.mark.parametrize(("features", "latents", "df"), SHAPES)
def test_bayes_rule(features, latents, df):
    """log p(z) + log p(x | z) - log p(z | x) is log p(x) at every z."""
    model = drawn(features, latents, df)
    x = model.sample(6, seed=0)
    z = 3 * torch.randn(4, 6, latents, dtype=torch.float64)
    found = model.log_joint(x, z) - model.posterior(x).log_prob(z)
    assert torch.allclose(found, model.log_likelihood(x).expand(4, 6), rtol=1e-11)


@pytest.mark.parametrize(("features", "latents"), [(5, 2), (2, 3)])
def test_moments_of_the_posterior(features, latents):
    """Against self-normalised importance sampling from the prior, at five of its standard errors."""
    model = drawn(features, latents, 5.0)
    x = model.sample(3, seed=1)
    z = model.prior.sample(400_000, latents).double()
    posterior = model.posterior(x)
    for row, mean, variance in zip(x, posterior.mean, posterior.variance, strict=True):
        weights = model.likelihood(z).log_prob(row).detach().softmax(0)
        size = 1 / weights.square().sum()
        centre = weights @ z
        spread = weights @ (z - centre).square()
        assert ((mean - centre).abs() < 5 * (spread / size).sqrt()).all()
        fourth = weights @ (z - centre) ** 4
        assert ((variance - spread).abs() < 5 * ((fourth - spread**2) / size).sqrt()).all()


@pytest.mark.parametrize(("features", "latents"), [(5, 2), (2, 3)])
def test_draws_have_the_moments_of_the_posterior(features, latents):
    model = drawn(features, latents, 8.0)
    posterior = model.posterior(model.sample(2, seed=1))
    draws = posterior.sample((60_000,))
    assert draws.shape == (60_000, 2, latents)
    error = (posterior.variance / 60_000).sqrt()
    assert ((draws.mean(0) - posterior.mean).abs() < 5 * error).all()
    # kurtosis of the posterior below 12: standard error of a variance below sqrt(11 / n) of it
    assert torch.allclose(draws.var(0), posterior.variance, rtol=5 * (11 / 60_000) ** 0.5)


def test_outliers_are_shrunk_less():
    """A large row is evidence of a large scale, under which the factors have more variance: no fixed matrix."""
    model = drawn(5, 1, 3.0)
    direction = model.loadings.detach().squeeze(1)
    x = model.mean.detach() + torch.outer(torch.tensor([1.0, 30.0], dtype=torch.float64), direction)
    near, far = model.posterior(x).mean.squeeze(1)
    assert far / 30 > 1.05 * near


@pytest.mark.parametrize("noise", ["diagonal", "isotropic", "none"])
def test_rotations_leave_the_density_of_every_row(noise):
    """Oracle mvt_control: below 1e-12 of each row's log-likelihood, while independent t factors change."""
    model = drawn(4, 4 if noise == "none" else 3, 5.0, noise)
    x = model.sample(200, seed=0)
    rotation = haar_rotation(model.latents, torch.Generator().manual_seed(1))
    before = model.log_likelihood(x)
    loadings = model.loadings.detach()
    model.loadings = loadings @ rotation
    assert ((model.log_likelihood(x) - before) / before).abs().max() < 1e-12
    independent = LinearFactorModel(4, 4, prior=StudentT(5.0), noise="none")
    independent.loadings = torch.eye(4, dtype=torch.float64)
    rows = independent.sample(200, seed=0)
    first = independent.log_likelihood(rows)
    independent.loadings = haar_rotation(4, torch.Generator().manual_seed(1))
    assert (independent.log_likelihood(rows) - first).abs().max() > 1e-3


def test_missing_entries_are_refused():
    model = drawn(3, 1, 5.0)
    with pytest.raises(DataError, match="NaN"):
        model.log_likelihood([[1.0, math.nan, 0.0]])
    with pytest.raises(DataError, match="NaN"):
        model.posterior([[1.0, math.nan, 0.0]])


def test_answers_have_the_dtype_of_x():
    model = drawn(3, 1, 5.0)
    x = torch.randn(4, 3)
    assert model.log_likelihood(x).dtype == torch.float32
    law = model.posterior(x)
    assert {law.mean.dtype, law.variance.dtype, law.sample().dtype} == {torch.float32}
    assert law.log_prob(torch.zeros(4, 1)).dtype == torch.float32
    assert torch.allclose(law.mean, model.posterior(x.double()).mean.float())


def test_weights_sum_to_one_and_the_mean_scale_is_one():
    """E tau = 1; the tail of tau beyond the lattice holds e^-37 of it at 5 degrees of freedom."""
    rule = ScaleRule.of(torch.zeros(1, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), 5.0)
    assert rule.log_weights.exp().sum().item() == pytest.approx(1.0, abs=1e-13)
    assert (rule.log_weights.exp() @ rule.scales).item() == pytest.approx(1.0, abs=1e-8)
    assert rule.log_scales.diff().max().item() == pytest.approx(trapezoid_step(2.5 + 1.0), rel=1e-9)
