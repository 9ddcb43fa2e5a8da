"""What a likelihood is: a module from the output of a decoder to a distribution over x."""

from __future__ import annotations

import copy
from typing import Self

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import check_choice


class Likelihood(nn.Module):
    """Map the output (..., D) of a decoder to p(x | z) with event shape (D,).

    Examples
    --------
    >>> class Poisson(Likelihood):
    ...     def forward(self, output):
    ...         return dist.Poisson(output.exp()).to_event(1)
    >>> Poisson()(torch.zeros(4, 3)).log_prob(torch.zeros(4, 3))
    tensor([-3., -3., -3., -3.])
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def forward(self, output: Float[Tensor, "*batch features"]) -> dist.TorchDistribution:
        """Return p(x | z)."""
        raise NotImplementedError

    def mean(self, output: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Return E[x | z]."""
        raise NotImplementedError

    def sized(self, features: int) -> Self:
        """Return a copy with parameters for this many features."""
        return copy.deepcopy(self)

    def start(
        self, x: Float[Tensor, "samples features"]
    ) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
        """Set first values of the parameters for data x; return centre and spread for the output of the decoder."""
        raise NotImplementedError

    def check(self, x: Float[Tensor, "samples features"]) -> None:
        """Refuse data that the likelihood has no density for.

        Raises
        ------
        DataError
            With what is needed, what came and what to do.
        """


class Noise(Likelihood):
    """A location family: the output is the mean of x, beside it a learned noise variance.

    Parameters
    ----------
    noise : {"isotropic", "diagonal"}
        One variance for all features, or one for each.
    """

    unit: Tensor

    def __init__(self, noise: str = "isotropic") -> None:
        super().__init__()
        self.noise = check_choice("noise", noise, ("isotropic", "diagonal"))
        self.log_noise = nn.Parameter(torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(noise={self.noise!r})"

    @property
    def noise_variance(self) -> Tensor:
        """Variance of x given z, in squared units of x: () or (D,)."""
        return self.log_noise.exp() * self.unit.square()

    def sized(self, features: int) -> Self:
        """Return a copy with parameters for this many features."""
        own = copy.deepcopy(self)
        if self.noise == "diagonal" and own.log_noise.shape != (features,):
            own.log_noise = nn.Parameter(own.log_noise.detach().expand(features).clone())
            own.unit = own.unit.expand(features).clone()
        return own

    def mean(self, output: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Return E[x | z], the output."""
        return output

    @torch.no_grad()
    def start(
        self, x: Float[Tensor, "samples features"]
    ) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
        """Give half the variance of x to the noise; return the means and standard deviations of x.

        A constant column is given the mean standard deviation, and 1 if all are constant.
        """
        spread = x.std(0)
        shared = spread.mean() if bool((spread > 0).any()) else torch.ones_like(spread[0])
        spread = torch.where(spread > 0, spread, shared)
        self.unit.copy_(spread if self.unit.ndim else spread.square().mean().sqrt())
        self.log_noise.fill_(-0.6931471805599453)  # log 1/2
        return x.mean(0), spread

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, "features"]) -> None:
        """Put noise about x / units into the units of x; isotropic noise has one for all."""
        self.unit.mul_(units if self.unit.ndim else units[0])
