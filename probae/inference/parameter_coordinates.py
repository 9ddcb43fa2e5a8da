"""Loadings in a fixed frame, log noise variances and mean as one vector, and the density of that vector."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.frame import Frame
from probae.inference.gibbs.group_move import random_frames
from probae.inference.parameter_density import CollapsedDensity
from probae.parameter_priors.base import LoadingsPrior

BLOCK = 20_000_000  # numbers held at a time by a Hessian
# of log noise, in units near 1: a step beyond is cut, where I + W' Psi^{-1} W would lose its digits
FARTHEST = 30.0


class Parameters(NamedTuple):
    """Loadings (S, D, K), noise variances (S, D) or (S, 1), and the mean (S, D) where it is a coordinate."""

    loadings: Tensor
    noise: Tensor
    mean: Tensor | None


class Coordinates:
    """theta = (loadings in the basis of the frame, log noise variances[, mean])."""

    def __init__(self, density: CollapsedDensity, frame: Frame) -> None:
        self.density, self.frame = density, frame
        means = density.features if density.samples_mean else 0
        self.sizes = [frame.basis.shape[1], density.variances, means]

    def parameters(self, theta: Float[Tensor, "draws p"]) -> Parameters:
        """Return the parameters that theta stands for."""
        loadings, noise, mean = theta.split(self.sizes, -1)
        return Parameters(
            self.frame.loadings(loadings),
            noise.clamp(-FARTHEST, FARTHEST).exp(),
            mean if self.density.samples_mean else None,
        )

    def vector(self, parameters: Parameters) -> Float[Tensor, "draws p"]:
        """Return theta of parameters in the frame."""
        parts = [self.frame.coordinates(parameters.loadings), parameters.noise.log()]
        return torch.cat(parts if parameters.mean is None else [*parts, parameters.mean], -1)

    def log_joint(self, parameters: Parameters) -> Float[Tensor, " draws"]:
        """Return log p(x, parameters)."""
        return self.density.log_likelihood(*parameters) + self.density.log_prior(*parameters)

    def log_prob(self, theta: Float[Tensor, "draws p"]) -> Float[Tensor, " draws"]:
        """Return the log density of theta and x, integrated over the rotations of the loadings."""
        parameters = self.parameters(theta)
        jacobian = parameters.noise.log().sum(-1) + self.frame.log_volume(parameters.loadings)
        return self.log_joint(parameters) + jacobian

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return minus the log density at one point and its gradient, as minimisers want them."""
        point = torch.from_numpy(theta)[None].requires_grad_()
        with torch.enable_grad():
            value = -self.log_prob(point)
            (gradient,) = torch.autograd.grad(value.sum(), point)
        return float(value.detach()), gradient[0].numpy()

    def hessian(self, theta: Float[Tensor, " p"]) -> Float[Tensor, "p p"]:
        """Return the exact second derivatives of the log density: one batched backward pass twice."""
        size = len(theta)
        parts = []
        width = max(1, BLOCK // (size * 8 + self.density.features * self.frame.basis.shape[0]))
        for rows in torch.eye(size, dtype=torch.float64).split(width):
            points = theta.expand(len(rows), size).clone().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self.log_prob(points).sum(), points, create_graph=True)
                (second,) = torch.autograd.grad((gradient * rows).sum(), points)
            parts.append(second)
        hessian = torch.cat(parts)
        return 0.5 * (hessian + hessian.T)

    def turned(
        self, loadings: Float[Tensor, "draws features latents"], generator: np.random.Generator
    ) -> Float[Tensor, "draws features latents"]:
        """Put draws back on their orbits: by uniform rotations, or by the signs and permutations the prior allows."""
        draws, _, latents = loadings.shape
        prior: LoadingsPrior = self.density.problem.loadings
        if prior.rotation_invariant:
            return loadings @ random_frames(generator, (draws,), latents)
        signs = torch.from_numpy(generator.choice([-1.0, 1.0], (draws, 1, latents)))
        if not prior.scales_factors_alike:
            return loadings * signs
        order = torch.from_numpy(generator.permuted(np.tile(np.arange(latents), (draws, 1)), axis=1))
        return (loadings * signs).gather(2, order[:, None].expand_as(loadings))
