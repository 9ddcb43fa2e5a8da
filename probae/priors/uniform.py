"""The uniform law."""

import math

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.priors.base import Prior, as_float64
from probae.priors.normal import log_ndtr

__all__ = ["Uniform"]

EDGE = math.sqrt(3)  # of unit variance


class Uniform(Prior):
    r"""The uniform law of variance 1, on [-b, b] with b = sqrt(3): lighter tails than a Gaussian.

    .. math:: p(z) = \frac1{2b}, \qquad \psi(z) = 0, \qquad \kappa = \infty

    Outside the interval `log_prob` is minus infinity, with gradient 0. The score says nothing of the edges,
    which carry all the information: kappa is infinite, and the noisy law is the one to work with.

    Examples
    --------
    >>> prior = Uniform()
    >>> prior.log_prob(torch.tensor([0.0, 2.0]))
    tensor([-1.2425,    -inf])
    >>> prior.fisher_information()
    inf
    """

    kinks = (-EDGE, EDGE)

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density -log 2b inside, minus infinity outside."""
        # 0 z keeps NaN, and keeps the value in the graph, so that a gradient is 0 and not missing
        return torch.where(z.abs() > EDGE, -torch.inf, 0.0 * z - math.log(2 * EDGE))

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Zeros."""
        return torch.zeros_like(z)

    def fisher_information(self) -> float:
        """Infinite: the density jumps at its edges."""
        return math.inf

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent uniform laws on [-b, b]."""
        zero = self._zero(like)
        return dist.Uniform(zero - EDGE, zero + EDGE, validate_args=False).expand([latents]).to_event(1)

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The point v clamped to [-b, b], whatever the step."""
        as_float64(v, step, name="step")
        return v.clamp(-EDGE, EDGE)

    def noisy_log_prob(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Log of (Phi((b - abs(y)) / sd) - Phi(-(b + abs(y)) / sd)) / 2b."""
        y64, v = as_float64(y, variance)
        sd = v.sqrt()
        # the law is even; a sign that is 1 at 0 leaves the derivatives at 0 right, which abs would not
        size = y64 * torch.where(y64 < 0, -1.0, 1.0)
        upper, lower = log_ndtr((EDGE - size) / sd), log_ndtr(-(EDGE + size) / sd)
        value = upper + (-(lower - upper).expm1()).log() - math.log(2 * EDGE)
        return value.to(y.dtype)
