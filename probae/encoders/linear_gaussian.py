"""A linear encoder with one covariance for all rows: exact for Gaussian factor models."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.encoders.base import Encoder
from probae.encoders.laws import GaussianCode


class LinearGaussianEncoder(Encoder):
    r"""q(z | x) = N(A (x - b), L L'), with L lower triangular and the same for every row.

    The family holds the exact posterior of FA and PPCA: A = M^{-1} W' Psi^{-1}, L L' = M^{-1}.

    Parameters
    ----------
    features, latents : int

    Examples
    --------
    >>> import torch, probae as pa
    >>> encoder = pa.LinearGaussianEncoder(5, 2)
    >>> q = encoder(torch.zeros(3, 5))
    >>> q.batch_shape, q.event_shape
    (torch.Size([3]), torch.Size([2]))
    """

    linear = True

    def __init__(self, features: int, latents: int) -> None:
        super().__init__(features, latents)
        self.weight = nn.Parameter(torch.zeros(latents, features))
        self.offset = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(latents))
        self.lower = nn.Parameter(torch.zeros(latents, latents))
        self.isotropic = False

    def attach(self, model: Any) -> None:
        """Note whether the noise has one variance for all features: then ``start`` takes one unit for all of them."""
        self.isotropic = getattr(model, "noise", None) == "isotropic"

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Centre at the column means; small random weights in the units of x.

        A unit for each column would, beside isotropic noise, give nearly constant columns the largest weights, and
        Adam, whose steps do not grow with what they have to undo, all its work.
        """
        spread = x.std(0)
        spread = torch.full_like(spread, float(spread.square().mean().sqrt())) if self.isotropic else spread
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        draw = torch.randn(self.weight.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        with torch.no_grad():
            self.offset.copy_(x.mean(0))
            self.weight.copy_(0.5 * draw / (spread * self.features**0.5))

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x."""
        self.weight.div_(units)
        self.offset.mul_(units)

    def forward(self, x: Float[Tensor, "samples features"]) -> GaussianCode:
        """Return q(z | x)."""
        scale_tril = self.lower.tril(-1) + torch.diag(self.log_scale.exp())
        return GaussianCode((x - self.offset) @ self.weight.mT, scale_tril)

    def jacobian(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "1 latents features"]:
        """Return d E[z | x] / dx = A, the same for every row."""
        return self.weight.unsqueeze(0)
