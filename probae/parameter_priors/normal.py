"""Independent normal loadings, or means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.parameter_priors.base import (
    Law,
    LoadingsPrior,
    MeanPrior,
    State,
    check_numbers,
    check_shape,
    expanded,
    log_normal,
    per_feature,
)

__all__ = ["Normal"]


@dataclass(frozen=True, eq=False)
class Normal(LoadingsPrior, MeanPrior):
    r"""Independent normal entries: of the loadings around 0, of the mean around ``loc``.

    .. math:: W_{dk} \sim N(0, s_{dk}^2)

    Parameters
    ----------
    scale : float or Tensor
        Standard deviation, in units of x: a number, one for each feature (D,), or of loadings one for each entry
        (D, K).
    loc : float or Tensor (D,)
        Of the mean only.

    Raises
    ------
    ParameterError
        A scale that is not finite and above 0, or a location that is not finite.

    Notes
    -----
    One scale for all factors is rotation invariant: the posterior then leaves the rotation of W free.

    Examples
    --------
    >>> import torch
    >>> Normal(2.0).rotation_invariant, Normal(torch.tensor([[1.0, 2.0]])).rotation_invariant
    (True, False)
    """

    scale: float | Tensor = 1.0
    loc: float | Tensor = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", check_numbers("scale", self.scale, positive=True))
        object.__setattr__(self, "loc", check_numbers("loc", self.loc))

    @property
    def rotation_invariant(self) -> bool:
        """Whether the scale is the same for all factors."""
        return self.scales_factors_alike

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Location and variance of the mean, each one number or (D,)."""
        location, scale = (torch.as_tensor(part, dtype=torch.float64) for part in (self.loc, self.scale))
        return location, scale.square()

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """One site: the parameter.

        Raises
        ------
        ParameterError
            A scale for another shape; loadings around another point than 0.
        """
        if len(shape) == 2:
            if bool((torch.as_tensor(self.loc) != 0).any()):
                raise ParameterError(
                    f"loc is of the mean alone, and loadings are normal around 0: leave it out, got {self.loc!r}."
                )
            entries = self.entries_of(shape)
            return {name: dist.Normal(torch.zeros_like(entries), entries).to_event(2)}
        location, variance = self.moments
        for part in (location, variance):
            check_shape(part.shape, shape)
        return {name: expanded(dist.Normal(location, variance.sqrt()), shape)}

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Divide scale and location by the unit of each feature."""
        return type(self)(per_feature(self.scale, units), per_feature(self.loc, units))

    def variance(self, state: State) -> Tensor:
        """s^2, whatever the state."""
        return self.entries.square()

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Log density of each chain's loadings."""
        return log_normal(loadings, self.entries.square())

    def log_marginal(self, loadings: Float[Tensor, "chains features latents"]) -> Float[Tensor, " chains"]:
        """The same: there are no hyperparameters."""
        return self.log_prob({}, loadings)
