"""A mean that nothing is known of, and a mean that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import Law, MeanPrior

__all__ = ["Fixed", "Flat"]


@dataclass(frozen=True, eq=False)
class Flat(MeanPrior):
    """p(mean) = constant: integrated out exactly. It is improper, so a program cannot draw from it.

    Examples
    --------
    >>> import torch
    >>> Flat().sites("mean", torch.Size([3]))
    {}
    """

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """None: the program keeps the mean that the model has."""
        return {}

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Constant in any unit."""
        return self


@dataclass(frozen=True, eq=False)
class Fixed(MeanPrior):
    """The mean is the one that the model has.

    Examples
    --------
    >>> import torch
    >>> Fixed().sites("mean", torch.Size([3]))
    {}
    """

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """None: the mean is no random site."""
        return {}

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """The same statement in any unit."""
        return self
