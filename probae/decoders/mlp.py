"""A multi-layer perceptron from z to the parameters of a likelihood."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.activations import check_activation
from probae.checks import ParameterError, check_count
from probae.decoders.base import Decoder, linear


class MLPDecoder(Decoder):
    """Network with a linear last layer.

    Parameters
    ----------
    latents, outputs : int
    hidden : tuple of int
        Widths of the hidden layers, from z on.
    activation : {"tanh", "sigmoid", "relu"}
        The hidden units.

    Raises
    ------
    ParameterError
        If ``hidden`` is no tuple of widths.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.decoders.MLPDecoder(2, 5, hidden=(8,))(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self, latents: int, outputs: int, hidden: tuple[int, ...] = (128,), activation: str = "tanh"
    ) -> None:
        super().__init__(latents, outputs)
        if not isinstance(hidden, tuple | list):
            raise ParameterError(f"hidden should be a tuple of layer widths such as (128,), got {hidden!r}.")
        self.hidden = tuple(check_count("hidden", width) for width in hidden)
        unit = check_activation(activation)
        self.activation = unit.name
        widths = [latents, *self.hidden]
        self.body = nn.Sequential(
            *(part for a, b in pairwise(widths) for part in (linear(a, b), unit.module()))
        )
        self.head = linear(widths[-1], outputs)
        self.draw(torch.Generator().manual_seed(0))

    def __repr__(self) -> str:
        extra = f", activation={self.activation!r}" if self.activation != "tanh" else ""
        return f"MLPDecoder({self.latents}, {self.outputs}, hidden={self.hidden}{extra})"

    def network(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch outputs"]:
        """Return the output in units of ``spread``."""
        output: Tensor = self.head(self.body(z))
        return output
