r"""What is computed of rows, observed and simulated alike, to see whether a model makes data like them.

NaN entries are left out: moments of a column are those of its observed entries, correlations those of the rows that
have both, and Mardia's measures those of complete rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError

__all__ = [
    "SRMR",
    "STATISTICS",
    "Correlations",
    "ExcessKurtosis",
    "MardiaKurtosis",
    "MardiaSkewness",
    "Mean",
    "Own",
    "RowStatistic",
    "Skewness",
    "StandardDeviation",
]

BLOCK = 2**22  # numbers held at a time


@dataclass(frozen=True)
class RowStatistic:
    """A statistic of rows; subclasses are small frozen dataclasses.

    Attributes
    ----------
    name : str
    one_sided : bool
        Whether only large values speak against a model.
    needs_covariance : bool
        Whether it compares rows with the covariance of a model, and so depends on the parameters.
    """

    one_sided: ClassVar[bool] = False
    needs_covariance: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What reports call it."""
        raise NotImplementedError

    def labels(self, features: Sequence[str]) -> tuple[str, ...] | None:
        """Name each entry; None if the number of entries is known only when it is computed."""
        return tuple(features)

    def value(
        self, x: Float[Tensor, "samples features"], covariance: Float[Tensor, "features features"]
    ) -> Float[Tensor, " entries"]:
        """Return the statistic."""
        raise NotImplementedError


@dataclass(frozen=True)
class Mean(RowStatistic):
    """Mean of each column.

    Examples
    --------
    >>> Mean().value(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]), torch.eye(2))
    tensor([2., 2.])
    """

    name: ClassVar[str] = "mean"

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the mean of each column."""
        return x.nanmean(0)


@dataclass(frozen=True)
class StandardDeviation(RowStatistic):
    """Standard deviation of each column, with the number of rows as divisor."""

    name: ClassVar[str] = "sd"

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the root of the second central moment of each column."""
        return central_moment(x, 2).sqrt()


@dataclass(frozen=True)
class Skewness(RowStatistic):
    """Third standardised moment m_3 / m_2^1.5 of each column."""

    name: ClassVar[str] = "skewness"

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the skewness of each column; NaN for a constant one."""
        return central_moment(x, 3) / central_moment(x, 2).pow(1.5)


@dataclass(frozen=True)
class ExcessKurtosis(RowStatistic):
    """Fourth standardised moment m_4 / m_2^2 - 3 of each column, 0 for a normal law."""

    name: ClassVar[str] = "excess kurtosis"

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the excess kurtosis of each column; NaN for a constant one."""
        return central_moment(x, 4) / central_moment(x, 2).square() - 3


@dataclass(frozen=True)
class Correlations(RowStatistic):
    r"""Correlation of each pair of columns.

    Observed less simulated it is the residual correlation r_ij - rho_ij: the correlation rho_ij(theta) that a model
    implies is the same on both sides of a comparison under theta, so it is not subtracted.
    """

    name: ClassVar[str] = "correlation"

    def labels(self, features: Sequence[str]) -> tuple[str, ...]:
        """Name the pairs."""
        rows, columns = torch.tril_indices(len(features), len(features), -1).tolist()
        return tuple(f"{features[j]}, {features[i]}" for i, j in zip(rows, columns, strict=True))

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the correlations below the diagonal, row by row; NaN with a constant column."""
        rows, columns = torch.tril_indices(x.shape[1], x.shape[1], -1)
        return correlations(x)[rows, columns]


@dataclass(frozen=True)
class SRMR(RowStatistic):
    """Root mean square of (s_ij - sigma_ij) / sqrt(s_ii s_jj), i <= j, between rows and a model."""

    name: ClassVar[str] = "SRMR"
    one_sided: ClassVar[bool] = True
    needs_covariance: ClassVar[bool] = True

    def labels(self, features: Sequence[str]) -> tuple[str, ...]:
        """One entry."""
        return ("",)

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the root mean square; NaN with a constant column."""
        sd = central_moment(x, 2).sqrt()
        residual = correlations(x) - covariance / torch.outer(sd, sd)
        rows, columns = torch.tril_indices(len(sd), len(sd))
        return residual[rows, columns].square().mean().sqrt().reshape(1)


