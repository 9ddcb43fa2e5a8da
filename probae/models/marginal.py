r"""Exact marginals and posteriors of a linear factor model, and the scores that carry all of x about z."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import ParameterError
from probae.linalg import LowRankCovariance
from probae.models.patterns import BLOCK, distinct_rows
from probae.priors import Prior

LOG_TWO_PI = math.log(2 * math.pi)
MANY = 64  # rows from which a pattern is worth a factorisation and a product of its own
UNCORRELATED = (
    1e-9  # largest correlation of the score noise that still counts as a product of one-dimensional laws
)


@dataclass(frozen=True, eq=False)
class Scores:
    r"""Sufficient scores y = z + N(0, G^{-1}) of x = mean + W z + noise, with G = W' Psi^{-1} W.

    Attributes
    ----------
    values : Tensor (N, K)
    covariance : Tensor (K, K)
        G^{-1}, the covariance of the score noise.
    remainder : Tensor (N,)
        log p(x) - log p(y) in nats: the part of x that does not depend on z.
    """

    values: Float[Tensor, "samples latents"]
    covariance: Float[Tensor, "latents latents"]
    remainder: Float[Tensor, "samples"]

    @classmethod
    def of(cls, x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor) -> Scores:
        """Compute the scores of rows by least squares on Psi^{-1/2} W, without forming G."""
        features, latents = loadings.shape
        whitened = loadings / noise.sqrt().unsqueeze(-1)
        singular = torch.linalg.svdvals(whitened)
        if latents > features or singular[-1] <= 1e-12 * singular[0]:
            rank = int((singular > 1e-12 * singular[0]).sum())
            raise ParameterError(
                f"Scores need loadings of full column rank, got {latents} latents and rank {rank}: "
                "the codes are not determined by x alone."
            )
        q, r = torch.linalg.qr(whitened)
        rows = (x.double() - mean) / noise.sqrt()
        projected = rows @ q
        inverse = torch.linalg.solve_triangular(r, torch.eye(latents, dtype=torch.float64), upper=True)
        distance = (rows - projected @ q.mT).square().sum(-1)
        log_det = r.diagonal().abs().log().sum() + 0.5 * noise.log().sum()
        remainder = -0.5 * (distance + (features - latents) * math.log(2 * math.pi)) - log_det
        return cls(projected @ inverse.mT, inverse @ inverse.mT, remainder)

    @property
    def variance(self) -> Float[Tensor, "latents"]:
        """Noise variance of each score."""
        return self.covariance.diagonal()

    @property
    def uncorrelated(self) -> bool:
        """Whether the score noise is independent across factors."""
        scale = self.variance.sqrt()
        correlation = self.covariance / torch.outer(scale, scale)
        return bool((correlation - torch.eye(len(scale))).abs().max() <= UNCORRELATED)


def separable_log_density(scores: Scores, coordinates: list[Prior]) -> Float[Tensor, "samples"]:
    r"""Return log p(x) = remainder + sum_j log (p_j * N(0, v_j))(y_j) for uncorrelated score noise, in nats."""
    columns = zip(coordinates, scores.values.unbind(-1), scores.variance, strict=True)
    return scores.remainder + sum(law.noisy_log_prob(y, v) for law, y, v in columns)


def solve_sources(x: Tensor, loadings: Tensor, mean: Tensor) -> Float[Tensor, "samples latents"]:
    """Return z = W^+ (x - mean) of each row: exact for square W, else the part of x that is in its span."""
    if loadings.shape[0] == loadings.shape[1]:
        return torch.linalg.solve(loadings, (x - mean).mT).mT
    orthogonal, triangular = torch.linalg.qr(loadings)
    return torch.linalg.solve_triangular(triangular, ((x - mean) @ orthogonal).mT, upper=True).mT


def gaussian_log_density(
    x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor
) -> Float[Tensor, "samples"]:
    """Return log N(x; mean, W W' + Psi) per row in nats, over the observed entries of the row."""
    value = torch.empty(len(x), dtype=torch.float64)
    for rows, width, centred, covariance in observed_blocks(x, loadings, noise, mean):
        energy = covariance.quadratic_form(centred).squeeze(-1) + covariance.log_det
        value[rows] = -0.5 * (width * LOG_TWO_PI + energy) + 0.0  # no minus zero for a row without values
    return value


def gaussian_posterior(
    x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor
) -> tuple[Float[Tensor, "samples latents"], Float[Tensor, "*samples latents latents"]]:
    """Return mean (N, K) and lower-triangular scale of p(z | observed x): (K, K), or (N, K, K) with missing entries."""
    latents = loadings.shape[1]
    location = torch.empty(len(x), latents, dtype=torch.float64)
    shared = True
    scales = torch.empty(0, latents, latents, dtype=torch.float64)
    for rows, _, centred, covariance in observed_blocks(x, loadings, noise, mean):
        location[rows] = covariance.posterior_mean(centred).reshape(-1, latents)
        own = covariance.posterior_scale_tril
        if len(location[rows]) == len(x) and own.ndim == 2:
            return location, own
        if shared:
            shared, scales = False, torch.empty(len(x), latents, latents, dtype=torch.float64)
        scales[rows] = own
    return location, scales


def observed_blocks(
    x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor
) -> Iterator[tuple[Tensor | slice, Tensor | int, Tensor, LowRankCovariance]]:
    """Walk over rows by their observed entries: which rows, how many entries, the centred rows, their covariance.

    A pattern that many rows share is factored for them together, rows (R, observed entries). The others go in blocks
    with a batched covariance, rows (R, 1, D); a missing entry has loading 0, noise 1, value 0 there: it adds nothing.
    """
    missing = x.isnan()
    if not missing.any():
        yield slice(None), x.shape[1], x - mean, LowRankCovariance.factor(loadings, noise)
        return
    patterns, group = distinct_rows(~missing.numpy())
    order = torch.from_numpy(np.argsort(group, kind="stable"))
    counts = np.bincount(group)
    ends = np.cumsum(counts)
    many = counts >= MANY
    for index in np.flatnonzero(many):
        rows = order[ends[index] - counts[index] : ends[index]]
        seen = torch.from_numpy(patterns[index])
        covariance = LowRankCovariance.factor(loadings[seen], noise[seen])
        yield rows, int(seen.sum()), (x[rows] - mean)[:, seen], covariance
    few = order[torch.from_numpy(~many[group])[order]]
    for rows in few.split(max(BLOCK // loadings.numel(), 1)):
        seen = ~missing[rows]
        masks, owner = seen.unique_consecutive(
            dim=0, return_inverse=True
        )  # the rows are in the order of patterns
        factored = LowRankCovariance.factor(
            loadings * masks.unsqueeze(2), torch.where(masks, noise, torch.ones_like(noise))
        )
        covariance = LowRankCovariance(
            factored.loadings[owner],
            factored.noise[owner],
            factored.orthogonal[owner],
            factored.triangular[owner],
        )
        yield rows, seen.double().sum(1), (x[rows] - mean).nan_to_num().unsqueeze(1), covariance


def missing_patterns(
    x: Float[Tensor, "samples features"],
) -> list[tuple[Tensor | slice, Bool[Tensor, "features"]]]:
    """Group rows by which entries are observed: a list of (row index, observed mask (D,))."""
    observed = ~x.isnan()
    if observed.all():
        return [(slice(None), observed.new_ones(x.shape[1]))]
    patterns, group = distinct_rows(observed.numpy())
    order = torch.from_numpy(np.argsort(group, kind="stable"))
    rows = order.split(np.bincount(group).tolist())
    return list(zip(rows, torch.from_numpy(patterns), strict=True))
