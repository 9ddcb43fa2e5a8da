"""The laws of x when z is a function of it: W is square, or what is outside its span is Gaussian."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class AffineSources(TorchDistribution):
    r"""Law of x = mean + W z for z with a known law and W (K, K) invertible.

    .. math:: \log p(x) = \log p_z(W^{-1} (x - \mu)) - \log |\det W|

    Parameters
    ----------
    sources : Distribution
        Law of z, event shape (K,).
    loadings : Tensor (K, K)
    mean : Tensor (K,)
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self, sources: TorchDistribution, loadings: Float[Tensor, "k k"], mean: Float[Tensor, " k"]
    ) -> None:
        self.sources, self.loadings, self.mean_shift = sources, loadings, mean
        super().__init__(sources.batch_shape, sources.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of x, shape (K,): the sources have mean zero."""
        return self.mean_shift

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> AffineSources:
        """Return the law with another batch shape."""
        return AffineSources(self.sources.expand(batch_shape), self.loadings, self.mean_shift)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw x, shape (*sample_shape, *batch, K)."""
        return self.mean_shift + self.sources.sample(sample_shape) @ self.loadings.mT

    def log_prob(self, value: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Return log p(x) in nats."""
        z = torch.linalg.solve(self.loadings, (value - self.mean_shift).unsqueeze(-1)).squeeze(-1)
        return self.sources.log_prob(z) - torch.linalg.slogdet(self.loadings).logabsdet


class ComplementedSources(TorchDistribution):
    r"""Law of x = mean + W z + e, with e ~ N(0, sigma^2 (I - W W^+)) outside the span of W (D, K), K < D.

    .. math:: \log p(x) = \log p_z(W^+ (x - \mu)) - \tfrac12 \log |W'W|
              - \tfrac{D - K}2 \log 2\pi\sigma^2 - \frac{\|(I - WW^+)(x - \mu)\|^2}{2\sigma^2}

    Parameters
    ----------
    sources : Distribution
        Law of z, event shape (K,).
    loadings : Tensor (D, K)
    mean : Tensor (D,)
    noise_variance : Tensor ()
        sigma^2.
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self,
        sources: TorchDistribution,
        loadings: Float[Tensor, "d k"],
        mean: Float[Tensor, " d"],
        noise_variance: Float[Tensor, ""],
    ) -> None:
        self.sources, self.loadings, self.mean_shift = sources, loadings, mean
        self.noise_variance = noise_variance
        super().__init__(sources.batch_shape, mean.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of x, shape (D,): the sources have mean zero."""
        return self.mean_shift

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> ComplementedSources:
        """Return the law with another batch shape."""
        sources = self.sources.expand(batch_shape)
        return ComplementedSources(sources, self.loadings, self.mean_shift, self.noise_variance)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw x, shape (*sample_shape, *batch, D)."""
        inside = self.sources.sample(sample_shape) @ self.loadings.mT
        noise = self.noise_variance.sqrt() * torch.randn_like(inside)
        return self.mean_shift + inside + self._outside(noise)

    def log_prob(self, value: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Return log p(x) in nats."""
        features, latents = self.loadings.shape
        centred = value - self.mean_shift
        orthogonal, triangular = torch.linalg.qr(self.loadings)
        projected = (centred @ orthogonal).unsqueeze(-1)
        z = torch.linalg.solve_triangular(triangular, projected, upper=True).squeeze(-1)
        log_det = triangular.diagonal().abs().log().sum()
        energy = self._outside(centred).square().sum(-1) / self.noise_variance
        normalizer = (features - latents) * (self.noise_variance.log() + math.log(2 * math.pi))
        return self.sources.log_prob(z) - log_det - 0.5 * (energy + normalizer)

    def _outside(self, x: Tensor) -> Tensor:
        """Return the part of x orthogonal to the loadings."""
        orthogonal = torch.linalg.qr(self.loadings)[0]
        return x - (x @ orthogonal) @ orthogonal.mT
