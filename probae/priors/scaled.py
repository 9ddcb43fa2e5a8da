"""A law of another, known variance."""

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_positive
from probae.priors.base import Prior, as_float64
from probae.priors.distribution import PriorDistribution

__all__ = ["Scaled"]


class Scaled(Prior):
    r"""The law of sd times a latent of another prior.

    .. math:: \log p(z) = \log p_0(z / s) - \log s, \qquad \psi(z) = \psi_0(z / s) / s, \qquad
              \kappa = \kappa_0 / s^2

    Parameters
    ----------
    law : Prior
        The law of variance 1.
    sd : float
        Standard deviation s, above 0.

    Raises
    ------
    ParameterError
        `law` is no prior, or `sd` not above 0.

    Examples
    --------
    >>> from probae.priors import Laplace
    >>> prior = Scaled(Laplace(), sd=3.0)
    >>> prior.distribution(2).variance
    tensor([9.0000, 9.0000], dtype=torch.float64)
    >>> round(prior.fisher_information(), 4)  # 2 / 9
    0.2222
    """

    law: Prior
    sd: Tensor

    def __init__(self, law: Prior, sd: float) -> None:
        super().__init__()
        if not isinstance(law, Prior):
            raise ParameterError(f"law should be a prior of probae.priors, got {law!r}.")
        self.law = law
        self.register_buffer("sd", torch.tensor(check_positive("sd", sd), dtype=torch.float64))
        self.event_dim = law.event_dim
        self.spherical = law.spherical
        self.has_scale_mixture = law.has_scale_mixture

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density log p_0(z / s) - log s, with K log s for a joint law of K latents."""
        logs = z.shape[-1] if self.event_dim == 1 else 1
        return self.law.log_prob(z / self.sd.to(z)) - logs * self.sd.log().to(z)

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score psi_0(z / s) / s."""
        sd = self.sd.to(z)
        return self.law.score(z / sd) / sd

    def fisher_information(self) -> float:
        """The number kappa_0 / s^2."""
        return self.law.fisher_information() / float(self.sd) ** 2

    def distribution(self, latents: int, like: Tensor | None = None) -> PriorDistribution:
        """The distribution of s times the lawribution of the law."""
        law = self.law.distribution(latents, like)
        variance = self.sd.to(law.variance).square() * law.variance
        return PriorDistribution(self, latents, like, variance, has_rsample=law.has_rsample)

    def draw(self, shape: torch.Size, like: Tensor) -> Float[Tensor, "..."]:
        """Draws of s times the law."""
        return self.sd.to(like) * self.law.draw(shape, like)

    def coordinates(self, latents: int) -> list[Prior] | None:
        """The law's coordinates, each scaled; None where the law has none."""
        laws = self.law.coordinates(latents)
        return None if laws is None else [Scaled(law, float(self.sd)) for law in laws]

    def prox(self, v: Float[Tensor, "..."], step: float | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The point s prox_0(v / s) with the step divided by s^2."""
        sd = self.sd.to(v)
        return sd * self.law.prox(v / sd, step / sd**2)

    def noisy_log_prob(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Log density log f_0(y / s) - log s, with the variance divided by s^2."""
        y64, v = as_float64(y, variance)
        return (self.law.noisy_log_prob(y64 / self.sd, v / self.sd**2) - self.sd.log()).to(y.dtype)

    def noisy_score(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """The law's noisy score at y / s, divided by s."""
        y64, v = as_float64(y, variance)
        return (self.law.noisy_score(y64 / self.sd, v / self.sd**2) / self.sd).to(y.dtype)

    def noisy_fisher_information(self, variance: float) -> float:
        """That of the law at variance / s^2: the noisy law is brought back to variance 1 in any case."""
        return self.law.noisy_fisher_information(check_positive("variance", variance) / float(self.sd) ** 2)

    def sample_scales(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Draw s^2 times the law's tau given z / s."""
        sd = self.sd.to(z)
        return sd**2 * self.law.sample_scales(z / sd)

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return f"{self.law!r}, sd={float(self.sd):.6g}"
