"""A run by one of the engines; importing this compiles the density, or loads it."""

from __future__ import annotations

import numpy as np

from probae.checks import ParameterError
from probae.inference.nuts import nutpie_engine, own, pyro_engine, scale_mixture
from probae.inference.nuts.diagnosis import warn_of_moves
from probae.inference.nuts.first import start_of
from probae.inference.nuts.settings import Sampled, Settings
from probae.inference.parameter_draws import Problem

__all__ = ["sample"]

ENGINES = {"probae": own.sample, "nutpie": nutpie_engine.sample, "pyro": pyro_engine.sample}


def sample(problem: Problem, method: Settings, generator: np.random.Generator) -> Sampled:
    """Return draws and statistics, (C, T, ...) each, and whether Ctrl-C came; warn of moves that went wrong.

    Raises
    ------
    ParameterError
        Factors that are not Gaussian for nutpie.
    """
    if problem.model.gaussian:
        sampled = ENGINES[method.engine](problem, start_of(problem), method, generator)
    elif method.engine == "nutpie":
        raise ParameterError(
            f'engine="nutpie" takes Gaussian factors, got {problem.model.prior!r} ones: use NUTS().'
        )
    else:
        sampled = scale_mixture.sample(problem, method, generator)
    draws, statistics, interrupted = sampled
    statistics["diverging"] = statistics["diverging"] > 0
    for name in ("tree_depth", "n_steps"):
        if name in statistics:
            statistics[name] = statistics[name].long()
    warn_of_moves(statistics, method.tree_depth)
    return draws, statistics, interrupted
