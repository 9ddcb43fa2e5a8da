"""Rows with the same observed entries, reduced to their moments and brought to unit variances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probae.checks import Data, DataError
from probae.inference.masked import Group
from probae.inference.profile import FLOOR
from probae.models.marginal import missing_patterns
from probae.statistics import SufficientStatistics

__all__ = ["Standardized", "group_rows", "standardize"]


@dataclass(frozen=True, eq=False)
class Standardized:
    """Rows in units of their standard deviations, grouped by observed entries; constant columns left out."""

    groups: tuple[Group, ...]
    varying: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    observed: float

    @property
    def correlation(self) -> np.ndarray:
        """Covariance of the columns about their means, over the rows that have both entries."""
        shares = sum(g.share * np.outer(g.observed, g.observed) for g in self.groups)
        total = sum(
            g.share * (g.covariance + np.outer(g.mean * g.observed, g.mean * g.observed)) for g in self.groups
        )
        matrix = total / np.maximum(shares, 1e-300) * (shares > 0)
        scale = np.sqrt(matrix.diagonal())
        return matrix / np.outer(scale, scale)


def group_rows(data: Data | SufficientStatistics) -> list[Group]:
    """Group the rows by which entries they have; rows without any are left out, but count among all."""
    if isinstance(data, SufficientStatistics) or data.missing is None:
        moments = (
            data if isinstance(data, SufficientStatistics) else SufficientStatistics.from_data(data.values)
        )
        everything = np.ones(moments.features, dtype=bool)
        return [Group(1.0, everything, moments.mean.numpy(), moments.covariance.numpy())]
    groups = []
    for rows, seen in missing_patterns(data.values):
        filled = data.values[rows].nan_to_num().numpy()
        mean = filled.mean(axis=0)
        centred = filled - mean
        share = len(filled) / len(data.values)
        groups.append(Group(share, seen.numpy(), mean, centred.T @ centred / len(filled)))
    return [group for group in groups if group.observed.any()]


def standardize(data: Data | SufficientStatistics) -> Standardized:
    """Group the rows and bring every varying column to mean 0 and variance 1 over its observed entries."""
    parts = group_rows(data)
    shares = sum(part.share * part.observed for part in parts)
    centre = sum(part.share * part.observed * part.mean for part in parts) / shares
    second = sum(p.share * p.observed * (p.covariance.diagonal() + (p.mean - centre) ** 2) for p in parts)
    variance = second / shares
    varying = variance > FLOOR**2 * variance.max(initial=np.finfo(float).tiny)
    if varying.sum() < 2:
        raise DataError("Factor analysis needs at least two columns that vary; all others are constant.")
    scale = np.sqrt(variance[varying])
    groups = []
    for part in parts:
        own = part.observed[varying]
        shifted = np.where(own, (part.mean - centre)[varying] / scale, 0.0)
        block = part.covariance[np.ix_(varying, varying)] / np.outer(scale, scale)
        groups.append(Group(part.share, own, shifted, block))
    groups = [group for group in groups if group.observed.any()]
    observed = float(sum(group.share * group.observed.sum() for group in groups))
    return Standardized(tuple(groups), varying, scale, centre, observed)
