"""Matchings and disjoint bases, against all sets tried."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probae.identifiability.independence import few_rows, row_deletion_failures

patterns = st.tuples(st.integers(0, 2**31 - 1), st.integers(1, 4), st.integers(4, 9), st.floats(0.3, 1.0))


def two_bases_by_brute_force(loadings):
    """Rows without which no two disjoint sets of K independent rows are left: all pairs of sets tried."""
    features, factors = loadings.shape
    failing = []
    for deleted in range(features):
        rest = [row for row in range(features) if row != deleted]
        found = any(
            np.linalg.matrix_rank(loadings[list(one)]) == factors
            and np.linalg.matrix_rank(loadings[[row for row in rest if row not in one]]) == factors
            for one in itertools.combinations(rest, factors)
        )
        if not found:
            failing.append(deleted)
    return tuple(failing)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(patterns, st.booleans())
def test_row_deletion_is_brute_force(case, whole):
    seed, factors, features, density = case
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(features, min(factors, 3))) * (
        rng.random((features, min(factors, 3))) < density
    )
    if whole:
        loadings = np.rint(loadings)  # whole numbers make rows depend on each other
    assert row_deletion_failures(loadings) == two_bases_by_brute_force(loadings)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(patterns)
def test_few_rows_is_hall_by_brute_force(case):
    seed, factors, features, density = case
    pattern = np.random.default_rng(seed).random((features, factors)) < density
    exists = any(
        pattern[:, list(columns)].any(axis=1).sum() < 2 * size + 1
        for size in range(1, factors + 1)
        for columns in itertools.combinations(range(factors), size)
    )
    found = few_rows(pattern)
    assert bool(found) == exists
    if found:
        assert pattern[:, list(found)].any(axis=1).sum() <= 2 * len(found)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(patterns)
def test_few_rows_break_row_deletion_whatever_the_loadings(case):
    """And for random loadings of the pattern nothing else does."""
    seed, factors, features, density = case
    rng = np.random.default_rng(seed)
    pattern = rng.random((features, factors)) < density
    loadings = rng.normal(size=pattern.shape) * pattern
    assert bool(few_rows(pattern)) == bool(row_deletion_failures(loadings))


def test_row_deletion_scales_to_a_questionnaire():
    """120 items and 12 factors, where brute force has 10^15 sets to try."""
    pattern = np.kron(np.eye(12), np.ones((10, 1)))
    loadings = np.random.default_rng(0).normal(size=pattern.shape) * pattern
    assert row_deletion_failures(loadings) == ()
    loadings[2:10, 0] = 0
    assert row_deletion_failures(loadings) == (0, 1)
    assert few_rows(loadings != 0) == (0,)
