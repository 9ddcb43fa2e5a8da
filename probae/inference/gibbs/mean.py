r"""The mean of x given loadings and noise variances, the scores integrated out.

With n rows of mean \bar x, and a prior N(m, s^2) for each feature, the mean of the rows is

.. math:: \bar x = \mu + (W f + \Psi^{1/2} e) / \sqrt n, \quad f, e \sim N(0, I)

so f given \bar x comes from a factor model of noise Psi / n + s^2, and \mu given f is normal feature by feature. A flat
prior is the limit of large s.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gibbs.scores import normals


def draw_flat_mean(
    sample_mean: Float[Tensor, "*#batch features"],
    count: int,
    loadings: Float[Tensor, "*batch features latents"],
    noise: Float[Tensor, "*batch #features"],
    generator: np.random.Generator,
) -> Float[Tensor, "*batch features"]:
    """Draw from N(mean of x, (W W' + Psi) / n), for all draws of a run at once."""
    factor = normals(generator, (*loadings.shape[:-2], loadings.shape[-1], 1))
    own = noise.sqrt() * normals(generator, loadings.shape[:-1])
    return sample_mean + ((loadings @ factor)[..., 0] + own) / count**0.5


def draw_normal_mean(
    sample_mean: Float[Tensor, "*#chains features"],
    count: int,
    loadings: Float[Tensor, "chains features latents"],
    noise: Float[Tensor, "chains #features"],
    prior: tuple[Float[Tensor, "*features"], Float[Tensor, "*features"]],
    generator: np.random.Generator,
) -> Float[Tensor, "chains features"]:
    """Draw the mean given location and variance of its prior."""
    location, variance = prior
    scaled = loadings / count**0.5
    weighted = (scaled / (noise / count + variance)[..., None]).mT
    precision = weighted @ scaled + torch.eye(loadings.shape[-1], dtype=loadings.dtype)
    lower = torch.linalg.cholesky(precision)
    apart = sample_mean - location
    factor = torch.linalg.solve_triangular(
        lower, weighted @ apart[..., None].expand(len(loadings), -1, 1), upper=False
    )
    factor = torch.linalg.solve_triangular(lower.mT, factor + normals(generator, factor.shape), upper=True)
    weight = 1.0 / (count / noise + 1.0 / variance)
    pulled = apart - (scaled @ factor)[..., 0]
    return location + weight * count / noise * pulled + weight.sqrt() * normals(generator, pulled.shape)
