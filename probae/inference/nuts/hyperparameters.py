"""Hyperparameters of the loadings, drawn exactly between the moves of everything else."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.target import precision_of
from probae.inference.parameter_draws import Problem
from probae.parameter_priors.base import State

__all__ = ["Hyperparameters"]

UPDATES = 5  # of hyperparameters given first loadings, to forget what the prior drew


@dataclass(eq=False)
class Hyperparameters:
    """Hyperparameters of all chains, drawn given the loadings between moves; the past ones are kept.

    Attributes
    ----------
    problem : Problem
    place : Coordinates
    state : dict
        By site name, (C, ...).
    past : list of dict
        One state for each move.
    """

    problem: Problem
    place: Coordinates
    state: State
    past: list[State] = field(default_factory=list)

    @classmethod
    def first(
        cls, problem: Problem, place: Coordinates, loadings: Float[Tensor, "chains features latents"]
    ) -> Hyperparameters:
        """Draw them from the prior, then given first loadings."""
        state = problem.loadings.start(*loadings.shape)
        for _ in range(UPDATES):
            state = problem.loadings.update(state, loadings)
        return cls(problem, place, state)

    def precision(self, chains: int) -> NDArray[np.float64]:
        """Return the precisions (C, K, D) of the loadings."""
        return precision_of(self.problem.loadings.variance(self.state), chains, self.place)

    def refresh(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draw them given theta (C, size), and return the precisions."""
        self.state = self.problem.loadings.update(self.state, self.place.unpack(theta)[0])
        self.past.append(self.state)
        return self.precision(len(theta))

    def kept(self, first: int, draws: int) -> State:
        """Return so many from the first on, (C, T, ...)."""
        past = self.past[first : first + draws]
        return {name: torch.stack([state[name] for state in past], 1) for name in self.state}
