"""Rows of x about the mean of a model, grouped by which entries are missing; sufficient statistics are one group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import DataError, check_data, check_features
from probae.inference import Fit
from probae.models.marginal import missing_patterns
from probae.statistics import SufficientStatistics

BLOCK = 2**22  # numbers held at a time while rows stream by: 32 MB


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that observe the same features.

    Attributes
    ----------
    observed : Tensor (D,), bool
    count : float
        Number of rows, or the sum of their weights.
    total : Tensor (D,)
        Weighted sum of the rows about the mean of the model, zero where missing.
    second : Tensor (D, D)
        Weighted sum of their outer products.
    rows : Tensor (N, D) or None
        The rows about that mean, zero where missing; absent for sufficient statistics.
    weights : Tensor (N,) or None
        Weights that add up to the number of all rows.
    """

    observed: Bool[Tensor, " features"]
    count: float
    total: Float[Tensor, " features"]
    second: Float[Tensor, "features features"]
    rows: Float[Tensor, "samples features"] | None = None
    weights: Float[Tensor, " samples"] | None = None

    def blocks(self, width: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield rows and weights, so many that ``width`` numbers for each stay small."""
        assert self.rows is not None
        size = max(1, BLOCK // max(width, 1))
        for start in range(0, len(self.rows), size):
            weights = None if self.weights is None else self.weights[start : start + size]
            yield self.rows[start : start + size], weights


def group_rows(run: Fit, x: Any, weights: Any = None) -> list[Group]:
    """Check x against a fit and group its rows.

    Parameters
    ----------
    run : Fit
    x : table (N, D), NaN where missing, or SufficientStatistics
    weights : vector (N,), optional
        How much each row counts; scaled to add up to the number of rows.

    Raises
    ------
    DataError
        As `check_data`; no value is observed; statistics of another width; weights with statistics.
    """
    mean = run.model.mean.detach().double()
    if isinstance(x, SufficientStatistics):
        check_statistics(run, x, weights)
        shift = x.mean - mean
        second = x.scatter + x.count * torch.outer(shift, shift)
        return [Group(torch.ones(x.features, dtype=torch.bool), x.count, x.count * shift, second)]
    data = check_data(x, features=run.model.features, names=run.names, minimum_rows=2, missing="allow")
    chosen = None if weights is None else check_weights(weights, len(data.values))
    groups = [
        _group(data.values[index] - mean, observed, None if chosen is None else chosen[index])
        for index, observed in missing_patterns(data.values)
        if observed.any()
    ]
    if not groups:
        raise DataError("x should have an observed value, got missing ones only: pass the data of the fit.")
    return groups


def _group(centred: Tensor, observed: Tensor, weights: Tensor | None) -> Group:
    rows = centred.nan_to_num()
    weighted = rows if weights is None else rows * weights.unsqueeze(1)
    count = float(len(rows) if weights is None else weights.sum())
    return Group(observed, count, weighted.sum(0), weighted.mT @ rows, rows, weights)


def check_statistics(run: Fit, statistics: SufficientStatistics, weights: Any) -> None:
    """Refuse statistics of other features than a fit's, and weights beside them."""
    if weights is not None:
        raise DataError(
            "weights need the rows of x, got SufficientStatistics: make them by from_data(x, weights=...)."
        )
    check_features(statistics.features, run.model.features)


def check_weights(weights: Any, count: int) -> Float[Tensor, " samples"]:
    """Return weights that add up to the number of rows.

    Raises
    ------
    DataError
        One is negative or not finite, all are zero, or they are not as many as the rows.
    """
    try:
        values = torch.as_tensor(np.asarray(weights, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"weights should be a vector of numbers, got a {type(weights).__name__}.") from None
    if values.shape != (count,):
        raise DataError(f"weights should have shape ({count},), one for each row, got {tuple(values.shape)}.")
    if not values.isfinite().all() or (values < 0).any() or not (values > 0).any():
        raise DataError(
            "weights should be finite, none below zero and some above it: leave out rows instead."
        )
    return values * (count / values.sum())
