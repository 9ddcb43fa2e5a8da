r"""What the rows say of the parameters once the codes are known on average, and the best parameters for that.

With z_ = (z, 1) and centred rows, the expected complete log-likelihood per row depends on

    second = E z_ z_',  cross = E x z_',  power = E x_d^2,

and is largest at (W, mean) = cross second^{-1} and psi_d = power_d - 2 (W_ cross')_dd + (W_ second W_')_dd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_NOISE = 1e-6  # of the mean variance of the columns: below it steps are too short to be of use


class CodeParameters(NamedTuple):
    """Parameters of centred rows.

    Attributes
    ----------
    loadings : Tensor (D, K)
    noise : Tensor (D,) or ()
    offset : Tensor (D,)
        Mean of x less that of the rows.
    """

    loadings: Float[Tensor, "features latents"]
    noise: Tensor
    offset: Float[Tensor, " features"]


@dataclass(frozen=True, eq=False)
class CodeStatistics:
    """Sums over ``count`` rows.

    Attributes
    ----------
    count : float
    second : Tensor (K + 1, K + 1)
    cross : Tensor (D, K + 1)
    power : Tensor (D,)

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    >>> found = CodeStatistics.of(3 * z + 1, z).maximize(isotropic=True, floor=0.1)
    >>> [round(part.item(), 9) for part in found]        # x = 3 z + 1 leaves nothing, and the floor holds
    [3.0, 0.1, 1.0]
    """

    count: float
    second: Float[Tensor, "extended extended"]
    cross: Float[Tensor, "features extended"]
    power: Float[Tensor, " features"]

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "samples features"],
        z: Float[Tensor, "samples latents"],
        covariance: Float[Tensor, "latents latents"] | None = None,
    ) -> CodeStatistics:
        """Sum over rows with codes z, or with mean codes z and a summed covariance."""
        extended = torch.cat([z, torch.ones_like(z[:, :1])], 1)
        second = extended.mT @ extended
        if covariance is not None:
            second[:-1, :-1] += covariance
        return cls(float(len(x)), second, x.mT @ extended, x.square().sum(0))

    def __add__(self, other: CodeStatistics) -> CodeStatistics:
        return CodeStatistics(
            self.count + other.count,
            self.second + other.second,
            self.cross + other.cross,
            self.power + other.power,
        )

    def times(self, weight: float) -> CodeStatistics:
        """Return the sums times a number."""
        return CodeStatistics(
            weight * self.count, weight * self.second, weight * self.cross, weight * self.power
        )

    def rescaled(self, scale: Float[Tensor, " latents"]) -> CodeStatistics:
        """Return the sums for the codes z / scale."""
        inverse = torch.cat([1 / scale, torch.ones_like(scale[:1])])
        second = self.second * torch.outer(inverse, inverse)
        return CodeStatistics(self.count, second, self.cross * inverse, self.power)

    def remixed(self, inverse: Float[Tensor, "latents latents"]) -> CodeStatistics:
        """Return the sums for the codes inverse z."""
        extended = torch.block_diag(inverse, torch.ones(1, 1, dtype=inverse.dtype))
        second = extended @ self.second @ extended.mT
        return CodeStatistics(self.count, second, self.cross @ extended.mT, self.power)

    def residual(self, coefficients: Float[Tensor, "features extended"]) -> Float[Tensor, " features"]:
        """Return E (x - W z - mean)_d^2 per row."""
        fitted = coefficients @ self.second
        return (self.power + ((fitted - 2 * self.cross) * coefficients).sum(1)) / self.count

    def maximize(self, isotropic: bool, floor: float | Tensor) -> CodeParameters:
        """Return the best parameters, with noise not below the floor."""
        factor, info = torch.linalg.cholesky_ex(self.second)
        if int(info) == 0:
            coefficients = torch.cholesky_solve(self.cross.mT, factor).mT
        else:  # fewer rows than codes: the smallest of many equal answers
            coefficients = self.cross @ torch.linalg.pinv(self.second, hermitian=True)
        residual = self.residual(coefficients)
        noise = torch.maximum(
            residual.mean() if isotropic else residual, torch.as_tensor(floor, dtype=residual.dtype)
        )
        return CodeParameters(coefficients[:, :-1], noise, coefficients[:, -1])

    def log_likelihood(self, parameters: CodeParameters) -> float:
        """Return E log p(x | z) per row, in nats."""
        coefficients = torch.cat([parameters.loadings, parameters.offset.unsqueeze(1)], 1)
        noise = parameters.noise.expand(len(self.power))
        energy = self.residual(coefficients) / noise + (2 * math.pi * noise).log()
        return -0.5 * float(energy.sum())
