"""Gibbs sampling of the parameters of factor analysis and probabilistic PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from probae.checks import Data, check_count
from probae.inference.base import Loop, Method, Outcome, few_threads
from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.record import finish
from probae.inference.parameter_draws import outcome_of, problem_of
from probae.models import LinearFactorModel
from probae.models.base import local_parameters
from probae.statistics import SufficientStatistics

BLOCK = 50  # sweeps between two looks at the keyboard


@dataclass(frozen=True)
class Gibbs(Method):
    draws: int = 1000
    warmup: int = 200
    chains: int = 4
    rotate: bool = True
    objective_name: ClassVar[str] = "log joint density of x and the parameters"
    accepts_statistics: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        check_count("warmup", self.warmup, minimum=0)
        check_count("chains", self.chains)

    @property
    def unit_free(self) -> bool:
        """False: the problem is put in units here, with its priors."""
        return False

    @local_parameters
    @torch.no_grad()
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Sample in place."""
        problem = problem_of(model, data, "Gibbs")
        generator = np.random.Generator(np.random.SFC64(seed))
        blocks: list[dict[str, Tensor]] = []
        with few_threads(self.chains * model.features * model.latents * model.features):
            chains = Chains(problem, self.chains, generator, turn=self.rotate)
            engine = engine_of(chains)
            with Loop("sampling") as loop:
                for first in loop.steps(-(-self.warmup // BLOCK)):
                    engine.sweeps(min(BLOCK, self.warmup - first * BLOCK))
                    engine.adapt()
                last = self.draws + 1  # the sweep after the last draw finds its likelihood
                for first in loop.steps(-(-last // BLOCK)):
                    blocks.append(engine.sweeps(min(BLOCK, last - first * BLOCK)))
            if not blocks:  # interrupted before: the next state is the one draw
                blocks.append(engine.sweeps(2))
            draws, stats = finish(blocks, chains, generator)
        return outcome_of(problem, draws, stats, interrupted=loop.interrupted)


def engine_of(chains: Chains) -> Any:
    """Return the compiled engine where it serves; numba is imported only then."""
    if not chains.compilable:
        return chains
    from probae.inference.gibbs.compiled_chains import CompiledChains

    return CompiledChains(chains)
