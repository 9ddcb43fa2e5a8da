r"""The layers of LISTA for one row after the other, compiled: z = S(y + s (q - B y), \theta).

B y = u_t + m (u_t - u_{t-1}) with u_t = B z_t, so a layer costs the columns of B of the active codes only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probae.compiled import compile_cached

FAST = {"reassoc", "contract", "arcp", "nsz"}
Array = NDArray[Any]


def both(kinds: str, inside: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for float32 and float64; ``*`` among the kinds of the arguments is either.

    What is called from ``inside`` compiled code alone has no way in from Python.
    """
    signatures = [f"({kinds.replace('*', kind)})" for kind in ("float32", "float64")]
    options = {"fastmath": FAST, "no_cpython_wrapper": inside, "no_cfunc_wrapper": True}
    return lambda function: compile_cached(function, options, signatures)


@both("*[::1], *[:, ::1], *[::1], int64[::1], int64", inside=True)
def multiply(product: Array, columns: Array, z: Array, active: Array, count: int) -> None:
    """Set the product to B z, eight active codes at a time; row k of ``columns`` is column k of B."""
    for k in range(len(product)):
        product[k] = 0.0
    whole = count - count % 8
    for i in range(0, whole, 8):
        a0, a1, a2, a3 = active[i], active[i + 1], active[i + 2], active[i + 3]
        a4, a5, a6, a7 = active[i + 4], active[i + 5], active[i + 6], active[i + 7]
        z0, z1, z2, z3, z4, z5, z6, z7 = z[a0], z[a1], z[a2], z[a3], z[a4], z[a5], z[a6], z[a7]
        b0, b1, b2, b3 = columns[a0], columns[a1], columns[a2], columns[a3]
        b4, b5, b6, b7 = columns[a4], columns[a5], columns[a6], columns[a7]
        for k in range(len(product)):
            product[k] += (z0 * b0[k] + z1 * b1[k] + z2 * b2[k] + z3 * b3[k]) + (
                z4 * b4[k] + z5 * b5[k] + z6 * b6[k] + z7 * b7[k]
            )
    for i in range(whole, count):
        value, column = z[active[i]], columns[active[i]]
        for k in range(len(product)):
            product[k] += value * column[k]


@both("*[:, ::1], *[:, ::1], *[::1], *[:, ::1], *[::1], *[:, ::1]")
def run_layers(
    cross: Array, columns: Array, steps: Array, levels: Array, momenta: Array, codes: Array
) -> None:
    """Fill the codes of every row from V (x - mean)."""
    count = cross.shape[1]
    before, product, old = codes[0].copy(), codes[0].copy(), codes[0].copy()
    active = np.empty(count, np.int64)
    for n in range(len(cross)):
        q, z = cross[n], codes[n]
        for k in range(count):
            z[k] = before[k] = product[k] = old[k] = 0.0
        found = 0
        for t in range(len(steps)):
            step, ahead, level = steps[t], momenta[t], levels[t]
            if found > 0:
                multiply(product, columns, z, active, found)
            else:
                for k in range(count):
                    product[k] = 0.0
            for k in range(count):
                change, turn = z[k] - before[k], product[k] - old[k]
                moved = z[k] + ahead * change + step * (q[k] - product[k] - ahead * turn)
                before[k], old[k] = z[k], product[k]
                z[k] = moved - min(max(moved, -level[k]), level[k])
            found = 0
            for k in range(count):
                active[found] = k
                found += z[k] != 0.0
