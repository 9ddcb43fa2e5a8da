"""Where a run starts: coordinates that suit the mode, and the covariance that the curvature there implies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probae.inference.nuts.collapsed import collapsed_log_density
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.kernel import Target
from probae.inference.nuts.start import Density, curvature_covariance, first_parameters, jitter, mode
from probae.inference.nuts.target import needs_mean, precision_of, target_of
from probae.inference.parameter_draws import Problem
from probae.statistics import SufficientStatistics

__all__ = ["Start", "density_of", "start_of"]


def density_of(target: Target, precision: NDArray[np.float64]) -> Density:
    """Return the log density and its gradient as a function of theta."""

    def density(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        gradient = np.empty(len(theta))
        return collapsed_log_density(np.ascontiguousarray(theta), gradient, precision, target), gradient

    return density


@dataclass(frozen=True, eq=False)
class Start:
    """Where a run starts: the coordinates, what the density reads, theta at the mode and the covariance there."""

    place: Coordinates
    target: Target
    theta: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def jittered(self, chains: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw theta (C, size) from the normal law at the mode."""
        return self.theta + jitter(self.covariance, chains, generator)


def start_of(problem: Problem) -> Start:
    """Find the mode, with pivots that suit it, and its curvature."""
    features, latents = problem.model.features, problem.model.latents
    data = problem.data
    if isinstance(data, SufficientStatistics):
        mean, covariance = data.mean, data.scatter / data.count
    else:
        mean = data.values.double().nanmean(0)
        rows = (data.values.double() - mean).nan_to_num()
        covariance = rows.mT @ rows / len(rows)
    loadings, noise = first_parameters(covariance, latents)
    noise = noise.mean() if problem.isotropic else noise
    raw = Coordinates.raw(features, latents, isotropic=problem.isotropic, sampled_mean=needs_mean(problem))
    gauge = problem.loadings.rotation_invariant
    ones = torch.ones(1, features, latents, dtype=torch.float64)
    variance = problem.loadings.variance({}) if gauge else ones
    target = target_of(problem, raw)
    best = mode(density_of(target, precision_of(variance, 1, raw)[0]), raw.pack(loadings, noise, mean))
    if not gauge:
        return Start(
            raw,
            target,
            best,
            curvature_covariance(density_of(target, precision_of(variance, 1, raw)[0]), best),
        )
    loadings, noise, found = raw.unpack(best)
    place = Coordinates.gauged(loadings, isotropic=problem.isotropic, sampled_mean=raw.sampled_mean)
    target = target_of(problem, place)
    density = density_of(target, precision_of(variance, 1, place)[0])
    best = mode(density, place.pack(loadings, noise, found))
    return Start(place, target, best, curvature_covariance(density, best))
