r"""How many directions are not Gaussian (T4), by two scatters that need no moments.

With Tyler's shape the rows become directions u and radii r (`tyler`). For independent non-Gaussian and Gaussian
parts, and Gaussian noise on both, every second scatter is a multiple of I on the Gaussian part; here

    M = p sum_n h(r_n) u_n u_n' / sum_n h(r_n),      h as in `radial_weights`, bounded.

Of the m = p - q eigenvalues that lie closest together the sum of squares around their mean, with rho_n the length of
u_n in their space and v_n its direction there, uniform and independent of all else under the null, is

    || mean (h - b) rho^2 (v v' - I / m) ||^2 p^2 / (mean h)^2,
    b = D(h) / D(1),  D(w) = E w rho^2 / m + E (r w'(r) - 2 w) rho^4 / (m (m + 2)),  r h' = 4 h (1 - h)

to first order, b being what estimating Tyler's shape takes away; scaled by its variance it is chi2((m - 1)(m + 2) / 2).
What is counted is what stays outside the largest set of equal directions. Give rows x with more features than factors:
among scores alone, factors of one law are such a set themselves. A single Gaussian direction is not told from none.
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
from probae.identifiability.spherical import radial_weights
from probae.identifiability.tyler import Sphere, spherize, tyler_shape

MINIMUM_ROWS = 30


def robust_directions(y: Any, *, bootstrap: int = 0, seed: int = 0) -> NonGaussianDirections:
    """Count the non-Gaussian directions of rows, without moments: those outside the largest set of equal directions.

    Parameters
    ----------
    y : array, DataFrame or Tensor (N, p)
        Rows x, of more features than twice the factors.
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
        tests = bootstrap_tests(rows, dimensions - 1, shape_spread, _axes, replicates, seed)
    else:
        sphere = spherize(rows)
        tests = tuple(_asymptotic(sphere, q) for q in range(dimensions - 1))
    return NonGaussianDirections(
        tests,
        dimensions,
        samples,
        "Tyler's shape and a weighted one",
        "The largest set of directions of one law counts as Gaussian.",
    )


def shape_spread(y: Float[Tensor, "samples latents"], number: int) -> float:
    """Return the sum of squares around their mean of all but `number` eigenvalues of M, those closest together.

    Examples
    --------
    >>> y = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 0 < shape_spread(y, 1) < shape_spread(y, 0)
    True
    """
    return _closest(spherize(y), number)[0]


def _axes(y: Tensor, number: int) -> Tensor:
    """Return the axes of rows, those of the other eigenvalues first."""
    _, outer, inner = _closest(spherize(y), number)
    return torch.linalg.solve_triangular(tyler_shape(y).root.T, torch.cat([outer, inner], 1), upper=True)


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
    power = float(((h - _pull(sphere, inner)) * square).square().mean()) * (1 - 1 / free) * dimensions**2
    freedom = (free - 1) * (free + 2) // 2
    statistic = samples * total * float(h.mean()) ** 2 * freedom / power
    p = float(stats.chi2.sf(statistic, freedom))
    return DataTest(f"{number} non-Gaussian directions", statistic, freedom, p, "asymptotic")


def _pull(sphere: Sphere, inner: Float[Tensor, "latents free"]) -> float:
    """Return b, by which an error of Tyler's shape in the Gaussian part moves M there."""
    h, free = radial_weights(sphere.radii), inner.shape[1]
    square = (sphere.directions @ inner).square().sum(1)

    def derivative(weight: Tensor, slope: Tensor) -> float:
        second = (weight * square).mean() / free
        return float(second + ((slope - 2 * weight) * square.square()).mean() / (free * (free + 2)))

    return derivative(h, 4 * h * (1 - h)) / derivative(torch.ones_like(h), torch.zeros_like(h))
