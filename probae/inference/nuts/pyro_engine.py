r"""The density of W, psi and the mean by automatic differentiation, sampled by Pyro: the reference of other engines.

.. math:: -\tfrac12 \sum_g n_g \big[\log |2 \pi S_g| + \operatorname{tr} S_g^{-1} (C_g + (m_g - \mu)(m_g - \mu)')\big]

Nothing of it is shared with :mod:`probae.inference.nuts.collapsed`: W is itself a coordinate, rotation and all, and so
is a random mean.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from pyro.infer import NUTS as PyroNUTS
from torch import Tensor

from probae.checks import ParameterError
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.first import Start
from probae.inference.nuts.moments import Group, gaussian_log_likelihood, groups_of
from probae.inference.nuts.pyro_chain import FULL, run_chain
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.nuts.target import mean_law
from probae.inference.parameter_draws import Problem
from probae.parameter_priors import Fixed

__all__ = ["log_density", "sample"]


def log_density(
    problem: Problem,
    groups: list[Group],
    loadings: Float[Tensor, "features latents"],
    log_noise: Float[Tensor, "#features"],
    mean: Float[Tensor, " features"],
) -> Float[Tensor, ""]:
    """Return the log density of W, log psi and the mean in nats, differentiable."""
    noise = log_noise.exp()
    value = (
        problem.loadings.log_prob({}, loadings[None])[0] + (problem.noise.log_prob(noise) + log_noise).sum()
    )
    location, precision = mean_law(problem)
    normal = 0.5 * ((precision / (2 * torch.pi)).log() - precision * (mean - location).square())
    likelihood = gaussian_log_likelihood(groups, loadings, noise, mean)
    return likelihood + value + torch.where(precision > 0, normal, torch.zeros_like(normal)).sum()


def sample(problem: Problem, start: Start, method: Settings, generator: np.random.Generator) -> Sampled:
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
    groups = groups_of(problem.data)

    def density(theta: Tensor) -> Tensor:
        W, log_noise, mean = theta.split([features * latents, place.variances, features * (not fixed)])
        return log_density(
            problem, groups, W.reshape(features, latents), log_noise, problem.fixed_mean if fixed else mean
        )

    told, thetas = [], []
    for theta in start.jittered(method.chains, generator):
        loadings, noise, mean = start.place.unpack(theta)
        centre = groups[0].mean if mean is None and len(groups) == 1 else mean
        first = torch.from_numpy(place.pack(loadings, noise, centre))
        kernel = PyroNUTS(
            potential_fn=lambda values: -density(values["theta"]),
            target_accept_prob=method.target_acceptance,
            max_tree_depth=method.tree_depth,
            full_mass=len(first) <= FULL,
        )
        values, statistics = run_chain(kernel, method, {"theta": first})
        thetas.append(values["theta"])
        told.append(statistics)
    flat = torch.stack(thetas)
    loadings, noise, mean = place.unpack(flat.numpy())
    mean = problem.fixed_mean.expand(*flat.shape[:2], features).clone() if mean is None else mean
    draws = {"loadings": loadings, "noise_variance": noise, "mean": mean}
    statistics = {name: torch.stack([one[name] for one in told]) for name in told[0]}
    jacobian = noise.log() if problem.isotropic else noise.log().sum(-1)
    return draws, statistics | {"lp": statistics["lp"] - jacobian}, False
