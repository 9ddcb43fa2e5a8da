"""Parameters and scales of the factors sampled by probae's own compiled engine, factors integrated out."""

from __future__ import annotations

import math

import numpy as np
import scipy.special
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import Data
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.hyperparameters import Hyperparameters
from probae.inference.nuts.kernel import Target
from probae.inference.nuts.record import log_prior
from probae.inference.nuts.sampler import Chains, run
from probae.inference.nuts.scale_laws import scale_laws
from probae.inference.nuts.scale_start import first_covariance, first_theta
from probae.inference.nuts.scales import scale_log_density
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.nuts.start import Density, jitter
from probae.inference.nuts.target import mean_law, needs_mean, noise_coefficients, precision_of
from probae.inference.parameter_density import check_noise
from probae.inference.parameter_draws import Problem
from probae.parameter_priors import Fixed
from probae.parameter_priors.base import State

__all__ = ["density_of", "place_of", "sample", "target_of"]


def target_of(problem: Problem) -> Target:
    """Return what the density reads: the rows about their mean, which stands in `means`."""
    features, latents = problem.model.features, problem.model.latents
    assert isinstance(problem.data, Data)
    check_noise(problem)
    x = problem.data.values.double()
    location, precision = mean_law(problem)
    fixed = isinstance(problem.mean, Fixed)
    flags = (0, problem.isotropic, needs_mean(problem), 0)
    laws = scale_laws(problem.model.prior, latents)
    assert laws is not None
    empty = np.zeros((0, features))
    return Target(
        np.array([features, latents, latents, *flags], dtype=np.int64),
        np.ascontiguousarray(noise_coefficients(problem.noise, features).numpy()),
        torch.stack([problem.fixed_mean if fixed else location, precision]).numpy(),
        np.array([len(x)], dtype=np.float64),
        empty,
        empty,
        np.ascontiguousarray(x.mean(0, keepdim=True).numpy()),
        np.array([0, len(x)], dtype=np.int64),
        np.ascontiguousarray((x - x.mean(0)).numpy()),
        np.zeros((0, 0)),
        laws,
    )


def density_of(target: Target, precision: NDArray[np.float64]) -> Density:
    """Return the log density and its gradient as a function of theta."""

    def density(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        gradient = np.empty(len(theta))
        return scale_log_density(np.ascontiguousarray(theta), gradient, precision, target), gradient

    return density


def place_of(problem: Problem) -> Coordinates:
    """Return where the parameters stand in theta; w of every row and factor follows them."""
    return Coordinates.raw(
        problem.model.features,
        problem.model.latents,
        isotropic=problem.isotropic,
        sampled_mean=needs_mean(problem),
    )


def chains_of(problem: Problem, count: int, generator: np.random.Generator) -> tuple[Chains, Hyperparameters]:
    """Return chains at their start: parameters spread by what the density's curvature implies, scales drawn for them.

    All of them start near one of the modes that signed permutations of the factors make of each other.
    """
    place, target = place_of(problem), target_of(problem)
    features, latents = problem.model.features, problem.model.latents
    ones = precision_of(torch.ones(1, features, latents, dtype=torch.float64), 1, place)[0]
    starts = first_theta(problem, place, target.laws, count, int(generator.integers(2**31)))
    covariance = first_covariance(density_of(target, ones), starts[0], place.size, target.laws)
    theta = starts.copy()
    theta[:, : place.size] += jitter(covariance.first, count, generator)
    hyper = Hyperparameters.first(problem, place, place.unpack(theta)[0])
    chains = Chains(
        scale_log_density,
        target,
        theta,
        hyper.precision(count),
        covariance,
        generator,
        hyper.refresh if hyper.state else None,
    )
    return chains, hyper


def sample(problem: Problem, method: Settings, generator: np.random.Generator) -> Sampled:
    """Return draws and statistics, (C, T, ...) each, and whether Ctrl-C came."""
    chains, hyper = chains_of(problem, method.chains, generator)
    result = run(chains, method)
    loadings, noise, mean = hyper.place.unpack(result.theta)
    mean = problem.fixed_mean.expand(*loadings.shape[:3]).clone() if mean is None else mean
    draws = {"loadings": loadings, "noise_variance": noise, "mean": mean}
    draws |= hyper.kept(method.warmup, result.theta.shape[1])
    statistics = {name: torch.from_numpy(values) for name, values in result.statistics.items()}
    statistics["lp"] = log_joint(problem, chains.target, result.theta, draws)
    return draws, statistics, result.interrupted


def log_joint(
    problem: Problem, target: Target, theta: NDArray[np.float64], draws: State
) -> Float[Tensor, "chains draws"]:
    """Return log p(x, W, psi, w[, mean], hyperparameters) of every draw in nats; a flat mean adds nothing."""
    features, latents = problem.model.features, problem.model.latents
    centre = np.stack([target.centre[0], np.zeros(features)])
    plain = target._replace(noise=np.zeros_like(target.noise), centre=centre)
    density = density_of(plain, np.zeros((latents, features)))
    values = np.array([density(one)[0] for one in theta.reshape(-1, theta.shape[-1])])
    rows = float(target.counts[0])
    values -= rows * (0.5 * features * math.log(2 * math.pi) + scipy.special.gammaln(target.laws[0]).sum())
    value = torch.from_numpy(values).reshape(theta.shape[:2])
    return value + log_prior(problem, draws, needs_mean(problem))
