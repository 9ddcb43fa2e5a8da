"""The profile likelihood of factor analysis: value, gradient, curvature."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from probae import FactorAnalysis, SufficientStatistics, fit
from probae.errors import HeywoodWarning, UnderidentifiedWarning
from probae.inference import profile


def correlation_of(features, latents, seed):
    generator = np.random.default_rng(seed)
    W = generator.normal(size=(features, latents))
    sample = generator.normal(size=(5 * features, latents)) @ W.T
    sample += generator.normal(size=sample.shape) * generator.uniform(0.5, 1.5, features)
    return np.corrcoef(sample.T)


def deviance(correlation, theta, loadings):
    """log |Sigma| + tr Sigma^-1 R by dense algebra."""
    sigma = loadings @ loadings.T + np.diag(np.exp(theta))
    return np.linalg.slogdet(sigma)[1] + np.trace(np.linalg.solve(sigma, correlation))


cases = st.tuples(st.integers(3, 10), st.integers(1, 2), st.integers(0, 2**31 - 1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases)
def test_value_is_the_deviance_at_the_best_loadings(case):
    features, latents, seed = case
    R = correlation_of(*case)
    theta = np.random.default_rng(seed).uniform(-3, 0, features)
    point = profile.evaluate(R, theta, latents)
    assert point.value == pytest.approx(deviance(R, theta, point.loadings()), rel=1e-9)
    for _ in range(3):  # no other loadings do better
        other = point.loadings() + 0.05 * np.random.default_rng(seed).normal(size=(features, latents))
        assert deviance(R, theta, other) >= point.value - 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases)
def test_gradient_against_central_differences(case):
    features, latents, seed = case
    R = correlation_of(*case)
    theta = np.random.default_rng(seed).uniform(-3, 0, features)
    point, step = profile.evaluate(R, theta, latents), 1e-6
    for i in range(features):
        unit = np.eye(features)[i] * step
        ends = [profile.evaluate(R, theta + sign * unit, latents).value for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(point.gradient[i], rel=1e-5, abs=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cases)
def test_newton_direction_goes_down(case):
    features, latents, seed = case
    R = correlation_of(*case)
    point = profile.evaluate(R, np.random.default_rng(seed).uniform(-3, 0, features), latents)
    free = np.ones(features, dtype=bool)
    free[0] = False
    direction = point.newton_direction(free)
    assert direction[0] == 0
    assert direction @ point.gradient < 0
    assert np.abs(direction).max() <= profile.STEP_LIMIT


def test_scoring_matrix_is_the_hessian_where_the_model_fits_exactly():
    """At R = W W' + Psi the expected and the observed curvature agree."""
    generator = np.random.default_rng(1)
    W = generator.normal(size=(7, 2))
    psi = generator.uniform(0.3, 0.8, 7)
    R = W @ W.T + np.diag(psi)
    theta, step = np.log(psi), 1e-5
    point = profile.evaluate(R, theta, 2)
    assert np.abs(point.gradient).max() < 1e-10
    rows = [
        (
            profile.evaluate(R, theta + step * e, 2).gradient
            - profile.evaluate(R, theta - step * e, 2).gradient
        )
        / (2 * step)
        for e in np.eye(7)
    ]
    complement = np.eye(7) - point.eigenvectors @ point.eigenvectors.T
    np.testing.assert_allclose(np.array(rows), complement**2, atol=1e-6)


def slope(point):
    """Largest derivative among the uniquenesses that are not held at a bound."""
    inside = (point.theta > math.log(profile.FLOOR) + 1e-9) & (point.theta < -1e-12)
    return np.abs(point.gradient[inside]).max(initial=0.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(5, 14), st.integers(1, 3), st.integers(0, 2**31 - 1))
def test_converged_means_no_slope_from_every_start(features, latents, seed):
    """The search stops when a step promises less than 1e-10, which leaves a slope of the order of its root."""
    R = correlation_of(features, latents, seed)
    for start in itertools.islice(profile.starting_points(R, latents, seed=0), 7):
        point, history, converged = profile.minimize(R, latents, start)
        assert (np.diff(history) <= 1e-12).all()
        assert converged
        assert slope(point) < 1e-3


def test_converged_means_no_slope_on_data_with_vanishing_uniquenesses():
    x = load_diabetes(scaled=False).data
    R = np.corrcoef(x.T)
    for latents in (1, 2, 3):
        for start in itertools.islice(profile.starting_points(R, latents, seed=0), 12):
            point, _, converged = profile.minimize(R, latents, start)
            assert converged
            assert slope(point) < 1e-3


