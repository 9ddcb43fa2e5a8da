"""Gibbs sampling of the parameters of factor analysis and probabilistic PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from probae.checks import Data, check_count
from probae.inference.base import Loop, Method, Outcome, few_threads
from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.record import Record
from probae.inference.parameter_draws import outcome_of, problem_of
from probae.models import LinearFactorModel
from probae.models.base import local_parameters
from probae.statistics import SufficientStatistics


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
        record = Record(self.draws)
        with few_threads(self.chains * model.features * model.latents * model.features):
            chains = Chains(problem, self.chains, generator, turn=self.rotate)
            with Loop("sampling") as loop:
                for step in loop.steps(self.warmup + self.draws + 1):  # the last finds the density of the last draw
                    chains.sweep()
                    if step > self.warmup:
                        record.density(chains)
                    if step >= self.warmup and record.complete < self.draws:
                        record.draw(chains)
            if not record.complete:  # interrupted before the first: the present state is the one draw
                record.draw(chains)
                chains.sweep()
                record.density(chains)
            draws, stats = record.finish(chains, generator)
        return outcome_of(problem, draws, stats, interrupted=loop.interrupted)
