"""Factors, products and eigenvectors of matrices of a few rows, compiled to be called from compiled loops.

Loops are written out, with the long dimension innermost: for K x K and K x D no library is faster than the call to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probae.compiled import compile_cached, njit

# Sums may be reordered and fused; nothing here is infinite or NaN.
FAST = {"reassoc", "contract", "arcp", "nsz"}
Array = NDArray[np.float64]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile into the functions that call it, for the arrays that come.

    Never beside them: rounding would differ between two compiled forms, and a process that has just compiled them may
    run another one than those that take them from disk.
    """
    options = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(fastmath=FAST, forceinline=True, **options)(inspect.unwrap(function))


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, to be called from Python, and keep the result on disk."""
    return compile_cached(function, {"fastmath": FAST, "no_cfunc_wrapper": True})


@compiled
def factor(a: Array) -> None:
    """Overwrite a symmetric positive definite matrix by its lower Cholesky factor."""
    for j in range(len(a)):
        for i in range(j, len(a)):
            total = a[i, j]
            for m in range(j):
                total -= a[i, m] * a[j, m]
            a[i, j] = np.sqrt(max(total, 1e-300)) if i == j else total / a[j, j]
        for i in range(j):
            a[i, j] = 0.0


@compiled
def solve(lower: Array, b: Array) -> None:
    """Overwrite b by L^{-1} b."""
    for i in range(len(lower)):
        for m in range(i):
            for c in range(b.shape[1]):
                b[i, c] -= lower[i, m] * b[m, c]
        for c in range(b.shape[1]):
            b[i, c] /= lower[i, i]


@compiled
def solve_transposed(lower: Array, b: Array) -> None:
    """Overwrite b by L'^{-1} b."""
    for i in range(len(lower) - 1, -1, -1):
        for m in range(i + 1, len(lower)):
            for c in range(b.shape[1]):
                b[i, c] -= lower[m, i] * b[m, c]
        for c in range(b.shape[1]):
            b[i, c] /= lower[i, i]


@compiled
def identity(out: Array) -> None:
    """Write I."""
    for i in range(len(out)):
        for j in range(len(out)):
            out[i, j] = 1.0 if i == j else 0.0


@compiled
def gram(a: Array, out: Array) -> None:
    """Write a a'."""
    for i in range(len(a)):
        for j in range(i + 1):
            total = 0.0
            for c in range(a.shape[1]):
                total += a[i, c] * a[j, c]
            out[i, j] = out[j, i] = total


@compiled
def weighted_gram(a: Array, weights: Array, ridge: float, out: Array) -> None:
    """Write a diag(1 / weights) a' + ridge I."""
    for i in range(len(a)):
        for j in range(i + 1):
            total = ridge if i == j else 0.0
            for c in range(a.shape[1]):
                total += a[i, c] * a[j, c] / weights[c]
            out[i, j] = out[j, i] = total


@compiled
def transpose(a: Array, out: Array) -> None:
    """Write a' of a square matrix."""
    for i in range(len(a)):
        for j in range(len(a)):
            out[i, j] = a[j, i]


@compiled
def multiply(a: Array, b: Array, out: Array) -> None:
    """Write a b; a may have more columns than b has rows."""
    for i in range(a.shape[0]):
        for c in range(b.shape[1]):
            out[i, c] = 0.0
        for m in range(b.shape[0]):
            for c in range(b.shape[1]):
                out[i, c] += a[i, m] * b[m, c]


@compiled
def turn_pair(a: Array, rows: Array, p: int, q: int) -> None:
    """One Jacobi rotation: make a[p, q] zero; the rows of ``rows`` turn along."""
    if abs(a[p, q]) <= 1e-300:
        return
    theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
    t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
    t = t if theta >= 0.0 else -t
    c = 1.0 / np.sqrt(t * t + 1.0)
    s = t * c
    for m in range(len(a)):
        left, right = a[m, p], a[m, q]
        a[m, p], a[m, q] = c * left - s * right, s * left + c * right
    for m in range(len(a)):
        left, right = a[p, m], a[q, m]
        a[p, m], a[q, m] = c * left - s * right, s * left + c * right
    for m in range(rows.shape[1]):
        left, right = rows[p, m], rows[q, m]
        rows[p, m], rows[q, m] = c * left - s * right, s * left + c * right


@compiled
def diagonalize(a: Array, rows: Array) -> None:
    """Overwrite a symmetric matrix by Q' a Q, diagonal to rounding, and ``rows`` by Q' rows (cyclic Jacobi)."""
    size = 0.0
    for i in range(len(a)):
        size += a[i, i] * a[i, i]
    for _ in range(30):
        off = 0.0
        for i in range(len(a)):
            for j in range(i):
                off += a[i, j] * a[i, j]
        if off <= 1e-30 * size:
            return
        for p in range(len(a)):
            for q in range(p + 1, len(a)):
                turn_pair(a, rows, p, q)
