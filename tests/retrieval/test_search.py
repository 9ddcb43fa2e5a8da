"""Packed codes and their indices, against distances counted bit by bit."""

import math

import numpy as np
import pytest
import torch

from probae import DataError, ParameterError
from probae.retrieval import HammingIndex, TwoStageIndex, pack
from probae.retrieval.hamming import COST, ball_size, shell


def codes(rows, bits, seed=0, probability=0.5):
    return torch.rand(rows, bits, generator=torch.Generator().manual_seed(seed)) < probability


def counted(queries, rows):
    return (queries[:, None] != rows[None]).sum(-1)


@pytest.mark.parametrize("bits", [1, 7, 8, 63, 64, 65, 130])
def test_packing_is_undone_and_distances_are_counted_bits(bits):
    rows, queries = codes(50, bits), codes(9, bits, seed=1)
    assert torch.equal(pack(rows).unpack(), rows)
    assert torch.equal(pack(rows).distances(pack(queries)), counted(queries, rows))


def test_every_kind_of_table_packs_alike():
    rows = codes(6, 70)
    for table in (rows.numpy(), rows.float(), rows.numpy().astype(np.int8), rows.int().tolist(), pack(rows)):
        assert np.array_equal(pack(table).words, pack(rows).words)


# 10 bits of 3,000 rows are looked up at small radii; 100 bits do not fit a word and are counted
@pytest.mark.parametrize("bits", [10, 30, 64, 100])
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 200])
def test_ball_holds_every_row_within_the_radius_nearest_first(bits, radius):
    rows = codes(3000, bits, probability=0.05)
    queries = torch.cat([rows[:4], codes(3, bits, seed=1)])
    distances = counted(queries, rows)
    for found, d in zip(HammingIndex(rows).within(queries, radius), distances, strict=True):
        expected = sorted(torch.nonzero(d <= radius).flatten().tolist(), key=lambda i, d=d: (int(d[i]), i))
        assert found.tolist() == expected


@pytest.mark.parametrize("bits", [4, 64, 90])
def test_nearest_rows_are_those_of_a_stable_sort(bits):
    rows, queries = codes(400, bits), codes(20, bits, seed=1)
    found = HammingIndex(rows).nearest(queries, 25)
    distances, order = counted(queries, rows).sort(dim=1, stable=True)
    assert torch.equal(found.rows, order[:, :25])
    assert torch.equal(found.distances, distances[:, :25])


@pytest.mark.parametrize("bits", [8, 16, 100])
def test_candidates_are_the_nearest_rows_however_they_are_found(bits):
    rows, queries = codes(700, bits, probability=0.2), codes(10, bits, seed=1)
    index = HammingIndex(rows)
    assert torch.equal(index.candidates(queries, 40), index.nearest(queries, 40).rows)


# 8 bits of 40,000 rows: balls up to radius 8 hold 256 addresses, 625 would be dearer than counting; 40 bits: radius 1
@pytest.mark.parametrize(("bits", "count"), [(8, 30), (8, 4000), (40, 10), (40, 4000)])
def test_addresses_are_looked_up_only_while_they_cost_less_than_all_rows(bits, count, monkeypatch):
    rows, queries = codes(40_000, bits, probability=0.2), codes(3, bits, seed=1, probability=0.2)
    index, asked, built = HammingIndex(rows), [], []
    at, make = HammingIndex._at, shell
    monkeypatch.setattr(
        HammingIndex, "_at", lambda self, places: asked.append(len(places)) or at(self, places)
    )
    monkeypatch.setattr("probae.retrieval.hamming.shell", lambda *size: built.append(size) or make(*size))
    found = index.candidates(queries, count)
    assert torch.equal(found, index.nearest(queries, count).rows)
    assert COST * sum(asked) < len(queries) * len(rows)
    assert len(built) == len(set(built))  # a shell is the same for every query
    # all 82 rows or fewer that a ball of 41 addresses can hold are not enough: none is looked up
    assert bool(asked) == (bits == 8 or count == 10)


def test_two_stages_with_all_rows_are_the_long_code_alone():
    rows, queries = codes(300, 80), codes(15, 80, seed=1)
    index = TwoStageIndex(rows[:, :8], rows, share=1.0)
    found, exact = index.nearest(queries[:, :8], queries, 10), HammingIndex(rows).nearest(queries, 10)
    assert torch.equal(found.rows, exact.rows)
    assert torch.equal(found.distances, exact.distances)


def test_two_stages_rank_the_candidates_by_the_long_code():
    rows, queries = codes(300, 80), codes(15, 80, seed=1)
    index = TwoStageIndex(rows[:, :12], rows, share=0.1)
    found = index.nearest(queries[:, :12], queries, 5)
    assert found.compared == 30
    pool = HammingIndex(rows[:, :12]).candidates(queries[:, :12], 30)
    for q in range(15):
        ranked = sorted(pool[q].tolist(), key=lambda i, q=q: (int((rows[i] != queries[q]).sum()), i))
        assert found.rows[q].tolist() == ranked[:5]


def test_shells_partition_the_addresses():
    masks = np.concatenate([shell(9, r) for r in range(10)])
    assert sorted(masks.tolist()) == list(range(2**9))
    assert [ball_size(9, r) for r in (0, 1, 9)] == [1, 10, 512]
    assert len(shell(64, 3)) == math.comb(64, 3)


def test_bad_codes_end_in_one_sentence():
    index = HammingIndex(codes(5, 10))
    with pytest.raises(DataError, match="0 or 1, got 2 at row 0, column 1"):
        HammingIndex([[0, 2]])
    with pytest.raises(DataError, match="NaN"):
        HammingIndex([[0.0, float("nan")]])
    for search in (
        lambda q: index.within(q, 1),
        lambda q: index.nearest(q, 2),
        lambda q: index.candidates(q, 2),
    ):
        with pytest.raises(DataError, match="10 bits like the rows, got 9"):
            search(codes(2, 9))
    with pytest.raises(ParameterError, match="k should"):
        index.nearest(codes(2, 10), 0)
    with pytest.raises(ParameterError, match="radius"):
        index.within(codes(2, 10), -1)
    with pytest.raises(DataError, match="same rows, got 4 and 5"):
        TwoStageIndex(codes(4, 3), codes(5, 9))
    with pytest.raises(DataError, match="same queries, got 1 and 2"):
        TwoStageIndex(codes(4, 3), codes(4, 9)).nearest(codes(1, 3), codes(2, 9), 1)
    with pytest.raises(ParameterError, match="share"):
        TwoStageIndex(codes(4, 3), codes(4, 9), share=1.5)


def test_fewer_rows_than_asked_for_are_all_returned():
    index = HammingIndex(codes(3, 10))
    assert index.nearest(codes(2, 10), 7).rows.shape == (2, 3)
    assert index.within(pack(codes(2, 10))[:0], 2) == []
