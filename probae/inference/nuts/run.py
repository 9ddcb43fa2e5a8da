"""A run by one of the engines; importing this compiles the density, or loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probae.inference.nuts import own
from probae.inference.nuts.diagnosis import warn_of_moves
from probae.inference.nuts.first import start_of
from probae.inference.nuts.own import Sampled
from probae.inference.nuts.sampler import Settings
from probae.inference.parameter_draws import Problem

if TYPE_CHECKING:
    from probae.inference.nuts.method import NUTS

__all__ = ["sample"]

ENGINES = {"probae": own.sample}


def sample(problem: Problem, method: NUTS, generator: np.random.Generator) -> Sampled:
    """Return draws and statistics, (C, T, ...) each, and whether Ctrl-C came; warn of moves that went wrong."""
    settings = Settings(
        method.draws, method.warmup, method.chains, float(method.target_acceptance), method.tree_depth
    )
    sampled = ENGINES[method.engine](problem, start_of(problem), settings, generator)
    warn_of_moves(sampled[1], method.tree_depth)
    return sampled
