"""The law of a binary encoder: logistic units with Gaussian noise on their input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

REACH = 8.5  # standard deviations that quadrature covers: beyond it is 2e-17 of the mass


class BinaryCode(dist.TorchDistribution):
    r"""Logit-normal law: z = 1 / (1 + exp(-a - s e)) with independent standard normal e.

    .. math:: \log q(z) = \sum_k \log N(\operatorname{logit} z_k; a_k, s^2) - \log z_k (1 - z_k)

    ``mean`` and ``variance`` are computed by the trapezoidal rule, to about 1e-10.

    Parameters
    ----------
    logits : Tensor (*batch, K)
        a.
    noise_std : float
        s, of the noise on the input.

    Examples
    --------
    >>> BinaryCode(torch.zeros(1), noise_std=4.0).mean
    tensor([0.5000])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}  # the encoder makes sound ones
    support = dist.constraints.independent(dist.constraints.unit_interval, 1)
    has_rsample = True

    def __init__(self, logits: Float[Tensor, "*batch latents"], noise_std: float) -> None:
        self.logits, self.noise_std = logits, noise_std
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> BinaryCode:
        """Return the law with another batch shape."""
        return BinaryCode(self.logits.expand((*batch_shape, *self.event_shape)), self.noise_std)

    def _density(self, noise: Tensor, inputs: Tensor) -> Float[Tensor, "*draws"]:
        """Return log q at the given input of the units, which does not overflow where z is 0 or 1 to rounding."""
        slope = torch.nn.functional.logsigmoid(inputs) + torch.nn.functional.logsigmoid(-inputs)
        constant = math.log(self.noise_std) + 0.5 * math.log(2 * math.pi)
        return (-0.5 * noise.square() - slope - constant).sum(-1)

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z and log q(z) in nats."""
        shape = (*sample_shape, *self.logits.shape)
        noise = torch.randn(shape, dtype=self.logits.dtype, device=self.logits.device)
        inputs = self.logits + self.noise_std * noise
        return inputs.sigmoid(), self._density(noise, inputs)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*draws latents"]:
        """Draw z, with a gradient."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def log_prob(self, value: Float[Tensor, "*draws latents"]) -> Float[Tensor, "*draws"]:
        """Return log q(z) in nats, of a z no closer to 0 and 1 than its dtype can tell.

        Numbers near 0 are many and those near 1 few (float32: down to 1e-38, up to 1 - 6e-8): where logits are large
        z has lost its input, which `rsample_and_log_prob` still knows.
        """
        kind = torch.finfo(value.dtype)
        z = value.clamp(kind.tiny, 1 - kind.eps / 2)
        inputs = z.log() - torch.log1p(-z)
        return self._density((inputs - self.logits) / self.noise_std, inputs)

    def _expected(self, function: Callable[[Tensor], Tensor]) -> Float[Tensor, "*batch latents"]:
        """Return E[function(z)]; steps are fine enough for the poles of the logistic function, pi / s off the line."""
        half = math.ceil(REACH / min(0.25, 0.8 / self.noise_std))
        nodes = torch.linspace(-REACH, REACH, 2 * half + 1, dtype=torch.float64)
        weights = (-0.5 * nodes.square()).exp()
        total = torch.zeros_like(self.logits)
        for node, weight in zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True):
            total = total + weight * function((self.logits + self.noise_std * node).sigmoid())
        return total

    @property
    def mean(self) -> Float[Tensor, "*batch latents"]:
        """E[z]."""
        return self._expected(lambda z: z)

    @property
    def variance(self) -> Float[Tensor, "*batch latents"]:
        """Variance of z."""
        mean = self.mean
        return self._expected(lambda z: (z - mean).square())
