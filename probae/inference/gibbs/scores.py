r"""The exact draw of (Z'X, Z'Z) given the parameters, from the scatter alone.

With M = I + W' Psi^{-1} W = L L', B = M^{-1} W' Psi^{-1} and X = Q T, where Q (n, r) has orthonormal columns and
T'T = X'X, the scores are Z = X B' + E with rows of E from N(0, M^{-1}). Q'E and the rest of E are independent, so

.. math::
   Z'X = H T, \quad Z'Z = H H' + R, \quad H = B T' + E'Q = L'^{-1} (L^{-1} W' \Psi^{-1} T' + G), \quad
   R \sim \mathrm{Wishart}_k(n - r, M^{-1})

with G (k, r) standard normal. No row of X is looked at: a sweep costs the same for any n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Map(NamedTuple):
    """L with L L' = M, and L^{-1} W' Psi^{-1} T': the map from x to its scores, for all chains."""

    lower: Float[Tensor, "chains latents latents"]
    fitted: Float[Tensor, "chains latents rank"]


class Scores(NamedTuple):
    """Z'Z and Z'X of each chain."""

    square: Float[Tensor, "chains latents latents"]
    cross: Float[Tensor, "chains latents features"]


def map_of(
    loadings: Float[Tensor, "chains features latents"],
    noise: Float[Tensor, "chains #features"],
    root: Float[Tensor, "*chains rank features"],
) -> Map:
    """Find the map from x to its scores, given loadings and noise variances."""
    weighted = (loadings / noise[..., None]).mT
    precision = weighted @ loadings
    precision.diagonal(dim1=-2, dim2=-1).add_(1.0)
    lower = torch.linalg.cholesky(precision)
    return Map(lower, torch.linalg.solve_triangular(lower, weighted @ root.mT, upper=False))


def log_density(
    where: Map,
    noise: Float[Tensor, "chains features"],
    distance: Float[Tensor, " chains"],
    count: int,
) -> Float[Tensor, " chains"]:
    """Return log p of ``count`` rows N(0, W W' + Psi), in nats; ``distance`` sums their squared Mahalanobis lengths."""
    log_det = noise.log().sum(-1) + 2.0 * where.lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * (count * (log_det + noise.shape[-1] * math.log(2.0 * math.pi)) + distance)


def draw_scores(
    where: Map,
    root: Float[Tensor, "*chains rank features"],
    rest: Float[Tensor, "chains latents rest"],
    generator: np.random.Generator,
) -> Scores:
    """Draw (Z'Z, Z'X); ``rest`` is a factor of Wishart_k(n - r, I), as `remainder` draws."""
    rank = where.fitted.shape[-1]
    inner = where.fitted + normals(generator, where.fitted.shape)
    inner = torch.linalg.solve_triangular(where.lower.mT, torch.cat([inner, rest], -1), upper=True)
    return Scores(inner @ inner.mT, inner[..., :rank] @ root)


def remainder(
    generator: np.random.Generator, lead: tuple[int, ...], latents: int, freedom: int
) -> Float[Tensor, "*lead latents rest"]:
    """Draw A with A A' ~ Wishart_k(freedom, I): Bartlett's triangle, or few columns where that law is singular."""
    if freedom < latents:
        return normals(generator, (*lead, latents, freedom))
    return bartlett(generator, np.full(lead, float(freedom)), latents)


def bartlett(
    generator: np.random.Generator, freedom: np.ndarray, size: int
) -> Float[Tensor, "*batch size size"]:
    """Draw the lower-triangular A of A A' ~ Wishart(freedom, I), freedom > size - 1 (Bartlett, 1933)."""
    factors = np.tril(generator.standard_normal((*freedom.shape, size, size)), -1)
    places = np.arange(size)
    factors[..., places, places] = np.sqrt(
        2.0 * generator.standard_gamma(0.5 * (freedom[..., None] - places))
    )
    return torch.from_numpy(factors)


def normals(generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Draw standard normals: numpy's ziggurat takes a fraction of the time of torch's transformation."""
    return torch.from_numpy(generator.standard_normal(tuple(shape)))
