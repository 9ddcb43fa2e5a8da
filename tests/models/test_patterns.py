"""Rows grouped by what they have: nothing lost, whatever the number of patterns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae import SufficientStatistics
from probae.models import patterns as module
from probae.models.patterns import Patterns, distinct_rows, each_by_its_own


def holes(rows, columns, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64) + 3.0
    x[torch.rand(rows, columns, generator=generator) < share] = torch.nan
    return x


def second_moment(groups, pattern):
    """Sum of x x' over the rows of one group, from what is kept of it."""
    roots = groups.roots[groups.owner == pattern]
    mean = groups.means[pattern]
    return roots.T @ roots + groups.counts[pattern] * torch.outer(mean, mean)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 80), columns=st.integers(1, 9), share=st.floats(0, 0.9), seed=st.integers(0, 10**6)
)
def test_groups_keep_counts_means_and_products(rows, columns, share, seed):
    x = holes(rows, columns, share, seed)
    groups = Patterns.of(x)
    empty = int(x.isnan().all(1).sum())
    assert groups.rows == rows
    assert int(groups.counts.sum()) + empty == rows
    assert (groups.owner.diff() >= 0).all()
    for p, seen in enumerate(groups.observed):
        own = x[(~x.isnan() == seen).all(1)].nan_to_num()
        assert len(own) == groups.counts[p]
        assert (groups.owner == p).sum() <= min(len(own), int(seen.sum()))
        assert torch.allclose(groups.means[p], own.mean(0), rtol=1e-12, atol=1e-12)
        assert torch.allclose(second_moment(groups, p), own.T @ own, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("columns", [1, 8, 9, 64, 65, 130])
def test_distinct_rows_are_those_of_torch(columns):
    """Packed into bits, one word or several."""
    observed = np.random.default_rng(0).random((300, columns)) < 0.5
    observed[100:200] = observed[:100]
    found, group = distinct_rows(observed)
    expected, inverse = torch.from_numpy(observed).unique(dim=0, return_inverse=True)
    assert np.array_equal(found, expected.numpy())
    assert np.array_equal(group, inverse.numpy())


def test_complete_rows_from_moments_or_from_rows():
    x = holes(50, 4, 0.0)
    one, other = Patterns.of(x), Patterns.of_statistics(SufficientStatistics.from_data(x))
    assert len(one.counts) == len(other.counts) == 1
    assert torch.allclose(second_moment(one, 0), second_moment(other, 0), rtol=1e-12)


@pytest.mark.parametrize("width", [1, 4, 25, 10**9])
def test_blocks_walk_over_every_group_once(width, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 100)
    groups = Patterns.of(holes(300, 5, 0.3))
    parts = list(groups.blocks(width))
    assert torch.equal(torch.cat([part.counts for part in parts]), groups.counts)
    assert torch.equal(torch.cat([part.roots for part in parts]), groups.roots)
    offsets = np.cumsum([0, *(len(part.counts) for part in parts)])
    owners = [part.owner + int(offset) for part, offset in zip(parts, offsets[:-1], strict=True)]
    assert torch.equal(torch.cat(owners), groups.owner)


def test_select_keeps_some_groups():
    groups = Patterns.of(holes(200, 4, 0.3))
    chosen = groups.counts > groups.counts.median()
    part = groups.select(chosen)
    for position, index in enumerate(torch.nonzero(chosen).flatten().tolist()):
        assert torch.allclose(second_moment(part, position), second_moment(groups, index))


@pytest.mark.parametrize("rows", [0, 3, 40])
def test_each_row_meets_the_matrix_of_its_group(rows):
    matrices = torch.randn(5, 2, 3, dtype=torch.float64)
    owner = torch.randint(5, (rows,)).sort().values
    x = torch.randn(rows, 3, dtype=torch.float64)
    expected = (
        torch.stack([matrices[p] @ v for p, v in zip(owner, x, strict=True)]) if rows else torch.zeros(0, 2)
    )
    assert torch.allclose(each_by_its_own(matrices, x, owner), expected.double())
