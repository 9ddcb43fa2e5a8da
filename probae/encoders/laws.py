"""Laws that encoders return: each draws z and log q(z) together, from the same random numbers."""

from __future__ import annotations

import functools
import math

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor


class GaussianCode(dist.MultivariateNormal):
    """Gaussian over z that draws z and log q(z) together, from the same standard normal numbers."""

    def __init__(
        self, loc: Float[Tensor, "*batch latents"], scale_tril: Float[Tensor, "*rows latents latents"]
    ) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> GaussianCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return GaussianCode(self.loc.expand(shape), self._unbroadcasted_scale_tril)

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        r"""Return z = m + L e and log q(z) = -|e|^2/2 - log det L - (K/2) log 2 pi, in nats."""
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        z = self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        log_det = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * self.loc.shape[-1] * math.log(2 * math.pi)
        return z, -0.5 * noise.square().sum(-1) - log_det - constant


class DiagonalCode(dist.Independent):
    """Gaussian over z with independent coordinates, drawing z and log q(z) together."""

    def __init__(self, loc: Float[Tensor, "*batch latents"], scale: Float[Tensor, "*batch latents"]) -> None:
        super().__init__(dist.Normal(loc, scale, validate_args=False), 1, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> DiagonalCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return DiagonalCode(self.base_dist.loc.expand(shape), self.base_dist.scale.expand(shape))

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z = m + s e and its log density in nats."""
        loc, scale = self.base_dist.loc, self.base_dist.scale
        noise = torch.randn(*sample_shape, *loc.shape, dtype=loc.dtype, device=loc.device)
        constant = 0.5 * loc.shape[-1] * math.log(2 * math.pi)
        return loc + scale * noise, -0.5 * noise.square().sum(-1) - scale.log().sum(-1) - constant


class LowRankCode(dist.LowRankMultivariateNormal):
    """Gaussian over z with covariance U U' + diag(d), whose density costs K R^2 and not K^3 (Woodbury's identity)."""

    def __init__(
        self,
        loc: Float[Tensor, "*batch latents"],
        cov_factor: Float[Tensor, "*batch latents rank"],
        cov_diag: Float[Tensor, "*batch latents"],
    ) -> None:
        super().__init__(loc, cov_factor, cov_diag, validate_args=False)

    @functools.cached_property
    def wide(self) -> dist.LowRankMultivariateNormal:
        """The law in float64: I + U' D^-1 U has lost I in float32 where d is small beside U U'."""
        if self.loc.dtype == torch.float64:
            return self
        factor, diagonal = self._unbroadcasted_cov_factor.double(), self._unbroadcasted_cov_diag.double()
        return dist.LowRankMultivariateNormal(self.loc.double(), factor, diagonal, validate_args=False)

    def log_prob(self, value: Float[Tensor, "*draws latents"]) -> Float[Tensor, "*draws"]:
        """Return log q(z) in nats, computed in float64."""
        return dist.LowRankMultivariateNormal.log_prob(self.wide, value.double()).to(value.dtype)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> LowRankCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        factor = self.cov_factor.expand(shape + self.cov_factor.shape[-1:])
        return LowRankCode(self.loc.expand(shape), factor, self.cov_diag.expand(shape))

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z = m + U e + sqrt(d) e' and its log density in nats."""
        z = self.rsample(torch.Size(sample_shape))
        return z, self.log_prob(z)


class LaplaceCode(dist.Independent):
    """Laplace law over z with independent coordinates, drawing z and log q(z) together."""

    def __init__(self, loc: Float[Tensor, "*batch latents"], scale: Float[Tensor, "*batch latents"]) -> None:
        super().__init__(dist.Laplace(loc, scale, validate_args=False), 1, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> LaplaceCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return LaplaceCode(self.base_dist.loc.expand(shape), self.base_dist.scale.expand(shape))

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z = m + b e, e a standard Laplace number, and log q(z) = -sum |e| + log 2b, in nats."""
        loc, scale = self.base_dist.loc, self.base_dist.scale
        size = torch.empty((*sample_shape, *loc.shape), dtype=loc.dtype, device=loc.device).exponential_()
        sign = 1 - 2 * torch.randint_like(size, 2)
        return loc + scale * sign * size, -size.sum(-1) - (2 * scale).log().sum(-1)
