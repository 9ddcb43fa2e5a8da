r"""The density of W, psi and the mean by automatic differentiation, sampled by Pyro: the reference of the other engines.

.. math:: -\tfrac12 \sum_g n_g \big[\log |2 \pi S_g| + \operatorname{tr} S_g^{-1} (C_g + (m_g - \mu)(m_g - \mu)')\big]

Nothing of it is shared with :mod:`probae.inference.nuts.collapsed`: W is itself a coordinate, rotation and all, and so
is a random mean.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from jaxtyping import Float
from pyro.infer import MCMC
from pyro.infer import NUTS as PyroNUTS
from torch import Tensor

from probae.checks import ParameterError
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.first import Start
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.nuts.target import mean_law
from probae.inference.parameter_draws import Problem
from probae.models.patterns import Patterns
from probae.parameter_priors import Fixed
from probae.statistics import SufficientStatistics

__all__ = ["log_density", "sample"]

FULL = 200  # coordinates up to which Pyro may adapt a dense metric


class Group(NamedTuple):
    """Rows that observe the same features: which, how many, their mean and the scatter about it."""

    observed: Tensor
    count: float
    mean: Tensor
    scatter: Tensor


def groups_of(problem: Problem) -> list[Group]:
    """Return the rows by what they observe."""
    data = problem.data
    if isinstance(data, SufficientStatistics):
        return [Group(torch.arange(data.features), data.count, data.mean, data.scatter)]
    patterns = Patterns.of(data.values.double())
    found = []
    for number, mask in enumerate(patterns.observed):
        seen = torch.nonzero(mask).flatten()
        root = patterns.roots[patterns.owner == number][:, seen]
        found.append(Group(seen, float(patterns.counts[number]), patterns.means[number][seen], root.mT @ root))
    return found


def log_density(
    problem: Problem,
    groups: list[Group],
    loadings: Float[Tensor, "features latents"],
    log_noise: Float[Tensor, "#features"],
    mean: Float[Tensor, " features"],
) -> Float[Tensor, ""]:
    """Return the log density of W, log psi and the mean in nats, differentiable."""
    noise = log_noise.exp()
    covariance = loadings @ loadings.mT + torch.diag(noise.expand(len(loadings)))
    value = problem.loadings.log_prob({}, loadings[None])[0] + (problem.noise.log_prob(noise) + log_noise).sum()
    for group in groups:
        seen = group.observed
        lower = torch.linalg.cholesky(covariance[seen][:, seen])
        apart = group.mean - mean[seen]
        second = group.scatter + group.count * torch.outer(apart, apart)
        log_det = 2 * lower.diagonal().log().sum() + len(seen) * math.log(2 * math.pi)
        value = value - 0.5 * (group.count * log_det + torch.cholesky_solve(second, lower).diagonal().sum())
    location, precision = mean_law(problem)
    normal = 0.5 * ((precision / (2 * math.pi)).log() - precision * (mean - location).square())
    return value + torch.where(precision > 0, normal, torch.zeros_like(normal)).sum()


def sample(problem: Problem, start: Start, settings: Settings, generator: np.random.Generator) -> Sampled:
    """Return draws and statistics, (C, T, ...) each, chain after chain.

    Raises
    ------
    ParameterError
        The prior of the loadings has hyperparameters.
    """
    features, latents = problem.model.features, problem.model.latents
    if problem.loadings.start(1, features, latents):
        raise ParameterError(
            f'engine="pyro" has no moves for the hyperparameters of {problem.loadings!r}: use NUTS() or Gibbs().'
        )
    fixed = isinstance(problem.mean, Fixed)
    place = Coordinates.raw(features, latents, isotropic=problem.isotropic, sampled_mean=not fixed)
    groups = groups_of(problem)

    def density(theta: Tensor) -> Tensor:
        W, log_noise, mean = theta.split([features * latents, place.variances, features * (not fixed)])
        return log_density(
            problem, groups, W.reshape(features, latents), log_noise, problem.fixed_mean if fixed else mean
        )

    told: list[dict[str, list[float]]] = []
    thetas = []
    for theta in start.jittered(settings.chains, generator):
        loadings, noise, mean = start.place.unpack(theta)
        centre = groups[0].mean if mean is None and len(groups) == 1 else mean
        first = torch.from_numpy(place.pack(loadings, noise, centre))
        thetas.append(_chain(density, first, settings, told))
    flat = torch.stack(thetas)
    loadings, noise, mean = place.unpack(flat.numpy())
    mean = problem.fixed_mean.expand(*flat.shape[:2], features).clone() if mean is None else mean
    draws = {"loadings": loadings, "noise_variance": noise, "mean": mean}
    statistics = {name: torch.tensor([one[name] for one in told], dtype=torch.float64) for name in told[0]}
    jacobian = noise.log() if problem.isotropic else noise.log().sum(-1)
    return draws, statistics | {"lp": statistics["lp"] - jacobian}, False


def _chain(density: Any, first: Tensor, settings: Settings, told: list[dict[str, list[float]]]) -> Tensor:
    """Run a chain and return its draws (T, size)."""
    found: dict[str, list[float]] = {"lp": [], "step_size": [], "acceptance_rate": []}

    def look(kernel: Any, values: Any, stage: str, step: int) -> None:
        if stage == "Sample":
            found["lp"].append(float(density(values["theta"])))
            found["step_size"].append(float(kernel.step_size))
            found["acceptance_rate"].append(float(kernel._mean_accept_prob))

    kernel = PyroNUTS(
        potential_fn=lambda values: -density(values["theta"]),
        target_accept_prob=settings.goal,
        max_tree_depth=settings.depths,
        full_mass=len(first) <= FULL,
    )
    run = MCMC(
        kernel,
        settings.draws,
        warmup_steps=settings.warmup,
        initial_params={"theta": first},
        hook_fn=look,
        disable_progbar=True,
    )
    with torch.enable_grad(), pyro.validation_enabled(False):
        run.run()
    diverged = set(run.diagnostics()["divergences"]["chain 0"])
    found["diverging"] = [float(step in diverged) for step in range(settings.draws)]
    told.append(found)
    return run.get_samples()["theta"].detach()
