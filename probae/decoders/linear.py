"""The linear decoder of factor models."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.decoders.base import Decoder, linear


class LinearDecoder(Decoder):
    r"""Output :math:`\mu + W z`: with Gaussian noise, the linear factor model.

    Parameters
    ----------
    latents, outputs : int

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.decoders.LinearDecoder(2, 5)(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(self, latents: int, outputs: int) -> None:
        super().__init__(latents, outputs)
        self.head = linear(latents, outputs)
        self.draw(torch.Generator().manual_seed(0))

    @property
    def loadings(self) -> Float[Tensor, "outputs latents"]:
        """W, in the units of the output."""
        return self.spread.unsqueeze(1) * self.head.weight

    @property
    def mean(self) -> Float[Tensor, "outputs"]:
        """The output at z = 0."""
        return self.centre + self.spread * self.head.bias

    def network(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch outputs"]:
        """Return W z in units of ``spread``."""
        output: Tensor = self.head(z)
        return output
