"""The Laplace law."""

import math

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.priors.base import Prior, as_float64
from probae.priors.normal import log_ndtr

__all__ = ["Laplace"]

RATE = math.sqrt(2)  # of unit variance


class Laplace(Prior):
    r"""The double exponential law of variance 1, the prior behind the lasso penalty.

    .. math:: \log p(z) = -a |z| + \log(a/2), \quad a = \sqrt2, \qquad
              \psi(z) = a\,\mathrm{sign}(z), \qquad \kappa = 2

    It is N(0, tau) with tau exponential of mean 1.

    Examples
    --------
    >>> prior = Laplace()
    >>> prior.prox(torch.tensor([-2.0, 0.5]), step=1.0)
    tensor([-0.5858,  0.0000])
    >>> prior.fisher_information()
    2.0
    """

    has_scale_mixture = True

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density log(a/2) - a abs(z); the gradient at 0 is 0."""
        return math.log(RATE / 2) - RATE * z.abs()

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score a sign(z), 0 at 0."""
        return RATE * z.sign()

    def fisher_information(self) -> float:
        """The number a^2 = 2."""
        return 2.0

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent Laplace laws of scale 1 / a."""
        zero = self._zero(like)
        return dist.Laplace(zero, zero + 1 / RATE, validate_args=False).expand([latents]).to_event(1)

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Soft threshold at a step."""
        v64, step64 = as_float64(v, step, name="step")
        return (v64.sign() * (v64.abs() - RATE * step64).clamp(min=0)).to(v.dtype)

    def noisy_log_prob(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        r"""Log density of the normal-Laplace law, with a the rate and v the variance.

        .. math:: \log f(y) = \log\tfrac a2 + \tfrac{a^2 v}2 + \mathrm{logaddexp}\Big(
                  -a y + \log\Phi\big(\tfrac{y - a v}{\sqrt v}\big),\;
                  a y + \log\Phi\big(-\tfrac{y + a v}{\sqrt v}\big)\Big)
        """
        y64, v = as_float64(y, variance)
        value = math.log(RATE / 2) + 0.5 * RATE**2 * v + torch.logaddexp(*_sides(y64, v))
        return value.to(y.dtype)

    def noisy_score(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """The score a (P(z > 0 | y) - P(z < 0 | y)), the posterior mean of the score."""
        y64, v = as_float64(y, variance)
        positive, negative = _sides(y64, v)
        return (RATE * (0.5 * (positive - negative)).tanh()).to(y.dtype)

    def sample_scales(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        r"""Draw tau given z, whose inverse is inverse Gaussian of mean a / abs(z) and shape a^2 = 2.

        .. math:: \tau^2 - (2 m + g)\,\tau + m^2 = 0, \qquad m = |z|/a, \qquad g \sim \chi^2_1 / 2

        The larger root is drawn with probability root / (root + m), else the smaller (Michael, Schucany &
        Haas 1976, written for 1 / tau). Nothing overflows at z = 0, where tau = g.
        """
        m = z.abs() / RATE
        half = 0.25 * torch.randn_like(m).square()
        larger = (m + half + (half * (half + 2 * m)).sqrt()).clamp(min=torch.finfo(z.dtype).tiny)
        return torch.where(torch.rand_like(m) * (larger + m) < larger, larger, m.square() / larger)


def _sides(y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Log mass of z > 0 and of z < 0 given y, up to what both share."""
    sd = v.sqrt()
    return -RATE * y + log_ndtr((y - RATE * v) / sd), RATE * y + log_ndtr(-(y + RATE * v) / sd)
