r"""The lasso of one row by active sets, compiled: exact minima on growing supports, then the duality gap.

.. math:: f(z) = \tfrac12 z'Gz - q'z + \|z\|_1, \qquad c = q - Gz = A'r

in units where the penalty is 1. A round lets in atoms with \|c_j\| > 1, jumps to the minimum on the active atoms for
the signs they have, stops at the least value on the way where a sign would change, and lets out atoms that reach 0.
Every step lowers f, so no set of signs returns and the rounds end.
"""

from __future__ import annotations

import numpy as np

from probae.codes.compiled import Codes, Indices, Matrix, Singles, Table, Vector, compiled, entry
from probae.codes.correlations import correlate, duality_gap, largest, position, sharpen, sharpen_near
from probae.codes.dependent import begin, exchange
from probae.codes.factor import backward, forward, insert, remove

SHARE = 0.5  # of the largest excess of |c| over 1: atoms above it are let in together
MOVES = 200  # most sign changes in one round
IDLE = 3  # rounds without a lower value before a row is given up


@compiled
def admit(
    top: float,
    x: Vector,
    atoms: Matrix,
    q: Vector,
    exact: Indices,
    gram: Matrix,
    z: Vector,
    c: Vector,
    active: Indices,
    count: int,
    factor: Matrix,
    inverse: Vector,
    candidates: Indices,
    nonnegative: bool,
) -> int:
    """Let in atoms near the largest correlation, each by its own descent step; return the new count."""
    bar = 1.0 + SHARE * (top - 1.0)
    found = 0
    for k in range(len(c)):
        if (c[k] if nonnegative else abs(c[k])) >= bar and z[k] == 0.0:
            candidates[found] = k
            found += 1
    room = count + 1 + count // 2
    while found > 0 and count < room:
        best, size = 0, 0.0
        for i in range(found):
            value = c[candidates[i]]
            value = value if nonnegative else abs(value)
            if value > size:
                best, size = i, value
        if size < bar:
            break
        atom = candidates[best]
        found -= 1
        candidates[best] = candidates[found]
        sharpen(atom, x, atoms, q, c, exact)
        if (c[atom] if nonnegative else abs(c[atom])) <= 1.0:
            continue
        row = gram[atom]
        if not insert(row, atom, active, count, factor, inverse):
            continue
        count += 1
        step = (c[atom] - (1.0 if c[atom] > 0 else -1.0)) / row[atom]
        z[atom] = step
        for i in range(count):
            c[active[i]] -= step * row[active[i]]
        for i in range(found):
            c[candidates[i]] -= step * row[candidates[i]]
    return count


@compiled
def search(
    slope: float,
    curvature: float,
    z: Vector,
    move: Vector,
    active: Indices,
    count: int,
    times: Vector,
    nonnegative: bool,
) -> tuple[float, int]:
    """Minimise f on the way z + t move, t <= 1, kinked where an entry passes 0; return t and who is 0 there, or -1."""
    for i in range(count):
        value, change = z[active[i]], move[i]
        times[i] = -value / change if value * change < 0.0 else 2.0
    while True:
        first = 0
        for i in range(1, count):
            if times[i] < times[first]:
                first = i
        time = times[first]
        if curvature * min(time, 1.0) + slope >= 0.0 or time > 1.0:
            return min(-slope / curvature, 1.0), -1
        slope += 2.0 * abs(move[first])
        if nonnegative or slope + curvature * time >= 0.0:
            return time, first
        times[first] = 2.0


@compiled
def descend(
    q: Vector,
    z: Vector,
    c: Vector,
    active: Indices,
    count: int,
    factor: Matrix,
    inverse: Vector,
    work: Matrix,
    nonnegative: bool,
) -> int:
    """Minimise f over the active atoms; return how many are left."""
    goal, move, times, cosine, sine = work[0], work[1], work[2], work[3], work[4]
    for _ in range(MOVES):
        for i in range(count):
            goal[i] = q[active[i]] - (1.0 if z[active[i]] > 0 else -1.0)
        forward(goal, count, factor, inverse)
        backward(goal, count, factor, inverse)
        slope, kept = 0.0, True
        for i in range(count):
            value = z[active[i]]
            move[i] = goal[i] - value
            slope += move[i] * ((1.0 if value > 0 else -1.0) - c[active[i]])
            kept = kept and goal[i] * value > 0.0
        if kept:
            for i in range(count):
                z[active[i]] = goal[i]
            return count
        if slope >= 0.0:  # nothing but rounding is left to gain
            return count
        time, hit = search(slope, -slope, z, move, active, count, times, nonnegative)
        for i in range(count):
            atom = active[i]
            sign = 1.0 if z[atom] > 0 else -1.0
            c[atom] += time * (sign - c[atom])
            z[atom] += time * move[i]
            if nonnegative and z[atom] < 0.0:
                z[atom] = 0.0
        if hit >= 0:
            z[active[hit]] = 0.0
        i = 0
        while i < count:
            if z[active[i]] == 0.0:
                remove(i, active, count, factor, inverse, cosine, sine)
                count -= 1
            else:
                i += 1
        if count == 0:
            return 0
    return count


