"""Student's t law."""

import math

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.priors.base import Prior
from probae.priors.shape import Shape

__all__ = ["StudentT", "inverse_gamma"]


class StudentT(Prior):
    r"""Student's t law with nu degrees of freedom, scaled to variance 1: power tails.

    .. math:: \log p(z) = c - \tfrac{\nu + 1}2 \log\Big(1 + \tfrac{z^2}{\nu - 2}\Big), \quad
              \psi(z) = \frac{(\nu + 1) z}{\nu - 2 + z^2}, \quad \kappa = 1 + \frac6{(\nu - 2)(\nu + 3)}

    It is N(0, tau) with tau inverse gamma of shape nu / 2 and scale (nu - 2) / 2.

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
    >>> prior = StudentT(df=5)
    >>> prior.fisher_information()
    1.25
    >>> prior.log_prob(torch.zeros(2))
    tensor([-0.7132, -0.7132])
    """

    has_scale_mixture = True

    def __init__(self, df: float, learn: bool = False) -> None:
        super().__init__()
        self.freedom = Shape("df", df, bound=2.0, reason="the variance is infinite otherwise", learn=learn)

    @property
    def df(self) -> Float[Tensor, ""]:
        """Degrees of freedom nu."""
        return self.freedom()

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density c - (nu + 1)/2 log(1 + z^2 / (nu - 2))."""
        df = self.df
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (math.pi * (df - 2)).log()
        tail = (z.square() / (df - 2).to(z)).log1p()
        return constant.to(z) - ((df + 1) / 2).to(z) * tail

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score (nu + 1) z / (nu - 2 + z^2)."""
        df = self.df.to(z)
        return (df + 1) * z / (df - 2 + z.square())

    def fisher_information(self) -> float:
        """The number 1 + 6 / ((nu - 2)(nu + 3))."""
        df = float(self.df.detach())
        return 1 + 6 / ((df - 2) * (df + 3))

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent t laws of scale sqrt((nu - 2) / nu)."""
        zero, df = self._zero(like), self.df
        law = dist.StudentT(df.to(zero), zero, ((df - 2) / df).sqrt().to(zero), validate_args=False)
        return law.expand([latents]).to_event(1)

    def sample_scales(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Draw tau given z: inverse gamma of shape (nu + 1)/2 and scale (nu - 2 + z^2)/2."""
        df = self.df.detach().to(z)
        return inverse_gamma((df + 1) / 2, (df - 2 + z.square()) / 2)

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return self.freedom.describe("df")


def inverse_gamma(shape: Float[Tensor, ""], scale: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Draws of the inverse gamma law, one for each scale.

    Examples
    --------
    >>> inverse_gamma(torch.tensor(3.0), torch.ones(4, 2)).shape
    torch.Size([4, 2])
    """
    one = torch.ones_like(scale)
    return scale / dist.Gamma(shape * one, one, validate_args=False).sample()
