"""The outcome of a run on a program: draws stay as they are, the point model takes their aligned mean."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.base import Outcome
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.gaussian import set_canonical
from probae.inference.hmc import HMCPosterior
from probae.inference.nuts.method import Sampled
from probae.inference.parameter_draws import check_mixing
from probae.matching import assign
from probae.models import LinearFactorModel

__all__ = ["program_outcome"]


def program_outcome(
    model: LinearFactorModel, random: LinearFactorModel, sampled: Sampled, rows: int
) -> Outcome:
    """Write the aligned mean into the model, and say how the chains have mixed."""
    draws, statistics, interrupted = sampled
    loadings, noise, mean = (draws[name].flatten(0, 1) for name in ("loadings", "noise_variance", "mean"))
    posterior: DrawsPosterior | HMCPosterior
    with torch.no_grad():
        if model.gaussian:
            wide = noise[:, None].expand(loadings.shape[:2]) if noise.dim() == 1 else noise
            set_canonical(model, turned(loadings, loadings[-1]).mean(0), wide.mean(0), mean.mean(0))
            aligned = turned(loadings, model.loadings.detach())
            model.loadings = aligned.mean(0)
            posterior = DrawsPosterior.of(aligned, wide, mean)
        else:
            model.loadings = permuted(loadings, loadings[-1]).mean(0)
            model.noise_variance, model.mean = noise.mean(0), mean.mean(0)
            posterior = HMCPosterior(model)
    return Outcome(
        posterior=posterior,
        history=(statistics["lp"].mean(0) / rows).tolist(),
        converged=check_mixing(draws),
        interrupted=interrupted,
        draws=draws,
        sample_stats=statistics,
        program=random,
    )


def turned(
    loadings: Float[Tensor, "draws features latents"], reference: Float[Tensor, "features latents"]
) -> Float[Tensor, "draws features latents"]:
    """Rotate each draw to the reference."""
    u, _, v = torch.linalg.svd(loadings.mT @ reference)
    return loadings @ (u @ v)


def permuted(
    loadings: Float[Tensor, "draws features latents"], reference: Float[Tensor, "features latents"]
) -> Float[Tensor, "draws features latents"]:
    """Reorder and flip the columns of each draw to match the reference."""
    found = []
    for draw in loadings:
        order, signs = assign((reference.mT @ draw).numpy())
        found.append(draw[:, torch.from_numpy(order)] * torch.from_numpy(signs))
    return torch.stack(found)
