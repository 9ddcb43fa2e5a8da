"""Moments and eigenpairs where a usual shortcut fails: weights of zero, full sparse columns, odd units, patterns."""

import numpy as np
import pytest
import scipy.sparse
import torch

from probae import EM, FactorAnalysis, MaximumLikelihood, MinimumResiduals, ProbabilisticPCA, fit
from probae.errors import ConstantColumnWarning, HeywoodWarning, ProbaeWarning
from probae.inference.eigenpairs import WideCorrelation, leading_eigenpairs
from probae.statistics import SufficientStatistics

from_data = SufficientStatistics.from_data


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_rows_without_weight_do_not_choose_the_shift():
    """Summed about the mean of the first rows, which lie 1e8 away, the others would lose all digits."""
    rest = 1e8 + noise(1000, 3)
    x = np.concatenate([noise(1000, 3, seed=1), rest])
    found = from_data(x, weights=np.repeat([0.0, 1.0], 1000))
    torch.testing.assert_close(found.covariance, from_data(rest).covariance, rtol=1e-6, atol=1e-6)


def test_weighted_wide_rows_keep_their_root():
    x, weights = 1e6 + noise(20, 50), np.random.default_rng(1).integers(0, 4, 20)
    found, repeated = from_data(x, weights=weights), from_data(np.repeat(x, weights, axis=0))
    assert found.root is not None
    torch.testing.assert_close(found.mean, repeated.mean)
    torch.testing.assert_close(found.covariance, repeated.covariance, atol=1e-7, rtol=1e-7)


def test_full_columns_of_sparse_tables_may_lie_far_from_zero():
    x = noise(300, 4) * (noise(300, 4, seed=1) > 0)
    x[:, 1] = 1e8 + noise(300)
    x[:, 2] = 1 / 3
    for weights in (None, np.random.default_rng(2).uniform(size=300)):
        found = from_data(scipy.sparse.csr_array(x), weights=weights)
        torch.testing.assert_close(found.scatter, from_data(x, weights=weights).scatter, rtol=1e-7, atol=1e-5)
        assert not found.scatter[2].any()


@pytest.mark.parametrize("method", [MaximumLikelihood(), EM(), MinimumResiduals()])
def test_units_of_wide_rows(method):
    """Columns in small units are no constants: all is as in units of one."""
    x = noise(40, 2) @ noise(2, 60, seed=1) + noise(40, 60, seed=2)
    units = 10.0 ** np.random.default_rng(3).uniform(-10, 10, 60)
    plain, scaled = fit(FactorAnalysis(60, 2), x, method), fit(FactorAnalysis(60, 2), x * units, method)
    noise_variance = scaled.model.uniquenesses / torch.from_numpy(units) ** 2
    torch.testing.assert_close(noise_variance, plain.model.uniquenesses, rtol=1e-3, atol=1e-4)


def test_eigenpairs_of_a_matrix_that_sends_equal_entries_to_zero():
    """Pairs of opposite columns, as in ranks and shares."""
    block = np.array([[1.0, -1.0], [-1.0, 1.0]])
    values, vectors = leading_eigenpairs(np.kron(np.diag(np.arange(1.0, 101.0)), block), 3)
    np.testing.assert_allclose(values, [200.0, 198.0, 196.0])
    np.testing.assert_allclose(np.abs(vectors[-1, 0]), 0.5**0.5)
    values, vectors = leading_eigenpairs(np.zeros((200, 200)), 2)
    assert not values.any()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(2))
    table = SufficientStatistics.from_covariance(np.kron(np.eye(100), block), count=500)
    run = fit(ProbabilisticPCA(200, 3), table)
    assert float(run.model.noise_variance) == pytest.approx((200 - 3 * 2) / 197)


def test_few_distinct_rows_and_more_factors():
    """300 rows of 5 kinds span four dimensions; a block of eight factors has four eigenvalues of zero."""
    x = noise(5, 400)[np.random.default_rng(1).integers(0, 5, 300)]
    with pytest.warns(HeywoodWarning):
        run = fit(FactorAnalysis(400, 8), x)
    assert run.model.loadings.shape == (400, 8)
    assert bool(run.model.loadings.isfinite().all())


@pytest.mark.parametrize(("rows", "features", "latents"), [(2, 8, 2), (2, 8, 1), (4, 30, 6)])
def test_rows_of_fewer_dimensions_than_factors(rows, features, latents):
    """Where the rows have no direction left the eigenvectors are zero, not rounding blown up."""
    wide = WideCorrelation(noise(rows, features) - noise(rows, features).mean(0), np.ones(features))
    values, vectors = wide.leading(np.ones(features), latents)
    np.testing.assert_allclose(wide.dense() @ vectors, vectors * values, atol=1e-12)
    assert np.abs(vectors).max() <= 1
    with pytest.warns(ProbaeWarning):
        run = fit(FactorAnalysis(features, latents), noise(rows, features))
    assert bool(run.history.isfinite().all())
    assert bool(run.model.loadings.isfinite().all())


def test_a_root_need_not_be_rows():
    """Merging shifts centred rows; another root of a scatter, whose count differs, must not be shifted."""
    x, root = noise(4, 30), noise(3, 30, seed=1)
    root -= root.mean(0)
    other = SufficientStatistics(100, torch.ones(30).double(), root=torch.from_numpy(root))
    merged = from_data(x) + other
    dense = SufficientStatistics(100, other.mean, other.scatter)
    torch.testing.assert_close(merged.scatter, (from_data(x) + dense).scatter)
    weighted = from_data(x, weights=[3, 0, 2, 1]) + from_data(1 + x, weights=[0, 1, 1, 1])
    rows = [*x[[0, 0, 0, 2, 2, 3]]] * 2 + [*(1 + x[[1, 2, 3]])] * 4
    torch.testing.assert_close(weighted.covariance, from_data(np.array(rows)).covariance)


@pytest.mark.parametrize(("rows", "features"), [(200, 6), (40, 60)])
def test_a_constant_that_varies_in_its_last_digit_is_still_one(rows, features):
    """Its rounding follows another column here, which would then look like a factor of two."""
    x = noise(rows, 1, seed=1) + noise(rows, features)
    rounded, plain = x.copy(), x.copy()
    plain[:, 2], rounded[:, 2] = 0.7, np.where(x[:, 0] > 0, np.nextafter(0.7, 1), 0.7)
    with pytest.warns(ConstantColumnWarning):
        one, other = (fit(FactorAnalysis(features, 1), table) for table in (rounded, plain))
    torch.testing.assert_close(one.model.uniquenesses, other.model.uniquenesses)
    assert not one.model.loadings[2].any()
