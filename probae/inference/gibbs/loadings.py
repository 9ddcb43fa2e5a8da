r"""The draw of the loadings given the scores: rows of W are independent,

.. math:: w_d \sim N(P_d^{-1} Z'x_d / \psi_d, P_d^{-1}), \quad P_d = Z'Z / \psi_d + \mathrm{diag}(1 / v_d).

Where the variances v_d are equal over factors, one eigendecomposition of Z'Z makes all P_d diagonal.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gibbs.scores import Scores, normals


def draw_loadings_by_axes(
    scores: Scores,
    noise: Float[Tensor, "chains #features"],
    variance: Tensor,
    generator: np.random.Generator,
) -> tuple[Float[Tensor, "chains features latents"], Scores, Float[Tensor, "chains latents latents"]]:
    """Draw W for variances that are equal over factors, (..., D, 1).

    Returns
    -------
    loadings, scores : W U and the moments of Z U, in the axes U of Z'Z
    axes : U (chains, K, K)
    """
    values, axes = torch.linalg.eigh(scores.square)
    values = values.clamp_min(0.0)
    cross = axes.mT @ scores.cross
    spread = (values[:, None] / noise[..., None] + 1.0 / variance).rsqrt()
    # rows that share noise and variance share the spread, but never its normals: those have the shape of W
    loadings = (cross.mT / noise[..., None] * spread + normals(generator, cross.mT.shape)) * spread
    return loadings, Scores(torch.diag_embed(values), cross), axes


def draw_loadings(
    scores: Scores,
    noise: Float[Tensor, "chains #features"],
    variance: Tensor,
    generator: np.random.Generator,
) -> Float[Tensor, "chains features latents"]:
    """Draw W for any variances that broadcast to (chains, D, K)."""
    latents, features = scores.cross.shape[-2:]
    noise = noise[..., None]
    precision = (scores.square[:, None] / noise[..., None]).expand(-1, features, -1, -1)
    prior = (1.0 / variance).expand(len(precision), features, latents)
    lower = torch.linalg.cholesky(precision + torch.diag_embed(prior))
    inner = torch.linalg.solve_triangular(lower, (scores.cross.mT / noise)[..., None], upper=False)
    inner = inner + normals(generator, inner.shape)
    return torch.linalg.solve_triangular(lower.mT, inner, upper=True)[..., 0]


def residual_squares(
    loadings: Float[Tensor, "chains features latents"],
    scores: Scores,
    squares: Float[Tensor, "*chains features"],
) -> Float[Tensor, "chains features"]:
    """Return |x_d - Z w_d|^2 of each feature; rounding leaves at most the last digits of |x_d|^2."""
    explained = loadings @ scores.square - 2.0 * scores.cross.mT
    return torch.maximum(squares + (explained * loadings).sum(-1), squares * torch.finfo(squares.dtype).eps)
