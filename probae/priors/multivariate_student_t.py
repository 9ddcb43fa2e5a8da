"""The multivariate t law: heavy tails without axes."""

import math

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.priors.base import Prior
from probae.priors.shape import Shape
from probae.priors.student_t import inverse_gamma

__all__ = ["MultivariateStudentT"]


class MultivariateStudentT(Prior):
    r"""The multivariate t law with nu degrees of freedom and identity covariance, for K latents.

    .. math:: \log p(z) = c - \tfrac{\nu + K}2 \log\Big(1 + \tfrac{|z|^2}{\nu - 2}\Big), \qquad
              \psi(z) = \frac{(\nu + K)\, z}{\nu - 2 + |z|^2}

    Its marginals are Student's t, yet it is rotation invariant: it tells heavy tails from axes. It is
    N(0, tau I) with one tau for all coordinates, inverse gamma of shape nu / 2 and scale (nu - 2) / 2.

    Parameters
    ----------
    df : float
        Degrees of freedom nu, above 2.
    learn : bool
        Whether nu may be learnt, as 2 + exp(parameter).

    Raises
    ------
    ParameterError
        `df` is not above 2.

    Examples
    --------
    >>> prior = MultivariateStudentT(df=5)
    >>> along, across = prior.log_prob(torch.tensor([[3.0, 4.0], [5.0, 0.0]]))
    >>> torch.allclose(along, across)
    True
    >>> prior.spherical, prior.coordinates(2)
    (True, None)
    """

    event_dim = 1
    spherical = True
    has_scale_mixture = True

    def __init__(self, df: float, learn: bool = False) -> None:
        super().__init__()
        self.freedom = Shape("df", df, bound=2.0, reason="the variance is infinite otherwise", learn=learn)

    @property
    def df(self) -> Float[Tensor, ""]:
        """Degrees of freedom nu."""
        return self.freedom()

    def log_prob(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """Log density c - (nu + K)/2 log(1 + |z|^2 / (nu - 2))."""
        df, latents = self.df, z.shape[-1]
        constant = torch.lgamma((df + latents) / 2) - torch.lgamma(df / 2)
        constant = constant - 0.5 * latents * (math.pi * (df - 2)).log()
        tail = (z.square().sum(-1) / (df - 2).to(z)).log1p()
        return constant.to(z) - ((df + latents) / 2).to(z) * tail

    def score(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """The score (nu + K) z / (nu - 2 + |z|^2)."""
        df = self.df.to(z)
        return (df + z.shape[-1]) * z / (df - 2 + z.square().sum(-1, keepdim=True))

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """One multivariate t law of scale sqrt((nu - 2) / nu) I."""
        zero, df = self._zero(like), self.df
        scale = ((df - 2) / df).sqrt().to(zero) * torch.eye(latents, dtype=zero.dtype, device=zero.device)
        return dist.MultivariateStudentT(df.to(zero), zero.expand(latents), scale, validate_args=False)

    def sample_scales(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """Draw one tau for all coordinates: inverse gamma of shape (nu + K)/2, scale (nu - 2 + |z|^2)/2."""
        df = self.df.detach().to(z)
        scale = (df - 2 + z.square().sum(-1, keepdim=True)) / 2
        return inverse_gamma((df + z.shape[-1]) / 2, scale).expand_as(z)

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return self.freedom.describe("df")
