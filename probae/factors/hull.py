"""The Hull method: the elbow of fit against number of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probae.factors.parallel_analysis import ParallelAnalysis
from probae.factors.rule import Judgement, Rule
from probae.factors.sample import NotApplicable, Sample
from probae.factors.sequence import FactorFit, factor_fits, most_factors


@dataclass(frozen=True)
class Hull(Rule):
    r"""The sharpest elbow on the upper convex hull of fit against free parameters.

    Among the numbers of factors on the hull, the one with the largest ratio of what it gains to what the next gains,

    .. math:: st_k = \frac{(f_k - f_{k-1}) / (q_k - q_{k-1})}{(f_{k+1} - f_k) / (q_{k+1} - q_k)}

    over 0 to J factors (infinite if all more factors fit no better), where J is one more than parallel analysis names
    (the larger of its component and common-factor forms), as in the original. Elbows lie between neighbours, so it
    never answers 0.

    Notes
    -----
    Lorenzo-Seva, Timmerman & Kiers (2011), The Hull method for selecting the number of common factors, Multivariate
    Behavioral Research 46, 340-364. The three leaves differ in the measure of fit.
    """

    source: ClassVar[str] = "Lorenzo-Seva, Timmerman & Kiers (2011)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"Hull ({self.statistic})"

    def measure(self, sample: Sample, one: FactorFit) -> float | None:
        """Return the fit of one number of factors, larger is better; None where it is not defined."""
        raise NotImplementedError

    def judge(self, sample: Sample) -> Judgement:
        """Find the elbow."""
        fits = factor_fits(sample)[: self._most(sample) + 1]
        measured = [self.measure(sample, one) for one in fits]
        values = np.array([value for value in measured if value is not None])
        if len(values) < 3:
            raise NotApplicable(
                f"an elbow needs three numbers of factors, got {len(values)} with a {self.statistic}"
            )
        answer = elbow(values, np.array([one.parameters for one in fits[: len(values)]], dtype=float))
        note = f"of 0 to {len(values) - 1}" if answer is not None else "no elbow"
        return self.answer(answer, 0, values, note=note)

    def _most(self, sample: Sample) -> int:
        found = [ParallelAnalysis(common=common).apply(sample).answer for common in (False, True)]
        return min(max(2, 1 + max(answer or 0 for answer in found)), most_factors(sample))


@dataclass(frozen=True)
class HullCAF(Hull):
    r"""Hull with the share of common variance accounted for, 1 - KMO of the residual correlations.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.number_of_factors(x, rules=[HullCAF(), HullCFI(), HullRMSEA()]).answers
    {'Hull (CAF)': 3, 'Hull (CFI)': 3, 'Hull (1 - RMSEA)': 1}
    """

    statistic: ClassVar[str] = "CAF"

    def measure(self, sample: Sample, one: FactorFit) -> float:
        """Return 1 - KMO of R - W W' with ones on the diagonal."""
        residual = sample.correlation - one.loadings @ one.loadings.T
        np.fill_diagonal(residual, 1.0)
        return 1.0 - sampling_adequacy(residual)


@dataclass(frozen=True)
class HullCFI(Hull):
    """Hull with the comparative fit index.

    Examples
    --------
    >>> HullCFI().name
    'Hull (CFI)'
    """

    statistic: ClassVar[str] = "CFI"

    def measure(self, sample: Sample, one: FactorFit) -> float | None:
        """Return the comparative fit index."""
        return one.cfi


@dataclass(frozen=True)
class HullRMSEA(Hull):
    """Hull with one minus the root mean square error of approximation.

    Examples
    --------
    >>> HullRMSEA().name
    'Hull (1 - RMSEA)'
    """

    statistic: ClassVar[str] = "1 - RMSEA"

    def measure(self, sample: Sample, one: FactorFit) -> float | None:
        """Return 1 - RMSEA."""
        return None if one.rmsea is None else 1.0 - one.rmsea


def sampling_adequacy(correlation: np.ndarray) -> float:
    """Return the Kaiser-Meyer-Olkin measure: squared correlations as a share of these and squared partial ones.

    Examples
    --------
    >>> round(sampling_adequacy(np.array([[1.0, 0.5], [0.5, 1.0]])), 12)
    0.5
    """
    values = np.linalg.eigvalsh(correlation)
    if values[0] < 1e-10 * values[-1]:
        raise NotApplicable("its measure of fit needs residual correlations that can be inverted")
    inverse = np.linalg.inv(correlation)
    scale = np.sqrt(inverse.diagonal())
    partial = inverse / np.outer(scale, scale)
    off = ~np.eye(len(correlation), dtype=bool)
    common, own = np.square(correlation[off]).sum(), np.square(partial[off]).sum()
    return float(common / (common + own)) if common + own > 0 else 0.5


def elbow(fit: np.ndarray, parameters: np.ndarray) -> int | None:
    """Return the index of the sharpest elbow of the upper convex hull, or None if only its ends are left.

    Points that fit no better than one with fewer parameters are not on the hull. If they are the last ones, the end of
    the hull is an elbow itself: after it there is nothing to gain.

    Examples
    --------
    >>> elbow(np.array([0.0, 0.5, 0.9, 0.92, 0.93]), np.arange(5.0))
    2
    >>> elbow(np.array([0.0, 0.3, 1.0, 1.0]), np.arange(4.0))
    2
    >>> elbow(np.array([0.0, 0.1, 0.3]), np.arange(3.0)) is None
    True
    """
    hull: list[int] = []
    for index, value in enumerate(fit):
        if hull and value <= fit[hull].max():
            continue
        while len(hull) > 1 and _slope(fit, parameters, hull[-2], hull[-1]) <= _slope(
            fit, parameters, hull[-1], index
        ):
            hull.pop()
        hull.append(index)
    if 0 < hull[-1] < len(fit) - 1:
        return hull[-1]
    sharpness = {
        middle: _slope(fit, parameters, before, middle) / _slope(fit, parameters, middle, after)
        for before, middle, after in zip(hull, hull[1:], hull[2:], strict=False)
    }
    return max(sharpness, key=sharpness.__getitem__) if sharpness else None


def _slope(fit: np.ndarray, parameters: np.ndarray, first: int, second: int) -> float:
    return float((fit[second] - fit[first]) / (parameters[second] - parameters[first]))
