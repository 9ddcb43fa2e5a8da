"""Inverse gamma noise variances: the conjugate choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import Law, NoisePrior, draw_inverse_gamma, expanded, variance_in_units

__all__ = ["InverseGamma"]


@dataclass(frozen=True, eq=False)
class InverseGamma(NoisePrior):
    r"""Inverse gamma variances.

    .. math:: p(\psi) = \frac{b^a}{\Gamma(a)} \psi^{-a-1} e^{-b/\psi}

    Parameters
    ----------
    shape : float
        a; the prior weighs as much as 2 a residuals.
    scale : float or Tensor (D,)
        b, in squared units of x; the mean is b / (a - 1).

    Raises
    ------
    ParameterError
        A number that is not finite and above 0.

    Examples
    --------
    >>> import torch
    >>> prior = InverseGamma(2.0, 0.5)
    >>> _ = torch.manual_seed(0)
    >>> draws = prior.draw(torch.full((20_000,), 10.0), 8)      # IG(2 + 8/2, .5 + 10/2), mean 5.5 / 5
    >>> abs(draws.mean().item() - 1.1) < 0.02
    True
    """

    shape: float = 2.0
    scale: float | Tensor = 0.5

    @property
    def _law(self) -> dist.InverseGamma:
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        return dist.InverseGamma(torch.full_like(scale, self.shape), scale, validate_args=False)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """One site: the variances."""
        return {name: expanded(self._law, shape)}

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Divide the scale by the squared unit of each feature, or by the one common unit."""
        return type(self)(self.shape, variance_in_units(self.scale, units, power=2))

    def draw(self, squares: Float[Tensor, "*chains"], count: int | Tensor) -> Float[Tensor, "*chains"]:
        """Draw from IG(a + count / 2, b + squares / 2)."""
        scale = torch.as_tensor(self.scale, dtype=torch.float64) + 0.5 * squares.double()
        return draw_inverse_gamma(self.shape + 0.5 * count, scale)

    def log_prob(self, variance: Float[Tensor, "*chains"]) -> Float[Tensor, "*chains"]:
        """Log density of each variance."""
        return self._law.log_prob(variance)
