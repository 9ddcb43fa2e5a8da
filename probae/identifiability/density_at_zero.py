r"""The density of a score at zero, where many laws of the factors have a kink.

The density f of m = |s| is 2 p(0) at its edge, and may start there with a slope. With the triangular kernel on one
side and a straight line fitted to f (local-linear boundary kernel), the slope leaves no bias:

.. math:: 2\,\hat p(0) = \frac{1}{n h} \sum_i K(m_i / h), \qquad K(u) = 6\,(1 - u)(1 - 2u)\ \text{on}\ [0, 1]

A kernel that is symmetric about zero rounds a kink off instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError

__all__ = ["DensityAtZero", "density_at_zero"]

WIDTH = 4.0  # bandwidth over the median of |s| times n^{-1/5}
MINIMUM_ROWS = 20


@dataclass(frozen=True)
class DensityAtZero:
    """Estimate of p(0), its standard error (asymptotic, without bias), and the bandwidth."""

    value: float
    error: float
    bandwidth: float


def density_at_zero(s: Float[Tensor, " samples"]) -> DensityAtZero:
    """Estimate the density of a centred score at zero by a local-linear boundary kernel on abs(s).

    The bandwidth is 4 n^{-1/5} times the median of abs(s): near the best one for Laplace, logistic and t5 laws (mean
    square error of f at its edge), and it shrinks with the peak of a sharp law. The value changes with the unit of s
    as a density does.

    Parameters
    ----------
    s : Tensor (N,)
        At least 20 values. Of a density that is not continuous at zero, the mean of both sides is estimated.

    Returns
    -------
    DensityAtZero

    Raises
    ------
    DataError
        Too few values, values that are not finite, or half of them exactly zero.

    Notes
    -----
    Bias and standard deviation by simulation (300 samples), in percent of p(0): n = 2,000 Laplace -1 and 6, t5 +1 and
    6, logistic +2 and 7, Gaussian +2 and 7, Uniform 0 and 7, generalised normal of shape .7 -13 and 5 (its peak is
    sharper than any line); n = 300 Laplace -4 and 12, logistic +3 and 13.

    References
    ----------
    Cheng, Fan & Marron (1997), Annals of Statistics 25:1691 (the triangular kernel is best at an edge).

    Examples
    --------
    >>> import torch
    >>> s = torch.distributions.Laplace(0.0, 0.5**0.5).icdf((torch.arange(2000.0) + 0.5) / 2000)
    >>> round(density_at_zero(s).value, 2)  # 1 / sqrt(2)
    0.7
    """
    sizes = _sizes(s)
    bandwidth = _bandwidth(sizes)
    u = sizes / bandwidth
    kernel = (
        torch.where(u < 1, 3 * (1 - u) * (1 - 2 * u), 0.0) / bandwidth
    )  # half of K: both sides of zero count
    return DensityAtZero(
        max(float(kernel.mean()), 0.0), float(kernel.std()) / math.sqrt(len(sizes)), bandwidth
    )


@dataclass(frozen=True)
class BoundaryLine:
    """The density of abs(s) next to zero, value + slope * abs(s) up to the bandwidth."""

    value: float
    slope: float
    bandwidth: float


def boundary_line(s: Float[Tensor, " samples"]) -> BoundaryLine:
    """Return the whole line of which `density_at_zero` is half the value at zero.

    Examples
    --------
    >>> import torch
    >>> line = boundary_line((torch.arange(10_000.0) + 0.5) / 10_000)     # uniform on [0, 1]
    >>> round(line.value, 3), round(line.slope, 2)
    (1.0, 0.0)
    """
    sizes = _sizes(s)
    h = _bandwidth(sizes)
    u = sizes / h
    weight = torch.where(u < 1, 1 - u, 0.0)
    value, slope = 6 * weight * (1 - 2 * u), 12 * weight * (3 * u - 1)
    return BoundaryLine(float(value.mean()) / h, float(slope.mean()) / h**2, h)


def _sizes(s: Tensor) -> Tensor:
    if s.ndim != 1 or len(s) < MINIMUM_ROWS:
        raise DataError(
            f"s should be one column of at least {MINIMUM_ROWS} values, got shape {tuple(s.shape)}."
        )
    sizes = s.detach().to(torch.float64).abs()
    if not bool(torch.isfinite(sizes).all()):
        raise DataError("s should be finite, got NaN or infinity: leave those rows out.")
    return sizes


def _bandwidth(sizes: Tensor) -> float:
    bandwidth = WIDTH * float(sizes.median()) * len(sizes) ** -0.2
    if bandwidth == 0:
        raise DataError("Half of s or more is exactly zero: it has no density there.")
    return bandwidth
