"""An encoder whose weights are the transpose of the model's loadings: one parameter for both."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_choice
from probae.encoders.base import Encoder
from probae.encoders.laws import GaussianCode
from probae.encoders.unit_slopes import UNITS, slope, units


class TiedEncoder(Encoder):
    r"""q(z | x) = N(s(W' L (x - m) + b), R R'), W the loadings of the model itself, m and L fixed by the columns of x.

    ``attach(model)`` makes ``weight`` the model's own parameter: the gradient is the sum over both of its uses. L is
    diag(1 / column variance), so the tie is the transpose on standardised columns and survives a change of units. The
    exact posterior mean of a Gaussian model, M^{-1} W' Psi^{-1} (x - mean), is in general outside the family: a tie
    is a restriction, and a linear encoder without it is never worse at its optimum.

    Parameters
    ----------
    features, latents : int
    standardize : bool
        False for L = I: the plain transpose, in the units in which the model is trained.
    activation : {"linear", "tanh", "sigmoid"}
        Units s of the code; the Jacobian of their means is diag(s') W' L.

    Attributes
    ----------
    weight : Parameter (D, K)
        The loadings; the encoder's own until `attach`.

    Examples
    --------
    >>> import probae as pa
    >>> model, encoder = pa.FactorAnalysis(5, 2), pa.TiedEncoder(5, 2).double()
    >>> encoder.attach(model)
    >>> encoder.weight is model.loadings
    True
    """

    centre: Tensor
    unit: Tensor
    weight_unit: Tensor

    def __init__(
        self, features: int, latents: int, standardize: bool = True, activation: str = "linear"
    ) -> None:
        super().__init__(features, latents)
        self.activation = check_choice("activation", activation, UNITS)
        self.standardize = bool(standardize)
        self.attached = self.relative = False
        self.weight = nn.Parameter(torch.zeros(features, latents))
        self.bias = nn.Parameter(torch.zeros(latents))
        self.log_scale = nn.Parameter(torch.zeros(latents))
        self.lower = nn.Parameter(torch.zeros(latents, latents))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("unit", torch.ones(features))
        self.register_buffer("weight_unit", torch.ones(features))  # loadings = weight_unit * weight

    def __repr__(self) -> str:
        extra = "" if self.standardize else ", standardize=False"
        extra += "" if self.activation == "linear" else f", activation={self.activation!r}"
        return f"TiedEncoder({self.features}, {self.latents}{extra})"

    def attach(self, model: Any) -> None:
        """Share the loadings of a linear model, or the weights of a linear decoder.

        Raises
        ------
        ParameterError
            If the model has no (D, K) loadings that are a parameter.
        """
        decoder = getattr(model, "decoder", None)
        relative = hasattr(decoder, "loadings")  # a LinearDecoder, whose parameter is in units of its spread
        weight = getattr(model, "loadings", None)
        if decoder is not None:
            weight = decoder.head.weight if relative else getattr(decoder, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.shape != (self.features, self.latents):
            raise ParameterError(
                f"TiedEncoder shares the loadings ({self.features}, {self.latents}) of a linear model or decoder, and "
                f"{type(model).__name__} has no such parameter: use another encoder."
            )
        self.weight = weight
        self.attached, self.relative = True, relative
        unit = decoder.spread if decoder is not None and relative else torch.ones_like(self.weight_unit)
        self.weight_unit.copy_(unit)

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Centre and standardise by the columns of x; shared weights are left as the model has them."""
        spread = x.std(0, correction=int(len(x) > 1))
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        draw = torch.randn(self.weight.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        with torch.no_grad():
            self.centre.copy_(x.mean(0))
            self.unit.copy_(spread if self.standardize else torch.ones_like(spread))
            if not self.attached:
                self.weight.copy_(0.5 * draw * self.unit.unsqueeze(1) / self.features**0.5)

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x; the model has scaled what is shared."""
        self.centre.mul_(units)
        self.unit.mul_(units)
        if self.relative:
            self.weight_unit.mul_(units)
        elif not self.attached:
            self.weight.mul_(units.unsqueeze(1))

    def forward(self, x: Float[Tensor, "samples features"]) -> GaussianCode:
        """Return q(z | x)."""
        scale_tril = self.lower.tril(-1) + torch.diag(self.log_scale.exp())
        return GaussianCode(self._units(x), scale_tril)

    def jacobian(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples latents features"]:
        """Return d E[z | x] / dx = diag(s') W' L of each row."""
        weight = self.weight * (self.weight_unit / self.unit.square()).unsqueeze(1)
        return slope(self._units(x), self.activation).unsqueeze(-1) * weight.mT

    def jacobian_norm(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples"]:
        """Return the squared Frobenius norm of the Jacobian, without the Jacobian itself."""
        weight = self.weight * (self.weight_unit / self.unit.square()).unsqueeze(1)
        return slope(self._units(x), self.activation).square() @ weight.square().sum(0)

    def _units(self, x: Tensor) -> Float[Tensor, "samples latents"]:
        scaled = (x - self.centre) / self.unit
        weight = self.weight * (self.weight_unit / self.unit).unsqueeze(1)
        return units(scaled @ weight + self.bias, self.activation)
