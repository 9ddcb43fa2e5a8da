r"""Annealing from the Gaussian reference to the posterior, along p_beta(z) ~ N(z; m, Sigma) r(z)^beta.

Temperatures and steps are chosen on a pilot run and then frozen, so that the weights of the run itself stay unbiased:

    forward    E prod_t r(z_t)^(b_{t+1} - b_t) = p(x) / N(x; mu, W V W' + Psi)      z_0 ~ N(m, Sigma)
    reverse    E prod_t r(z_t)^(b_t - b_{t+1}) = its inverse                        z_T ~ p(z | x)

(Neal, 2001; Grosse, Ghahramani & Adams, 2015.) Temperatures are spaced evenly in the length of the path,
int sd_beta(log r) d beta, which costs the least for a given number of them (Gelman & Meng, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.hamiltonian import FIRST_STEP, Chains, adapted, start, transition
from probae.inference.reference import Reference

__all__ = ["Path"]

PILOT_CHAINS = 6
GAIN = 0.5  # of the step in the pilot, which has one move at each temperature


@dataclass(frozen=True, eq=False)
class Path:
    """Temperatures of all rows, and how the chains of each row move at each of them.

    Attributes
    ----------
    betas : Tensor (T + 1,)
        From 0 to 1.
    steps : Tensor (T, N)
        Step of the moves at ``betas[1:]``.
    leapfrogs : int
    """

    betas: Float[Tensor, " temperatures"]
    steps: Float[Tensor, "moves samples"]
    leapfrogs: int

    @classmethod
    def pilot(cls, reference: Reference, count: int, leapfrogs: int, generator: torch.Generator) -> Path:
        """Walk a quarter of the way's temperatures once, and note steps and the spread of log r."""
        grid = torch.linspace(0.0, 1.0, max(count // 4, 8) + 1, dtype=torch.float64)
        chains = start(reference, reference.draw(PILOT_CHAINS, generator))
        step = torch.full((len(reference.centre),), FIRST_STEP, dtype=torch.float64)
        steps, speed = [], [_spread(chains)]
        for beta in grid[1:].tolist():
            chains, acceptance = transition(reference, chains, beta, step, leapfrogs, generator)
            step = adapted(step, acceptance, GAIN)
            steps.append(step)
            speed.append(_spread(chains))
        betas = _even(grid.numpy(), np.array(speed), count)
        return cls(torch.from_numpy(betas), _interpolate(grid[1:], torch.stack(steps), betas[1:]), leapfrogs)

    def forward(
        self, reference: Reference, count: int, generator: torch.Generator
    ) -> Float[Tensor, "samples chains"]:
        """Log weights of chains from the reference to the posterior."""
        chains = start(reference, reference.draw(count, generator))
        weights = torch.zeros_like(chains.log_ratio)
        betas = self.betas.tolist()
        for number, step in enumerate(self.steps):
            before, after = betas[number : number + 2]
            weights += (after - before) * chains.log_ratio
            if number + 1 < len(self.steps):  # the last weight is complete before the last move
                chains, _ = transition(reference, chains, after, step, self.leapfrogs, generator)
        return weights

    def reverse(
        self,
        reference: Reference,
        z: Float[Tensor, "samples chains latents"],
        generator: torch.Generator,
    ) -> Float[Tensor, "samples chains"]:
        """Log weights of chains from draws of the posterior to the reference: those of `forward` with another sign."""
        chains = start(reference, z)
        weights = torch.zeros_like(chains.log_ratio)
        betas = self.betas.tolist()
        for number in reversed(range(len(self.steps))):
            before, after = betas[number : number + 2]
            if number + 1 < len(self.steps):
                chains, _ = transition(
                    reference, chains, after, self.steps[number], self.leapfrogs, generator
                )
            weights -= (after - before) * chains.log_ratio
        return weights


def _spread(chains: Chains) -> float:
    """Root mean square over rows of the standard deviation of log r."""
    variance = chains.log_ratio.var(1)
    return float(variance[variance.isfinite()].mean().nan_to_num(nan=1.0).sqrt())


def _even(grid: np.ndarray, speed: np.ndarray, count: int) -> np.ndarray:
    """Return count + 1 temperatures evenly spaced in the length of the path."""
    speed = np.maximum(speed, 0.05 * speed.max() + 1e-12)  # few chains may happen to agree
    length = np.r_[0.0, np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(grid))]
    betas = np.interp(np.linspace(0.0, length[-1], count + 1), length, grid)
    betas[-1] = 1.0
    return betas


def _interpolate(grid: Tensor, values: Tensor, points: np.ndarray) -> Float[Tensor, "moves samples"]:
    """Interpolate steps of each row between the temperatures of the pilot, the first one held below them."""
    place = torch.from_numpy(np.interp(points, grid.numpy(), np.arange(len(grid), dtype=float)))
    low = place.floor().long().clamp(max=max(len(grid) - 2, 0))
    share = (place - low).unsqueeze(1)
    return (1 - share) * values[low] + share * values[(low + 1).clamp(max=len(grid) - 1)]
