"""Independent normal loadings, or means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import (
    Law,
    LoadingsPrior,
    MeanPrior,
    State,
    check_scale,
    entries_of,
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
        A scale that is not finite and above 0.

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
        object.__setattr__(self, "scale", check_scale("scale", self.scale))

    @property
    def rotation_invariant(self) -> bool:
        """Whether the scale is the same for all factors."""
        return self._entries.shape[-1] == 1 or bool((self._entries == self._entries[..., :1]).all())

    @property
    def _entries(self) -> Tensor:
        """The scales in a shape that broadcasts to (D, K)."""
        return entries_of(self.scale)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """One site: the parameter."""
        if len(shape) == 2:
            return {name: expanded(dist.Normal(torch.zeros_like(self._entries), self._entries), shape)}
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        return {name: expanded(dist.Normal(torch.as_tensor(self.loc, dtype=torch.float64), scale), shape)}

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Divide scale and location by the unit of each feature."""
        return type(self)(per_feature(self.scale, units), per_feature(self.loc, units))

    def variance(self, state: State) -> Tensor:
        """s^2, whatever the state."""
        return self._entries.square()

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Log density of each chain's loadings."""
        return log_normal(loadings, self._entries.square())

    def log_marginal(self, loadings: Float[Tensor, "chains features latents"]) -> Float[Tensor, " chains"]:
        """The same: there are no hyperparameters."""
        return self.log_prob({}, loadings)