@compiled
def solve_row(
    gram: Matrix,
    atoms: Matrix,
    x: Vector,
    q: Vector,
    doubt: float,
    power: float,
    tolerance: float,
    rounds: int,
    nonnegative: bool,
    warm: bool,
    z: Vector,
    c: Vector,
    active: Indices,
    factor: Matrix,
    inverse: Vector,
    work: Matrix,
    spare: Table,
) -> tuple[float, int, int]:
    """Solve one row from the codes in z, with q within ``doubt`` of A'x.

    Return the gap, the rounds taken (-1 where they led no further) and the number of active atoms.
    """
    candidates, exact = spare[0], spare[1]
    for k in range(len(c)):
        exact[k] = 0
    count = begin(gram, z, active, factor, inverse, work, nonnegative) if warm else 0
    for i in range(count):
        sharpen(active[i], x, atoms, q, c, exact)
    best, idle, used = np.inf, 0, 0
    while True:
        correlate(c, q, gram, z, active, count)
        top = largest(c, nonnegative)
        gap, value = duality_gap(top, c, q, z, active, count, power)
        idle = 0 if value < best - 1e-15 * power else idle + 1
        best = min(best, value)
        limit = tolerance * max(value, 1e-3 * power)
        if gap <= 2.0 * limit or top <= 1.0 + 2.0 * doubt or used >= rounds or idle > 0:
            sharpen_near(1.0 - doubt, x, atoms, q, c, exact, nonnegative)
            top = largest(c, nonnegative)
            gap, value = duality_gap(top, c, q, z, active, count, power)
            if gap <= limit or used >= rounds:
                return gap, used, count
            if idle > IDLE:
                return gap, -1, count
        if top > 1.0:
            before = count
            count = admit(
                top, x, atoms, q, exact, gram, z, c, active, count, factor, inverse, candidates, nonnegative
            )
            if count == before and not (warm and used == 0):
                atom = position(c, top, nonnegative)
                if z[atom] == 0.0 and gram[atom, atom] > 0.0 and exact[atom] == 1:
                    sign = 1.0 if c[atom] > 0 else -1.0
                    count = exchange(atom, sign, gram, z, active, count, factor, inverse, work, nonnegative)
        count = descend(q, z, c, active, count, factor, inverse, work, nonnegative)
        used += 1


@entry
def solve_rows(
    gram: Matrix,
    atoms: Matrix,
    x: Matrix,
    cross: Singles,
    doubt: Vector,
    power: Vector,
    where: Indices,
    penalty: float,
    tolerance: float,
    rounds: int,
    nonnegative: bool,
    warm: bool,
    codes: Codes,
    gaps: Vector,
    used: Indices,
) -> None:
    """Solve rows into ``codes[where]``; x, A'x and |x|^2 / 2 come in units of the penalty."""
    count, size = len(gram), min(atoms.shape) + 2
    z, c, q = np.zeros(count), np.empty(count), np.empty(count)
    active, spare = np.empty(size, np.int64), np.empty((2, count), np.int64)
    factor, inverse, work = np.empty((size, size)), np.empty(size), np.empty((5, size))
    for n in range(len(x)):
        row, rough = where[n], cross[n]
        for k in range(count):
            q[k] = rough[k]
        if warm:
            for k in range(count):
                z[k] = codes[row, k] / penalty
                codes[row, k] = 0.0
        gap, used[row], left = solve_row(
            gram,
            atoms,
            x[n],
            q,
            doubt[n],
            power[n],
            tolerance,
            rounds,
            nonnegative,
            warm,
            z,
            c,
            active,
            factor,
            inverse,
            work,
            spare,
        )
        gaps[row] = gap * penalty**2
        for i in range(left):
            codes[row, active[i]] = z[active[i]] * penalty
            z[active[i]] = 0.0
