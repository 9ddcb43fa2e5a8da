r"""Compiled passes over the sources of one law: log density, score, slope and the derivative in the law's shape.

Each kernel takes sources s (K, N), writes psi(s) and, if asked, psi'(s) in place, and returns the sum of log p over
each row followed by two numbers: the sums of d log p / d eta and of its square, for the unbounded parameter eta of a
shape. A row is worked on while it is in the first cache. An exponential is a polynomial in vector registers, and
the logarithm of a product of many terms replaces many logarithms, so that what limits a pass is the matrix products
around it.

Every call into torch for one of these steps would read and write the block again: fused, a pass costs a fifth.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probae.compiled import compile_cached

ROOT_TWO = math.sqrt(2)
LOGISTIC = math.sqrt(3) / math.pi  # scale of the logistic law of unit variance
LOG_E, LOG_TWO_HIGH, LOG_TWO_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
SHIFTER = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to a whole number, found in the low bits
LEAST, MOST = -700.0, 700.0  # exponents that stay normal numbers
FACTORS = 256  # of 1 + exp(-|x|) <= 2: their product stays finite
STUDENT_FACTORS = 8  # of 1 + s^2 / m: finite for |s| up to 1e19
EXACT = {"contract"}  # the rounding by SHIFTER must not be simplified
FAST = {"contract", "reassoc", "nsz"}  # sums in any order, NaN and infinity kept

Rows = NDArray[np.float64]


def compiled(fastmath: set[str]) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function."""
    return functools.partial(compile_cached, options={"fastmath": fastmath})


@compiled(EXACT)
def exponentials(x: Rows, out: Rows, power: Rows, bits: NDArray[np.int64]) -> None:
    """Write exp(x): x = m log 2 + f with |f| <= log(2)/2, a Taylor polynomial in f (error 4e-18) times 2^m.

    `bits` are those of the buffer `power`.
    """
    for n in range(len(x)):
        v = min(max(x[n], LEAST), MOST)
        shifted = v * LOG_E + SHIFTER
        power[n] = shifted
        m = shifted - SHIFTER
        f = (v - m * LOG_TWO_HIGH) - m * LOG_TWO_LOW
        q = f * (1 / 6227020800.0) + 1 / 479001600.0
        q = q * f + 1 / 39916800.0
        q = q * f + 1 / 3628800.0
        q = q * f + 1 / 362880.0
        q = q * f + 1 / 40320.0
        q = q * f + 1 / 5040.0
        q = q * f + 1 / 720.0
        q = q * f + 1 / 120.0
        q = q * f + 1 / 24.0
        q = q * f + 1 / 6.0
        q = q * f + 0.5
        q = q * f + 1.0
        out[n] = q * f + 1.0
    for n in range(len(x)):
        bits[n] = (bits[n] + 1023) << 52
    for n in range(len(x)):
        out[n] *= power[n]


@compiled(FAST)
def _logistic_row(s: Rows, score: Rows, slope: Rows, e: Rows, want_slope: bool) -> float:
    """With e = exp(-|s|/c): log p = -|s|/c - 2 log(1 + e) - log c, psi = sign(s) (1 - e) / (1 + e) / c."""
    total, logs = 0.0, 0.0
    for n in range(len(s)):
        total += abs(s[n])
    for first in range(0, len(s), FACTORS):
        product = 1.0
        for n in range(first, min(first + FACTORS, len(s))):
            product *= 1.0 + e[n]
        logs += math.log(product)
    for n in range(len(s)):
        score[n] = math.copysign((1.0 - e[n]) / (1.0 + e[n]), s[n]) / LOGISTIC
    if want_slope:
        for n in range(len(s)):
            slope[n] = 0.5 * (1.0 / LOGISTIC**2 - score[n] * score[n])
    return -total / LOGISTIC - 2.0 * logs - len(s) * math.log(LOGISTIC)


@compiled(EXACT)
def logistic(s: Rows, score: Rows, slope: Rows, want_slope: bool) -> Rows:
    """Return the sums of the logistic law."""
    sources, samples = s.shape
    out = np.zeros(sources + 2)
    x, e, power = np.empty(samples), np.empty(samples), np.empty(samples)
    bits = power.view(np.int64)
    for k in range(sources):
        for n in range(samples):
            x[n] = -abs(s[k, n]) / LOGISTIC
        exponentials(x, e, power, bits)
        out[k] = _logistic_row(s[k], score[k], slope[k], e, want_slope)
        if math.isnan(s[k].sum()):
            out[k] = math.nan
    return out


