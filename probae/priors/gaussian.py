"""The Gaussian law."""

import math

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.checks import check_positive
from probae.priors.base import Prior, as_float64
from probae.priors.normal import log_normal

__all__ = ["Gaussian"]


class Gaussian(Prior):
    r"""The standard normal law: the one law of independent coordinates that every rotation leaves unchanged.

    .. math:: \log p(z) = -z^2/2 - \tfrac12\log 2\pi, \qquad \psi(z) = z, \qquad \kappa = 1

    Examples
    --------
    >>> prior = Gaussian()
    >>> prior.score(torch.tensor([-1.0, 2.0]))
    tensor([-1.,  2.])
    >>> prior.spherical, prior.fisher_information()
    (True, 1.0)
    """

    spherical = True
    has_scale_mixture = True

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density -z^2 / 2 - log(2 pi) / 2."""
        return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The point z itself."""
        return z

    def fisher_information(self) -> float:
        """One, the least of all laws of variance 1."""
        return 1.0

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent standard normals."""
        zero = self._zero(like)
        return dist.Normal(zero, zero + 1, validate_args=False).expand([latents]).to_event(1)

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The shrunken point v / (1 + step)."""
        v64, step64 = as_float64(v, step, name="step")
        return (v64 / (1 + step64)).to(v.dtype)

    def noisy_log_prob(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Log density of N(0, 1 + variance)."""
        y64, v = as_float64(y, variance)
        return log_normal(y64, 1 + v).to(y.dtype)

    def noisy_fisher_information(self, variance: float) -> float:
        """One at any noise: the noisy law is Gaussian as well."""
        check_positive("variance", variance)
        return 1.0

    def sample_scales(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Ones: the variance is not random."""
        return torch.ones_like(z)
