"""What is made of the states of a run at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.group_move import random_frames
from probae.inference.gibbs.mean import draw_flat_mean
from probae.parameter_priors import Normal

Named = dict[str, Tensor]


def finish(blocks: Sequence[Named], chains: Chains, generator: np.random.Generator) -> tuple[Named, Named]:
    """Return draws and statistics of the sampler, chains first; of the last state only the likelihood is not known.

    A flat mean that was integrated out is drawn here, and so is the random frame of every draw: neither has a part in
    the sweeps.
    """
    joined = {name: torch.cat([block[name] for block in blocks]).transpose(0, 1) for name in blocks[0]}
    likelihood = joined.pop("likelihood")[:, 1:]  # each was found by the sweep after
    values = {name: value[:, :-1].contiguous() for name, value in joined.items()}
    stats = {"lp": likelihood + log_prior(values, chains), "acceptance_rate": values.pop("acceptance_rate")}
    loadings, noise = values["loadings"], values["noise_variance"]
    if chains.mean_is_integrated:
        values["mean"] = draw_flat_mean(chains.centred.mean, chains.centred.count, loadings, noise, generator)
    if chains.turn and chains.prior.rotation_invariant:
        values["loadings"] = loadings @ random_frames(generator, loadings.shape[:2], loadings.shape[-1])
    if chains.problem.isotropic:
        values["noise_variance"] = noise[..., 0]
    return values, stats


def log_prior(values: Named, chains: Chains) -> Float[Tensor, "chains draws"]:
    """Return the log density of the parameters of each draw."""
    flat = {name: value.flatten(0, 1) for name, value in values.items()}
    loadings, noise, mean = (flat.pop(name) for name in ("loadings", "noise_variance", "mean"))
    density = chains.prior.log_prob(flat, loadings) + chains.noise_prior.log_prob(noise).sum(-1)
    law = chains.problem.mean
    if isinstance(law, Normal):
        location, variance = law.moments
        density = density + torch.distributions.Normal(location, variance.sqrt()).log_prob(mean).sum(-1)
    return density.unflatten(0, values["mean"].shape[:2])
