r"""Cronbach's alpha: how much of the variance of a sum of items is common to them, if all measure alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import DataError, ParameterError, ProbaeWarning, check_data, warn
from probae.factors.printing import grid, number
from probae.statistics import SufficientStatistics
from probae.tables import column_labels


@dataclass(frozen=True, eq=False)
class Alpha:
    r"""Cronbach's alpha with what it is made of.

    Attributes
    ----------
    value : float
        Of the sum of the items as they are.
    standardized : float
        Of the sum of the items divided by their standard deviations.
    average_correlation : float
    standard_error : float
        Of `value`, for normal items of any covariance (van Zyl, Neudecker & Nel, 2000).
    if_dropped : Tensor (D,)
        Alpha of the other items.
    item_rest : Tensor (D,)
        Correlation of each item with the sum of the others.
    count, items : int
    names : tuple of str or None

    Examples
    --------
    >>> import probae as pa
    >>> found = pa.alpha([[1, 2, 2], [3, 3, 4], [4, 6, 5], [5, 5, 6]])
    >>> found.items, round(found.value, 3)
    (3, 0.964)
    """

    value: float
    standardized: float
    average_correlation: float
    standard_error: float
    if_dropped: Float[Tensor, " features"]
    item_rest: Float[Tensor, " features"]
    count: int
    items: int
    names: tuple[str, ...] | None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        r"""Feldt's interval, exact for normal items that measure alike (equal covariances).

        :math:`(1 - \alpha) / (1 - \hat\alpha)` has the F law with n - 1 and (n - 1)(D - 1) degrees of freedom.

        References
        ----------
        .. [1] Feldt, L. S. (1965). The approximate sampling distribution of Kuder-Richardson reliability coefficient
           twenty. Psychometrika 30, 357-370.

        Examples
        --------
        >>> import probae as pa
        >>> low, high = pa.alpha(pa.datasets.holzinger_swineford().x).interval()
        >>> round(low, 2), round(high, 2)
        (0.72, 0.8)
        """
        _check_level(level)
        freedom = (self.count - 1, (self.count - 1) * (self.items - 1))
        upper, lower = (float(stats.f.ppf(q, *freedom)) for q in ((1 + level) / 2, (1 - level) / 2))
        return 1 - (1 - self.value) * upper, 1 - (1 - self.value) * lower

    def bonett_interval(self, level: float = 0.95) -> tuple[float, float]:
        r"""Bonett's interval, :math:`1 - \exp\big(\log(1 - \hat\alpha) \pm z \sqrt{2 D / ((D - 1)(n - 2))}\big)`.

        References
        ----------
        .. [1] Bonett, D. G. (2002). Sample size requirements for testing and estimating coefficient alpha. Journal of
           Educational and Behavioral Statistics 27, 335-340.

        Examples
        --------
        >>> import probae as pa
        >>> low, high = pa.alpha(pa.datasets.holzinger_swineford().x).bonett_interval()
        >>> round(low, 2), round(high, 2)
        (0.72, 0.8)
        """
        _check_level(level)
        if self.count <= 2 or self.value >= 1:
            return math.nan, math.nan
        width = float(stats.norm.ppf((1 + level) / 2))
        width *= math.sqrt(2 * self.items / ((self.items - 1) * (self.count - 2)))
        return 1 - (1 - self.value) * math.exp(width), 1 - (1 - self.value) * math.exp(-width)

    def __str__(self) -> str:
        low, high = self.interval()
        names = self.names or tuple(f"column {i}" for i in range(self.items))
        head = (
            f"Cronbach's alpha {number(self.value)} (95 % {number(low)} to {number(high)}), standardized "
            f"{number(self.standardized)}; {self.items} items, {self.count} rows\n"
        )
        columns = zip(names, self.if_dropped.tolist(), self.item_rest.tolist(), strict=True)
        rows = [[name, number(dropped), number(rest)] for name, dropped, rest in columns]
        return head + grid(["", "alpha if dropped", "correlation with the rest"], rows)


def alpha(x: Any) -> Alpha:
    r"""Cronbach's alpha of a scale whose score is the sum of its items.

    .. math:: \alpha = \frac D{D - 1} \Big( 1 - \frac{\sum_i s_{ii}}{\sum_{ij} s_{ij}} \Big)

    A lower bound to the reliability of the sum when the errors of the items are uncorrelated, equal to it when all
    items measure one true score alike. `omega` needs no such likeness.

    Parameters
    ----------
    x : table (N, D) of items, or SufficientStatistics
        Items should point the same way: reverse those that do not.

    Returns
    -------
    Alpha

    Raises
    ------
    DataError
        As `check_data`; fewer than two items; an item that does not vary.

    Warns
    -----
    ProbaeWarning
        Items correlate negatively with the sum of the others.

    References
    ----------
    .. [1] Cronbach, L. J. (1951). Coefficient alpha and the internal structure of tests. Psychometrika 16, 297-334.
    .. [2] van Zyl, J. M., Neudecker, H. & Nel, D. G. (2000). On the distribution of the maximum likelihood estimator of
       Cronbach's alpha. Psychometrika 65, 271-280.

    Examples
    --------
    >>> import probae as pa
    >>> found = pa.alpha(pa.datasets.holzinger_swineford().x)
    >>> round(found.value, 6), round(found.standardized, 6)
    (0.760489, 0.760402)
    """
    statistics = _statistics(x)
    S = statistics.covariance
    S = S / S.abs().max().clamp_min(torch.finfo(S.dtype).tiny)  # no unit is left in any result
    D = statistics.features
    variance = S.diagonal()
    if D < 2:
        raise DataError(f"alpha needs at least 2 items, got {D}.")
    if not bool((variance > 0).all()):
        where = column_labels((variance <= 0).nonzero().flatten().tolist(), statistics.names)
        raise DataError(f"alpha needs items that vary, got no variation in {where}: leave that out.")
    sd = variance.sqrt()
    R = S / torch.outer(sd, sd)
    total = float(S.sum())
    if total <= 0:
        raise DataError(
            "alpha needs a sum of items that varies, got one without variance: reverse some items."
        )
    rest = S.sum(0) - variance
    left = total - 2 * S.sum(0) + variance  # variance of the sum of the others
    item_rest = rest / (variance * left.clamp_min(0)).sqrt()
    if bool((item_rest < 0).any()):
        where = column_labels((item_rest < 0).nonzero().flatten().tolist(), statistics.names)
        warn(
            f"Negative correlation with the sum of the other items in {where}: should that be reversed?",
            ProbaeWarning,
        )
    dropped = (
        (D - 1) / (D - 2) * (1 - (variance.sum() - variance) / left)
        if D > 2
        else torch.full_like(sd, torch.nan)
    )
    return Alpha(
        value=_alpha(S),
        standardized=_alpha(R),
        average_correlation=float((R.sum() - D) / (D * (D - 1))),
        standard_error=_standard_error(S, statistics.count),
        if_dropped=dropped,
        item_rest=item_rest,
        count=statistics.count,
        items=D,
        names=statistics.names,
    )


def _statistics(x: Any) -> SufficientStatistics:
    if isinstance(x, SufficientStatistics):
        return x
    data = check_data(x, minimum_rows=2)
    found = SufficientStatistics.from_data(data.values)
    return SufficientStatistics(found.count, found.mean, found.scatter, data.names)


def _alpha(S: Tensor) -> float:
    D = len(S)
    return float(D / (D - 1) * (1 - S.trace() / S.sum()))


def _standard_error(S: Tensor, count: int) -> float:
    """Square root of 2 D^2 / ((D - 1)^2 (1'S1)^3) [1'S1 (tr S^2 + (tr S)^2) - 2 tr S 1'S^2 1] / n."""
    D, total, trace = len(S), S.sum(), S.trace()
    spread = total * (S.square().sum() + trace.square()) - 2 * trace * S.sum(0).square().sum()
    return float((2 * D**2 / ((D - 1) ** 2 * total**3) * spread / count).clamp_min(0).sqrt())


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ParameterError(f"level should be between 0 and 1, got {level}.")
