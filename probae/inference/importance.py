r"""Importance sampling of p(z | x) on the K-dimensional sufficient scores.

With y = z + N(0, V) the scores of x and q(z) a Student-t with max(5, K) degrees of freedom, centred at the posterior a
Gaussian prior would give and 1.3 times as wide (less for more than five factors, where width costs volume),

    log p(x) ~ remainder + log (1/S) sum_s p(z_s) N(y; z_s, V) / q(z_s)

Draws are reparametrised, z_s = m(y) + w L e_s, so with fixed e_s the estimate is a smooth function of the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.checks import check_data
from probae.models import LinearFactorModel
from probae.models.marginal import Scores
from probae.models.pyro_context import local_parameters
from probae.priors import Prior

CHUNK = 4_000_000  # numbers drawn at once


def freedom(latents: int) -> int:
    """Return the degrees of freedom of the proposal."""
    return max(5, latents)


def width(latents: int) -> float:
    """Return how much wider the proposal is than the Gaussian posterior."""
    return 1.0 + 0.3 * min(1.0, 5.0 / latents)


def standard_draws(
    count: int, rows: int, latents: int, generator: torch.Generator
) -> Float[Tensor, "draws rows latents"]:
    """Return standard multivariate-t draws for the proposal."""
    normal = torch.randn(count, rows, latents, generator=generator, dtype=torch.float64)
    half = torch.full((count, rows), 0.5 * freedom(latents), dtype=torch.float64)
    chi_square = 2.0 * torch._standard_gamma(half, generator=generator)
    return normal * (freedom(latents) / chi_square).sqrt().unsqueeze(-1)


def weighted_draws(
    prior: Prior, scores: Scores, draws: Float[Tensor, "draws rows latents"]
) -> tuple[Float[Tensor, "draws rows latents"], Float[Tensor, "draws rows"]]:
    r"""Return draws z_s and log weights log p(z_s) N(y; z_s, V) / q(z_s), differentiable in y and V."""
    z, ratio = proposed_draws(scores, draws)
    return z, prior.joint_log_prob(z) + ratio


def proposed_draws(
    scores: Scores, draws: Float[Tensor, "draws rows latents"]
) -> tuple[Float[Tensor, "draws rows latents"], Float[Tensor, "draws rows"]]:
    r"""Return draws z_s and log N(y; z_s, V) / q(z_s), which hold for every law of z."""
    latents = scores.values.shape[1]
    noise_root = torch.linalg.cholesky(scores.covariance)
    gain = torch.linalg.solve(
        scores.covariance + torch.eye(latents, dtype=torch.float64), torch.eye(latents, dtype=torch.float64)
    )
    covariance = scores.covariance @ gain  # V (I + V)^-1, the Gaussian posterior covariance
    root = torch.linalg.cholesky(0.5 * (covariance + covariance.mT))
    centre, spread = scores.values @ gain.mT, width(latents) * root
    z = centre + draws @ spread.mT
    whitened = torch.linalg.solve_triangular(
        noise_root, torch.cat([(scores.values - centre).mT, spread], 1), upper=False
    )
    rows = len(scores.values)
    deviation = (
        whitened[:, :rows].mT - draws @ whitened[:, rows:].mT
    )  # V^{-1/2} (y - z), without solving for each draw
    gaussian = (
        -0.5 * deviation.square().sum(-1)
        - noise_root.diagonal().log().sum()
        - 0.5 * latents * math.log(2 * math.pi)
    )
    proposal = log_student(draws) - root.diagonal().log().sum() - latents * math.log(width(latents))
    return z, gaussian - proposal


def log_student(draws: Float[Tensor, "draws rows latents"]) -> Float[Tensor, "draws rows"]:
    """Return the log density of `standard_draws` in nats."""
    latents = draws.shape[-1]
    nu = freedom(latents)
    constant = (
        math.lgamma(0.5 * (nu + latents)) - math.lgamma(0.5 * nu) - 0.5 * latents * math.log(nu * math.pi)
    )
    return constant - 0.5 * (nu + latents) * torch.log1p(draws.square().sum(-1) / nu)


class WeightedDraws(TorchDistribution):
    r"""Posterior of z for each row as draws with weights: batch shape (N,), event shape (K,).

    Parameters
    ----------
    draws : Tensor (S, N, K)
    log_weights : Tensor (S, N)
        Unnormalised.
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self, draws: Float[Tensor, "draws samples latents"], log_weights: Float[Tensor, "draws samples"]
    ) -> None:
        self.draws = draws
        self.log_evidence = log_weights.logsumexp(0) - math.log(len(draws))
        self.weights = log_weights.softmax(0)
        super().__init__(draws.shape[1:2], draws.shape[2:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Posterior mean, (N, K)."""
        return (self.weights.unsqueeze(-1) * self.draws).sum(0)

    @property
    def variance(self) -> Tensor:
        """Posterior variance, (N, K)."""
        return (self.weights.unsqueeze(-1) * (self.draws - self.mean).square()).sum(0)

    @property
    def effective_sample_size(self) -> Float[Tensor, "samples"]:
        """1 / sum of squared weights, per row."""
        return 1.0 / self.weights.square().sum(0)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Resample draws by their weights, (*sample_shape, N, K)."""
        count = torch.Size(sample_shape).numel()
        chosen = torch.multinomial(self.weights.T, count, replacement=True).T  # (count, N)
        picked = self.draws.gather(0, chosen.unsqueeze(-1).expand(-1, -1, self.draws.shape[-1]))
        return picked.reshape(*sample_shape, *self.draws.shape[1:])


@dataclass(frozen=True, eq=False)
class ImportancePosterior:
    """Posterior of a noisy linear model with any prior, by importance sampling on its sufficient scores.

    Attributes
    ----------
    model : LinearFactorModel
    count : int
        Draws per row.
    seed : int
        The same rows give the same draws at every call.
    """

    model: LinearFactorModel
    count: int = 256
    seed: int = 0

    @local_parameters
    def __call__(self, x: Any) -> WeightedDraws:
        """Return weighted draws of z for each row."""
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        draws, weights = self._draw(data.values)
        return WeightedDraws(draws.to(data.dtype), weights.to(data.dtype))

    @local_parameters
    def log_likelihood(self, x: Any) -> Float[Tensor, "samples"]:
        """Return the importance-sampled log p(x) per row in nats, rows in blocks."""
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        block = max(1, CHUNK // (self.count * self.model.latents))
        parts = []
        for number, rows in enumerate(data.values.split(block)):
            scores = self.model.sufficient_scores(rows)
            parts.append(scores.remainder + self._evidence(scores, number))
        return torch.cat(parts).to(data.dtype)

    def _evidence(self, scores: Scores, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + number)
        noise = standard_draws(self.count, len(scores.values), self.model.latents, generator)
        _, weights = weighted_draws(self.model.prior, scores, noise)
        return weights.logsumexp(0) - math.log(self.count)

    def _draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.model.sufficient_scores(x)
        noise = standard_draws(
            self.count, len(x), self.model.latents, torch.Generator().manual_seed(self.seed)
        )
        with torch.no_grad():
            return weighted_draws(self.model.prior, scores, noise)


def differentiable_scores(x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor) -> Scores:
    """Return the sufficient scores with gradients with respect to the parameters."""
    whitened = loadings / noise.sqrt().unsqueeze(-1)
    precision = whitened.mT @ whitened
    rows = (x - mean) / noise.sqrt()
    covariance = torch.linalg.inv(precision)
    values = rows @ whitened @ covariance
    distance = (rows - values @ whitened.mT).square().sum(-1)
    features, latents = loadings.shape
    constant = (
        0.5 * (features - latents) * math.log(2 * math.pi)
        + 0.5 * noise.log().sum()
        + 0.5 * torch.logdet(precision)
    )
    return Scores(values, covariance, -0.5 * distance - constant)
