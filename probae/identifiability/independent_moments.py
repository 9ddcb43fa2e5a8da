r"""Moments of scores y = z + N(0, v) one by one, in closed form of the information of each law with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.priors import Prior
from probae.priors.information import SMOOTHING, spread_of

__all__ = ["IndependentMoments", "independent_moments"]


@dataclass(frozen=True, eq=False)
class IndependentMoments:
    """Of scores y = z + N(0, v) one by one: E s^2, E m^2 and E[s m], with s = E[psi(z) | y] and m = E[z | y]."""

    score: Float[Tensor, " latents"]
    mean: Float[Tensor, " latents"]
    both: Float[Tensor, " latents"]


def independent_moments(laws: list[Prior], variances: list[float]) -> IndependentMoments:
    """Return the moments: E s^2 is the information of the noisy law, m = y - v s and E[y s] = 1 give the others.

    Examples
    --------
    >>> from probae import priors
    >>> found = independent_moments([priors.Gaussian()], [1.0])     # s = m = y / 2, of variance 1 / 2
    >>> [round(float(value), 9) for value in (found.score, found.mean, found.both)]
    [0.5, 0.5, 0.5]
    """
    known: dict[tuple[str, float], float] = {}
    score = []
    for law, v in zip(laws, variances, strict=True):
        key = (repr(law), v)
        if key not in known:
            known[key] = _score_square(law, v)
        score.append(known[key])
    s, v = torch.tensor([score, variances], dtype=torch.float64)
    size = torch.tensor([spread_of(law) for law in laws], dtype=torch.float64)
    return IndependentMoments(s, size.square() - v + v.square() * s, 1 - v * s)


def _score_square(law: Prior, variance: float) -> float:
    """Return E s^2; a law without finite information is smoothed."""
    if variance <= 0:
        kappa = law.fisher_information()
        if math.isfinite(kappa):
            return kappa
        variance = SMOOTHING * spread_of(law) ** 2
    return law.noisy_fisher_information(variance) / (spread_of(law) ** 2 + variance)
