"""Where chains start: the mode of the density, and the covariance that its curvature there implies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import Data
from probae.statistics import SufficientStatistics

__all__ = ["curvature_covariance", "first_parameters", "jitter", "mode", "moments_of"]

SMALLEST_NOISE = 0.05  # of the variance of a feature, in first values
STEP = 1e-4  # of differences of gradients: coordinates are of order one
LARGEST_DENSE = 1500  # coordinates from which a covariance takes longer than it saves
WIDEST = 10.0  # variance of a direction in which the density does not curve down; that of the priors is one

Density = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


def moments_of(data: Data | SufficientStatistics) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D), missing entries at the mean."""
    if isinstance(data, SufficientStatistics):
        return data.mean, data.scatter / data.count
    mean = data.values.double().nanmean(0)
    rows = (data.values.double() - mean).nan_to_num()
    return mean, rows.mT @ rows / len(rows)


def first_parameters(
    covariance: Float[Tensor, "features features"], latents: int
) -> tuple[Float[Tensor, "features latents"], Float[Tensor, " features"]]:
    """Return loadings of the first principal components and the variance they leave."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = min(latents, len(values) - 1)
    rest = values[: len(values) - kept].mean() if kept else values.mean()
    size = (values[len(values) - kept :] - rest).clamp(min=0.0).sqrt()
    loadings = torch.zeros(len(values), latents, dtype=torch.float64)
    loadings[:, :kept] = (vectors[:, len(values) - kept :] * size).flip(1)
    total = covariance.diagonal()
    noise = (total - loadings.square().sum(1)).clamp(min=SMALLEST_NOISE * total)
    return loadings, torch.where(noise > 0, noise, torch.ones_like(noise))


def mode(density: Density, theta: NDArray[np.float64], steps: int = 500) -> NDArray[np.float64]:
    """Return a local maximum of the density near theta."""

    def negative(place: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = density(place)
        if not np.isfinite(value):
            return np.inf, np.zeros_like(place)
        return -value, -gradient

    return scipy.optimize.minimize(negative, theta, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x


def curvature_covariance(
    density: Density, theta: NDArray[np.float64], leading: int | None = None
) -> NDArray[np.float64]:
    """Return the inverse of minus the second derivatives at theta, with curvature of either sign counted as such.

    Beyond `LARGEST_DENSE` coordinates only the second derivative in each coordinate is used, and variances returned.
    With a number of leading coordinates, the others are held.
    """
    size = len(theta) if leading is None else leading
    dense = size <= LARGEST_DENSE
    curvature = np.empty((size, size) if dense else size)
    for index in range(size):
        ahead, behind = theta.copy(), theta.copy()
        ahead[index] += STEP
        behind[index] -= STEP
        slope = (density(behind)[1] - density(ahead)[1])[:size] / (2 * STEP)
        curvature[index] = slope if dense else slope[index]
    if not dense:
        return 1 / np.maximum(np.abs(curvature), 1 / WIDEST)
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    return (vectors / np.maximum(np.abs(values), 1 / WIDEST)) @ vectors.T


def jitter(
    covariance: NDArray[np.float64], chains: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw from the normal law of a covariance (size, size), or of variances (size,), (C, size)."""
    noise = generator.standard_normal((chains, len(covariance)))
    return noise * np.sqrt(covariance) if covariance.ndim == 1 else noise @ np.linalg.cholesky(covariance).T
