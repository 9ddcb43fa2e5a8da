r"""Count, mean and scatter of rows that stream by: in blocks that stay in the cache, on every processor.

With sums taken about a point :math:`c`, :math:`t = \sum_n (x_n - c)`,

.. math:: S = \sum_n (x_n - c)(x_n - c)' - t t' / N, \qquad \bar x = c + t / N.

A point far from the data would lose their variation under the offset; a column whose mean is within a few standard
deviations of zero needs none, and then no copy is made of the rows.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from probae.errors import DataError
from probae.tables import LARGEST, Table, column_label, sparse_data

BLOCK = 2**17  # values held at a time: 1 MB of float64 stays in the cache of one processor
SECTION = 2**22  # values summed up by one processor before its sums are merged with those of the others
NEAR = 4.0  # standard deviations a mean may be from zero and lose at most a digit without a shift
ROUNDING = 1e-20  # root mean square, relative to the mean, that only the rounding of sums leaves: no column varies less


@dataclass(frozen=True, eq=False)
class Moments:
    """Count and mean of rows, with their scatter (D, D), or the centred rows (N, D) where these are fewer."""

    count: float
    mean: np.ndarray
    scatter: np.ndarray | None = None
    root: np.ndarray | None = None

    @property
    def features(self) -> int:
        """Number of columns."""
        return len(self.mean)

    def __add__(self, other: Moments) -> Moments:
        """Describe the rows of both (Chan, Golub & LeVeque, 1979, with outer products for squares)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        weight = self.count * other.count / count
        mean = self.mean + delta * (other.count / count)
        if self.root is not None and other.root is not None:
            parts = [self.root, other.root, math.sqrt(weight) * delta[None]]
            if self._holds_rows() and other._holds_rows():  # no more rows than there were
                parts = [self.root - delta * (other.count / count), other.root + delta * (self.count / count)]
            root = np.concatenate(parts)
            if len(root) < len(delta):
                return Moments(count, mean, root=root)
            return Moments(count, mean, root.T @ root)
        return Moments(count, mean, self.dense() + other.dense() + weight * np.outer(delta, delta))

    def dense(self) -> np.ndarray:
        """Return the scatter, formed from the root where there is only that."""
        return self.root.T @ self.root if self.scatter is None else self.scatter  # type: ignore[union-attr]

    def _holds_rows(self) -> bool:
        """Whether the root is as good as the centred rows: one for each, with sums of zero."""
        assert self.root is not None
        left = np.abs(np.ones(len(self.root)) @ self.root).max()
        return len(self.root) == self.count and bool(left <= 1e-10 * np.abs(self.root).max())


class NotFinite(Exception):
    """Sums of a block are not finite; carries the block and the number of its first row."""

    def __init__(self, block: np.ndarray, start: int) -> None:
        super().__init__(start)
        self.block, self.start = block, start

    @property
    def in_range(self) -> bool:
        """Whether each value is finite and in range, so that only their sum is too large."""
        return bool((np.abs(self.block) <= LARGEST).all())

    def explain(self, names: tuple[str, ...] | None) -> DataError:
        """Say where the value is, and what to do."""
        bad = ~(np.abs(self.block) <= LARGEST)  # true of NaN as well
        if not bad.any():
            return DataError(
                "x should have squares that can be added in float64, got a sum too large: rescale x."
            )
        row, column = divmod(int(bad.argmax()), bad.shape[1])
        value = self.block[row, column]
        advice = f"replace it; squares of values above {LARGEST:g} overflow"
        if np.isnan(value):
            advice = "pass the rows to a model that integrates missing values out"
        return DataError(
            f"x should hold finite values in range, got {value:g} at row {self.start + row}, "
            f"{column_label(column, names)}: {advice}."
        )


@dataclass(eq=False)
class Sums:
    """Sums of rows and of their outer products about one point (None: zero), whatever the order they come in."""

    point: np.ndarray | None
    mass: float
    total: np.ndarray
    outer: np.ndarray

    def __iadd__(self, other: Sums) -> Sums:
        self.mass += other.mass
        self.total += other.total
        self.outer += other.outer
        return self

    def moments(self) -> Moments:
        """Return the mean, and the scatter about it."""
        mean = self.total / self.mass
        scatter = self.outer - np.outer(self.total, self.total) / self.mass
        mean = mean if self.point is None else self.point + mean
        still = scatter.diagonal() <= self.mass * (ROUNDING * mean) ** 2
        scatter[still] = scatter[:, still] = 0.0
        return Moments(self.mass, mean, scatter)


