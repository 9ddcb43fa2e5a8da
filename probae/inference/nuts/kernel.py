"""What a compiled log density and the compiled sampler share: their types, and how they are compiled.

Sums keep their order (no ``fastmath``): where any order will do, compiled loops choose one by how arrays lie in memory,
and a chain follows the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from probae.compiled import compile_cached

__all__ = ["DENSITY", "GENERATOR", "LANES", "Target", "add_products", "compiled"]

# without wrappers for Python, whose making takes longer than compiling a kernel: only compiled functions call these
compiled: Callable[..., Any] = functools.partial(
    compile_cached, options={"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
)

LANES = 8  # sums that run side by side: one alone waits four cycles for each addition


@compiled
def add_products(rows: NDArray[np.float64], vector: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Add the inner product of each row with the vector to its sum, eight rows at a time, each sum in its order."""
    count, size = rows.shape
    whole = count - count % LANES
    for r in range(0, whole, LANES):
        a, b, c, d = sums[r], sums[r + 1], sums[r + 2], sums[r + 3]
        e, f, g, h = sums[r + 4], sums[r + 5], sums[r + 6], sums[r + 7]
        for i in range(size):
            value = vector[i]
            a += rows[r, i] * value
            b += rows[r + 1, i] * value
            c += rows[r + 2, i] * value
            d += rows[r + 3, i] * value
            e += rows[r + 4, i] * value
            f += rows[r + 5, i] * value
            g += rows[r + 6, i] * value
            h += rows[r + 7, i] * value
        sums[r], sums[r + 1], sums[r + 2], sums[r + 3] = a, b, c, d
        sums[r + 4], sums[r + 5], sums[r + 6], sums[r + 7] = e, f, g, h
    for r in range(whole, count):
        for i in range(size):
            sums[r] += rows[r, i] * vector[i]


class Target(NamedTuple):
    """What a compiled density reads, besides the precisions of the loadings, which may move between trajectories.

    Attributes
    ----------
    layout : array of int
        Features, latents in the density, latents of the model, and flags: gauge fixed, isotropic noise, sampled mean,
        first group given by its scatter.
    noise : array (3, D)
        a, b and c of a prior of log psi, a log psi - b / psi - c psi.
    centre : array (2, D)
        Location and precision of the prior of a sampled mean.
    counts : array (G,)
        How often log det of each group counts.
    shifts, masks, means : array (G, D)
        What is added to psi in each group; 1 where it observes a feature; its mean, for a sampled mean.
    ends : array of int (G + 1,)
        Where the rows of each group begin and end.
    rows : array (R, D)
        Centred rows.
    scatter : array (D, D)
        Of the first group, in place of rows.
    laws : array (3, K)
        Shape, power and size of the laws of the scales of factors that are not Gaussian, else (3, 0).
    """

    layout: NDArray[np.int64]
    noise: NDArray[np.float64]
    centre: NDArray[np.float64]
    counts: NDArray[np.float64]
    shifts: NDArray[np.float64]
    masks: NDArray[np.float64]
    means: NDArray[np.float64]
    ends: NDArray[np.int64]
    rows: NDArray[np.float64]
    scatter: NDArray[np.float64]
    laws: NDArray[np.float64]


VECTOR = types.Array(types.float64, 1, "C")
MATRIX = types.Array(types.float64, 2, "C")
INDICES = types.Array(types.int64, 1, "C")
TARGET = types.NamedTuple(
    (INDICES, MATRIX, MATRIX, VECTOR, MATRIX, MATRIX, MATRIX, INDICES, MATRIX, MATRIX, MATRIX), Target
)
# theta, its gradient (written), precisions of the loadings (K, D), target -> log density
DENSITY = types.float64(VECTOR, VECTOR, MATRIX, TARGET)
GENERATOR = numba.typeof(np.random.default_rng(0))
