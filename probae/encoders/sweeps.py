r"""Layers of coordinate descent for one row after the other, compiled; c = V (x - mean) - B z is kept up to date.

A layer lists the atoms that it would move, and moves them in turn: z_k <- S(z_k + s c_k, \theta_k). A move costs one
column of B. Four moves share one pass over c: what the first ones do to the others is added by hand.
"""

from __future__ import annotations

import numpy as np

from probae.encoders.unrolled import Array, both


@both("*, *[::1], *[::1], *[::1], *[::1], uint8[::1], uint64[::1]", inside=True)
def list_movers(
    step: float, level: Array, least: Array, z: Array, c: Array, moves: Array, movers: Array
) -> int:
    """List the atoms that are or become active and move by no less than ``least``, or NaN; return how many."""
    for k in range(len(z)):
        u = z[k] + step * c[k]
        new = u - min(max(u, -level[k]), level[k])
        moves[k] = ((new != 0.0) | (z[k] != 0.0)) & (not (abs(new - z[k]) < least[k]))
    count = 0
    for k in range(len(z)):
        movers[count] = k
        count += moves[k]
    return count


@both("*, *[::1], *[:, ::1], uint64[::1], int64, *[::1], *[::1]", inside=True)
def sweep(step: float, level: Array, columns: Array, movers: Array, count: int, z: Array, c: Array) -> None:
    """Move the atoms listed; row k of ``columns`` is column k of B."""
    whole = count - count % 4
    for i in range(0, whole, 4):
        k0, k1, k2, k3 = movers[i], movers[i + 1], movers[i + 2], movers[i + 3]
        b0, b1, b2, b3 = columns[k0], columns[k1], columns[k2], columns[k3]
        u = z[k0] + step * c[k0]
        new = u - min(max(u, -level[k0]), level[k0])
        d0, z[k0] = new - z[k0], new
        u = z[k1] + step * (c[k1] - d0 * b0[k1])
        new = u - min(max(u, -level[k1]), level[k1])
        d1, z[k1] = new - z[k1], new
        u = z[k2] + step * (c[k2] - d0 * b0[k2] - d1 * b1[k2])
        new = u - min(max(u, -level[k2]), level[k2])
        d2, z[k2] = new - z[k2], new
        u = z[k3] + step * (c[k3] - d0 * b0[k3] - d1 * b1[k3] - d2 * b2[k3])
        new = u - min(max(u, -level[k3]), level[k3])
        d3, z[k3] = new - z[k3], new
        for j in range(len(c)):
            c[j] -= (d0 * b0[j] + d1 * b1[j]) + (d2 * b2[j] + d3 * b3[j])
    for i in range(whole, count):
        k = movers[i]
        column, u = columns[k], z[k] + step * c[k]
        new = u - min(max(u, -level[k]), level[k])
        move, z[k] = new - z[k], new
        for j in range(len(c)):
            c[j] -= move * column[j]


@both("*[:, ::1], *[:, ::1], *[::1], *[:, ::1], *[::1], *[:, ::1]")
def run_sweeps(cross: Array, columns: Array, steps: Array, levels: Array, least: Array, codes: Array) -> None:
    """Fill the codes of every row from V (x - mean), which is overwritten by c."""
    moves, movers = np.empty(len(columns), np.uint8), np.empty(len(columns) + 1, np.uint64)
    for n in range(len(cross)):
        z, c = codes[n], cross[n]
        for k in range(len(z)):
            z[k] = 0.0
        for t in range(len(steps)):
            count = list_movers(steps[t], levels[t], least, z, c, moves, movers)
            sweep(steps[t], levels[t], columns, movers, count, z, c)
