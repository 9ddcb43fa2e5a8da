"""Where chains start: apart from each other, and not far from where they end."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gibbs.rows import Rows

LEAST, MOST = 0.15, 0.85  # share of each variance that is noise at the start


def start_noise(
    rows: Rows, chains: int, isotropic: bool, generator: np.random.Generator
) -> Float[Tensor, "chains width"]:
    """Draw the share of noise in each variance at random, (C, D); if isotropic, in the mean variance, (C, 1)."""
    variances = rows.squares / max(rows.count, 1)
    variances = variances.mean(-1, keepdim=True) if isotropic else variances
    variances = torch.where(variances > 0, variances, torch.ones_like(variances))
    share = generator.uniform(LEAST, MOST, (chains, variances.shape[-1]))
    return torch.from_numpy(share) * variances


def start_loadings(
    rows: Rows, noise: Float[Tensor, "chains #features"], latents: int, generator: np.random.Generator
) -> Float[Tensor, "chains features latents"]:
    """Take the best loadings given the noise variances (Lawley, 1940), each stretched at random, in random frames."""
    white = rows.root / noise[:, None].sqrt() / max(rows.count, 1) ** 0.5
    features = white.shape[-1]
    _, values, axes = torch.linalg.svd(white, full_matrices=False)
    kept = min(latents, values.shape[-1])
    loadings = torch.zeros(len(noise), features, latents, dtype=torch.float64)
    strength = (values[:, :kept].square() - 1.0).clamp_min(0.1).sqrt()
    loadings[..., :kept] = axes.mT[..., :kept] * strength[:, None] * noise.sqrt()[..., None]
    stretch = np.exp(0.3 * generator.standard_normal((len(noise), 1, latents)))
    small = 0.1 * generator.standard_normal(tuple(loadings.shape))  # moves factors that start at 0
    loadings = loadings * torch.from_numpy(stretch) + noise.sqrt()[..., None] * torch.from_numpy(small)
    frames, _ = torch.linalg.qr(torch.from_numpy(generator.standard_normal((len(noise), latents, latents))))
    return loadings @ frames
