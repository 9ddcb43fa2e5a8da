"""A short code finds candidates, a long one ranks them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from probae.checks import DataError, ParameterError, check_count, check_positive
from probae.retrieval.hamming import HammingIndex, Neighbours, ranked
from probae.retrieval.packed import PackedCodes, pack


class TwoStageIndex:
    """Search by long codes among the rows whose short codes are nearest.

    Parameters
    ----------
    short, long : table (N, K) of 0 and 1, or PackedCodes
        Two codes of the same rows.
    share : float
        Part of the rows that the long code is compared with.

    Raises
    ------
    DataError
        If the codes are not of as many rows.
    ParameterError
        If share is not above 0 and at most 1.

    References
    ----------
    .. [1] Salakhutdinov, R. & Hinton, G. (2009). Semantic hashing. International Journal of Approximate Reasoning 50.

    Examples
    --------
    >>> import torch
    >>> long = torch.rand(200, 64, generator=torch.Generator().manual_seed(0)) < 0.5
    >>> index = TwoStageIndex(long[:, :16], long, share=0.1)
    >>> found = index.nearest(long[:3, :16], long[:3], k=1)
    >>> found.rows.flatten().tolist(), found.compared
    ([0, 1, 2], 20)
    """

    def __init__(self, short: Any, long: Any, share: float = 0.1) -> None:
        self.short, self.long = HammingIndex(short), pack(long)
        if len(self.short.codes) != len(self.long):
            raise DataError(
                f"short and long should be codes of the same rows, got {len(self.short.codes)} and {len(self.long)}."
            )
        if check_positive("share", share) > 1:
            raise ParameterError(f"share should be above 0 and at most 1, got {share}.")
        self.share = float(share)
        self._by_row = PackedCodes(np.ascontiguousarray(self.long.words), self.long.bits)

    def __repr__(self) -> str:
        return (
            f"TwoStageIndex({len(self.long)} rows, {self.short.codes.bits} then {self.long.bits} bits, "
            f"share={self.share:g})"
        )

    def nearest(self, short: Any, long: Any, k: int) -> Neighbours:
        """Return of the candidates the k nearest by long code; at least k are candidates."""
        first, asked, k = pack(short), pack(long), min(check_count("k", k), len(self.long))
        self.short.codes.check_same(first)
        self.long.check_same(asked)
        if len(first) != len(asked):
            raise DataError(
                f"short and long should be codes of the same queries, got {len(first)} and {len(asked)}."
            )
        pool = max(k, math.floor(self.share * len(self.long)))
        rows = np.empty((len(asked), k), dtype=np.int64)
        distances = np.empty_like(rows)
        for i, some in enumerate(self.short.pools(first, pool)):
            found, distances[i] = ranked(self._by_row.take(some).distances_from(asked.words[i]), k)
            rows[i] = some[found]
        return Neighbours(torch.from_numpy(rows), torch.from_numpy(distances), pool)
