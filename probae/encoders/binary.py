"""A network from x to bits: logistic units with noise on their input."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import check_data, check_positive
from probae.encoders.binary_law import BinaryCode
from probae.encoders.bit_report import BitReport, report_bits
from probae.encoders.network import NetworkEncoder, check_hidden, linear, perceptron


class BinaryCodeEncoder(NetworkEncoder):
    r"""Logistic units z = 1 / (1 + exp(-a(x) - s e)), e standard normal, thresholded to bits a(x) > 0.

    A decoder reads a unit through the noise only if its input is many times s: training drives a to large values of
    either sign, hence z to 0 and 1 (semantic hashing, Salakhutdinov & Hinton 2009).

    Parameters
    ----------
    features, latents : int
        ``latents`` is the number of bits.
    hidden : tuple of int
        Widths of the hidden layers; none for a linear map.
    noise_std : float
        s, the standard deviation of the noise on the input of the units.

    Notes
    -----
    The relaxed law lies in (0, 1)^K and has an exact density, hence an ELBO. Its entropy term holds the units in the
    middle: for codes that saturate, train on the reconstruction alone.

    Examples
    --------
    >>> import torch, probae as pa
    >>> encoder = pa.BinaryCodeEncoder(5, 8, hidden=(16,))
    >>> x = torch.randn(20, 5)
    >>> encoder.bits(x).shape
    torch.Size([20, 8])
    """

    warning = (
        "The encoder has one independent logistic unit per coordinate: its axes are bits, whatever the model says, so "
        "a preferred rotation may be the guide's."
    )

    def __init__(
        self, features: int, latents: int, hidden: tuple[int, ...] = (128,), noise_std: float = 4.0
    ) -> None:
        super().__init__(features, latents)
        self.hidden = check_hidden(hidden)
        check_positive("noise_std", noise_std)
        self.noise_std = float(noise_std)
        self.body = perceptron(features, self.hidden)
        self.head = linear((features, *self.hidden)[-1], latents)

    def __repr__(self) -> str:
        return (
            f"BinaryCodeEncoder({self.features}, {self.latents}, hidden={self.hidden}, "
            f"noise_std={self.noise_std:g})"
        )

    def forward(self, x: Float[Tensor, "samples features"]) -> BinaryCode:
        """Return q(z | x)."""
        return BinaryCode(self.head(self.hidden_values(x)), self.noise_std)

    def bits(self, x: Any) -> Bool[Tensor, "samples latents"]:
        """Return the codes: whether each unit is on without noise."""
        return self._inputs(x) > 0

    def report(self, x: Any) -> BitReport:
        """Return how balanced, saturated and correlated the bits are on x."""
        inputs = self._inputs(x)
        return report_bits(inputs > 0, inputs.sigmoid())

    @torch.no_grad()
    def _inputs(self, x: Any) -> Float[Tensor, "samples latents"]:
        data = check_data(x, features=self.features, names=getattr(self, "feature_names", None))
        encoder = self if self.head.weight.dtype == data.dtype else copy.deepcopy(self).to(data.dtype)
        return encoder.head(encoder.hidden_values(data.values.to(data.dtype)))
