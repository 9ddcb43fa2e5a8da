"""The draws of a run as they come, one after the other, and what is added to them at its end."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.group_move import random_frames
from probae.inference.gibbs.mean import draw_flat_mean


class Record:
    """Room for the draws of all chains.

    Attributes
    ----------
    complete : int
        Draws whose density is known too: the sweep after a draw finds it.
    """

    def __init__(self, size: int) -> None:
        self.size, self.complete = size, 0
        self.values: dict[str, Tensor] = {}

    def draw(self, chains: Chains) -> None:
        """Keep the present state."""
        state = {
            "loadings": chains.loadings,
            "noise_variance": chains.noise,
            "mean": chains.mean,
            "acceptance_rate": chains.acceptance,
            "lp": chains.log_joint,
        } | chains.hyper
        if not self.values:
            self.values = {name: value.new_empty((self.size, *value.shape)) for name, value in state.items()}
        for name, value in state.items():
            self.values[name][self.complete] = value

    def density(self, chains: Chains) -> None:
        """Keep the density of the last draw, which the sweep after it has found."""
        self.values["lp"][self.complete] = chains.log_joint
        self.complete += 1

    def finish(self, chains: Chains, generator: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return draws and statistics of the sampler, chains first.

        A flat mean that was integrated out is drawn here, and so is the random frame of every draw: neither has a
        part in the sweeps.
        """
        values = {name: value[: self.complete].transpose(0, 1).contiguous() for name, value in self.values.items()}
        stats = {name: values.pop(name) for name in ("lp", "acceptance_rate")}
        loadings, noise = values["loadings"], values["noise_variance"]
        if chains.mean_is_integrated:
            given = chains.centred.mean, chains.centred.count, loadings, noise
            values["mean"] = draw_flat_mean(*given, generator)
        if chains.turn and chains.prior.rotation_invariant:
            values["loadings"] = loadings @ random_frames(generator, tuple(loadings.shape[:2]), loadings.shape[-1])
        if chains.problem.isotropic:
            values["noise_variance"] = noise[..., 0]
        return values, stats
