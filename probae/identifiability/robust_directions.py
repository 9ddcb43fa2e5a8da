r"""How many directions are not Gaussian (T4), by two scatters that need no moments.

With Tyler's shape the rows become directions u and radii r (`spherical`). For independent non-Gaussian and Gaussian
parts, and Gaussian noise on both, every second scatter is a multiple of I on the Gaussian part; here

    M = p sum_n h(r_n) u_n u_n' / sum_n h(r_n),      h as in `radial_weights`, bounded.

Of the m = p - q eigenvalues that lie closest together the sum of squares around their mean, with rho_n the length of
u_n in their space and v_n its direction there, uniform and independent of all else under the null, is

    || mean (h - b) rho^2 (v v' - I / m) ||^2 p^2 / (mean h)^2,
    b = D(h) / D(1),  D(w) = E w rho^2 / m + E (r w'(r) - 2 w) rho^4 / (m (m + 2)),  r h' = 4 h (1 - h)

to first order, b being what estimating Tyler's shape takes away; scaled by its variance it is chi2((m - 1)(m + 2) / 2).
A single Gaussian direction is not told from none: it leaves no rotation free either.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import check_count
from probae.identifiability.data_test import DataTest, table_rows
from probae.identifiability.directions import NonGaussianDirections, bootstrap_tests
from probae.identifiability.spherical import Sphere, radial_weights, spherize, tyler_shape

MINIMUM_ROWS = 30


def robust_directions(y: Any, *, bootstrap: int = 0, seed: int = 0) -> NonGaussianDirections:
    """Count the directions that are neither Gaussian nor part of one elliptical law, under any tails.

    Parameters
    ----------
    y : array, DataFrame or Tensor (N, p)
        Rows x, or scores z + Gaussian noise.
    bootstrap : int
        Replicates of a bootstrap instead of the asymptotic law; 0 for none.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    NonGaussianDirections
        With tests of 0 to p - 2 directions.

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or columns that follow from the others.
    FitError
        Rows that have no shape: see `tyler_shape`.

    Examples
    --------
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> y = torch.cat([priors.StudentT(3.0).sample(2000, 2).double(), torch.randn(2000, 3).double()], 1)
    >>> robust_directions(y).count(), robust_directions(priors.MultivariateStudentT(3.0).sample(2000, 3)).count()
    (2, 0)
    """
    rows = table_rows(y, MINIMUM_ROWS)
    samples, dimensions = rows.shape
    replicates = check_count("bootstrap", bootstrap, minimum=0)
    if replicates:
        tests = bootstrap_tests(rows, dimensions - 1, shape_measure, replicates, seed)
    else:
        sphere = spherize(rows)
        tests = tuple(_asymptotic(sphere, q) for q in range(dimensions - 1))
    return NonGaussianDirections(
        tests,
        dimensions,
        samples,
        "Tyler's shape and a weighted one",
        "Directions of one elliptical law count as Gaussian.",
    )


def shape_measure(
    y: Float[Tensor, "samples latents"], number: int
) -> tuple[float, Float[Tensor, "latents latents"]]:
    """Return the spread of the eigenvalues of M that lie closest together, and the axes of y, the others first.

    Examples
    --------
    >>> y = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> total, axes = shape_measure(y, 1)
    >>> 0 < total < shape_measure(y, 0)[0], axes.shape
    (True, torch.Size([3, 3]))
    """
    total, outer, inner = _closest(spherize(y), number)
    root = tyler_shape(y).root
    return total, torch.linalg.solve_triangular(root.T, torch.cat([outer, inner], 1), upper=True)


def _closest(sphere: Sphere, number: int) -> tuple[float, Tensor, Tensor]:
    """Return the least spread of consecutive eigenvalues, the axes of the others and those of the Gaussian part."""
    u, h = sphere.directions, radial_weights(sphere.radii)
    dimensions = u.shape[1]
    values, vectors = torch.linalg.eigh(dimensions * (u * h[:, None]).T @ u / h.sum())
    windows = values.unfold(0, dimensions - number, 1)
    spreads = (windows - windows.mean(1, keepdim=True)).square().sum(1)
    first = int(spreads.argmin())
    inside = torch.zeros(dimensions, dtype=torch.bool)
    inside[first : first + dimensions - number] = True
    return float(spreads[first]), vectors[:, ~inside], vectors[:, inside]


def _asymptotic(sphere: Sphere, number: int) -> DataTest:
    total, _, inner = _closest(sphere, number)
    h = radial_weights(sphere.radii)
    samples, dimensions = sphere.directions.shape
    free = dimensions - number
    square = (sphere.directions @ inner).square().sum(1)  # rho^2

    def derivative(weight: Tensor, slope: Tensor) -> Tensor:
        second = (weight * square).mean() / free
        return second + ((slope - 2 * weight) * square.square()).mean() / (free * (free + 2))

    pull = derivative(h, 4 * h * (1 - h)) / derivative(torch.ones_like(h), torch.zeros_like(h))
    freedom = (free - 1) * (free + 2) // 2
    power = float(((h - pull) * square).square().mean()) * (1 - 1 / free) * dimensions**2
    statistic = samples * total * float(h.mean()) ** 2 * freedom / power
    p = float(stats.chi2.sf(statistic, freedom))
    return DataTest(f"{number} non-Gaussian directions", statistic, freedom, p, "asymptotic")
