r"""The root mean square error of approximation, with its interval and its test of close fit.

The statistic of a model that misses the covariance by F_0 has, about, the noncentral chi-square law with noncentrality
n F_0, and RMSEA = sqrt(F_0 / f) with f the degrees of freedom (Steiger & Lind, 1980; Browne & Cudeck, 1992).
"""

from __future__ import annotations

import math

from scipy import optimize, stats

CLOSE = 0.05  # RMSEA of a model that fits closely (Browne & Cudeck, 1992)
LARGEST = 1e12  # statistic beyond which the noncentral law is lost to rounding
NAN = math.nan


def p_value(statistic: float, freedom: int) -> float:
    """Upper tail of the chi-square law; NaN without degrees of freedom."""
    return float(stats.chi2.sf(statistic, freedom)) if freedom > 0 else NAN


def rmsea(statistic: float, freedom: float, divisor: int) -> float:
    """Root mean square error of approximation."""
    return math.sqrt(max(statistic - freedom, 0.0) / (freedom * divisor)) if freedom > 0 else NAN


def rmsea_interval(statistic: float, freedom: int, divisor: int, level: float = 0.9) -> tuple[float, float]:
    """Interval from the noncentralities under which the statistic is in either tail."""
    if freedom <= 0 or not statistic < LARGEST:
        return NAN, NAN
    tails = ((1 + level) / 2, (1 - level) / 2)
    low, high = (_noncentrality(statistic, freedom, tail) for tail in tails)
    return math.sqrt(low / (freedom * divisor)), math.sqrt(high / (freedom * divisor))


def close_fit(statistic: float, freedom: int, divisor: int) -> float:
    """p-value of the hypothesis that the RMSEA is at most .05."""
    if freedom <= 0:
        return NAN
    return float(stats.ncx2.sf(statistic, freedom, CLOSE**2 * freedom * divisor))


def _noncentrality(statistic: float, freedom: int, tail: float) -> float:
    """The noncentrality at which the law function is ``tail``; 0 where it is below it already."""

    def excess(noncentrality: float) -> float:
        if noncentrality == 0:
            return float(stats.chi2.cdf(statistic, freedom)) - tail
        return float(stats.ncx2.cdf(statistic, freedom, noncentrality)) - tail

    if excess(0.0) <= 0:
        return 0.0
    top = statistic + 10 * math.sqrt(statistic + 10) + 10
    while excess(top) > 0:
        top *= 2
    return float(optimize.brentq(excess, 0.0, top, xtol=1e-10 * top))
