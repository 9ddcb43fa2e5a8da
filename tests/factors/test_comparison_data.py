"""Comparison data: populations that look like x, and the number of factors they point to."""

import numpy as np
import pytest
from scipy import stats

import probae as pa
from probae.checks import ParameterError
from probae.factors import comparison_data
from probae.factors.comparison_data import make_population, principal_axes
from probae.factors.number import ComparisonData


def skewed(n=300, seed=0):
    """Two factors with three columns each, exponentiated so that the columns are skew."""
    generator = np.random.default_rng(seed)
    z = generator.standard_normal((n, 2)) @ np.kron(np.eye(2), np.ones((1, 3)))
    return np.exp(0.8 * z + 0.6 * generator.standard_normal((n, 6)))


def test_a_population_has_the_columns_laws_and_the_correlations():
    rows = skewed()
    R = np.corrcoef(rows.T)
    people = make_population(rows, R, 2, 20_000, np.random.default_rng(1))
    for j in range(6):
        assert set(people[:, j]) <= set(rows[:, j])
        assert stats.ks_2samp(people[:, j], rows[:, j]).statistic < 0.02
    missed = np.corrcoef(people.T) - R
    assert np.sqrt(np.square(missed[np.triu_indices(6, 1)]).mean()) < 0.05
    # as many factors cannot be told by one: its correlations are further off
    one = np.corrcoef(make_population(rows, R, 1, 20_000, np.random.default_rng(1)).T) - R
    assert np.square(one).sum() > 5 * np.square(missed).sum()


def test_principal_axes_recover_a_one_factor_matrix():
    w = np.array([0.9, 0.7, 0.5, 0.3])
    R = np.outer(w, w) + np.diag(1 - w**2)
    assert np.abs(principal_axes(R, 1)[:, 0]) == pytest.approx(w, abs=0.02)


def test_an_impossible_communality_is_cut_at_one():
    R = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, 0.5], [0.9, 0.5, 1.0]])  # .9 .9 / .5 = 1.62 is the communality
    assert np.square(principal_axes(R, 1)).sum(axis=1).max() <= 1 + 1e-12


def skew(generator, factors):
    z = generator.standard_normal((400, factors)) @ np.kron(np.eye(factors), np.ones((1, 4)))
    return np.exp(0.5 * (z + 0.7 * generator.standard_normal((400, 4 * factors))))


def answers(tables):
    rule = ComparisonData(population=4000, samples=100)
    return [
        pa.number_of_factors(x, rules=[rule], seed=i).answers["comparison data"] for i, x in enumerate(tables)
    ]


@pytest.mark.parametrize("factors", [1, 3])
def test_the_number_of_skew_factors_is_found(factors):
    """Its authors found 87 % right; a level of .30 adds a factor now and then, and none of these is weak."""
    generator = np.random.default_rng(factors)
    found = answers([skew(generator, factors) for _ in range(8)])
    assert min(found) == factors
    assert found.count(factors) >= 5  # of 8 at .87, fewer come once in 160


def test_ratings_with_ties():
    found = answers([pa.datasets.likert(400, 8, 2, seed=seed).x for seed in range(8)])
    assert min(found) == 2
    assert found.count(2) >= 5


def test_data_too_large_for_populations_are_refused_with_a_reason(monkeypatch):
    monkeypatch.setattr(comparison_data, "LARGEST_POPULATION", 5000)
    note = pa.number_of_factors(skewed(), rules=[ComparisonData(population=1000)]).judgements[0].note
    assert "populations of 1000 rows of 6 columns take too long" in note


@pytest.mark.parametrize("settings", [{"level": 0.0}, {"population": 3}, {"samples": 1}])
def test_settings_are_checked(settings):
    with pytest.raises(ParameterError, match=next(iter(settings))):
        ComparisonData(**settings)