def collect(array: np.ndarray, weights: np.ndarray | None = None) -> Moments:
    """Read a table once, in float64; raise :class:`NotFinite` at the first block that cannot be summed."""
    if len(array) < array.shape[1]:
        return _collect_root(array, weights)
    return _collect_sums(array, _shift(array, weights), weights).moments()


def _collect_sums(array: np.ndarray, point: np.ndarray | None, weights: np.ndarray | None = None) -> Sums:
    """Sum sections on all processors.

    The sections, and the order their sums are added in, depend on the shape alone, so the answer does not depend on
    the number of processors.
    """
    samples, features = array.shape
    step = max(SECTION // features, 1)

    def summed(start: int) -> Sums:
        own = None if weights is None else weights[start : start + step]
        result = _sum_section(array[start : start + step], point, start, own)
        release(array)
        return result

    if samples <= step:
        return summed(0)
    # each processor multiplies its own blocks: a library that splits one small product over all is slower
    with threadpool_limits(1), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        try:
            results = pool.map(summed, range(0, samples, step))
            total = next(results)
            for sums in results:
                total += sums
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad block, or Ctrl-C: the rest need not be read
            raise
    return total


def release(array: np.ndarray) -> None:
    """Let go of the pages of a read-only or shared memory map that were read: they would count as used memory."""
    owner: Any = array
    maps = []
    while owner is not None:
        maps += [owner] if isinstance(owner, np.memmap) else []
        owner = getattr(owner, "base", None)
    if not maps or maps[-1].mode not in ("r", "r+"):  # "c" keeps changes in these pages only
        return
    mapped = getattr(maps[-1], "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _shift(array: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | None:
    """Return the mean of the first thousand rows where a column is far from zero, else zero; None if all are near.

    Rows of less than the mean weight are passed over: those that hardly count may lie elsewhere.
    """
    chosen = slice(1000) if weights is None else np.flatnonzero(weights >= weights.mean())[:1000]
    head = np.array(array[chosen], dtype=np.float64, order="C")  # one layout, so one order of adding up
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found in the sums
        mean = head.mean(axis=0)
        far = ~(np.abs(mean) <= NEAR * head.std(axis=0))
    return np.where(far & np.isfinite(mean), mean, 0.0) if far.any() else None


def _sum_section(rows: np.ndarray, point: np.ndarray | None, start: int, weights: np.ndarray | None) -> Sums:
    """Sum a section block by block.

    numpy computes a matrix times its own transpose as such: half the work of a general product, and exactly symmetric.
    """
    features = rows.shape[1]
    length = max(
        BLOCK // features, features
    )  # with fewer, adding to the sums would cost more than the products
    total, outer, mass = np.zeros(features), np.zeros((features, features)), 0.0
    buffer: np.ndarray | None = None
    plain = rows.dtype == np.float64 and rows.flags.c_contiguous and rows.dtype.isnative
    for first in range(0, len(rows), length):
        block = np.asarray(rows[first : first + length])  # plain; a memory map is read only when used
        with np.errstate(over="ignore", invalid="ignore"):
            part = block
            if point is not None or not plain:
                buffer = np.empty((min(length, len(rows)), features)) if buffer is None else buffer
                part = np.subtract(block, 0.0 if point is None else point, out=buffer[: len(block)])
            if weights is None:
                total += np.ones(len(part)) @ part  # faster than a sum down narrow columns
                outer += part.T @ part
            else:
                share = weights[first : first + length]
                mass += float(share.sum())
                total += share @ part
                part = part * np.sqrt(share)[:, None]
                outer += part.T @ part
        if not (np.isfinite(total).all() and np.isfinite(outer.diagonal()).all()):
            raise NotFinite(np.array(block, dtype=np.float64), start + first)
    return Sums(point, len(rows) if weights is None else mass, total, outer)


def _collect_root(array: np.ndarray, weights: np.ndarray | None = None) -> Moments:
    """Keep the centred rows, times the roots of their weights: fewer numbers than a scatter has."""
    mass = len(array) if weights is None else float(weights.sum())
    share = np.ones(len(array)) / mass if weights is None else weights / mass
    with np.errstate(over="ignore", invalid="ignore"):
        root = np.array(array, dtype=np.float64, order="C")
        mean = share @ root
        root -= mean
        mean += (correction := share @ root)
        root -= correction  # what rounding left in the mean of columns far from zero
        if weights is not None:
            root *= np.sqrt(weights)[:, None]
        size = np.einsum("nd,nd->d", root, root)
    if not np.isfinite(size).all():
        raise NotFinite(np.array(array, dtype=np.float64), 0)
    root[:, size <= mass * (ROUNDING * mean) ** 2] = 0.0
    return Moments(mass, mean, root=root)


class Stream:
    """Tables that come one after the other, all summed about the point the first rows give.

    Until there are as many rows as columns the rows themselves are kept.
    """

    def __init__(self) -> None:
        self.waiting: list[np.ndarray] = []
        self.sums: Sums | None = None
        self.merged: Moments | None = None  # of sparse tables
        self.names: tuple[str, ...] | None = None
        self.features: int | None = None

    def add(self, table: Table) -> None:
        """Read the next table."""
        width = table.array.shape[1]
        self.names = shared_names(self.features or width, self.names, width, table.names)
        self.features = width
        try:
            self._add(table)
        except NotFinite as found:
            raise found.explain(table.names) from None

    def _add(self, table: Table) -> None:
        if not isinstance(table.array, np.ndarray):
            part = _collect_sparse(table, None)
            self.merged = part if self.merged is None else self.merged + part
        elif self.sums is not None:
            self.sums += _collect_sums(table.array, self.sums.point)
        else:
            self.waiting.append(np.array(table.array))  # a copy: loaders reuse their memory
            if sum(map(len, self.waiting)) >= table.array.shape[1]:
                rows = self.waiting[0] if len(self.waiting) == 1 else np.concatenate(self.waiting)
                self.waiting, self.sums = [], _collect_sums(rows, _shift(rows))

    def moments(self) -> Moments:
        """Return the moments of all rows."""
        parts = [] if self.sums is None else [self.sums.moments()]
        parts += [collect(np.concatenate(self.waiting))] if self.waiting else []
        parts += [] if self.merged is None else [self.merged]
        if not parts:
            raise DataError(
                "batches should give at least one table, got none: an iterator can be read only once."
            )
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def collect_all(tables: Iterable[Table]) -> tuple[Moments, tuple[str, ...] | None]:
    """Merge the moments of tables that come one after the other, and their column names."""
    stream = Stream()
    for table in tables:
        stream.add(table)
    return stream.moments(), stream.names


def of_table(table: Table, weights: np.ndarray | None = None) -> Moments:
    """Return the moments of one table, dense or sparse."""
    if isinstance(table.array, np.ndarray):
        return collect(table.array, weights)
    return _collect_sparse(table, weights)


def _collect_sparse(table: Table, weights: np.ndarray | None) -> Moments:
    """Sum a table without a dense copy: its zeros keep a mean small against the spread, a column without is shifted."""
    matrix: Any = sparse_data(table).values
    share = np.ones(matrix.shape[0]) if weights is None else weights
    mass = matrix.shape[0] if weights is None else float(weights.sum())
    full = np.bincount(matrix.indices, minlength=matrix.shape[1]) == matrix.shape[0]
    point = np.where(full, matrix.T @ share / mass, 0.0) if full.any() else None
    if point is not None:
        matrix.data -= point[matrix.indices]  # a copy already
    scaled = matrix if weights is None else matrix.multiply(np.sqrt(weights)[:, None]).tocsr()
    return Sums(point, mass, matrix.T @ share, (scaled.T @ scaled).toarray()).moments()


def shared_names(
    width: int, names: tuple[str, ...] | None, other_width: int, other_names: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Return the names two tables share, or refuse tables of different columns."""
    if width != other_width:
        raise DataError(
            f"tables to merge should be of equal width, got {width} and {other_width} features: "
            "take the same columns of all."
        )
    if names is None or other_names is None or names == other_names:
        return names or other_names
    raise DataError(
        f"tables to merge should have the same columns in the same order, got {names} and {other_names}: "
        "reorder or rename."
    )
