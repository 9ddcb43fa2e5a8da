r"""The linear map that makes the target round: a diagonal, and the directions that it leaves far from round.

.. math:: \theta = m + D (I + U' S U) \xi, \qquad \operatorname{cov} \theta = D (I + U' (\Lambda - I) U) D

with :math:`S = \Lambda^{1/2} - I`. D holds conditional standard deviations, those of each coordinate given the others:
in the gauge of :mod:`probae.inference.nuts.coordinates` all rows of L turn with the pivots, which makes every marginal
wide and is taken up by a few directions, where in units of marginal spread nearly all would be too narrow (100 against
890 directions for 100 features and 10 factors). A dense map would cost more than the gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probae.inference.nuts.trajectory import Affine

__all__ = ["Blocks", "affine_of", "inverse", "shrunk", "whiten"]

ROUND = 2.0  # a variance within this factor of one is left to the sampler


class Blocks(NamedTuple):
    """A covariance (P, P) of the first coordinates, or their variances (P,), and the variances of many others."""

    first: NDArray[np.float64]
    others: NDArray[np.float64]


Covariance = NDArray[np.float64] | Blocks


def affine_of(origin: NDArray[np.float64], covariance: Covariance) -> Affine:
    """Return the map of a covariance (size, size), of variances (size,), or of `Blocks`."""
    if isinstance(covariance, Blocks):
        part = affine_of(origin[: len(covariance.first)], covariance.first)
        directions = np.zeros((len(part.stretch), len(origin)))
        directions[:, : len(part.origin)] = part.directions
        scale = np.concatenate([part.scale, np.sqrt(covariance.others)])
        return Affine(origin.copy(), scale, part.stretch, directions)
    if covariance.ndim == 1:
        none = np.zeros((0, len(origin)))
        return Affine(origin.copy(), np.sqrt(covariance), np.zeros(0), none)
    spread = np.sqrt(covariance.diagonal())  # the inverse is taken of a correlation matrix
    precision = np.linalg.inv(covariance / np.outer(spread, spread))
    scale = spread / np.sqrt(precision.diagonal())
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    far = (values > ROUND) | (values < 1 / ROUND)
    stretch = np.sqrt(np.maximum(values[far], np.finfo(float).eps)) - 1
    return Affine(origin.copy(), scale, stretch, np.ascontiguousarray(vectors[:, far].T))


def whiten(affine: Affine, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return xi of theta (..., size)."""
    xi = (theta - affine.origin) / affine.scale
    shrink = 1 / (1 + affine.stretch) - 1
    return xi + ((xi @ affine.directions.T) * shrink) @ affine.directions


def inverse(affine: Affine, xi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return theta of xi (..., size)."""
    stretched = xi + ((xi @ affine.directions.T) * affine.stretch) @ affine.directions
    return affine.origin + affine.scale * stretched


def shrunk(draws: NDArray[np.float64], before: Covariance) -> Covariance:
    """Return the covariance of draws (T, C, size), shrunk towards the one before as if that were of `size` draws.

    With variances (size,) before, variances are returned, shrunk as if those were of five draws. Blocks are each
    dealt with in this way, about the mean of each chain: chains may stand in different modes, which signed permutations
    of factors make of each other.
    """
    if isinstance(before, Blocks):
        centred, size = draws - draws.mean(0), len(before.first)
        parts = zip((centred[..., :size], centred[..., size:]), before, strict=True)
        return Blocks(*(_shrunk(part.reshape(-1, part.shape[-1]), old) for part, old in parts))
    flat = draws.reshape(-1, draws.shape[-1])
    return _shrunk(flat - flat.mean(0), before)


def _shrunk(centred: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    if before.ndim == 1:
        return (np.square(centred).sum(0) + 5 * before) / (len(centred) + 5)
    weight = centred.shape[1]
    return (centred.T @ centred + weight * before) / (len(centred) + weight)
