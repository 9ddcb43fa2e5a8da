r"""Atoms in the span of the active ones, compiled.

On the way A d = 0 the fit stays as it is and only \|z\|_1 changes, piece by piece linearly: the least value is where an
entry reaches 0, and that atom leaves.
"""

from __future__ import annotations

from probae.codes.compiled import Indices, Matrix, Vector, compiled
from probae.codes.factor import backward, insert, remove


@compiled
def swap(
    atom: int,
    sign: float,
    time: float,
    reach: float,
    first: int,
    z: Vector,
    move: Vector,
    active: Indices,
    count: int,
    factor: Matrix,
    inverse: Vector,
    cosine: Vector,
    sine: Vector,
    gram: Matrix,
) -> int:
    """Take the step of an exchange and change the set; return the new count."""
    if time >= 1e300:  # rounding: no end in sight, so nothing to gain
        z[atom] = 0.0
        return count
    for i in range(count):
        z[active[i]] += time * move[i]
    z[atom] += time * sign
    if time == reach:
        z[atom] = 0.0
        return count
    z[active[first]] = 0.0
    remove(first, active, count, factor, inverse, cosine, sine)
    count -= 1
    if z[atom] != 0.0:
        if insert(gram[atom], atom, active, count, factor, inverse):
            count += 1
        else:
            z[atom] = 0.0
    return count


@compiled
def exchange(
    atom: int,
    sign: float,
    gram: Matrix,
    z: Vector,
    active: Indices,
    count: int,
    factor: Matrix,
    inverse: Vector,
    work: Matrix,
    nonnegative: bool,
) -> int:
    """Bring in an atom in the span of the active ones along A d = 0, where only |z|_1 changes, until one reaches 0.

    Return the new count.
    """
    move, times, cosine, sine = work[1], work[2], work[3], work[4]
    insert(gram[atom], atom, active, count, factor, inverse)
    for i in range(count):
        move[i] = factor[count, i]
    backward(move, count, factor, inverse)
    slope = 1.0
    for i in range(count):
        move[i] *= -sign
        slope += move[i] if z[active[i]] > 0 else -move[i]
    reach = 1e300
    if slope > 0.0:  # the other way: the atom itself shrinks, if it is not 0
        if z[atom] == 0.0:
            return count
        slope, sign, reach = -slope, -sign, abs(z[atom])
        for i in range(count):
            move[i] = -move[i]
    for i in range(count):
        value = z[active[i]]
        times[i] = -value / move[i] if value * move[i] < 0.0 else 1e300
    while True:
        first = 0
        for i in range(1, count):
            if times[i] < times[first]:
                first = i
        time = times[first]
        if time >= reach:
            break
        slope += 2.0 * abs(move[first])
        if nonnegative or slope >= 0.0:
            break
        times[first] = 1e300
    return swap(
        atom,
        sign,
        min(time, reach),
        reach,
        first,
        z,
        move,
        active,
        count,
        factor,
        inverse,
        cosine,
        sine,
        gram,
    )


@compiled
def begin(
    gram: Matrix, z: Vector, active: Indices, factor: Matrix, inverse: Vector, work: Matrix, nonnegative: bool
) -> int:
    """Make the active set of the codes a row starts from; codes of dependent atoms are moved to the others."""
    count = 0
    for atom in range(len(z)):
        value = z[atom]
        if value == 0.0:
            continue
        if gram[atom, atom] <= 0.0 or (nonnegative and value < 0.0):
            z[atom] = 0.0
        elif insert(gram[atom], atom, active, count, factor, inverse):
            count += 1
        else:
            sign = 1.0 if value > 0 else -1.0
            count = exchange(atom, sign, gram, z, active, count, factor, inverse, work, nonnegative)
    return count
