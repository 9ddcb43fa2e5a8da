r"""The encoder of the classical autoencoders: one layer of units, h = s(W (x - b) + c)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import check_choice
from probae.encoders.base import Encoder
from probae.encoders.laws import DiagonalCode
from probae.encoders.unit_slopes import UNITS, slope, units


class OneLayerEncoder(Encoder):
    r"""q(z | x) = N(s(W (x - b) + c), diag(scale^2)) with one layer of units and a scale for each.

    Its Jacobian has a closed form, diag(s') W: for sigmoid units s' = h (1 - h), for tanh units 1 - h^2.

    Parameters
    ----------
    features, latents : int
    activation : {"linear", "tanh", "sigmoid"}

    Examples
    --------
    >>> import torch, probae as pa
    >>> encoder = pa.OneLayerEncoder(5, 2, activation="sigmoid")
    >>> encoder(torch.zeros(3, 5)).mean.shape
    torch.Size([3, 2])
    """

    warning = (
        "The encoder has a diagonal covariance: it prefers axes on which the posterior is uncorrelated, "
        "whatever the model says, so a preferred rotation may be the guide's."
    )

    def __init__(self, features: int, latents: int, activation: str = "sigmoid") -> None:
        super().__init__(features, latents)
        self.activation = check_choice("activation", activation, UNITS)
        self.weight = nn.Parameter(torch.zeros(latents, features))
        self.offset = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(latents))
        self.log_scale = nn.Parameter(torch.zeros(latents))

    def __repr__(self) -> str:
        return f"OneLayerEncoder({self.features}, {self.latents}, activation={self.activation!r})"

    @torch.no_grad()
    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Centre at the column means; random weights in the units of x."""
        spread = x.std(0) * self.features**0.5
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        draw = torch.randn(self.weight.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        self.offset.copy_(x.mean(0))
        self.weight.copy_(draw / spread)
        self.bias.zero_()

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x."""
        self.weight.div_(units)
        self.offset.mul_(units)

    def forward(self, x: Float[Tensor, "samples features"]) -> DiagonalCode:
        """Return q(z | x)."""
        code = self._units(x)
        return DiagonalCode(code, self.log_scale.exp().expand(code.shape))

    def jacobian(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples latents features"]:
        """Return d E[z | x] / dx = diag(s') W of each row."""
        return self._slope(x).unsqueeze(-1) * self.weight

    def jacobian_norm(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples"]:
        """Return the squared Frobenius norm of the Jacobian, sum_j s'_j^2 |W_j|^2, without the Jacobian itself."""
        return self._slope(x).square() @ self.weight.square().sum(1)

    def _units(self, x: Tensor) -> Tensor:
        return units((x - self.offset) @ self.weight.mT + self.bias, self.activation)

    def _slope(self, x: Tensor) -> Float[Tensor, "samples latents"]:
        return slope(self._units(x), self.activation)
