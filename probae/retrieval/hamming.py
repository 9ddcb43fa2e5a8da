"""Rows by the Hamming distance of their codes: the code is an address, near codes are the addresses around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import check_count
from probae.retrieval.packed import WORD, PackedCodes, pack


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

    addresses. While these are fewer than the rows, and codes fit a word, they are looked up in a table of addresses,
    in a time that hardly depends on the number of rows; else every row's distance is counted.

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
        self._by_address: NDArray[np.int64] | None = None
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
        if self._by_address is None or ball_size(self.codes.bits, radius) >= len(self.codes):
            return [
                torch.from_numpy(ordered(distances, np.flatnonzero(distances <= radius)))
                for _, block in self.codes.distance_blocks(asked)
                for distances in block
            ]
        self.codes.check_same(asked)
        shells = [shell(self.codes.bits, r) for r in range(radius + 1)]
        return [
            torch.from_numpy(np.concatenate([self._at(word ^ masks) for masks in shells]))
            for word in asked.words[:, 0]
        ]

    def nearest(self, queries: Any, k: int) -> Neighbours:
        """Return the k nearest rows of each query, by counting every distance; all rows if there are fewer."""
        asked, k = pack(queries), min(check_count("k", k), len(self.codes))
        return nearest_codes(self.codes, asked, k)

    def candidates(self, queries: Any, count: int) -> Tensor:
        """Return the ``count`` nearest rows (Q, count), by balls that grow while they are cheaper than all rows."""
        asked, count = pack(queries), min(check_count("count", count), len(self.codes))
        self.codes.check_same(asked)
        return torch.stack([torch.from_numpy(self._grow(asked[i : i + 1], count)) for i in range(len(asked))])

    def _grow(self, query: PackedCodes, count: int) -> NDArray[np.int64]:
        found: list[NDArray[np.int64]] = []
        radius, bits = 0, self.codes.bits
        while self._by_address is not None and ball_size(bits, radius) < len(self.codes):
            found.append(self._at(query.words[0, 0] ^ shell(bits, radius)))
            if sum(map(len, found)) >= count:
                return np.concatenate(found)[:count]
            radius += 1
        return self.nearest(query, count).rows.numpy()[0]

    def _at(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows at any of the addresses, in order."""
        assert self._by_address is not None
        place = np.searchsorted(self._addresses, addresses)
        place = place[np.take(self._addresses, place, mode="clip") == addresses]
        parts = [self._by_address[self._bounds[i] : self._bounds[i + 1]] for i in place]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


def nearest_codes(codes: PackedCodes, asked: PackedCodes, k: int) -> Neighbours:
    """Return the k nearest codes of each query, compared with every one."""
    rows = np.empty((len(asked), k), dtype=np.int64)
    distances = np.empty_like(rows)
    for where, block in codes.distance_blocks(asked):
        # one number that orders by distance, then by row: a partial sort is then exact under ties
        key = block * len(codes) + np.arange(len(codes))
        key = np.sort(np.partition(key, k - 1, axis=1)[:, :k], axis=1)
        distances[where], rows[where] = np.divmod(key, len(codes))
    return Neighbours(torch.from_numpy(rows), torch.from_numpy(distances), len(codes))


def ordered(distances: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows by distance, then by number."""
    return rows[np.argsort(distances[rows], kind="stable")]


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
