"""Leading eigenpairs by blocks, by Lanczos and from the rows, against the direct solver."""

import math

import numpy as np
import pytest

from probae.inference import eigenpairs
from probae.inference.eigenpairs import Correlation, DenseCorrelation, WideCorrelation


def rows_of(samples, features, factors, seed, strength=1.0):
    generator = np.random.default_rng(seed)
    loadings = strength * generator.normal(size=(features, factors))
    x = generator.normal(size=(samples, factors)) @ loadings.T + generator.normal(size=(samples, features))
    x -= x.mean(axis=0)
    return x / np.sqrt(np.square(x).sum(axis=0))


def exact(matrix, scale, count):
    values, vectors = np.linalg.eigh(matrix * np.outer(scale, scale))
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def assert_pairs(found, matrix, scale, count, tolerance):
    values, vectors = found
    true, basis = exact(matrix, scale, count)
    np.testing.assert_allclose(values, true, rtol=tolerance)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=tolerance)
    np.testing.assert_allclose(vectors @ vectors.T, basis @ basis.T, atol=math.sqrt(tolerance))


def scales(features, seed, count=4):
    generator = np.random.default_rng(seed)
    theta = np.log(generator.uniform(0.1, 0.9, features))
    for change in (0.3, 0.03, 1e-3, 1e-6)[:count]:
        theta = theta + change * generator.normal(size=features)
        yield np.exp(-0.5 * theta)


@pytest.mark.parametrize(("features", "factors"), [(30, 3), (80, 3), (200, 5)])
def test_dense_pairs_through_a_sequence_of_scales(features, factors):
    x = rows_of(400, features, factors, seed=features)
    correlation = DenseCorrelation(x.T @ x)
    for scale in scales(features, seed=1):
        found = correlation.leading(scale, factors)
        # the error of a Ritz value is the square of the relative residual, 1e-8, that of its vector the residual itself
        assert_pairs(found, x.T @ x, scale, factors, 1e-12)
    assert correlation.slow == (features == 30)


@pytest.mark.parametrize("samples", [50, 300])
def test_pairs_from_the_rows(samples):
    x = rows_of(samples, 600, 4, seed=samples)
    correlation = WideCorrelation(x * 7.0, np.full(600, 7.0))
    for scale in scales(600, seed=2):
        assert_pairs(correlation.leading(scale, 4), x.T @ x, scale, 4, 1e-11)
    assert correlation.slow == (samples == 50)


def test_lanczos_from_the_rows(monkeypatch):
    monkeypatch.setattr(eigenpairs, "GRAM_LIMIT", 10)
    x = rows_of(60, 90, 2, seed=0)
    assert_pairs(WideCorrelation(x, np.ones(90)).leading(np.ones(90), 2), x.T @ x, np.ones(90), 2, 1e-10)


def test_more_factors_than_rows_span():
    x = rows_of(4, 9, 2, seed=0)
    values, vectors = WideCorrelation(x, np.ones(9)).leading(np.ones(9), 6)
    assert values.shape == (6,)
    assert vectors.shape == (9, 6)
    np.testing.assert_allclose(values[:3], exact(x.T @ x, np.ones(9), 3)[0], rtol=1e-10)
    assert (values[3:] < 1e-12).all()
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize(
    "build", [lambda x: DenseCorrelation(x.T @ x), lambda x: WideCorrelation(x, np.ones(300))]
)
def test_crowded_eigenvalues_go_to_a_direct_solver(build):
    """Three factors and seven asked for: the others lie close together at the edge of the noise."""
    x = rows_of(250, 300, 3, seed=0)
    correlation = build(x)
    correlation.expect(0.0)
    found = correlation.leading(np.ones(300), 7)
    assert correlation.slow
    assert_pairs(found, x.T @ x, np.ones(300), 7, 1e-9)


def test_an_approach_is_loose_and_an_answer_tight():
    correlation = Correlation.of(np.eye(50))
    correlation.expect(1.0)
    assert correlation.tolerance == correlation.loose
    correlation.expect(1e-9)
    assert correlation.tolerance == correlation.tight
    assert Correlation.of(correlation) is correlation


def test_equal_eigenvalues_are_all_found(monkeypatch):
    """Lanczos from one vector sees one of several equal eigenvalues at first."""
    monkeypatch.setattr(eigenpairs, "DENSE_LIMIT", 10)
    generator = np.random.default_rng(0)
    U = np.linalg.qr(generator.normal(size=(60, 60)))[0]
    values = np.r_[5.0, 5.0, 5.0, np.linspace(1.0, 0.1, 57)]
    found, vectors = eigenpairs.leading_eigenpairs((U * values) @ U.T, 3)
    np.testing.assert_allclose(found, [5, 5, 5], rtol=1e-9)
    projector = U[:, :3] @ U[:, :3].T
    np.testing.assert_allclose(vectors @ vectors.T, projector, atol=1e-7)
