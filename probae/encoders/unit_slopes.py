"""Units of one-layer encoders, and their slopes as functions of their own values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

UNITS = ("linear", "tanh", "sigmoid")


def units(signal: Float[Tensor, "*batch latents"], activation: str) -> Float[Tensor, "*batch latents"]:
    """Return h = s(signal).

    Examples
    --------
    >>> units(torch.zeros(2), "sigmoid")
    tensor([0.5000, 0.5000])
    """
    if activation == "linear":
        return signal
    return signal.tanh() if activation == "tanh" else signal.sigmoid()


def slope(code: Float[Tensor, "*batch latents"], activation: str) -> Float[Tensor, "*batch latents"]:
    """Return s' where the unit is at h: 1, 1 - h^2 or h (1 - h).

    Examples
    --------
    >>> slope(torch.tensor([0.5, 0.0]), "sigmoid")
    tensor([0.2500, 0.0000])
    """
    if activation == "linear":
        return torch.ones_like(code)
    return 1 - code.square() if activation == "tanh" else code * (1 - code)
