"""The gradient of layers of coordinate descent, compiled."""

from __future__ import annotations

import numpy as np

from probae.encoders.sweeps import list_movers, sweep
from probae.encoders.unrolled import Array, both


@both("*[:, ::1], *[:, ::1], *[::1], *[:, ::1], *[::1], *[:, ::1], *[:, ::1], *[::1], *[:, ::1], boolean")
def pull_back(
    cross: Array,
    columns: Array,
    steps: Array,
    levels: Array,
    least: Array,
    pull: Array,
    of_columns: Array,
    of_steps: Array,
    of_levels: Array,
    learned: bool,
) -> None:
    """Add up the gradients of parameters, given that of the codes in ``pull``; put that of ``cross`` in its place.

    A row's moves are made again and written down, then taken back one by one, so that c is what it was before each.
    Gradients of the columns, which cost as much as all else, are left at 0 unless ``learned``.
    """
    layers, atoms = levels.shape
    moves, movers = np.empty(atoms, np.uint8), np.empty((layers, atoms + 1), np.uint64)
    counts, before = np.empty(layers, np.int64), np.empty((layers, atoms), cross.dtype)
    z, g = np.empty(atoms, cross.dtype), np.empty(atoms, cross.dtype)
    for n in range(len(cross)):
        c, pulled = cross[n], pull[n]
        for k in range(atoms):
            z[k] = g[k] = 0.0
        for t in range(layers):
            for k in range(atoms):
                before[t, k] = z[k]
            counts[t] = list_movers(steps[t], levels[t], least, z, c, moves, movers[t])
            sweep(steps[t], levels[t], columns, movers[t], counts[t], z, c)
        for t in range(layers - 1, -1, -1):
            for i in range(counts[t] - 1, -1, -1):
                k = movers[t, i]
                column, new, old = columns[k], z[k], before[t, k]
                move, slope = new - old, old - old  # the slope is that of the move
                if learned:
                    for j in range(atoms):
                        of_columns[k, j] -= move * g[j]
                for j in range(atoms):
                    slope -= column[j] * g[j]
                    c[j] += move * column[j]
                whole, pulled[k], z[k] = pulled[k] + slope, -slope, old
                if new != 0.0:
                    pulled[k] += whole
                    g[k] += steps[t] * whole
                    of_steps[t] += c[k] * whole
                    of_levels[t, k] -= whole if new > 0.0 else -whole
        for k in range(atoms):
            c[k] = g[k]
