r"""Any priors that Pyro can hold, by Pyro's own no-U-turn sampler on the model's program.

With Gaussian factors z is integrated out of the program, whose site x becomes a factor of the moments; with others the
sampler moves z of every row as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.infer import NUTS as PyroNUTS
from pyro.infer.autoguide import init_to_median, init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor

from probae.checks import Data, ProbaeWarning, warn
from probae.inference.nuts.moments import gaussian_log_likelihood, groups_of
from probae.inference.nuts.pyro_chain import FULL, run_chain
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.nuts.start import first_parameters, moments_of
from probae.inference.parameter_draws import units_of
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.parameter_priors import Fixed, Flat
from probae.statistics import SufficientStatistics

__all__ = ["random_model", "sample_program"]

WIDE = 10.0  # standard deviations of x: of the normal law in place of a flat mean, which no program can draw
JITTER = 0.1  # of first loadings, in standard deviations of x
SHORT, LONG = 2**3 - 1, 2**7 - 1  # gradients in a move: of an easy law and of a hard one


def random_model(
    model: LinearFactorModel, mean: Float[Tensor, " features"], spread: Float[Tensor, " features"]
) -> LinearFactorModel:
    """Return the program in which every parameter is random: with its own prior, or the default one in units of x."""
    unit = spread if model.noise == "diagonal" else spread[0]
    laws: dict[str, Any] = {
        "loadings": dist.Normal(torch.zeros_like(spread)[:, None], spread[:, None]),
        "noise_variance": dist.InverseGamma(torch.full_like(unit, 2.0), 0.5 * unit.square()),
        "mean": dist.Normal(mean, WIDE * spread),
    }
    laws |= {name: law for name, law in model.parameter_priors.items() if not isinstance(law, Flat)}
    if isinstance(laws["mean"], Fixed):
        laws.pop("mean")
    return model.with_priors(**laws)


def collapsed_program(random: LinearFactorModel, data: Data | SufficientStatistics) -> Callable[[], None]:
    """Return the program with z integrated out of it."""
    groups = groups_of(data)

    @local_parameters
    def program() -> None:
        with random._pyro_context:  # in it a parameter is drawn once
            parts = (random.loadings, random.noise_variance, random.mean)
        loadings, noise, mean = (part.double() for part in parts)  # laws of float32 numbers draw such
        pyro.factor("x", gaussian_log_likelihood(groups, loadings, noise, mean))

    return program


def sample_program(
    model: LinearFactorModel, data: Data | SufficientStatistics, method: Settings
) -> tuple[LinearFactorModel, Sampled]:
    """Return the random model, and draws and statistics of every parameter, (C, T, ...) each, in units of x.

    Warns
    -----
    ProbaeWarning
        What it costs, before it starts.
    """
    mean, covariance = moments_of(data)
    spread = units_of(model, data)
    random = random_model(model, mean, spread)
    collapsed = model.gaussian and model.noise in ("diagonal", "isotropic")
    rows = None if isinstance(data, SufficientStatistics) else data.values.double()
    program: Any = collapsed_program(random, data) if collapsed else lambda: random(rows)
    loadings, noise = first_parameters(covariance / torch.outer(spread, spread), model.latents)
    noise = noise * spread.square()
    found = []
    for chain in range(method.chains):
        jittered = (loadings + JITTER * torch.randn_like(loadings)) * spread[:, None]
        first = {"loadings": jittered, "noise_variance": noise if model.noise == "diagonal" else noise.mean()}
        strategy = init_to_value(values=first | {"mean": mean}, fallback=init_to_median)
        if chain == 0:
            size = _announce(program, strategy, method, collapsed)
        kernel = PyroNUTS(
            program,
            target_accept_prob=method.target_acceptance,
            max_tree_depth=method.tree_depth,
            init_strategy=strategy,
            full_mass=size <= FULL,
        )
        found.append(run_chain(kernel, method))
    draws = {
        name: torch.stack([values[name].double() for values, _ in found]) for name in random.random_parameters
    }
    statistics = {name: torch.stack([told[name] for _, told in found]) for name in found[0][1]}
    if "mean" not in draws:
        fixed = model.mean.detach().double()
        draws["mean"] = fixed.expand(*draws["loadings"].shape[:2], len(fixed)).clone()
    return random, (draws, statistics, False)


def _announce(program: Any, strategy: Any, method: Settings, collapsed: bool) -> int:
    """Say how many coordinates are sampled and how long that takes; return their number."""
    with torch.enable_grad(), pyro.validation_enabled(False):
        first, potential, *_ = initialize_model(program, init_strategy=strategy)
        size = sum(value.numel() for value in first.values())
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            values = {name: value.detach().requires_grad_() for name, value in first.items()}
            torch.autograd.grad(potential(values), list(values.values()))
            seconds.append(time.perf_counter() - begin)
    moves = method.chains * (method.warmup + method.draws)
    low, high = (moves * count * float(np.median(seconds)) / 60 for count in (SHORT, LONG))
    what = "the factors integrated out" if collapsed else "the factors of every row among them"
    warn(
        f"NUTS has no compiled density for these priors: Pyro's sampler moves {size} coordinates, {what}, at "
        f"{1e3 * np.median(seconds):.1f} ms a gradient: {moves} moves take about {low:.1f} to {high:.0f} minutes. "
        "Laws of probae.parameter_priors with Gaussian factors take seconds.",
        ProbaeWarning,
    )
    return size
