"""Maximum likelihood of an unrestricted Gaussian from rows with missing entries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, DataError, check_count, check_data, check_positive, warn
from probae.inference.acceleration import Ascent
from probae.inference.unrestricted import LOG_TWO_PI, UnrestrictedGaussian, unbounded
from probae.models.patterns import Patterns
from probae.statistics import SufficientStatistics
from probae.tables import column_labels


@dataclass(frozen=True, eq=False)
class Saturated:
    """The unrestricted Gaussian that fits best.

    Attributes
    ----------
    statistics : SufficientStatistics
        Its mean and covariance, with the number of rows.
    log_likelihood : float
        Of all rows, over their observed entries, in nats.
    converged : bool

    Examples
    --------
    >>> best = saturated([[0.0], [2.0]])
    >>> best.statistics.covariance
    tensor([[1.]], dtype=torch.float64)
    >>> round(best.log_likelihood, 6)                   # two rows, one sd from the mean: -log(2 pi) - 1
    -2.837877
    """

    statistics: SufficientStatistics
    log_likelihood: float
    converged: bool


def saturated(x: Any, *, steps: int = 2000, tol: float = 1e-10) -> Saturated:
    r"""Fit mean and covariance without a model: the other side of a likelihood-ratio test.

    Without missing entries this is the sample mean and the covariance with divisor N. With them, EM by missing pattern,
    accelerated; the likelihood never falls on the way.

    Parameters
    ----------
    x : array, DataFrame, Tensor (N, D), or SufficientStatistics
        NaN is a missing value, taken to be missing at random.
    steps : int
        Most steps to take.
    tol : float
        Stop when less than this many nats per row can still be gained.

    Raises
    ------
    DataError
        A column is constant or has no value; or the likelihood is unbounded because the columns are collinear or
        too many for the rows.

    Warns
    -----
    ConvergenceWarning
        The steps ran out.

    Notes
    -----
    Where two columns are never observed together their covariance is not determined; the likelihood is, and the
    covariance is the one the ascent arrives at.

    Examples
    --------
    >>> nan = float("nan")
    >>> best = saturated([[1.0, 2.0], [2.0, 1.0], [3.0, 6.0], [4.0, nan]])
    >>> best.statistics.mean                            # the regression of the second column on the first, at 2.5
    tensor([2.5000, 4.0000], dtype=torch.float64)
    >>> best.converged
    True
    """
    check_count("steps", steps)
    check_positive("tol", tol)
    if isinstance(x, SufficientStatistics):
        return _complete(x)
    data = check_data(x, minimum_rows=2, missing="allow", sparse="allow")
    if data.missing is None:
        return _complete(SufficientStatistics.from_data(x))
    _check_columns(data.values, data.names)
    if int((~data.missing).any(1).sum()) <= data.values.shape[1]:
        raise unbounded()
    largest = data.values.nan_to_num().abs().amax(0)
    centre = (data.values / largest).nanmean(0) * largest  # squares of extreme numbers would leave float64
    units = ((data.values - centre) / largest).square().nanmean(0).sqrt() * largest
    problem = UnrestrictedGaussian(Patterns.of((data.values - centre) / units))
    ascent = Ascent(problem, problem.start(), tol)
    for _ in zip(range(steps), ascent, strict=False):
        problem.check_regular(ascent.point.theta)
    if not ascent.converged:
        warn(
            "saturated stopped before it converged: allow more steps, or a larger tolerance.",
            ConvergenceWarning,
        )
    mean, lower = problem.split(ascent.point.theta)
    scatter = (lower @ lower.mT) * torch.outer(units, units) * len(data.values)
    value = ascent.point.value * len(data.values) - float(((~data.missing).double() @ units.log()).sum())
    statistics = SufficientStatistics(len(data.values), centre + units * mean, scatter, data.names)
    return Saturated(statistics, value, ascent.converged)


def _complete(statistics: SufficientStatistics) -> Saturated:
    if statistics.count <= statistics.features:
        raise unbounded()
    scale = statistics.covariance.diagonal().sqrt()
    correlation = statistics.covariance / torch.outer(scale, scale)
    if not bool((scale > 0).all()):
        raise DataError(
            f"saturated needs columns that vary, got a constant one in "
            f"{column_labels(torch.nonzero(scale == 0).flatten().tolist(), statistics.names)}: leave that out."
        )
    values = torch.linalg.eigvalsh(correlation)
    if values[0] < 1e-10:  # rounding, in a correlation matrix
        raise unbounded()
    per_row = statistics.features * (LOG_TWO_PI + 1.0) + float(values.log().sum() + 2 * scale.log().sum())
    return Saturated(statistics, -0.5 * statistics.count * per_row, True)


def _check_columns(values: Tensor, names: tuple[str, ...] | None) -> None:
    observed = ~values.isnan()
    empty = torch.nonzero(~observed.any(0)).flatten().tolist()
    if empty:
        raise DataError(
            f"x should have an observed value in every column, got none in {column_labels(empty, names)}: "
            "leave that out."
        )
    low = values.nan_to_num(nan=math.inf).amin(0)
    high = values.nan_to_num(nan=-math.inf).amax(0)
    constant = torch.nonzero(high - low <= 1e-14 * torch.maximum(low.abs(), high.abs())).flatten().tolist()
    if constant:
        raise DataError(
            f"saturated needs columns that vary, got a constant one in {column_labels(constant, names)}: "
            "leave that out."
        )
