r"""How many directions are not Gaussian (T4), by the kurtosis matrix.

With y the whitened rows of dimension p and C = mean ||y||^2 y y', whose eigenvalues d_i are p + 2 along Gaussian
directions, sorted by |d_i - (p + 2)| from the largest, all but q directions are Gaussian only if

    S = n sum_{i > q} (d_i - (p + 2))^2 / m  ->  w_1 chi2((m - 1)(m + 2) / 2) + w_2 chi2(1),     m = p - q,
    w_1 = 2 (var ||y||^2 + 8) / m,  w_2 = w_1 + 4.

Gaussian noise added to y changes none of this: it is a statement on the rank of a cumulant. It needs eighth moments,
and is blind to directions of kurtosis 0; with heavy tails use `robust_directions`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import check_count
from probae.identifiability.data_test import DataTest, table_rows
from probae.identifiability.directions import NonGaussianDirections, bootstrap_tests
from probae.identifiability.gaussian_scores import whiten

MINIMUM_ROWS = 30
NODES = 2001  # of the integral over chi2(1), in its normal deviate up to 10


def non_gaussian_directions(y: Any, *, bootstrap: int = 0, seed: int = 0) -> NonGaussianDirections:
    """Count the non-Gaussian directions of scores, or of any rows, by the kurtosis matrix (FOBI).

    Parameters
    ----------
    y : array, DataFrame or Tensor (N, p)
        Rows x, or scores z + Gaussian noise; both count the same directions, scores with more power.
    bootstrap : int
        Replicates of a bootstrap instead of the asymptotic law; 0 for none.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    NonGaussianDirections

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or columns that follow from the others.

    References
    ----------
    Nordhausen, Oja, Tyler & Virta (2017), Asymptotic and bootstrap tests for the dimension of the non-Gaussian
    subspace, IEEE Signal Processing Letters 24:887.

    Examples
    --------
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> y = torch.cat([priors.Laplace().sample(2000, 2).double(), torch.randn(2000, 3).double()], 1)
    >>> found = non_gaussian_directions(y)
    >>> found.count(), found.group()
    (2, 'SP(2) x O(3)')
    """
    rows = whiten(table_rows(y, MINIMUM_ROWS))
    samples, dimensions = rows.shape
    replicates = check_count("bootstrap", bootstrap, minimum=0)
    if replicates:
        tests = bootstrap_tests(rows, dimensions, kurtosis_spread, _axes, replicates, seed)
    else:
        spread = float(rows.square().sum(1).var()) + 8
        deviations = _deviations(rows)[0].square()
        tests = tuple(
            _asymptotic(float(deviations[q:].sum()), q, dimensions - q, spread, samples)
            for q in range(dimensions)
        )
    return NonGaussianDirections(
        tests, dimensions, samples, "kurtosis matrix", "Directions of kurtosis 0 are not seen."
    )


def kurtosis_spread(y: Float[Tensor, "samples latents"], number: int) -> float:
    """Return the sum of squares of all but `number` deviations of the kurtosis matrix.

    Examples
    --------
    >>> y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> kurtosis_spread(y, 0)                             # kurtosis 1, which is 2 below that of a normal law
    4.0
    """
    return float(_deviations(whiten(y))[0][number:].square().sum())


def _axes(y: Tensor, number: int) -> Tensor:
    """Return the axes of whitened rows, the least Gaussian first."""
    return _deviations(y)[1]


def _deviations(y: Tensor) -> tuple[Tensor, Tensor]:
    samples, dimensions = y.shape
    values, vectors = torch.linalg.eigh((y * y.square().sum(1, keepdim=True)).T @ y / samples)
    deviations = values - (dimensions + 2)
    order = deviations.abs().argsort(descending=True)
    return deviations[order], vectors[:, order]


def _asymptotic(total: float, number: int, free: int, spread: float, samples: int) -> DataTest:
    statistic = samples * total / free
    first = 2 * spread / free
    p = mixture_sf(statistic, first, (free - 1) * (free + 2) // 2, first + 4)
    return DataTest(f"{number} non-Gaussian directions", statistic, None, p, "asymptotic")


def mixture_sf(statistic: float, first: float, freedom: int, second: float) -> float:
    """Return P(first chi2(freedom) + second chi2(1) > statistic), by Simpson's rule over the second.

    Examples
    --------
    >>> round(mixture_sf(3.84, 1.0, 0, 1.0), 3), round(mixture_sf(7.81, 1.0, 2, 1.0), 3)    # chi2(1) and chi2(3)
    (0.05, 0.05)
    """
    if freedom == 0:
        return float(stats.chi2.sf(statistic / second, 1))
    edge = min(math.sqrt(max(statistic, 0.0) / second), 10.0)  # beyond it the sum is surely larger
    deviate = np.linspace(0.0, edge, NODES)
    value = stats.norm.pdf(deviate) * stats.chi2.sf((statistic - second * deviate**2) / first, freedom)
    weights = np.ones(NODES)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    inside = 2 * float(weights @ value) * edge / (NODES - 1) / 3
    return float(min(1.0, inside + 2 * stats.norm.sf(edge)))
