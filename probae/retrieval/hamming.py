"""Rows by the Hamming distance of their codes: the code is an address, near codes are the addresses around it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import check_count
from probae.retrieval.packed import WORD, PackedCodes, pack

COST = 64  # time to look an address up over that to count a row's distance, as benchmarks/retrieval.py measures it


@dataclass(frozen=True, eq=False, repr=False)
class Neighbours:
    """The nearest rows of each query, nearest first; of equal distances the lower row comes first.

    Attributes
    ----------
    rows : Tensor (Q, k), int64
    distances : Tensor (Q, k), int64
        In bits.
    compared : int
        Codes (the long ones, for an index with two) that a query was compared with one by one.

    Examples
    --------
    >>> HammingIndex([[0, 0], [1, 1]]).nearest([[1, 1]], 1)
    Neighbours(1 query, 1 row each, 2 codes compared)
    """

    rows: Tensor
    distances: Tensor
    compared: int

    def __repr__(self) -> str:
        queries, rows = self.rows.shape
        return (
            f"Neighbours({queries} quer{'y' if queries == 1 else 'ies'}, {rows} row{'s' * (rows != 1)} each, "
            f"{self.compared} codes compared)"
        )


class HammingIndex:
    r"""Exact search of binary codes.

    A ball of radius r around a K-bit address holds

    .. math:: \sum_{i=0}^r \binom{K}{i}

    addresses. Where codes fit a word, a ball of fewer addresses than a 64th of the rows is looked up in a sorted table
    of addresses; else every row's distance is counted. (An address takes about as long as 64 rows.)

    Parameters
    ----------
    codes : table (N, K) of 0 and 1, or PackedCodes

    Raises
    ------
    DataError
        If an entry is neither 0 nor 1, or queries have other codes than the rows.

    References
    ----------
    .. [1] Salakhutdinov, R. & Hinton, G. (2009). Semantic hashing. International Journal of Approximate Reasoning 50.

    Examples
    --------
    >>> index = HammingIndex([[0, 0, 0], [0, 0, 1], [1, 1, 1]])
    >>> index.within([[0, 0, 0]], radius=1)
    [tensor([0, 1])]
    >>> index.nearest([[1, 1, 0]], k=2).rows
    tensor([[2, 0]])
    """

    def __init__(self, codes: Any) -> None:
        self.codes = pack(codes)
        if self.codes.bits <= WORD:
            words = self.codes.words[:, 0]
            self._by_address = np.argsort(words, kind="stable")
            self._addresses, first = np.unique(words[self._by_address], return_index=True)
            self._bounds = np.append(first, len(words))

    def __repr__(self) -> str:
        return f"HammingIndex({len(self.codes)} rows, {self.codes.bits} bits)"

    def within(self, queries: Any, radius: int) -> list[Tensor]:
        """Return for each query the rows at a distance of at most ``radius`` bits, nearest first."""
        asked = pack(queries)
        radius = min(check_count("radius", radius, minimum=0), self.codes.bits)
        self.codes.check_same(asked)
        if radius < len(self._shells):
            balls = (self._ball(word, radius) for word in asked.words[:, 0])
        else:
            balls = (self._counted(words, radius) for words in asked.words)
        return [torch.from_numpy(rows) for rows in balls]

    def nearest(self, queries: Any, k: int) -> Neighbours:
        """Return the k nearest rows of each query, by counting every distance; all rows if there are fewer."""
        asked, k = pack(queries), min(check_count("k", k), len(self.codes))
        self.codes.check_same(asked)
        rows = np.empty((len(asked), k), dtype=np.int64)
        distances = np.empty_like(rows)
        for i, words in enumerate(asked.words):
            rows[i], distances[i] = ranked(self.codes.distances_from(words), k)
        return Neighbours(torch.from_numpy(rows), torch.from_numpy(distances), len(self.codes))

    def candidates(self, queries: Any, count: int) -> Tensor:
        """Return the ``count`` nearest rows (Q, count): those of ``nearest``, from balls where these may suffice."""
        asked, count = pack(queries), min(check_count("count", count), len(self.codes))
        self.codes.check_same(asked)
        found = np.empty((len(asked), count), dtype=np.int64)
        for i, rows in enumerate(self.pools(asked, count)):
            found[i] = rows[ranked(self.codes.take(rows).distances_from(asked.words[i]), count)[0]]
        return torch.from_numpy(found)

    def pools(self, asked: PackedCodes, count: int) -> Iterator[NDArray[np.int64]]:
        """Yield the ``count`` nearest rows of each query, by their number."""
        misses = (
            0  # balls that held too few, less those that held enough: after two more of them, none is tried
        )
        for words in asked.words:
            rows = self._grow(words[0], count) if count <= self._reach and misses < 2 else None
            misses += 1 if rows is None else -1
            yield smallest(self.codes.distances_from(words), count) if rows is None else rows

    def _grow(self, word: np.uint64, count: int) -> NDArray[np.int64] | None:
        """Return the nearest rows of an address, by their number, or None where the largest ball holds fewer."""
        found: list[NDArray[np.int64]] = []
        total = 0
        for masks in self._shells:
            found.append(self._at(word ^ masks))
            total += len(found[-1])
            if total >= count:
                return np.sort(np.concatenate(found)[:count])
        return None

    def _ball(self, word: np.uint64, radius: int) -> NDArray[np.int64]:
        return np.concatenate([self._at(word ^ masks) for masks in self._shells[: radius + 1]])

    def _counted(self, words: NDArray[np.uint64], radius: int) -> NDArray[np.int64]:
        distances = self.codes.distances_from(words)
        rows = np.flatnonzero(distances <= radius)
        return rows[np.argsort(distances[rows], kind="stable")]

    @cached_property
    def _shells(self) -> list[NDArray[np.uint64]]:
        """Masks at each distance, of as many balls as are cheaper than to count every row."""
        bits = self.codes.bits
        if bits > WORD:
            return []
        radii = takewhile(lambda r: COST * ball_size(bits, r) < len(self.codes), range(bits + 1))
        return [shell(bits, r) for r in radii]

    @cached_property
    def _reach(self) -> int:
        """Most rows that the largest of these balls can hold, were they at its addresses."""
        size = sum(map(len, self._shells))
        return int(np.sort(np.diff(self._bounds))[::-1][:size].sum()) if size else 0

    def _at(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows at any of the addresses, in order."""
        place = np.searchsorted(self._addresses, addresses)
        place = place[np.take(self._addresses, place, mode="clip") == addresses]
        sizes = self._bounds[place + 1] - self._bounds[place]
        starts = np.repeat(self._bounds[place] - np.cumsum(sizes) + sizes, sizes)
        return np.sort(self._by_address[starts + np.arange(len(starts))])


