r"""The correlations c = A'r of one row, compiled, and the certificate they give; the penalty is 1.

They start from a product in float32, within a known bound of A'x. A correlation that decides anything, of an active
atom or within the bound of 1, is computed again in float64 (`sharpen`), so the certificate is one of float64.
"""

from __future__ import annotations

from probae.codes.compiled import Indices, Matrix, Vector, compiled


@compiled
def correlate(c: Vector, q: Vector, gram: Matrix, z: Vector, active: Indices, count: int) -> None:
    """Set c = q - G z, four active atoms at a time."""
    left = count % 4
    if left == 0:
        for k in range(len(c)):
            c[k] = q[k]
    else:
        row, value = gram[active[0]], z[active[0]]
        for k in range(len(c)):
            c[k] = q[k] - value * row[k]
    for i in range(1, left):
        row, value = gram[active[i]], z[active[i]]
        for k in range(len(c)):
            c[k] -= value * row[k]
    for i in range(left, count, 4):
        a0, a1, a2, a3 = active[i], active[i + 1], active[i + 2], active[i + 3]
        z0, z1, z2, z3 = z[a0], z[a1], z[a2], z[a3]
        g0, g1, g2, g3 = gram[a0], gram[a1], gram[a2], gram[a3]
        for k in range(len(c)):
            c[k] -= z0 * g0[k] + z1 * g1[k] + z2 * g2[k] + z3 * g3[k]


@compiled
def largest(c: Vector, nonnegative: bool) -> float:
    """Return the largest |c|, or the largest c; four running maxima do not wait for each other."""
    part = len(c) // 4
    c0, c1, c2, c3 = c[:part], c[part : 2 * part], c[2 * part : 3 * part], c[3 * part : 4 * part]
    t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
    if nonnegative:
        for k in range(part):
            t0, t1, t2, t3 = max(t0, c0[k]), max(t1, c1[k]), max(t2, c2[k]), max(t3, c3[k])
        for k in range(4 * part, len(c)):
            t0 = max(t0, c[k])
    else:
        for k in range(part):
            t0, t1, t2, t3 = (
                max(t0, abs(c0[k])),
                max(t1, abs(c1[k])),
                max(t2, abs(c2[k])),
                max(t3, abs(c3[k])),
            )
        for k in range(4 * part, len(c)):
            t0 = max(t0, abs(c[k]))
    return max(max(t0, t1), max(t2, t3))


@compiled
def position(c: Vector, top: float, nonnegative: bool) -> int:
    """Return where the largest correlation stands."""
    for k in range(len(c)):
        if (c[k] if nonnegative else abs(c[k])) >= top:
            return k
    return 0


@compiled
def duality_gap(
    top: float, c: Vector, q: Vector, z: Vector, active: Indices, count: int, power: float
) -> tuple[float, float]:
    """Return P(z) - D(s r) = (1 - s)^2 |r|^2 / 2 + |z|_1 - s z'c for s = min(1, 1 / top), and P(z)."""
    shrink = 1.0 if top <= 1.0 else 1.0 / top
    fit, along, size = 0.0, 0.0, 0.0
    for i in range(count):
        value = z[active[i]]
        fit += value * q[active[i]]
        along += value * c[active[i]]
        size += abs(value)
    residual = max(2.0 * power - fit - along, 0.0)
    gap = 0.5 * (1.0 - shrink) ** 2 * residual + max(size - shrink * along, 0.0)
    return gap, 0.5 * residual + size


@compiled
def sharpen(atom: int, x: Vector, atoms: Matrix, q: Vector, c: Vector, exact: Indices) -> None:
    """Replace a'x by its value in float64, in q and in c."""
    if exact[atom] == 0:
        row, value = atoms[atom], 0.0
        for d in range(len(x)):
            value += x[d] * row[d]
        c[atom] += value - q[atom]
        q[atom] = value
        exact[atom] = 1


@compiled
def sharpen_near(
    bar: float, x: Vector, atoms: Matrix, q: Vector, c: Vector, exact: Indices, nonnegative: bool
) -> None:
    """Sharpen every correlation above a bar."""
    for k in range(len(c)):
        if (c[k] if nonnegative else abs(c[k])) > bar:
            sharpen(k, x, atoms, q, c, exact)
