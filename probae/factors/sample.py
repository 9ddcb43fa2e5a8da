"""What a rule for the number of factors may look at: correlations, their eigenvalues, rows, and fits."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
import torch

from probae.checks import ConstantColumnWarning, DataError, check_data, warn
from probae.inference.saturated import saturated
from probae.statistics import SufficientStatistics
from probae.tables import column_labels

MOST_DENSE = 3000  # features up to which a matrix of all correlations is formed
SINGULAR = 1e-10  # smallest eigenvalue of a correlation matrix that still has an inverse
CONSTANT = 1e-28  # variance, relative to the squared mean, that rounding gives a column of equal numbers
SMALLEST_FEATURES = 3  # one factor of two columns has no unique loadings

Value = TypeVar("Value")


class NotApplicable(Exception):
    """A rule cannot run on these data; the message says why, in words that follow a colon."""


class Sample:
    """Varying columns of x, seen through their correlations; what several rules need is computed once.

    Attributes
    ----------
    statistics : SufficientStatistics
        Of the columns that vary.
    rows : array (count, features) or None
        The rows themselves, where they were given.
    seed : int
    limit : int or None
        The most factors the user wants fitted.
    incomplete : bool
        Whether the statistics were estimated from rows with missing values.
    """

    def __init__(
        self,
        statistics: SufficientStatistics,
        rows: np.ndarray | None,
        seed: int,
        limit: int | None,
        incomplete: bool = False,
    ) -> None:
        self.statistics, self.rows, self.seed, self.limit = statistics, rows, seed, limit
        self.incomplete = incomplete
        self._shared: dict[Any, Any] = {}

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.statistics.count

    @property
    def features(self) -> int:
        """Number of columns that vary."""
        return self.statistics.features

    @property
    def rank(self) -> int:
        """The most eigenvalues that can differ from zero."""
        return min(self.count - 1, self.features)

    @cached_property
    def root(self) -> np.ndarray | None:
        """Standardised centred rows Z (count, features) with R = Z'Z, where they are fewer than columns."""
        root = self.statistics.root
        if (
            root is None or len(root) >= self.features
        ):  # columns may have been left out, and merged roots are longer
            return None
        return root.numpy() / np.sqrt(self.count * self.statistics.variances.numpy())

    @cached_property
    def correlation(self) -> np.ndarray:
        """Correlation matrix R, (features, features)."""
        if self.features > MOST_DENSE:
            raise NotApplicable(f"it needs the correlations of all pairs of {self.features} columns")
        if self.root is not None:
            return self.root.T @ self.root
        spread = self.statistics.variances.sqrt().numpy()
        correlation = self.statistics.covariance.numpy() / np.outer(spread, spread)
        np.fill_diagonal(correlation, 1.0)
        return correlation

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """All eigenvalues of R, largest first, (features,); the smaller of Z'Z and ZZ' is decomposed."""
        if self.root is None:
            return np.maximum(scipy.linalg.eigvalsh(self.correlation)[::-1], 0.0)
        values = np.maximum(np.linalg.eigvalsh(self.root @ self.root.T)[::-1], 0.0)
        return np.concatenate([values, np.zeros(self.features - len(values))])

    @cached_property
    def inverse(self) -> np.ndarray:
        """Inverse of R."""
        if self.count <= self.features:
            raise NotApplicable(f"it needs more rows than columns, got {self.count} rows of {self.features}")
        if self.eigenvalues[-1] < SINGULAR:
            raise NotApplicable("the correlation matrix is singular: a column follows from the others")
        return np.linalg.inv(self.correlation)

    def require_rows(self) -> np.ndarray:
        """Return the rows, or say that a summary is not enough."""
        if self.rows is None:
            what = (
                "rows without missing values" if self.incomplete else "the rows of x, not a summary of them"
            )
            raise NotApplicable(f"it needs {what}")
        return self.rows

    def generator(self, name: str) -> np.random.Generator:
        """Return a source of randomness of its own for each rule, so that the others do not change its answer."""
        return np.random.default_rng((self.seed, zlib.crc32(name.encode())))

    def share(self, key: Any, compute: Callable[[], Value]) -> Value:
        """Return what ``compute`` gives, computed once for each key."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def found(self, key: Any) -> Any:
        """Return what was computed for the key so far, or None."""
        return self._shared.get(key)


def open_sample(x: Any, seed: int, limit: int | None) -> Sample:
    """Read a table or SufficientStatistics; columns that do not vary are left out with a warning.

    Of rows with missing values the maximum likelihood covariance is taken, and not the rows.
    """
    rows, incomplete = None, False
    if isinstance(x, SufficientStatistics):
        statistics = x
    else:
        data = check_data(x, sparse="allow", missing="allow", minimum_rows=SMALLEST_FEATURES)
        incomplete = data.missing is not None
        if incomplete:
            statistics = saturated(x).statistics
        else:
            statistics = SufficientStatistics.from_data(data.values).named(data.names)
            rows = data.values.numpy() if isinstance(data.values, torch.Tensor) else None
    if statistics.count < SMALLEST_FEATURES:
        raise DataError(
            f"The number of factors needs at least 3 rows, the statistics have {statistics.count}."
        )
    variance = statistics.variances
    varying = (variance > CONSTANT * statistics.mean.square()).numpy()
    if varying.sum() < SMALLEST_FEATURES:
        raise DataError(
            f"The number of factors needs at least {SMALLEST_FEATURES} columns that vary, got {varying.sum()} of "
            f"{len(varying)}: add columns."
        )
    if not varying.all():
        warn(
            f"x is constant in {column_labels(np.flatnonzero(~varying), statistics.names)}: left out of the rules for "
            "the number of factors.",
            ConstantColumnWarning,
        )
        statistics = _columns(statistics, varying)
        rows = None if rows is None else rows[:, varying]
    return Sample(statistics, rows, seed, limit, incomplete)


def _columns(statistics: SufficientStatistics, kept: np.ndarray) -> SufficientStatistics:
    chosen = torch.from_numpy(np.flatnonzero(kept))
    names = None if statistics.names is None else tuple(statistics.names[i] for i in chosen.tolist())
    mean = statistics.mean[chosen]
    if statistics.root is not None:
        return SufficientStatistics(statistics.count, mean, names=names, root=statistics.root[:, chosen])
    return SufficientStatistics(statistics.count, mean, statistics.scatter[chosen][:, chosen], names)
