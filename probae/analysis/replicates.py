"""Data sets like x simulated from a fit: one for each of some draws of the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.analysis.draws_likelihood import flat_parameters
from probae.inference import Fit
from probae.models import LatentModel, LinearFactorModel

SIMULATED = 10_000  # rows that stand for the covariance of a model without a closed form of it


@dataclass(frozen=True, eq=False)
class Replicate:
    """A data set simulated from one draw of the parameters, and the covariance of x under that draw."""

    x: Float[Tensor, "samples features"]
    covariance: Float[Tensor, "features features"]


def posterior_replicates(
    run: Fit, like: Float[Tensor, "samples features"], sets: int, generator: torch.Generator
) -> Iterator[Replicate]:
    """Simulate from draws spread evenly over the chains, or again and again from the fitted model without draws.

    Entries that are missing in ``like`` are missing in all sets.
    """
    absent = like.isnan()
    named = {name: run.draws[name] for name in run.model.parameter_names if run.draws and name in run.draws}
    if not named:
        yield from _of_one_model(run.model, absent, sets, generator)
        return
    _, loadings, noise, mean = flat_parameters(run.model, named)
    for draw in spread(len(mean), sets):
        W, psi, mu = loadings[draw], noise[draw], mean[draw]
        x = mu + _latents(run.model, len(like), generator) @ W.mT
        x = x + psi.sqrt() * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        yield Replicate(x.masked_fill(absent, torch.nan), linear_covariance(run.model, W, psi))


def spread(count: int, sets: int) -> list[int]:
    """Return which of so many draws make so many sets: evenly spread, and again from the first if they are fewer.

    Examples
    --------
    >>> spread(10, 3), spread(2, 4)
    ([0, 3, 6], [0, 1, 0, 1])
    """
    if count < sets:
        return [place % count for place in range(sets)]
    return [place * count // sets for place in range(sets)]
