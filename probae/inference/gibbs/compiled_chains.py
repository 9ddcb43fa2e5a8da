"""Chains of the common case, moved by the compiled sweep: blocks of random numbers in, blocks of draws out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.compiled_sweep import Given, Kept, Numbers, sweep_chains
from probae.inference.gibbs.rows import Rows
from probae.inference.gibbs.scores import bartlett, remainder
from probae.inference.gibbs.small_matrices import Array
from probae.parameter_priors import InverseGamma


def given_of(rows: Rows, variance: Tensor, noise: InverseGamma, isotropic: bool) -> Given:
    """Lay out what stays during a run; ``variance`` (D, 1) is that of the loadings of each feature."""
    features = rows.squares.shape[-1]
    root = rows.root.contiguous().numpy()
    scale = torch.as_tensor(noise.scale, dtype=torch.float64).expand(features)
    return Given(
        root,
        np.ascontiguousarray(root.T),
        rows.squares.contiguous().numpy(),
        float(rows.count),
        variance[..., 0].expand(features).contiguous().numpy(),
        noise.shape,
        scale.contiguous().numpy(),
        isotropic,
    )


def draw_numbers(
    generator: np.random.Generator, given: Given, lead: tuple[int, int], latents: int, width: float
) -> Numbers:
    """Draw what a block of sweeps of all chains needs; ``lead`` is (sweeps, chains)."""
    rank, features = given.root.shape
    terms, alone = (features, 0) if given.isotropic else (1, features)
    shape = given.shape + 0.5 * given.count * terms
    return Numbers(
        generator.standard_normal((*lead, latents, rank)),
        generator.standard_normal((*lead, latents, features)),
        remainder(generator, lead, latents, int(given.count) - rank).numpy(),
        generator.standard_gamma(shape, (*lead, features // terms)),
        bartlett(generator, np.full(lead, width + latents + 1.0), latents).numpy(),
        generator.random(lead),
        generator.uniform(1e-16, 1.0, (*lead, alone, 2)),
    )


def first_width(given: Given, loadings: Array) -> float:
    """Return the width of the move's proposal that would fit if Z'Z were n I; ``loadings`` is W' (C, K, D)."""
    latents, features = loadings.shape[1:]
    values = np.linalg.eigvalsh((loadings / given.variance) @ loadings.swapaxes(-2, -1))
    freedom = given.count - features - latents - 1.0
    return float(np.sqrt(freedom**2 + 4.0 * given.count * values.clip(0.0)).mean())


class CompiledChains:
    """The state of `Chains`, swept in blocks by compiled code."""

    def __init__(self, chains: Chains) -> None:
        self.chains = chains
        noise = chains.noise_prior
        assert isinstance(noise, InverseGamma)
        self.given = given_of(chains.rows, chains.prior.variance({}), noise, chains.problem.isotropic)
        self.loadings = chains.loadings.mT.contiguous().numpy()
        self.noise = chains.noise.expand(chains.loadings.shape[:-1]).contiguous().numpy()
        self.width = first_width(self.given, self.loadings)

    def adapt(self) -> None:
        """Fit the width of the move's proposal to the last block; not once draws count, or they would not be exact."""
        self.width = float(self.last.width.mean())

    def sweeps(self, count: int) -> dict[str, Tensor]:
        """Sweep ``count`` times; return every state, (count, C, ...)."""
        chains, latents, features = self.loadings.shape
        self.last = kept = Kept(
            np.empty((count, chains, latents, features)),
            np.empty((count, chains, features)),
            *np.empty((3, count, chains)),
        )
        numbers = draw_numbers(self.chains.generator, self.given, (count, chains), latents, self.width)
        sweep_chains(self.given, self.loadings, self.noise, self.width, numbers, kept)
        return {
            "loadings": torch.from_numpy(kept.loadings).mT,
            "noise_variance": torch.from_numpy(kept.noise[..., :1] if self.given.isotropic else kept.noise),
            "mean": self.chains.mean.expand(count, -1, -1),
            "likelihood": torch.from_numpy(kept.likelihood),
            "acceptance_rate": torch.from_numpy(kept.acceptance),
        }
