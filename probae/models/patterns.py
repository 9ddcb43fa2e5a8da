r"""Rows grouped by which entries they have, reduced to what a Gaussian likelihood needs of each group.

Rows :math:`x_n` with the same observed entries enter a Gaussian likelihood through their count, mean and scatter,

.. math:: \sum_{n \in p} (x_n - \mu)(x_n - \mu)' = R_p' R_p + n_p (\bar x_p - \mu)(\bar x_p - \mu)',

so an iteration need not touch the rows again: a group of many rows costs as much as its few root rows :math:`R_p`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probae.statistics import SufficientStatistics

BLOCK = 2**19  # numbers held at a time by a walk over patterns: 4 MB of float64


@dataclass(frozen=True, eq=False)
class Patterns:
    """Groups of rows with the same observed entries; rows without any are counted and left out.

    Attributes
    ----------
    observed : Tensor (patterns, features), bool
    counts : Tensor (patterns,), float64
    means : Tensor (patterns, features)
        Mean of the rows of each group, 0 where missing.
    roots : Tensor (rows, features)
        Rows whose outer products add up to the scatter of each group, 0 where missing; in the order of the groups.
    owner : Tensor (rows,)
        The group each root row belongs to.
    rows : int
        All rows, those without a value included.

    Examples
    --------
    >>> nan = float("nan")
    >>> groups = Patterns.of(torch.tensor([[1.0, 2.0], [nan, 3.0], [3.0, 6.0]], dtype=torch.float64))
    >>> groups.observed.tolist(), groups.counts.tolist(), groups.rows
    ([[False, True], [True, True]], [1.0, 2.0], 3)
    >>> groups.means
    tensor([[0., 3.],
            [2., 4.]], dtype=torch.float64)
    >>> (groups.roots.T @ groups.roots)
    tensor([[2., 4.],
            [4., 8.]], dtype=torch.float64)
    """

    observed: Bool[Tensor, "patterns features"]
    counts: Float[Tensor, " patterns"]
    means: Float[Tensor, "patterns features"]
    roots: Float[Tensor, "rows features"]
    owner: Int[Tensor, " rows"]
    rows: int

    @classmethod
    def of(cls, x: Float[Tensor, "samples features"]) -> Patterns:
        """Group rows with NaN for missing entries."""
        values = x.detach().numpy()
        observed = ~np.isnan(values)
        masks, group = distinct_rows(observed)
        order = np.argsort(group, kind="stable")
        filled = np.where(observed, values, 0.0)[order]
        counts = np.bincount(group, minlength=len(masks))
        starts = np.concatenate([[0], np.cumsum(counts)])
        means = np.add.reduceat(filled, starts[:-1], axis=0) / counts[:, None]
        kept = np.flatnonzero(masks.any(axis=1))
        roots, owner = _roots(filled, means, masks, starts, kept)
        return cls(
            torch.from_numpy(masks[kept]),
            torch.from_numpy(counts[kept].astype(np.float64)),
            torch.from_numpy(means[kept]),
            torch.from_numpy(roots),
            torch.from_numpy(owner),
            len(values),
        )

    @classmethod
    def of_statistics(cls, statistics: SufficientStatistics) -> Patterns:
        """Take complete rows from their moments: one group."""
        root = getattr(statistics, "root", None)
        if root is None:
            root = torch.from_numpy(square_root(statistics.scatter.numpy()))
        return cls(
            torch.ones(1, statistics.features, dtype=torch.bool),
            torch.tensor([float(statistics.count)], dtype=torch.float64),
            statistics.mean.unsqueeze(0),
            root,
            torch.zeros(len(root), dtype=torch.long),
            statistics.count,
        )

    @property
    def features(self) -> int:
        """Number of columns."""
        return self.observed.shape[1]

    def select(self, chosen: Bool[Tensor, " patterns"]) -> Patterns:
        """Keep some of the groups."""
        kept = chosen[self.owner]
        position = chosen.long().cumsum(0) - 1
        return Patterns(
            self.observed[chosen],
            self.counts[chosen],
            self.means[chosen],
            self.roots[kept],
            position[self.owner[kept]],
            self.rows,
        )

    def blocks(self, width: int) -> Iterator[Patterns]:
        """Walk over the groups, so many at a time that `width` numbers for each fit into a block."""
        size = max(BLOCK // width, 1)
        if size >= len(self.counts) and len(self.roots) <= 4 * size:
            yield self
            return
        ends = np.searchsorted(self.owner.numpy(), np.arange(len(self.counts)), side="right")
        first, row = 0, 0
        while first < len(self.counts):  # a group is never split; root rows count as groups do
            load = np.arange(1, len(ends) - first + 1) + (ends[first:] - row)
            last = first + max(int(np.searchsorted(load, 2 * size, side="right")), 1)
            end = int(ends[last - 1])
            yield Patterns(
                self.observed[first:last],
                self.counts[first:last],
                self.means[first:last],
                self.roots[row:end],
                self.owner[row:end] - first,
                self.rows,
            )
            first, row = last, end


def each_by_its_own(
    matrices: Float[Tensor, "patterns width other"], rows: Float[Tensor, "rows other"], owner: Tensor
) -> Float[Tensor, "rows width"]:
    """Multiply each row by the matrix of its pattern; `owner` is sorted."""
    if len(rows) <= 4 * len(matrices):
        return (matrices[owner] @ rows.unsqueeze(-1)).squeeze(-1)
    lengths = torch.bincount(owner, minlength=len(matrices)).tolist()
    parts = zip(rows.split(lengths), matrices, strict=True)
    return torch.cat([part @ matrix.mT for part, matrix in parts])


def distinct_rows(observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows of a mask (N, D), in lexicographic order, and which of them each row is."""
    packed = np.packbits(observed, axis=1)
    wide = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    wide[:, : packed.shape[1]] = packed
    words = wide.view(">u8")
    key = words[:, 0].astype(np.uint64) if words.shape[1] == 1 else wide.view(f"V{wide.shape[1]}")[:, 0]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return observed[first], group


def square_root(scatter: np.ndarray) -> np.ndarray:
    """Return R with R'R the scatter; directions of no size are left out."""
    values, vectors = np.linalg.eigh(scatter)
    kept = values > np.finfo(float).eps * max(values[-1], 0.0)
    return np.ascontiguousarray((vectors[:, kept] * np.sqrt(values[kept])).T)


def _roots(
    filled: np.ndarray, means: np.ndarray, masks: np.ndarray, starts: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centre the rows of each group; where they are more than the entries they have, take a root of their scatter."""
    counts, widths = np.diff(starts), masks.sum(axis=1)
    lengths = np.where(counts[kept] > 1, np.minimum(counts[kept], widths[kept]), 0)
    parts, taken = [], np.zeros(len(kept), dtype=np.int64)
    for position in np.flatnonzero(lengths):
        index = kept[position]
        seen = masks[index]
        rows = filled[starts[index] : starts[index + 1]] - means[index]
        if counts[index] > widths[index]:
            narrow = rows[:, seen]
            root = square_root(narrow.T @ narrow)
            rows = np.zeros((len(root), len(seen)))
            rows[:, seen] = root
        parts.append(rows)
        taken[position] = len(rows)
    roots = np.concatenate(parts) if parts else np.zeros((0, masks.shape[1]))
    return roots, np.repeat(np.arange(len(kept)), taken)
