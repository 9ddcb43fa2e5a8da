"""The collapsed density and its gradient, against differences, against an independent form, and across the gauge."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.checks import Data
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.first import density_of
from probae.inference.nuts.moments import groups_of
from probae.inference.nuts.pyro_engine import log_density
from probae.inference.nuts.target import needs_mean, precision_of, target_of
from probae.inference.parameter_draws import problem_of
from probae.parameter_priors import Fixed, Flat, HalfNormal, InverseGamma, Normal

FEATURES = 5
SCALE = torch.tensor([1.0, 0.5, 2.0, 1.5, 0.8])


def table(rows, missing=False):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64) @ torch.randn(
        FEATURES, FEATURES, generator=generator, dtype=torch.float64
    )
    if not missing:
        return Data(x, None, None, torch.float64, None)
    mask = torch.rand(x.shape, generator=generator) < 0.25
    mask[0] = True  # a row without any value
    return Data(x.masked_fill(mask, torch.nan), None, None, torch.float64, mask)


def problem(latents=2, rows=40, missing=False, isotropic=False, mean=None, noise=None):
    """A problem with priors that differ between features."""
    model = (pa.ProbabilisticPCA if isotropic else pa.FactorAnalysis)(FEATURES, latents)
    noise = InverseGamma(2.0, 0.5) if noise is None else noise
    model.mean = torch.linspace(-1, 1, FEATURES).double()
    model = model.with_priors(
        Normal(1.3 if isotropic else SCALE), noise, mean if mean is not None else Flat()
    )
    return problem_of(model.point(), table(rows, missing), "NUTS")


CASES = {
    "flat": lambda: problem(),
    "fixed": lambda: problem(mean=Fixed()),
    "normal": lambda: problem(mean=Normal(0.7, 0.3)),
    "half-normal": lambda: problem(noise=HalfNormal(0.8)),
    "isotropic": lambda: problem(isotropic=True, mean=Normal(0.7)),
    "one row more than none": lambda: problem(rows=2, mean=Normal(0.7)),
    "more factors than features": lambda: problem(latents=7),
    "missing": lambda: problem(rows=12, missing=True),
    "missing, fixed": lambda: problem(rows=12, missing=True, mean=Fixed()),
    "missing, normal": lambda: problem(rows=70, missing=True, mean=Normal(0.7, -0.2)),
    "missing, isotropic": lambda: problem(rows=12, missing=True, isotropic=True, noise=HalfNormal(0.8)),
}
every = pytest.mark.parametrize("case", CASES)


def coordinates(given, gauge):
    settings = {"isotropic": given.isotropic, "sampled_mean": needs_mean(given)}
    if not gauge:
        return Coordinates.raw(FEATURES, given.model.latents, **settings)
    loadings = torch.randn(FEATURES, given.model.latents, generator=torch.Generator().manual_seed(3))
    return Coordinates.gauged(loadings.double(), **settings)


def density(given, place):
    return density_of(target_of(given, place), precision_of(given.loadings.variance({}), 1, place)[0])


def points(place, count, seed=0):
    return 0.6 * np.random.default_rng(seed).standard_normal((count, place.size))


@every
@pytest.mark.parametrize("gauge", [False, True])
def test_the_gradient_is_that_of_the_value(case, gauge):
    given = CASES[case]()
    place = coordinates(given, gauge)
    evaluate, theta = density(given, place), points(place, 1)[0]
    step = 1e-5
    moved = step * np.eye(place.size)
    differences = [(evaluate(theta + m)[0] - evaluate(theta - m)[0]) / (2 * step) for m in moved]
    value, gradient = evaluate(theta)
    # rounding of the value over the step, and the third derivative times its square, each at most a few of these
    error = 1e2 * abs(value) * 2.2e-16 / step + 1e2 * np.abs(gradient).max() * step**2
    np.testing.assert_allclose(differences, gradient, rtol=0, atol=error)


def integrated(given, loadings, log_noise):
    """The independent density with a random mean integrated out by its exact Gaussian integral."""
    groups = groups_of(given.data)
    if isinstance(given.mean, Fixed):
        return log_density(given, groups, loadings, log_noise, given.fixed_mean)

    def of_mean(mean):
        return log_density(given, groups, loadings, log_noise, mean)

    zero = torch.zeros(FEATURES, dtype=torch.float64)
    curvature = -torch.autograd.functional.hessian(of_mean, zero)
    slope = torch.autograd.functional.jacobian(of_mean, zero)
    best = torch.linalg.solve(curvature, slope)  # of a quadratic, one step
    return of_mean(best) + 0.5 * (FEATURES * math.log(2 * math.pi) - curvature.logdet())


@every
def test_it_is_the_independent_form_up_to_a_constant(case):
    given = CASES[case]()
    place = coordinates(given, gauge=False)
    evaluate = density(given, place)
    found, expected = [], []
    for theta in points(place, 4):
        loadings, noise, mean = place.unpack(theta)
        found.append(evaluate(theta)[0])
        if mean is None:
            expected.append(integrated(given, loadings, noise.log()))
        else:
            expected.append(log_density(given, groups_of(given.data), loadings, noise.log(), mean))
    found, expected = np.array(found), torch.stack(expected).numpy()
    # two ways to sum some hundred terms, through a Cholesky factor of condition below 1e3
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-10, atol=1e-9)


@every
def test_the_gauge_is_the_density_of_the_loadings_times_a_jacobian(case):
    """p(L, Q) = p(W) prod_i L_ii^(K-i): for log L_ii the exponent is K - i + 1, for L_KK of either sign 0."""
    given = CASES[case]()
    gauge, raw = coordinates(given, gauge=True), coordinates(given, gauge=False)
    for theta in points(gauge, 3):
        loadings, noise, mean = gauge.unpack(theta)
        turned = gauge.turned(loadings[None], torch.Generator().manual_seed(1))[0]
        jacobian = 0.0
        for index, pivot in enumerate(gauge.order[: gauge.columns]):
            if index + 1 < given.model.latents:
                jacobian += (given.model.latents - index) * float(loadings[pivot, index].log())
        expected = density(given, raw)(raw.pack(turned, noise, mean))[0] + jacobian
        assert density(given, gauge)(theta)[0] == pytest.approx(expected, rel=1e-11)


def test_without_data_the_diagonal_of_the_gauge_is_chi():
    given = problem(latents=3)
    place = Coordinates.gauged(torch.eye(FEATURES, 3).double(), isotropic=False)
    target = target_of(given, place)
    empty = target._replace(counts=np.zeros(1), scatter=np.zeros((FEATURES, FEATURES)))
    evaluate = density_of(empty, np.ones((3, FEATURES)))
    start = points(place, 1)[0]
    rows, columns = place.entries
    for index in range(3):
        where = int(np.flatnonzero((rows == index) & (columns == index))[0])
        values = np.linspace(-2.0, 1.5, 5)
        found = []
        for value in values:
            start[where] = value
            found.append(evaluate(start)[0])
        if index < 2:
            expected = stats.chi(3 - index).logpdf(np.exp(values)) + values
        else:
            expected = stats.norm.logpdf(values)  # chi of one degree of freedom, with a sign
        np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-9, atol=1e-10)


def test_loadings_of_the_gauge_law_turned_at_random_are_normal():
    """Bartlett's decomposition: entries of L Q have moments 0, 1, 3 and no correlation."""
    generator = np.random.default_rng(0)
    place = Coordinates.gauged(torch.randn(4, 3).double(), isotropic=True)
    rows, columns = place.entries
    theta = generator.standard_normal((40_000, place.size))
    for index in range(2):
        where = int(np.flatnonzero((rows == index) & (columns == index))[0])
        theta[:, where] = np.log(stats.chi(3 - index).rvs(40_000, random_state=generator))
    loadings = place.turned(place.unpack(theta)[0], torch.Generator().manual_seed(2)).flatten(1)
    second = loadings.mT @ loadings / 40_000
    # standard errors: 1 / sqrt(N) of means and products, sqrt(2 / N) of squares, sqrt(96 / N) of fourth powers
    assert loadings.mean(0).abs().max() < 5 * 40_000**-0.5
    assert (second - torch.eye(12)).abs().max() < 5 * (2 / 40_000) ** 0.5
    assert (loadings.pow(4).mean(0) - 3).abs().max() < 5 * (96 / 40_000) ** 0.5


def test_rows_do_as_well_as_their_scatter():
    """Wide rows are kept as rows: the same density, from the scatter that they have."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 20, generator=generator, dtype=torch.float64)
    given = problem_of(pa.FactorAnalysis(20, 2), Data(x, None, None, torch.float64, None), "NUTS")
    place = Coordinates.raw(20, 2, isotropic=False)
    target = target_of(given, place)
    assert len(target.scatter) == 0
    rows = target.rows
    layout = target.layout.copy()
    layout[-1] = 1
    dense = target._replace(
        layout=layout, scatter=rows.T @ rows, rows=rows[:0], ends=np.zeros(2, dtype=np.int64)
    )
    theta, ones = points(place, 1)[0], np.ones((2, 20))
    value, gradient = density_of(target, ones)(theta)
    other, slope = density_of(dense, ones)(theta)
    assert value == pytest.approx(other, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-10)


def test_half_normal_noise_refuses_a_column_that_does_not_vary():
    given = problem(noise=HalfNormal(1.0))
    given.data.scatter[2] = given.data.scatter[:, 2] = 0.0
    with pytest.raises(pa.ParameterError, match="does not vary"):
        target_of(given, coordinates(given, gauge=False))
