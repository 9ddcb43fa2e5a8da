"""The no-U-turn sampler on the density of the parameters with the factors integrated out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from probae.checks import Data, ParameterError, check_choice, check_count
from probae.inference.base import Method, Outcome
from probae.inference.parameter_draws import outcome_of, problem_of
from probae.models import LinearFactorModel
from probae.models.base import local_parameters
from probae.statistics import SufficientStatistics

__all__ = ["NUTS"]

ENGINES = ("probae", "nutpie", "pyro")


@dataclass(frozen=True)
class NUTS(Method):
    draws: int = 1000
    warmup: int = 400
    chains: int = 4
    target_acceptance: float = 0.8
    tree_depth: int = 10
    engine: str = "probae"
    objective_name: ClassVar[str] = "log joint density of x and the parameters"
    accepts_statistics: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        check_count("warmup", self.warmup, minimum=0)
        check_count("chains", self.chains)
        check_count("tree_depth", self.tree_depth)
        check_choice("engine", self.engine, ENGINES)
        goal = self.target_acceptance
        if not isinstance(goal, int | float) or isinstance(goal, bool) or not 0 < goal < 1:
            raise ParameterError(f"target_acceptance should be a number between 0 and 1, got {goal!r}.")

    @property
    def unit_free(self) -> bool:
        """False: the problem is put in units here, with its priors."""
        return False

    @local_parameters
    @torch.no_grad()
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Sample in place."""
        from probae.inference.nuts.run import sample  # compiled when it is first imported

        problem = problem_of(model, data, "NUTS")
        generator = np.random.default_rng(seed)
        draws, statistics, interrupted = sample(problem, self, generator)
        return outcome_of(problem, draws, statistics, interrupted=interrupted)
