"""What the draws of theta say of the parameters."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.inference.gibbs.mean import draw_flat_mean, draw_normal_mean
from probae.inference.nuts.first import Start, density_of
from probae.inference.nuts.target import mean_law
from probae.inference.parameter_draws import Problem
from probae.parameter_priors import Fixed, Flat, Normal
from probae.parameter_priors.base import State
from probae.statistics import SufficientStatistics

__all__ = ["parameters_of", "log_joint", "log_prior"]


def parameters_of(
    problem: Problem, start: Start, theta: NDArray[np.float64], hyper: State, generator: np.random.Generator
) -> tuple[dict[str, Tensor], Float[Tensor, "chains draws"]]:
    """Return the draws by name, (C, T, ...), and their log joint density in nats.

    The gauge is undone by a uniform rotation of every draw; a mean that was integrated out is drawn.
    """
    loadings, noise, mean = start.place.unpack(theta)
    wide = noise[..., None] if problem.isotropic else noise
    if mean is None:
        mean = draw_mean(problem, loadings, wide, generator)
    seed = int(generator.integers(2**63))
    turned = start.place.turned(loadings, torch.Generator().manual_seed(seed))
    draws = {"loadings": turned, "noise_variance": noise, "mean": mean} | hyper
    return draws, log_joint(problem, start, theta, draws)


def draw_mean(
    problem: Problem,
    loadings: Float[Tensor, "chains draws features latents"],
    noise: Float[Tensor, "chains draws #features"],
    generator: np.random.Generator,
) -> Float[Tensor, "chains draws features"]:
    """Draw the mean given each draw of loadings and noise; a fixed one is repeated."""
    if isinstance(problem.mean, Fixed):
        return problem.fixed_mean.expand(*loadings.shape[:3]).clone()
    data = problem.data
    assert isinstance(data, SufficientStatistics)  # the mean of rows with missing entries is a coordinate
    if isinstance(problem.mean, Flat):
        return draw_flat_mean(data.mean, data.count, loadings, noise, generator)
    location, precision = mean_law(problem)
    flat = draw_normal_mean(
        data.mean,
        data.count,
        loadings.flatten(0, 1),
        noise.flatten(0, 1),
        (location, 1 / precision),
        generator,
    )
    return flat.reshape(loadings.shape[:3])


def log_joint(
    problem: Problem, start: Start, theta: NDArray[np.float64], draws: State
) -> Float[Tensor, "chains draws"]:
    """Return log p(x, W, psi[, mean], hyperparameters) of every draw in nats, factors integrated out.

    So is a mean that was not sampled; a flat one leaves n - 1 rows.
    """
    place, target = start.place, start.target
    plain = target._replace(noise=np.zeros_like(target.noise), centre=np.zeros_like(target.centre))
    density = density_of(plain, np.zeros((place.columns, place.features)))
    flat = theta.reshape(-1, theta.shape[-1])
    values = np.array([density(one)[0] for one in flat])
    rows, _ = place.entries
    diagonal = np.flatnonzero(place.logarithmic)
    values -= flat[:, diagonal] @ (place.latents - rows[diagonal]).astype(float)
    values -= 0.5 * math.log(2 * math.pi) * float(target.counts @ target.masks.sum(1))
    value = torch.from_numpy(values).reshape(theta.shape[:2])
    return value + log_prior(problem, draws, place.sampled_mean)


def log_prior(problem: Problem, draws: State, sampled_mean: bool) -> Float[Tensor, "chains draws"]:
    """Return log p(W, psi[, mean], hyperparameters) of every draw in nats; the mean counts where it was sampled."""
    lead = draws["loadings"].shape[:2]
    hyper = {
        name: part.flatten(0, 1)
        for name, part in draws.items()
        if name not in ("loadings", "noise_variance", "mean")
    }
    value = problem.loadings.log_prob(hyper, draws["loadings"].flatten(0, 1)).reshape(lead)
    noise = problem.noise.log_prob(draws["noise_variance"])
    value = value + (noise if problem.isotropic else noise.sum(-1))
    if sampled_mean and isinstance(problem.mean, Normal):
        location, precision = mean_law(problem)
        law = torch.distributions.Normal(location, precision.rsqrt())
        value = value + law.log_prob(draws["mean"]).sum(-1)
    return value
