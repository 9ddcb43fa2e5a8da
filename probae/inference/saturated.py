r"""Maximum likelihood of an unrestricted Gaussian from rows with missing entries.

With :math:`G_p` the inverse of the observed block of Sigma for pattern p, zeros elsewhere, and
:math:`a_n = G_p (x_n - \mu)`, one step of EM is

.. math::

    \mu^+ = \mu + \Sigma \bar a, \qquad
    \Sigma^+ = \Sigma + \Sigma \Big[\tfrac1N \sum_n (a_n a_n' - G_p)\Big] \Sigma - (\mu^+ - \mu)(\mu^+ - \mu)'

(Orchard & Woodbury, 1972; Little & Rubin, 2019, section 11.2). The bracket is twice the gradient of the log-likelihood
in Sigma, so one pass over the patterns gives the value, the gradient and the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, DataError, check_count, check_data, check_positive, warn
from probae.inference.acceleration import Ascent, Point
from probae.models.patterns import Patterns, each_by_its_own
from probae.statistics import SufficientStatistics
from probae.tables import column_labels

LOG_TWO_PI = math.log(2 * math.pi)
SINGULAR = 1e-10  # smallest eigenvalue of an estimated correlation matrix that still counts as one


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
    centre = data.values.nanmean(0)
    units = (data.values - centre).square().nanmean(0).sqrt()
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


class UnrestrictedGaussian:
    """The likelihood of a mean and a covariance LL' on grouped rows; theta holds the mean, log L_ii, and L below."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.below = torch.tril_indices(patterns.features, patterns.features, -1)

    def start(self) -> Tensor:
        """Column means, uncorrelated columns: theta of zeros, since columns come in units of their own spread."""
        features = self.patterns.features
        return torch.zeros(2 * features + self.below.shape[1], dtype=torch.float64)

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the lower triangle L."""
        features = self.patterns.features
        lower = theta[features : 2 * features].exp().diag()
        lower[self.below[0], self.below[1]] = theta[2 * features :]
        return theta[:features], lower

    def join(self, mean: Tensor, lower: Tensor) -> Tensor:
        """Return theta."""
        return torch.cat([mean, lower.diagonal().log(), lower[self.below[0], self.below[1]]])

    def check_regular(self, theta: Tensor) -> None:
        """Stop where the covariance becomes singular: the density of some combination of columns has no top."""
        lower = self.split(theta)[1]
        covariance = lower @ lower.mT
        scale = covariance.diagonal().sqrt()
        if float(torch.linalg.eigvalsh(covariance / torch.outer(scale, scale))[0]) < SINGULAR:
            raise _unbounded()

    def evaluate(self, theta: Tensor) -> Point:
        """Return the log-likelihood per row, its gradient, and the EM step."""
        mean, lower = self.split(theta)
        covariance, rows = lower @ lower.mT, self.patterns.rows
        value, weights, second = _expect(self.patterns, mean, covariance)
        seen = self.patterns.counts.sum()  # rows without a value would only slow the step down
        shift = covariance @ weights / seen
        updated = covariance + covariance @ second @ covariance / seen - torch.outer(shift, shift)
        factor, failed = torch.linalg.cholesky_ex(updated)
        if failed:
            raise _unbounded()
        slope = (second @ lower).tril()
        slope.diagonal().mul_(lower.diagonal())
        slope = torch.cat([weights, slope.diagonal(), slope[self.below[0], self.below[1]]]) / rows
        return Point(theta, value / rows, slope, self.join(mean + shift, factor))

    def bounded(self, start: Tensor, step: Tensor) -> Tensor:
        """Keep log L_ii from changing by more than one."""
        features = self.patterns.features
        largest = float(step[features : 2 * features].abs().max())
        return start + step / max(largest, 1.0)

    def slope(self, point: Point) -> float:
        """Return the largest derivative; columns have unit spread."""
        return float(point.gradient.abs().max())

    def leap(self, point: Point) -> Point | None:
        """No shortcut."""
        return None


def _expect(patterns: Patterns, mean: Tensor, covariance: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the log-likelihood, the sum of a_n, and the sum of a_n a_n' - G_p."""
    features = patterns.features
    energy = LOG_TWO_PI * float((patterns.counts @ patterns.observed.double()).sum())
    weights = torch.zeros(features, dtype=torch.float64)
    second = torch.zeros(features, features, dtype=torch.float64)
    for block in patterns.blocks(features * features):
        mask, counts = block.observed.double(), block.counts
        whole = covariance * mask.unsqueeze(2) * mask.unsqueeze(1) + torch.diag_embed(1.0 - mask)
        lower, failed = torch.linalg.cholesky_ex(whole)
        if failed.any():
            return -math.inf, weights, second
        precision = torch.cholesky_inverse(lower) * mask.unsqueeze(2) * mask.unsqueeze(1)
        centred = (block.means - mean) * mask * counts.sqrt().unsqueeze(1)
        inner = each_by_its_own(precision, block.roots, block.owner)
        outer = (precision @ centred.unsqueeze(-1)).squeeze(-1)
        energy += float(2 * (counts * lower.diagonal(dim1=1, dim2=2).log().sum(1)).sum())
        energy += float((inner * block.roots).sum() + (outer * centred).sum())
        weights += outer.mT @ counts.sqrt()
        second += inner.mT @ inner + outer.mT @ outer
        second -= (counts @ precision.flatten(1)).unflatten(0, (features, features))
    return -0.5 * energy, weights, second


def _complete(statistics: SufficientStatistics) -> Saturated:
    scale = statistics.covariance.diagonal().sqrt()
    correlation = statistics.covariance / torch.outer(scale, scale)
    if not bool((scale > 0).all()):
        raise DataError(
            f"saturated needs columns that vary, got a constant one in "
            f"{column_labels(torch.nonzero(scale == 0).flatten().tolist(), statistics.names)}: leave that out."
        )
    values = torch.linalg.eigvalsh(correlation)
    if values[0] < SINGULAR:
        raise _unbounded()
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


def _unbounded() -> DataError:
    return DataError(
        "The likelihood of an unrestricted covariance has no maximum here: columns are collinear where they are "
        "observed together, or too many for the rows. Leave columns out, or give more rows."
    )
