r"""The Cholesky factor L of the Gram matrix of the active atoms, changed by one atom at a time.

Row i of ``factor`` holds L[i, :i] and ``inverse[i]`` holds 1 / L[i, i]; ``active[i]`` is the atom of row i.
"""

from __future__ import annotations

import math

from probae.codes.compiled import Indices, Matrix, Vector, compiled

DEPENDENT = 1e-12  # squared sine of the angle to the span of the others below which an atom adds nothing


@compiled
def insert(gram_row: Vector, atom: int, active: Indices, count: int, factor: Matrix, inverse: Vector) -> bool:
    """Append an atom and return True, or return False if it is in the span of the others; L^-1 g stands in its row."""
    norm = gram_row[atom]
    left = norm
    row = factor[count]
    for i in range(count):
        above = factor[i]
        value = gram_row[active[i]]
        for k in range(i):
            value -= row[k] * above[k]
        value *= inverse[i]
        row[i] = value
        left -= value * value
    if left <= DEPENDENT * norm or count + 1 >= len(inverse):
        return False
    inverse[count] = 1.0 / math.sqrt(left)
    active[count] = atom
    return True


@compiled
def remove(
    position: int, active: Indices, count: int, factor: Matrix, inverse: Vector, cosine: Vector, sine: Vector
) -> None:
    """Take the atom at a position out: rows below move up, and plane rotations make them triangular again."""
    for i in range(position, count - 1):
        active[i] = active[i + 1]
        row, old = factor[i], factor[i + 1]
        for k in range(position):
            row[k] = old[k]
        carried, diagonal = old[position], 1.0 / inverse[i + 1]
        for k in range(position, i):
            following = old[k + 1]
            row[k] = cosine[k] * carried + sine[k] * following
            carried = cosine[k] * following - sine[k] * carried
        length = math.sqrt(carried * carried + diagonal * diagonal)
        cosine[i], sine[i] = carried / length, diagonal / length
        inverse[i] = 1.0 / length


@compiled
def forward(values: Vector, count: int, factor: Matrix, inverse: Vector) -> None:
    """Replace b by L^-1 b."""
    for i in range(count):
        row = factor[i]
        value = values[i]
        for k in range(i):
            value -= row[k] * values[k]
        values[i] = value * inverse[i]


@compiled
def backward(values: Vector, count: int, factor: Matrix, inverse: Vector) -> None:
    """Replace b by L'^-1 b."""
    for i in range(count - 1, -1, -1):
        row = factor[i]
        value = values[i] * inverse[i]
        values[i] = value
        for k in range(i):
            values[k] -= value * row[k]
