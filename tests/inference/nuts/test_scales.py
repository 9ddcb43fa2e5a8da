"""The density of parameters and scales: against a dense form, differentiated, and with the scales integrated out."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.checks import Data
from probae.inference.nuts.scale_laws import coordinates_of, scale_laws
from probae.inference.nuts.scale_mixture import density_of, log_joint, place_of, target_of
from probae.inference.nuts.scale_start import prior_variances
from probae.inference.nuts.target import mean_law, precision_of
from probae.inference.parameter_draws import in_units
from probae.parameter_priors import Fixed, Flat, HalfNormal, InverseGamma, Normal
from probae.priors import Independent, Laplace, Scaled, StudentT

FEATURES = 4


def table(rows):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    return Data(x * torch.tensor([1.0, 3.0, 0.5, 2.0]) + 1.0, None, None, torch.float64, None)


def problem(prior=None, latents=2, rows=12, isotropic=False, mean=None, noise=None):
    kind = "isotropic" if isotropic else "diagonal"
    model = pa.LinearFactorModel(FEATURES, latents, prior=prior or Laplace(), noise=kind)
    model.mean = torch.linspace(-1, 1, FEATURES).double()
    noise = InverseGamma(2.0, 0.5) if noise is None else noise
    model = model.with_priors(Normal(1.3), noise, Flat() if mean is None else mean)
    return in_units(model.point(), table(rows), "NUTS")


CASES = {
    "Laplace": lambda: problem(),
    "fixed mean": lambda: problem(mean=Fixed()),
    "normal mean, isotropic": lambda: problem(mean=Normal(0.7, 0.3), isotropic=True),
    "half-normal": lambda: problem(noise=HalfNormal(0.8)),
    "more factors than features": lambda: problem(latents=6),
    "t": lambda: problem(StudentT(2.5)),
    "scaled t": lambda: problem(Scaled(StudentT(7.0), 3.0)),
    "laws of their own": lambda: problem(Independent([Scaled(Laplace(), 0.5), StudentT(4.0)])),
}
every = pytest.mark.parametrize("case", CASES)


def density(given):
    place = place_of(given)
    return density_of(target_of(given), precision_of(given.loadings.variance({}), 1, place)[0])


def point(given, seed=0):
    size = place_of(given).size + given.count * given.model.latents
    return 0.8 * np.random.default_rng(seed).standard_normal(size)


def dense(given, theta):
    """log p(x, W, psi, mean, w) with the covariance of every row written out; psi without its Jacobian."""
    latents, place = given.model.latents, place_of(given)
    first, last = FEATURES * latents, FEATURES * latents + place.variances
    W, noise = theta[:first].reshape(FEATURES, latents), theta[first:last].exp()
    mean = theta[last : place.size] if place.sampled_mean else given.fixed_mean
    w = theta[place.size :].reshape(-1, latents)
    shape, power, size = torch.from_numpy(scale_laws(given.model.prior, latents))
    g = torch.nn.functional.softplus(w)
    tau = size * g**power
    covariance = W * tau.unsqueeze(1) @ W.mT + torch.diag(noise.expand(FEATURES))
    value = torch.distributions.MultivariateNormal(mean, covariance).log_prob(given.data.values).sum()
    value = (
        value + (torch.distributions.Gamma(shape, 1.0).log_prob(g) + torch.nn.functional.logsigmoid(w)).sum()
    )
    value = value + given.loadings.log_prob({}, W[None])[0] + given.noise.log_prob(noise).sum()
    location, precision = mean_law(given)
    if place.sampled_mean and bool((precision > 0).all()):
        value = value + torch.distributions.Normal(location, precision.rsqrt()).log_prob(mean).sum()
    return value, noise.log().sum()


@every
def test_value_and_gradient_are_those_of_the_dense_form(case):
    given = CASES[case]()
    evaluate, found, expected = density(given), [], []
    for seed in range(3):
        theta = torch.from_numpy(point(given, seed)).requires_grad_()
        value, jacobian = dense(given, theta)
        (slope,) = torch.autograd.grad(value + jacobian, theta)
        own, gradient = evaluate(theta.detach().numpy())
        # sums of some hundred terms, through covariances of condition below 1e4
        np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-10, atol=1e-10 * float(slope.abs().max()))
        found.append(own)
        expected.append(float((value + jacobian).detach()))
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-10, atol=1e-10)


@every
def test_the_log_joint_of_a_draw_is_the_dense_form(case):
    given = CASES[case]()
    theta = point(given)[None, None]
    loadings, noise, mean = place_of(given).unpack(theta)
    draws = {"loadings": loadings, "noise_variance": noise}
    draws["mean"] = given.fixed_mean.expand(1, 1, FEATURES) if mean is None else mean
    found = log_joint(given, target_of(given), theta, draws)
    expected, _ = dense(given, torch.from_numpy(theta[0, 0]))
    assert float(found) == pytest.approx(float(expected), rel=1e-11)


@pytest.mark.parametrize("prior", [Laplace(), Scaled(Laplace(), 2.0), StudentT(3.0)])
def test_without_the_scale_it_is_the_exact_density_of_x(prior):
    """One row, one factor: the integral over w is the model's closed form, or its quadrature for Student's t."""
    given = problem(prior, latents=1, rows=2, mean=Fixed())
    x, model = given.data.values[:1], pa.LinearFactorModel(FEATURES, 1, prior=prior)
    plain = target_of(given)
    plain = plain._replace(
        noise=np.zeros_like(plain.noise),
        counts=np.ones(1),
        rows=np.ascontiguousarray((x - x).numpy()),
        means=np.ascontiguousarray(x.numpy()),
    )
    evaluate = density_of(plain, np.zeros((1, FEATURES)))
    lattice = np.arange(-60.0, 100.0, 0.1)  # analytic, and below 1e-13 at the ends: the trapezoidal rule
    for seed in range(3):
        theta = np.random.default_rng(seed).standard_normal(2 * FEATURES)
        values = [evaluate(np.append(theta, w))[0] for w in lattice]
        constant = 0.5 * FEATURES * math.log(2 * math.pi) + math.lgamma(plain.laws[0, 0])
        found = np.logaddexp.reduce(values) + math.log(0.1) - constant
        model.loadings = torch.from_numpy(theta[:FEATURES, None])
        model.noise_variance = torch.from_numpy(np.exp(theta[FEATURES:]))
        model.mean = given.fixed_mean
        # the quadrature of the priors is accurate to 1e-10
        assert found == pytest.approx(float(model.log_likelihood(x)), abs=1e-9)


@pytest.mark.parametrize("prior", [Laplace(), StudentT(5.0), Scaled(StudentT(3.0), 2.0)])
def test_scales_of_the_law_make_the_factors(prior):
    """sqrt(tau) N(0, 1) has the law of the prior, and w the law that the density gives it."""
    generator = np.random.default_rng(0)
    shape, power, size = scale_laws(prior, 1)[:, 0]
    g = generator.gamma(shape, size=20_000)
    tau = size * g**power
    z = np.sqrt(tau) * generator.standard_normal(20_000)
    drawn = prior.sample(20_000).numpy()
    assert stats.ks_2samp(z, drawn).pvalue > 1e-4
    w = coordinates_of(torch.from_numpy(tau)[:, None], scale_laws(prior, 1))
    np.testing.assert_allclose(np.logaddexp(0, w), g, rtol=1e-9)
    # relative standard error of a variance: sqrt((kurtosis - 1) / N), kurtosis below 9
    assert np.var(w) == pytest.approx(prior_variances(scale_laws(prior, 1))[0], rel=5 * (8 / 20_000) ** 0.5)


@pytest.mark.parametrize("df", [50.0, 1e4, 1e6, 1e9])
def test_coordinates_of_nearly_normal_factors_have_the_variance_of_their_gamma_law(df):
    """With many degrees of freedom w = g to within e^{-g}, whose variance is df / 2."""
    found = prior_variances(scale_laws(StudentT(df), 1))
    np.testing.assert_allclose(found, df / 2, rtol=1e-6)  # e^{-25} is below 1e-10


def test_far_out_the_density_is_finite_and_falls():
    """Scales of next to nothing, and of hundreds: no overflow on the way, as a trajectory may pass there."""
    given = problem()
    evaluate, theta = density(given), point(given)
    values = []
    for w in (0.0, 40.0, 400.0, -40.0, -400.0):
        theta[-1] = w
        value, gradient = evaluate(theta)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        values.append(value)
    assert values[0] > values[1] > values[2]
    assert values[0] > values[3] > values[4]