@compiled(FAST)
def laplace(s: Rows, score: Rows, slope: Rows, width: float, want_slope: bool) -> Rows:
    """With r = sqrt(s^2 + h^2), a = sqrt(2): log p = log(a/2) - a r, psi = a s / r, psi' = a h^2 / r^3."""
    sources, samples = s.shape
    out = np.zeros(sources + 2)
    least = width * width
    for k in range(sources):
        total = 0.0
        for n in range(samples):
            r = math.sqrt(s[k, n] * s[k, n] + least)
            total += r
            score[k, n] = ROOT_TWO * s[k, n] / r
        if want_slope:
            for n in range(samples):
                r = math.sqrt(s[k, n] * s[k, n] + least)
                slope[k, n] = ROOT_TWO * least / (r * r * r)
        out[k] = samples * math.log(ROOT_TWO / 2) - ROOT_TWO * total
    return out


@compiled(FAST)
def student(s: Rows, score: Rows, slope: Rows, law: Rows, want_slope: bool, want_shape: bool) -> Rows:
    """With m = nu - 2, t = 1 + s^2/m: log p = c - (nu + 1)/2 log t, psi = (nu + 1) s / (m t).

    `law` holds nu, c and c'(nu); eta = log m, and d log p / d eta = m (c' - log(t)/2) + (nu + 1)/2 (t - 1)/t.
    """
    df, constant, change = law
    sources, samples = s.shape
    out = np.zeros(sources + 2)
    m, half = df - 2.0, 0.5 * (df + 1.0)
    for k in range(sources):
        logs = 0.0
        for first in range(0, samples, STUDENT_FACTORS):
            product = 1.0
            for n in range(first, min(first + STUDENT_FACTORS, samples)):
                product *= 1.0 + s[k, n] * s[k, n] / m
            if product == math.inf:
                for n in range(first, min(first + STUDENT_FACTORS, samples)):
                    logs += math.log(1.0 + s[k, n] * s[k, n] / m)
            else:
                logs += math.log(product)
        for n in range(samples):
            score[k, n] = 2.0 * half / m * s[k, n] / (1.0 + s[k, n] * s[k, n] / m)
        if want_slope:
            for n in range(samples):
                t = 1.0 + s[k, n] * s[k, n] / m
                slope[k, n] = 2.0 * half / m * (2.0 - t) / (t * t)
        if want_shape:
            for n in range(samples):
                t = 1.0 + s[k, n] * s[k, n] / m
                each = m * (change - 0.5 * math.log(t)) + half * (t - 1.0) / t
                out[sources] += each
                out[sources + 1] += each * each
        out[k] = samples * constant - half * logs
    return out


@compiled(EXACT)
def power(s: Rows, score: Rows, slope: Rows, law: Rows, width: float, want: tuple[bool, bool]) -> Rows:
    """With u = (r/alpha)^beta: log p = c - u, psi = beta u s / r^2, psi' = beta u (1 + (beta - 2) s^2/r^2) / r^2.

    `law` holds beta, log alpha, c, and the derivatives of the last two in beta; eta = log beta, and
    d log p / d eta = beta (c' - u (log(r/alpha) - beta (log alpha)')). `want`: slope, shape.
    """
    beta, log_alpha, constant, alpha_change, change = law
    sources, samples = s.shape
    out = np.zeros(sources + 2)
    x, u, logs, scratch = np.empty(samples), np.empty(samples), np.empty(samples), np.empty(samples)
    bits = scratch.view(np.int64)
    least = width * width
    for k in range(sources):
        for n in range(samples):
            logs[n] = 0.5 * math.log(s[k, n] * s[k, n] + least) - log_alpha
            x[n] = beta * logs[n]
        exponentials(x, u, scratch, bits)
        total = 0.0
        for n in range(samples):
            over = beta * u[n] / (s[k, n] * s[k, n] + least)
            total += u[n]
            score[k, n] = over * s[k, n]
        if want[0]:
            for n in range(samples):
                r2 = s[k, n] * s[k, n] + least
                slope[k, n] = beta * u[n] / r2 * (1.0 + (beta - 2.0) * s[k, n] * s[k, n] / r2)
        if want[1]:
            for n in range(samples):
                each = beta * (change - u[n] * (logs[n] - beta * alpha_change))
                out[sources] += each
                out[sources + 1] += each * each
        out[k] = samples * constant - total
        if math.isnan(s[k].sum()):
            out[k] = math.nan
    return out
