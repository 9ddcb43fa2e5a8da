"""Posterior means and intervals of loadings, communalities and noise, from draws in one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probae.factors.structure import Structure
from probae.factors.uncertainty import Parameters
from probae.inference import Fit
from probae.inference.identified_group import group_of_run, in_frame_of
from probae.inference.intervals import quantile_interval

__all__ = ["PosteriorLoadings", "has_draws", "posterior_loadings"]


@dataclass(frozen=True, eq=False)
class PosteriorLoadings:
    """Means and interval ends of every parameter, and what leaves the frame free."""

    mean: Parameters
    lower: Parameters
    upper: Parameters
    note: str


def has_draws(run: Any) -> bool:
    """Whether a fit has draws of its loadings."""
    return isinstance(run, Fit) and run.draws is not None and "loadings" in run.draws


def posterior_loadings(run: Fit, turned: Structure, standardized: bool, level: float) -> PosteriorLoadings:
    """Summarise the draws, aligned to the frame of the point model and turned as that was.

    Parameters
    ----------
    run : Fit
        With draws.
    turned : Structure
        The point model after a rotation, or as it is: every draw takes the same turn.
    standardized : bool
        Divide each draw by the standard deviations it implies, so that intervals are those of correlations.
    level : float
    """
    assert run.draws is not None
    group = group_of_run(run)
    draws = run.draws["loadings"].double()
    loadings = draws @ in_frame_of(run.model, draws, group)
    own = run.model.loadings.detach().double()
    communality = loadings.square().sum(-1)
    change = torch.linalg.lstsq(
        own, turned.loadings - own
    ).solution  # 0 where nothing was turned, of whatever rank
    loadings = loadings + loadings @ change
    noise = run.draws["noise_variance"].double()
    noise = noise.unsqueeze(-1).expand(communality.shape) if noise.dim() == 2 else noise
    if standardized:
        variance = communality + noise
        loadings, communality, noise = (
            loadings / variance.sqrt().unsqueeze(-1),
            communality / variance,
            noise / variance,
        )
    ends = [quantile_interval(values, level) for values in (loadings, noise, communality)]
    lower, upper = (_parameters(turned, *(pair[side] for pair in ends)) for side in (0, 1))
    mean = _parameters(turned, *(values.mean((0, 1)) for values in (loadings, noise, communality)))
    note = f"Posterior means in a frame of convention: {group.name} is free." if group.rotates else ""
    return PosteriorLoadings(mean, lower, upper, note)


def _parameters(turned: Structure, loadings: Tensor, noise: Tensor, communality: Tensor) -> Parameters:
    return Parameters(loadings, noise, turned.correlation, communality)
