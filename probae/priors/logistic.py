"""The logistic law."""

import math

from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor
from torch.nn.functional import logsigmoid

from probae.priors.base import Prior, as_float64
from probae.priors.root import solve_prox

__all__ = ["Logistic"]

SCALE = math.sqrt(3) / math.pi  # of unit variance


class Logistic(Prior):
    r"""The logistic law of variance 1: smooth at 0, exponential tails, log-concave.

    .. math:: \log p(z) = \log\sigma(z/s) + \log\sigma(-z/s) - \log s, \quad s = \sqrt3/\pi, \qquad
              \psi(z) = \tfrac1s \tanh\tfrac z{2s}, \qquad \kappa = \pi^2/9

    Examples
    --------
    >>> round(Logistic().fisher_information(), 4)
    1.0966
    """

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density log sigma(z/s) + log sigma(-z/s) - log s, with sigma the logistic function."""
        x = z / SCALE
        return logsigmoid(x) + logsigmoid(-x) - math.log(SCALE)

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score tanh(z / 2s) / s."""
        return (z / (2 * SCALE)).tanh() / SCALE

    def fisher_information(self) -> float:
        """The number pi^2 / 9."""
        return math.pi**2 / 9

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent logistic laws of scale s."""
        zero = self._zero(like)
        return dist.Logistic(zero, zero + SCALE, validate_args=False).expand([latents]).to_event(1)

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The root of z + step psi(z) = v, by guarded Newton steps."""
        v64, step64 = as_float64(v, step, name="step")
        return solve_prox(self.score, self._score_slope, v64, step64).to(v.dtype)

    @staticmethod
    def _score_slope(z: Tensor) -> Tensor:
        """Slope d psi / dz = sech^2(z / 2s) / 2s^2."""
        return (1 - (z / (2 * SCALE)).tanh().square()) / (2 * SCALE**2)