def test_iterative_and_dense_directions_agree(monkeypatch):
    R = correlation_of(40, 3, seed=5)
    theta = np.full(40, np.log(0.5))
    dense = profile.evaluate(R, theta, 3)
    direction = dense.newton_direction(np.ones(40, dtype=bool))
    monkeypatch.setattr(profile, "DENSE_LIMIT", 10)
    lanczos = profile.evaluate(R, theta, 3)
    assert lanczos.value == pytest.approx(dense.value, rel=1e-12)
    np.testing.assert_allclose(lanczos.gradient, dense.gradient, atol=1e-9)
    np.testing.assert_allclose(
        lanczos.newton_direction(np.ones(40, dtype=bool)), direction, rtol=1e-5, atol=1e-8
    )


def test_starting_points_lie_inside_and_differ():
    R = correlation_of(6, 1, seed=0)
    points = list(profile.starting_points(R, 1, seed=0))
    assert len(points) >= 4
    for theta in points:
        assert ((theta > math.log(profile.FLOOR)) & (theta < 0)).all()
    assert len({theta.tobytes() for theta in points}) == len(points)


def test_starting_points_of_a_singular_correlation():
    R = correlation_of(6, 1, seed=0)
    R[5], R[:, 5] = R[4], R[:, 4]
    R[5, 5] = 1.0
    for theta in profile.starting_points(R, 1, seed=0):
        assert np.isfinite(theta).all()


@pytest.mark.parametrize(("features", "latents"), [(6, 1), (9, 3), (30, 4)])
def test_hessian_is_the_derivative_of_the_gradient(features, latents):
    generator = np.random.default_rng(features)
    x = generator.normal(size=(40, latents)) @ generator.normal(size=(latents, features))
    R = np.corrcoef((x + generator.normal(size=(40, features))).T)  # no model fits this exactly
    theta = np.log(generator.uniform(0.1, 0.9, features))
    step = 1e-5 * np.eye(features)
    slopes = [
        profile.evaluate(R, theta + e, latents).gradient - profile.evaluate(R, theta - e, latents).gradient
        for e in step
    ]
    H = profile.hessian(R, theta, latents)
    # central differences: 1e-10 of truncation and 1e-11 of rounding, relative to third derivatives of order one
    np.testing.assert_allclose(np.array(slopes) / 2e-5, H, atol=1e-7)


def near_heywood(generator):
    """A covariance of few rows of a model in which one or two uniquenesses all but vanish."""
    features = int(generator.integers(6, 15))
    bound = (2 * features + 1 - math.sqrt(8 * features + 1)) / 2
    latents = int(generator.integers(1, int(bound) + 1))
    loadings = generator.normal(size=(features, latents))
    noise = generator.uniform(0.05, 1, features) * np.square(loadings).sum(1).mean() / latents
    few = int(generator.integers(1, 3))
    noise[generator.choice(features, few, replace=False)] *= generator.choice([1e-3, 1e-5, 0.0], few)
    samples = int(generator.integers(features + 5, 300))
    x = generator.normal(size=(samples, latents)) @ loadings.T
    return np.corrcoef((x + generator.normal(size=x.shape) * np.sqrt(noise)).T), latents


def shortfall(seed, starts):
    """How much per row (nats) the best of random starts is above the fit: nothing, if the fit is the maximum."""
    generator = np.random.default_rng([7, seed])
    R, latents = near_heywood(generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        warnings.simplefilter("ignore", UnderidentifiedWarning)
        run = fit(FactorAnalysis(len(R), latents), SufficientStatistics.from_covariance(R, count=100))
    found = -2 * float(run.history[-1]) - len(R) * math.log(2 * math.pi)
    others = [
        profile.minimize(R, latents, np.log(generator.uniform(1e-3, 0.99, len(R))))[0].value
        for _ in range(starts)
    ]
    return (found - min(others)) / 2


@pytest.mark.parametrize("seed", range(12))
def test_no_start_finds_better_near_heywood_cases(seed):
    assert shortfall(seed, starts=10) <= 1e-6


@pytest.mark.slow
def test_none_of_fifty_starts_finds_better_on_two_hundred_covariances():
    assert max(shortfall(seed, starts=50) for seed in range(200)) <= 1e-6
