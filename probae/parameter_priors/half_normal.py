"""Half-normal standard deviations of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.generalized_inverse_gaussian import draw_generalized_inverse_gaussian
from probae.parameter_priors.base import Law, NoisePrior, expanded, variance_in_units

__all__ = ["HalfNormal"]


@dataclass(frozen=True, eq=False)
class HalfNormal(NoisePrior):
    r"""Variances whose square roots are half normal; the density of the standard deviation at 0 is not 0.

    .. math:: \sqrt\psi \sim N^+(0, s^2), \qquad
              p(\psi) = \frac{1}{s \sqrt{2 \pi \psi}} e^{-\psi / (2 s^2)} \quad
              \big(\psi \sim \mathrm{Gamma}(\tfrac12, \tfrac1{2 s^2})\big)

    Parameters
    ----------
    scale : float or Tensor (D,)
        s, in units of x. The default suits columns in units of their standard deviation.

    Raises
    ------
    ParameterError
        A scale that is not finite and above 0. In a fit: a column of x that does not vary, whose noise variance then
        has no proper posterior.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> draws = HalfNormal(1.0).draw(torch.full((20_000,), 400.0), 400)      # near the mean square of many residuals
    >>> abs(draws.mean().item() - 1.0) < 0.01
    True
    """

    scale: float | Tensor = 1.0

    @property
    def _rate(self) -> Tensor:
        return 0.5 / torch.as_tensor(self.scale, dtype=torch.float64).square()

    @property
    def _law(self) -> dist.Gamma:
        rate = self._rate
        return dist.Gamma(torch.full_like(rate, 0.5), rate, validate_args=False)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """One site: the variances."""
        return {name: expanded(self._law, shape)}

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Divide the scale by the unit of each feature, or by the one common unit."""
        return type(self)(variance_in_units(self.scale, units, power=1))

    def check_residuals(self, squares: Float[Tensor, "*chains"], count: int | Tensor) -> None:
        """Refuse residuals that are all 0: the density grows without bound as the variance falls to 0."""
        if not bool(((squares > 0) | (torch.as_tensor(count) < 1)).all()):
            raise ParameterError(
                "HalfNormal noise has no proper posterior where residuals are exactly 0, as in a column that does not "
                "vary: leave the column out, or use InverseGamma()."
            )

    def draw(self, squares: Float[Tensor, "*chains"], count: int | Tensor) -> Float[Tensor, "*chains"]:
        r"""Draw from the generalised inverse Gaussian law GIG((1 - count) / 2, 1 / s^2, squares)."""
        self.check_residuals(squares, count)
        order = torch.as_tensor(0.5 * (1 - count), dtype=torch.float64)
        squares = squares.double().clamp_min(1e-290)  # a gamma law without residuals
        return draw_generalized_inverse_gaussian(order, 2.0 * self._rate, squares)

    def log_prob(self, variance: Float[Tensor, "*chains"]) -> Float[Tensor, "*chains"]:
        """Log density of each variance."""
        return self._law.log_prob(variance)
