r"""Exact marginals and posteriors of a linear factor model, and the scores that carry all of x about z."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import ParameterError
from probae.linalg import LowRankCovariance
from probae.priors import Prior

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
    """Return z = W^{-1} (x - mean) of each row."""
    return torch.linalg.solve(loadings, (x - mean).mT).mT


def gaussian_log_density(
    x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor
) -> Float[Tensor, "samples"]:
    """Return log N(x; mean, W W' + Psi) per row in nats, over the observed entries of the row."""
    value = torch.empty(len(x), dtype=torch.float64)
    for rows, observed in missing_patterns(x):
        centred, covariance = _observed(x[rows], observed, loadings, noise, mean)
        value[rows] = covariance.log_density(centred)
    return value


def gaussian_posterior(
    x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor
) -> tuple[Float[Tensor, "samples latents"], Float[Tensor, "*samples latents latents"]]:
    """Return mean (N, K) and lower-triangular scale of p(z | observed x): (K, K), or (N, K, K) with missing entries."""
    patterns = missing_patterns(x)
    location = torch.empty(len(x), loadings.shape[1], dtype=torch.float64)
    scales = torch.empty(
        len(x) if len(patterns) > 1 else 1, *loadings.shape[1:], loadings.shape[1], dtype=torch.float64
    )
    for rows, observed in patterns:
        centred, covariance = _observed(x[rows], observed, loadings, noise, mean)
        location[rows] = covariance.posterior_mean(centred)
        scales[rows if len(patterns) > 1 else 0] = covariance.posterior_scale_tril
    return location, scales if len(patterns) > 1 else scales[0]


def missing_patterns(
    x: Float[Tensor, "samples features"],
) -> list[tuple[Tensor | slice, Bool[Tensor, "features"]]]:
    """Group rows by which entries are observed: a list of (row index, observed mask (D,))."""
    observed = ~x.isnan()
    if observed.all():
        return [(slice(None), observed.new_ones(x.shape[1]))]
    patterns, group = observed.unique(dim=0, return_inverse=True)
    return [(torch.nonzero(group == index).squeeze(-1), pattern) for index, pattern in enumerate(patterns)]


def _observed(
    x: Tensor, observed: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor
) -> tuple[Tensor, LowRankCovariance]:
    if observed.all():
        return x - mean, LowRankCovariance.factor(loadings, noise)
    return (x - mean)[:, observed], LowRankCovariance.factor(loadings[observed], noise[observed])
