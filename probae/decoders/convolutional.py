"""Transposed convolutions from z to a square patch."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_count
from probae.decoders.base import Decoder, linear


class ConvolutionalDecoder(Decoder):
    """Linear map to a small grid, then one transposed convolution per entry of ``channels``, each doubling the grid.

    Parameters
    ----------
    latents : int
    size : int
        Side of the patch; rows of x are its pixels row by row. A multiple of 2 ** len(channels).
    channels : tuple of int
        Channels going into each transposed convolution (kernel 4, stride 2, tanh between).

    Raises
    ------
    ParameterError
        If the side does not fit the number of layers.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.decoders.ConvolutionalDecoder(2, size=8, channels=(6, 4))(torch.zeros(3, 2)).shape
    torch.Size([3, 64])
    """

    def __init__(self, latents: int, size: int, channels: tuple[int, ...] = (32, 16)) -> None:
        super().__init__(latents, check_count("size", size) ** 2)
        self.size = int(size)
        if not isinstance(channels, tuple | list) or not channels:
            raise ParameterError(f"channels should be a tuple of widths such as (32, 16), got {channels!r}.")
        self.channels = tuple(check_count("channels", width) for width in channels)
        factor = 2 ** len(self.channels)
        if size % factor:
            raise ParameterError(
                f"size should be a multiple of {factor} for {len(self.channels)} layers, got {size}: "
                "use another size or fewer channels."
            )
        self.grid = (self.channels[0], size // factor, size // factor)
        self.head = linear(latents, self.channels[0] * (size // factor) ** 2)
        layers: list[nn.Module] = []
        for a, b in pairwise((*self.channels, 1)):
            device = torch.get_default_device()
            layer = nn.utils.skip_init(nn.ConvTranspose2d, a, b, 4, stride=2, padding=1, device=device)
            layers += [nn.Tanh(), layer]
        self.body = nn.Sequential(*layers)
        self.draw(torch.Generator().manual_seed(0))

    def __repr__(self) -> str:
        return f"ConvolutionalDecoder({self.latents}, size={self.size}, channels={self.channels})"

    def network(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch outputs"]:
        """Return the pixels in units of ``spread``."""
        grid = self.head(z.reshape(-1, self.latents)).unflatten(-1, self.grid)
        pixels: Tensor = self.body(grid)
        return pixels.reshape(*z.shape[:-1], self.outputs)
