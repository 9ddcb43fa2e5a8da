"""Where a run starts: coordinates that suit the mode, and the covariance that the curvature there implies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probae.inference.nuts.collapsed import collapsed_log_density
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.kernel import Target
from probae.inference.nuts.start import (
    Density,
    curvature_covariance,
    first_parameters,
    jitter,
    mode,
    moments_of,
)
from probae.inference.nuts.target import needs_mean, precision_of, target_of
from probae.inference.parameter_draws import Problem

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
    mean, covariance = moments_of(problem.data)
    loadings, noise = first_parameters(covariance, latents)
    noise = noise.mean() if problem.isotropic else noise
    kind = {"isotropic": problem.isotropic, "sampled_mean": needs_mean(problem)}
    place = Coordinates.raw(features, latents, **kind)
    gauge = problem.loadings.rotation_invariant
    ones = torch.ones(1, features, latents, dtype=torch.float64)
    variance = problem.loadings.variance({}) if gauge else ones
    target, density = _target_and_density(problem, place, variance)
    best = mode(density, place.pack(loadings, noise, mean))
    if gauge:
        parameters = place.unpack(best)
        place = Coordinates.gauged(parameters[0], **kind)
        target, density = _target_and_density(problem, place, variance)
        best = mode(density, place.pack(*parameters))
    return Start(place, target, best, curvature_covariance(density, best))


def _target_and_density(problem: Problem, place: Coordinates, variance: Tensor) -> tuple[Target, Density]:
    """Return what the density reads in these coordinates, and the density itself at first variances of the loadings."""
    target = target_of(problem, place)
    return target, density_of(target, precision_of(variance, 1, place)[0])
