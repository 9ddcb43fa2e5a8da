r"""Codes with a given number of active atoms, compiled: orthogonal matching pursuit, and its swaps.

.. math:: \min_z \|x - A z\|^2, \qquad \|z\|_0 \le m

A further atom j lowers \|r\|^2 by (a_j'r)^2 / \|(I - P) a_j\|^2 after a refit, with P the projection on the atoms
chosen so far; the pursuit looks at \|a_j'r\| / \|a_j\| instead.
"""

from __future__ import annotations

import numpy as np

from probae.codes.compiled import Indices, Matrix, Vector, compiled, entry
from probae.codes.correlations import correlate
from probae.codes.factor import backward, forward, insert

SMALL = 1e-14  # share of |x|^2 below which a gain is rounding


@compiled
def refit(
    q: Vector, z: Vector, active: Indices, count: int, factor: Matrix, inverse: Vector, goal: Vector
) -> float:
    """Set z to the least-squares codes on the active atoms and return by how much they lower |x|^2."""
    for i in range(count):
        goal[i] = q[active[i]]
    forward(goal, count, factor, inverse)
    explained = 0.0
    for i in range(count):
        explained += goal[i] * goal[i]
    backward(goal, count, factor, inverse)
    for i in range(count):
        z[active[i]] = goal[i]
    return explained


@compiled
def pursue(
    gram: Matrix,
    q: Vector,
    power: float,
    wanted: int,
    z: Vector,
    c: Vector,
    active: Indices,
    factor: Matrix,
    inverse: Vector,
    goal: Vector,
) -> int:
    """Let in the atom with the largest |a'r| / |a|, refit, and repeat; return the number of atoms."""
    count = 0
    correlate(c, q, gram, z, active, 0)
    while count < wanted:
        best, size = -1, 0.0
        for k in range(len(c)):
            norm = gram[k, k]
            if norm > 0.0 and c[k] * c[k] > size * norm:
                best, size = k, c[k] * c[k] / norm
        if size <= SMALL * power or not insert(gram[best], best, active, count, factor, inverse):
            return count
        count += 1
        refit(q, z, active, count, factor, inverse, goal)
        correlate(c, q, gram, z, active, count)
    return count


@compiled
def gain(
    gram: Matrix, atom: int, c: Vector, active: Indices, count: int, factor: Matrix, inverse: Vector
) -> float:
    """Return by how much a further atom lowers |r|^2 after a refit."""
    if not insert(gram[atom], atom, active, count, factor, inverse):
        return 0.0
    return (c[atom] * inverse[count]) ** 2


@compiled
def improve(
    gram: Matrix,
    q: Vector,
    power: float,
    z: Vector,
    c: Vector,
    active: Indices,
    count: int,
    factor: Matrix,
    inverse: Vector,
    goal: Vector,
    others: Indices,
) -> bool:
    """Make the best exchange of one active atom for another; return False if none lowers |r|^2."""
    now = refit(q, z, active, count, factor, inverse, goal)
    for i in range(count):
        others[i] = active[i]
    best, out, into = now + 1e-12 * power, -1, -1
    for left in range(count):
        for i in range(count):
            z[others[i]] = 0.0
        kept = 0
        for i in range(count):
            if i != left and insert(gram[others[i]], others[i], active, kept, factor, inverse):
                kept += 1
        explained = refit(q, z, active, kept, factor, inverse, goal)
        correlate(c, q, gram, z, active, kept)
        for k in range(len(c)):
            norm = gram[k, k]
            # an atom gains at least c^2 / |a|^2 and, in the span of the others, nothing at all
            if z[k] == 0.0 and norm > 0.0 and k != others[left]:
                value = explained + gain(gram, k, c, active, kept, factor, inverse)
                if value > best:
                    best, out, into = value, left, k
    for i in range(count):
        z[others[i]] = 0.0
    if out >= 0:
        others[out] = into
    for i in range(count):
        insert(gram[others[i]], others[i], active, i, factor, inverse)
    refit(q, z, active, count, factor, inverse, goal)
    return out >= 0


@entry
def pursue_rows(gram: Matrix, cross: Matrix, power: Vector, wanted: int, swaps: int, codes: Matrix) -> None:
    """Fill the codes of every row from its correlations A'x and |x|^2."""
    atoms, size = len(gram), wanted + 2
    c, active, others = np.empty(atoms), np.empty(size, np.int64), np.empty(size, np.int64)
    factor, inverse, goal = np.empty((size, size)), np.empty(size), np.empty(size)
    for n in range(len(cross)):
        z = codes[n]
        count = pursue(gram, cross[n], power[n], wanted, z, c, active, factor, inverse, goal)
        for _ in range(swaps):
            if count == 0 or not improve(
                gram, cross[n], power[n], z, c, active, count, factor, inverse, goal, others
            ):
                break
