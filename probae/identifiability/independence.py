"""Whether enough independent rows are left: matchings of columns to rows, and disjoint bases of the rows."""

from __future__ import annotations

from collections import deque

import numpy as np

__all__ = ["few_rows", "row_deletion_failures"]

DEPENDENT = 1e-9  # residual, relative, of a row that is a combination of others


def few_rows(pattern: np.ndarray) -> tuple[int, ...]:
    """Return a set of q columns with at most 2 q rows that are not zero, or nothing where there is none.

    Every q columns have 2 q + 1 rows if and only if, whichever row is deleted, each column can be matched to two rows
    of its own (Hall): polynomial, where a search over sets of columns is not.

    Examples
    --------
    >>> few_rows(np.array([[1, 0], [1, 0], [1, 1], [0, 1]], dtype=bool))
    (0, 1)
    """
    features, factors = pattern.shape
    neighbours = [np.flatnonzero(pattern[:, k]).tolist() for k in range(factors)]
    owner: dict[int, int] = {}
    for k in list(range(factors)) * 2:
        reached = _match(k, neighbours, owner, None)
        if reached:
            return reached
    for row in sorted(owner):
        without = dict(owner)
        reached = _match(without.pop(row), neighbours, without, row)
        if reached:
            return reached
    return ()


def _match(
    column: int, neighbours: list[list[int]], owner: dict[int, int], deleted: int | None
) -> tuple[int, ...]:
    """Give a column one more row of its own, moving others; return the columns that are stuck if none is left."""
    came: dict[int, tuple[int, int] | None] = {column: None}
    queue = deque([column])
    while queue:
        current = queue.popleft()
        for row in neighbours[current]:
            if row == deleted or owner.get(row) == current:
                continue
            if row not in owner:
                back: tuple[int, int] | None = (current, row)
                while back is not None:
                    taker, taken = back
                    back = came[taker]
                    owner[taken] = taker
                return ()
            if owner[row] not in came:
                came[owner[row]] = (current, row)
                queue.append(owner[row])
    return tuple(sorted(came))


def row_deletion_failures(loadings: np.ndarray) -> tuple[int, ...]:
    """Return the rows without which no two disjoint bases of the rows of W are left (Anderson & Rubin, 1956).

    Two disjoint bases are a common base of the union of two matroids, found by augmentation (Edmonds, 1968). Only
    rows that are in use need to be deleted and replaced.

    Examples
    --------
    >>> row_deletion_failures(np.array([[1.0], [2.0], [3.0]])), row_deletion_failures(np.array([[1.0], [2.0]]))
    ((), (0, 1))
    """
    rows = _unit_rows(loadings)
    features, factors = rows.shape
    bases: tuple[list[int], list[int]] = ([], [])
    for row in range(features):
        if len(bases[0]) + len(bases[1]) == 2 * factors:
            break
        _augment(rows, bases, row)
    if len(bases[0]) + len(bases[1]) < 2 * factors:
        return tuple(range(features))
    failing = []
    for base in (0, 1):
        for row in bases[base]:
            rest = (list(bases[0]), list(bases[1]))
            rest[base].remove(row)
            others = (i for i in range(features) if i != row and i not in rest[0] and i not in rest[1])
            if not any(_augment(rows, rest, other) for other in others):
                failing.append(row)
    return tuple(sorted(failing))


def _unit_rows(loadings: np.ndarray) -> np.ndarray:
    """Return the rows at length 1; rows that are zero to rounding stay zero. Their independence is the same."""
    length = np.linalg.norm(loadings, axis=1)
    real = length > DEPENDENT * max(float(length.max(initial=0.0)), 1e-300)
    return np.where(real[:, None], loadings / np.where(real, length, 1.0)[:, None], 0.0)


def _augment(rows: np.ndarray, bases: tuple[list[int], list[int]], new: int) -> bool:
    """Add a row to two independent sets by the shortest chain of exchanges; False when their union cannot grow so."""
    came: dict[int, tuple[int, int] | None] = {new: None}
    queue = deque([new])
    while queue:
        current = queue.popleft()
        for base in (0, 1):
            if current in bases[base]:
                continue
            circuit = _circuit(rows, bases[base], current)
            if circuit is None:
                _exchange(bases, came, current, base)
                return True
            for member in circuit:
                if member not in came:
                    came[member] = (current, base)
                    queue.append(member)
    return False


def _exchange(
    bases: tuple[list[int], list[int]], came: dict[int, tuple[int, int] | None], last: int, base: int
) -> None:
    """Put the last row of a chain into its set; each earlier one takes the place that the next one left."""
    step: tuple[int, int] | None = (last, base)
    while step is not None:
        row, into = step
        for own in bases:
            if row in own:
                own.remove(row)
        bases[into].append(row)
        step = came[row]


def _circuit(rows: np.ndarray, base: list[int], row: int) -> list[int] | None:
    """Return the members of an independent set that make up a row, or None where the row is independent of it."""
    if not np.any(rows[row]):
        return []
    if not base:
        return None
    weights, *_ = np.linalg.lstsq(rows[base].T, rows[row], rcond=None)
    if np.linalg.norm(rows[base].T @ weights - rows[row]) > DEPENDENT:
        return None
    return [member for member, weight in zip(base, weights, strict=True) if abs(weight) > DEPENDENT]
