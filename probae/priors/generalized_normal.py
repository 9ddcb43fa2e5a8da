"""The generalized normal law."""

import math

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.checks import NotExactError
from probae.priors.base import Prior, as_float64
from probae.priors.distribution import PriorDistribution
from probae.priors.root import solve_prox
from probae.priors.shape import Shape

__all__ = ["GeneralizedNormal"]


class GeneralizedNormal(Prior):
    r"""The generalized normal law of variance 1: shape 1 is Laplace, 2 Gaussian, large shapes near uniform.

    .. math:: \log p(z) = -|z/\alpha|^\beta + \log\frac{\beta}{2\alpha\,\Gamma(1/\beta)}, \quad
              \alpha^2 = \frac{\Gamma(1/\beta)}{\Gamma(3/\beta)}, \quad
              \psi(z) = \frac\beta\alpha\, \mathrm{sign}(z) \Big|\frac z\alpha\Big|^{\beta - 1}

    kappa = beta^2 Gamma(2 - 1/beta) Gamma(3/beta) / Gamma(1/beta)^2 for beta above 1/2, infinite otherwise.
    Below shape 1 the slopes on the two sides of 0 are infinite and opposite; at exactly 0 the score, and the
    gradient of `log_prob`, are their mean 0, never NaN. Next to 0 they grow as abs(z)^(beta - 1).

    Parameters
    ----------
    shape : float
        beta, above 0.
    learn : bool
        Whether beta may be learnt, as exp(parameter).

    Raises
    ------
    ParameterError
        `shape` is not above 0.

    Examples
    --------
    >>> round(GeneralizedNormal(shape=4).fisher_information(), 3)
    1.371
    >>> GeneralizedNormal(shape=1).log_prob(torch.tensor([0.0, 1.0]))  # Laplace
    tensor([-0.3466, -1.7608])
    """

    def __init__(self, shape: float, learn: bool = False) -> None:
        super().__init__()
        self.exponent = Shape("shape", shape, bound=0.0, reason="it is an exponent", learn=learn)

    @property
    def shape(self) -> Float[Tensor, ""]:
        """The exponent beta."""
        return self.exponent()

    @property
    def alpha(self) -> Float[Tensor, ""]:
        """The scale that makes the variance 1."""
        return (0.5 * (torch.lgamma(1 / self.shape) - torch.lgamma(3 / self.shape))).exp()

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density -abs(z / alpha)^beta + log(beta / (2 alpha Gamma(1/beta)))."""
        shape, alpha = self.shape, self.alpha
        constant = (shape / (2 * alpha)).log() - torch.lgamma(1 / shape)
        return constant.to(z) - _power(z / alpha.to(z), shape.to(z))

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score (beta / alpha) sign(z) abs(z / alpha)^(beta - 1), 0 at 0."""
        shape, alpha = self.shape.to(z), self.alpha.to(z)
        return shape / alpha * z.sign() * _power(z / alpha, shape - 1)

    def fisher_information(self) -> float:
        """The number beta^2 Gamma(2 - 1/beta) Gamma(3/beta) / Gamma(1/beta)^2, infinite for beta <= 1/2."""
        beta = float(self.shape.detach())
        if beta <= 0.5:
            return math.inf
        log_gammas = math.lgamma(2 - 1 / beta) + math.lgamma(3 / beta) - 2 * math.lgamma(1 / beta)
        return beta**2 * math.exp(log_gammas)

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent coordinates, reparametrised through a gamma law."""
        return PriorDistribution(self, latents, like)

    def draw(self, shape: torch.Size, like: Tensor) -> Float[Tensor, "*batch latents"]:
        """Draws alpha u g^(1/beta), u uniform on (-1, 1), g gamma of shape 1 + 1/beta.

        The gamma law of shape 1 / beta itself would underflow for a large beta.
        """
        beta = self.shape.to(like)
        one = torch.ones(shape, dtype=like.dtype, device=like.device)
        gamma = dist.Gamma((1 + 1 / beta) * one, one, validate_args=False).rsample()
        return self.alpha.to(like) * (2 * torch.rand_like(one) - 1) * gamma ** (1 / beta)

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The root of z + step psi(z) = v for beta above 1, the soft threshold of Laplace at 1.

        Raises
        ------
        NotExactError
            beta is below 1.
        """
        shape = float(self.shape.detach())
        if shape < 1:
            raise NotExactError(
                f"{self!r} has no prox: -log p is not convex for a shape below 1, so the minimiser need not "
                "be unique. Use a shape of at least 1."
            )
        v64, step64 = as_float64(v, step, name="step")
        if shape == 1:
            return (v64.sign() * (v64.abs() - step64 / self.alpha).clamp(min=0)).to(v.dtype)
        return solve_prox(self.score, self._score_slope, v64, step64).to(v.dtype)

    def _score_slope(self, z: Tensor) -> Tensor:
        """Slope d psi / dz, infinite at 0 for beta between 1 and 2."""
        return self.shape * (self.shape - 1) / self.alpha**2 * (z.abs() / self.alpha) ** (self.shape - 2)

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return self.exponent.describe("shape")


def _power(x: Tensor, exponent: Tensor) -> Tensor:
    """Power abs(x)^exponent, with value and gradient 0 at x = 0 (a plain power has NaN there)."""
    size = x.abs()
    at_zero = size == 0
    return torch.where(at_zero, 0.0, torch.where(at_zero, 1.0, size) ** exponent)
