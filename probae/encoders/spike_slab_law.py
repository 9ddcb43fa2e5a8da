"""The law of a spike-and-slab encoder: each coordinate a mixture of two normal laws, with pathwise gradients."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class SpikeSlabCode(dist.TorchDistribution):
    r"""Independent mixtures of a narrow and a wide normal law, drawn so that gradients pass through z.

    .. math:: q(z) = \prod_k \big[\pi_k N(z_k; m_{1k}, s_{1k}^2) + (1 - \pi_k) N(z_k; m_{0k}, s_{0k}^2)\big]

    A draw has the gradient dz/dt = -(dF/dt) / q(z), F the distribution function of its coordinate: the derivative of
    the identity F(z; t) = u at fixed u (implicit reparametrisation, Figurnov, Mohamed & Mnih 2018). It is
    unbiased. What moves weight between two parts far apart are draws in the gap between them, so its variance grows
    like the inverse of the density there.

    Parameters
    ----------
    logits : Tensor (*batch, K)
        log pi - log (1 - pi).
    loc, scale : Tensor (*batch, K, 2)
        Means and standard deviations of spike and slab, in this order.

    Examples
    --------
    >>> law = SpikeSlabCode(torch.zeros(1), torch.zeros(1, 2), torch.tensor([[0.1, 1.0]]))
    >>> law.variance
    tensor([0.5050])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}  # the encoder makes sound ones
    support = dist.constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "*batch latents"],
        loc: Float[Tensor, "*batch latents 2"],
        scale: Float[Tensor, "*batch latents 2"],
    ) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> SpikeSlabCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return SpikeSlabCode(
            self.logits.expand(shape), self.loc.expand((*shape, 2)), self.scale.expand((*shape, 2))
        )

    @property
    def slab_probability(self) -> Float[Tensor, "*batch latents"]:
        """Probability that each coordinate is from the slab."""
        return self.logits.sigmoid()

    @property
    def weights(self) -> Float[Tensor, "*batch latents 2"]:
        """Probabilities of spike and slab."""
        return torch.stack([(-self.logits).sigmoid(), self.logits.sigmoid()], -1)

    @property
    def mean(self) -> Float[Tensor, "*batch latents"]:
        """Mean of the mixture."""
        return (self.weights * self.loc).sum(-1)

    @property
    def variance(self) -> Float[Tensor, "*batch latents"]:
        """Variance within the parts and between them."""
        within = self.scale.square() + (self.loc - self.mean.unsqueeze(-1)).square()
        return (self.weights * within).sum(-1)

    def _log_parts(self, z: Tensor) -> Float[Tensor, "*draws latents 2"]:
        logsigmoid = torch.nn.functional.logsigmoid
        log_weights = torch.stack([logsigmoid(-self.logits), logsigmoid(self.logits)], -1)
        standard = (z.unsqueeze(-1) - self.loc) / self.scale
        return log_weights - 0.5 * standard.square() - self.scale.log() - HALF_LOG_TWO_PI

    def log_prob(self, value: Float[Tensor, "*draws latents"]) -> Float[Tensor, "*draws"]:
        """Return log q(z) in nats."""
        return self._log_parts(value).logsumexp(-1).sum(-1)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*draws latents"]:
        """Draw z, with a gradient."""
        shape = (*sample_shape, *self.logits.shape)
        with torch.no_grad():
            slab = (
                torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device) < self.logits.sigmoid()
            )
            loc, scale = (torch.where(slab, part[..., 1], part[..., 0]) for part in (self.loc, self.scale))
            z = loc + scale * torch.randn_like(loc)
            density = self._log_parts(z).logsumexp(-1).exp()
        if not torch.is_grad_enabled():
            return z
        below = (self.weights * torch.special.ndtr((z.unsqueeze(-1) - self.loc) / self.scale)).sum(-1)
        return z - (below - below.detach()) / density

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z and log q(z) in nats."""
        z = self.rsample(sample_shape)
        return z, self.log_prob(z)