def smallest(distances: NDArray[np.unsignedinteger], k: int) -> NDArray[np.int64]:
    """Return the k rows of smallest distance, by their number; of equal ones the lower are taken.

    Distances are few whole numbers, so the k-th is found by halving, without a sort.

    Examples
    --------
    >>> smallest(np.array([3, 2, 0, 2], dtype=np.uint8), 2).tolist()
    [1, 2]
    """
    radii = range(int(distances.max()) + 1)
    radius = bisect_left(radii, k, key=lambda r: int(np.count_nonzero(distances <= r)))
    rows = np.flatnonzero(distances <= radius)
    taken = distances[rows] < radius
    taken[np.flatnonzero(~taken)[: k - np.count_nonzero(taken)]] = True
    return rows[taken]


def ranked(
    distances: NDArray[np.unsignedinteger], k: int
) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]:
    """Return the k rows of smallest distance, nearest first and of equal ones the lower first, and the distances."""
    rows = smallest(distances, k)
    rows = rows[np.argsort(distances[rows], kind="stable")]
    return rows, distances[rows]


def ball_size(bits: int, radius: int) -> int:
    """Count the addresses at most ``radius`` bits away.

    Examples
    --------
    >>> ball_size(30, 4)
    31931
    """
    return sum(math.comb(bits, i) for i in range(radius + 1))


def shell(bits: int, radius: int) -> NDArray[np.uint64]:
    """Return every mask of ``bits`` bits of which ``radius`` are 1.

    Examples
    --------
    >>> shell(3, 2).tolist()
    [3, 5, 6]
    """
    if radius == 0:
        return np.zeros(1, dtype=np.uint64)
    places = np.array(list(combinations(range(bits), radius)), dtype=np.uint64)
    return np.bitwise_or.reduce(np.left_shift(np.uint64(1), places), axis=1)
