"""What a decoder is: a module from z to the parameters of a likelihood, in the units of the data."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.activations import ACTIVATIONS
from probae.checks import check_count


class Decoder(nn.Module):
    r"""Map z (..., K) to ``centre + spread * network(z)`` (..., M); subclasses write ``network``.

    Parameters
    ----------
    latents : int
        Columns K of z.
    outputs : int
        Columns M of the output: as many as the features of x.

    Attributes
    ----------
    centre, spread : Tensor (M,)
        Units of the output, set by `start`; not trained.

    Examples
    --------
    >>> class First(Decoder):
    ...     def network(self, z):
    ...         return z[..., : self.outputs]
    >>> First(latents=3, outputs=2)(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    centre: Tensor
    spread: Tensor
    activation: str = "tanh"

    def __init__(self, latents: int, outputs: int) -> None:
        super().__init__()
        self.latents = check_count("latents", latents)
        self.outputs = check_count("outputs", outputs)
        self.register_buffer("centre", torch.zeros(outputs))
        self.register_buffer("spread", torch.ones(outputs))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.latents}, {self.outputs})"

    def network(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch outputs"]:
        """Return the output in units of ``spread`` about ``centre``."""
        raise NotImplementedError

    def forward(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch outputs"]:
        """Return the output."""
        return self.centre + self.spread * self.network(z)

    @torch.no_grad()
    def start(
        self, centre: Float[Tensor, "outputs"], spread: Float[Tensor, "outputs"], generator: torch.Generator
    ) -> None:
        """Set the units of the output, and draw the weights again."""
        self.centre.copy_(centre)
        self.spread.copy_(spread)
        self.draw(generator)

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " outputs"]) -> None:
        """Put a decoder to x / units into the units of x."""
        self.centre.mul_(units)
        self.spread.mul_(units)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw weights of variance 1 / fan-in (half of that in the last layer), with biases of zero.

        Layers fed by sigmoid units have 16 times that variance, by rectified ones twice: signals keep theirs.
        """
        unit = ACTIVATIONS[self.activation]
        layers = [part for part in self.modules() if isinstance(part, nn.Linear | nn.ConvTranspose2d)]
        for layer in layers:
            weight = layer.weight
            if weight.is_meta:  # a sketch, made to see the sizes
                continue
            # a stride of s reaches each output of a transposed convolution with (kernel / s)^2 taps per channel
            taps = 1 if isinstance(layer, nn.Linear) else (layer.kernel_size[0] // layer.stride[0]) ** 2
            fan = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels * taps
            variance = (0.5 if layer is layers[-1] else 1.0) / fan
            values = torch.randn(weight.shape, generator=generator, dtype=torch.float64) * variance**0.5
            weight.copy_(values)
            if layer.bias is not None:
                layer.bias.zero_()
            if layer is not layers[0] and isinstance(layer, nn.Linear) and unit.name != "tanh":
                unit.feed(layer)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer without values yet, so that the caller's random state is left alone."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, device=torch.get_default_device())
    return layer
