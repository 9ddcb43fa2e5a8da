r"""Likelihoods a factor model is held against: of the saturated model, and of a baseline without factors.

The saturated model has a free mean and covariance, the baseline a free mean and uncorrelated features, of one variance
where the noise is isotropic (which that model contains).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data, DataError, check_data
from probae.factors.groups import check_statistics, check_weights
from probae.inference import Fit
from probae.inference.saturated import saturated
from probae.statistics import SufficientStatistics

LOG_TWO_PI = math.log(2 * math.pi)
SINGULAR = 1e-12  # smallest eigenvalue of the correlations that still counts as above zero


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Log-likelihoods of all rows in nats, and what else the indices need of the data.

    Attributes
    ----------
    count : int
    model, saturated, baseline : float
        `saturated` is infinite where the likelihood has no bound.
    covariance : Tensor (D, D) or None
        That of the saturated model, where it exists.
    rows : Tensor (N, D) or None
        Complete rows about their mean.
    weights : Tensor (N,) or None
    mean : Tensor (D,) or None
        That of complete rows.
    """

    count: int
    model: float
    saturated: float
    baseline: float
    covariance: Float[Tensor, "features features"] | None
    rows: Float[Tensor, "samples features"] | None = None
    weights: Float[Tensor, " samples"] | None = None
    mean: Float[Tensor, " features"] | None = None


def likelihoods(run: Fit, x: Any, weights: Any = None) -> Likelihoods:
    """Compute the three likelihoods of rows, rows with missing entries, or sufficient statistics."""
    if isinstance(x, SufficientStatistics):
        check_statistics(run, x, weights)
        return _of_statistics(run, x)
    data = check_data(x, features=run.model.features, names=run.names, minimum_rows=2, missing="allow")
    if data.missing is not None:
        if weights is not None:
            raise DataError(
                "weights need complete rows here, but x has missing values: leave the weights out."
            )
        return _of_incomplete(run, data)
    chosen = None if weights is None else check_weights(weights, len(data.values))
    statistics = SufficientStatistics.from_data(data.values, weights=chosen)
    return _of_statistics(run, statistics, data.values - statistics.mean, chosen)


def _of_statistics(
    run: Fit, statistics: SufficientStatistics, rows: Tensor | None = None, weights: Tensor | None = None
) -> Likelihoods:
    count, features = statistics.count, statistics.features
    model = float(run.model.collapsed(statistics))
    root = getattr(statistics, "root", None)
    variance = statistics.covariance.diagonal() if root is None else root.square().sum(0) / count
    baseline = count * gaussian_maximum(features, _baseline_log_det(run, variance))
    if count <= features:
        return Likelihoods(count, model, math.inf, baseline, None, rows, weights)
    covariance = statistics.covariance
    log_det = log_determinant(covariance)
    saturated = math.inf if log_det is None else count * gaussian_maximum(features, log_det)
    return Likelihoods(count, model, saturated, baseline, covariance, rows, weights, statistics.mean)


def _of_incomplete(run: Fit, data: Data) -> Likelihoods:
    count = len(data.values)
    model = float(run.model.log_likelihood(data.values).double().sum())
    observed = ~data.values.isnan()
    number = observed.sum(0)
    square = (data.values - data.values.nanmean(0)).nan_to_num().square().sum(0)
    if run.model.noise == "isotropic":
        square, number = square.sum().reshape(1), number.sum().reshape(1)
    baseline = float(-0.5 * (number * (LOG_TWO_PI + 1.0 + (square / number).log())).sum())
    try:
        free = saturated(data.values)
    except DataError:  # it has no maximum
        return Likelihoods(count, model, math.inf, baseline, None)
    return Likelihoods(count, model, float(free.log_likelihood), baseline, free.statistics.covariance)


def gaussian_maximum(features: int, log_det: float) -> float:
    """Log-likelihood per row of a normal law whose covariance is that of the data where it is free."""
    return -0.5 * (features * (LOG_TWO_PI + 1.0) + log_det)


def log_determinant(covariance: Tensor) -> float | None:
    """Log determinant; None where the matrix is singular to rounding."""
    sd = covariance.diagonal().sqrt()
    if not bool((sd > 0).all()):
        return None
    values = torch.linalg.eigvalsh(covariance / torch.outer(sd, sd))
    if values[0] <= SINGULAR * values[-1]:
        return None
    return float(values.log().sum() + 2 * sd.log().sum())


def _baseline_log_det(run: Fit, variance: Tensor) -> float:
    if run.model.noise == "isotropic":
        return len(variance) * float(variance.mean().log())
    return float(variance.log().sum())