@dataclass(frozen=True)
class MardiaSkewness(RowStatistic):
    r"""Mardia's skewness, mean over pairs of rows of (y_m' y_n)^3, y standardised by the covariance of the rows.

    References
    ----------
    .. [1] Mardia, K. V. (1970). Measures of multivariate skewness and kurtosis with applications. Biometrika 57,
       519-530.
    """

    name: ClassVar[str] = "Mardia skewness"
    one_sided: ClassVar[bool] = True

    def labels(self, features: Sequence[str]) -> tuple[str, ...]:
        """One entry."""
        return ("",)

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the skewness; NaN where the covariance of the complete rows is singular."""
        y = standardised(x)
        if y is None:
            return x.new_full((1,), torch.nan)
        samples, features = y.shape
        if features**2 <= samples:
            # the squared length of the third moments: N D^3 products, in place of N^2 D
            third = torch.zeros(features**2, features, dtype=y.dtype)
            for part in y.split(max(BLOCK // features**2, 1)):
                third += (part.unsqueeze(2) * part.unsqueeze(1)).flatten(1).mT @ part
            return (third / samples).square().sum().reshape(1)
        cubes = [(part @ y.mT).pow(3).sum() for part in y.split(max(BLOCK // samples, 1))]
        return (torch.stack(cubes).sum() / samples**2).reshape(1)


@dataclass(frozen=True)
class MardiaKurtosis(RowStatistic):
    """Mardia's kurtosis, mean of (y'y)^2 with y standardised by the covariance of the rows; D (D + 2) when normal."""

    name: ClassVar[str] = "Mardia kurtosis"

    def labels(self, features: Sequence[str]) -> tuple[str, ...]:
        """One entry."""
        return ("",)

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Return the kurtosis; NaN where the covariance of the complete rows is singular."""
        y = standardised(x)
        return x.new_full((1,), torch.nan) if y is None else y.square().sum(1).square().mean().reshape(1)


@dataclass(frozen=True)
class Own(RowStatistic):
    """A statistic of one's own: a function of x (N, D), with NaN where x has it, to a number or a vector."""

    function: Callable[[Tensor], Any]

    @property
    def name(self) -> str:
        """The name of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def labels(self, features: Sequence[str]) -> None:
        """Known when it is computed."""
        return None

    def value(self, x: Tensor, covariance: Tensor) -> Float[Tensor, " entries"]:
        """Call the function."""
        found = self.function(x.clone())
        try:
            return torch.as_tensor(found, dtype=torch.float64).detach().reshape(-1)
        except (TypeError, ValueError, RuntimeError):
            raise ParameterError(
                f"statistic {self.name} should give a number or a vector of numbers, got {type(found).__name__}."
            ) from None


STATISTICS: tuple[RowStatistic, ...] = (
    Mean(),
    StandardDeviation(),
    Skewness(),
    ExcessKurtosis(),
    Correlations(),
    SRMR(),
    MardiaSkewness(),
    MardiaKurtosis(),
)


def centred(x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
    """Return the deviations from the mean of each column: exactly 0 in a constant one, whose mean may be rounded.

    Examples
    --------
    >>> centred(torch.full((77, 1), 0.1)).abs().max()
    tensor(0.)
    """
    missing = x.isnan()
    constant = x.masked_fill(missing, torch.inf).amin(0) == x.masked_fill(missing, -torch.inf).amax(0)
    return (x - x.nanmean(0)).masked_fill(constant & ~missing, 0.0)


def central_moment(x: Float[Tensor, "samples features"], order: int) -> Float[Tensor, " features"]:
    """Return the mean power of the deviation from the mean, of the observed entries of each column."""
    return centred(x).pow(order).nanmean(0)


def correlations(x: Float[Tensor, "samples features"]) -> Float[Tensor, "features features"]:
    """Return the correlations over the rows that have both entries.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, float("nan")]])
    >>> correlations(x)[0, 1].round(decimals=5)
    tensor(1.)
    """
    seen = (~x.isnan()).to(x.dtype)
    deviation = centred(x).nan_to_num()
    count = seen.mT @ seen
    sums = deviation.mT @ seen  # of column i over the rows that have j as well
    cross = deviation.mT @ deviation - sums * sums.mT / count
    squares = deviation.square().mT @ seen - sums.square() / count
    return cross / (squares * squares.mT).sqrt()


def standardised(x: Float[Tensor, "samples features"]) -> Float[Tensor, "complete features"] | None:
    """Return the complete rows with mean 0 and covariance I; None where their covariance is singular."""
    rows = x[~x.isnan().any(1)]
    if len(rows) <= x.shape[1]:
        return None
    deviation = centred(rows)
    sd = deviation.square().mean(0).sqrt()
    if not bool((sd > 0).all()):
        return None
    scaled = deviation / sd
    root, failed = torch.linalg.cholesky_ex(scaled.mT @ scaled / len(scaled))
    if bool(failed) or float(root.diagonal().min()) < 1e-7:
        return None
    return torch.linalg.solve_triangular(root, scaled.mT, upper=False).mT
