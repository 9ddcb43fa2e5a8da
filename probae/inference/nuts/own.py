"""The collapsed density sampled by probae's own compiled engine."""

from __future__ import annotations

import numpy as np
import torch

from probae.inference.nuts.collapsed import collapsed_log_density
from probae.inference.nuts.first import Start
from probae.inference.nuts.hyperparameters import Hyperparameters
from probae.inference.nuts.record import parameters_of
from probae.inference.nuts.sampler import Chains, run
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.parameter_draws import Problem

__all__ = ["sample"]


def sample(problem: Problem, start: Start, method: Settings, generator: np.random.Generator) -> Sampled:
    """Return draws and statistics, (C, T, ...) each, and whether Ctrl-C came."""
    theta = start.jittered(method.chains, generator)
    hyper = Hyperparameters.first(problem, start.place, start.place.unpack(theta)[0])
    chains = Chains(
        collapsed_log_density,
        start.target,
        theta,
        hyper.precision(method.chains),
        start.covariance,
        generator,
        hyper.refresh if hyper.state else None,
    )
    result = run(chains, method)
    draws, log_joint = parameters_of(
        problem, start, result.theta, hyper.kept(method.warmup, result.theta.shape[1]), generator
    )
    statistics = {name: torch.from_numpy(values) for name, values in result.statistics.items()}
    return draws, statistics | {"lp": log_joint}, result.interrupted
