"""Block coordinate descent over unit-norm atoms, compiled."""

from __future__ import annotations

import math

from probae.codes.compiled import Matrix, entry


@entry
def descend(atoms: Matrix, second: Matrix, cross: Matrix, passes: int) -> float:
    """Move each atom (a row) in place to its best place given the others; return the largest move of the first pass."""
    largest = 0.0
    for turn in range(passes):
        for j in range(len(atoms)):
            if second[j, j] <= 0.0:
                continue
            u = cross[j].copy()
            for k in range(len(atoms)):
                weight = second[j, k]
                if weight != 0.0 and k != j:
                    other = atoms[k]
                    for d in range(len(u)):
                        u[d] -= weight * other[d]
            square = 0.0
            for d in range(len(u)):
                square += u[d] * u[d]
            if square <= 0.0:
                continue
            length, moved = math.sqrt(square), 0.0
            for d in range(len(u)):
                value = u[d] / length
                moved += (value - atoms[j, d]) ** 2
                atoms[j, d] = value
            if turn == 0:
                largest = max(largest, moved)
    return math.sqrt(largest)
