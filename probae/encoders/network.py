"""What encoders with a network share: standardised input, hidden layers, a linear head, a seeded start."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.activations import ACTIVATIONS
from probae.checks import ParameterError, check_count
from probae.encoders.base import Encoder


class Residual(nn.Module):
    """x plus what the layers make of x."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return x + layers(x)."""
        return x + self.layers(x)


class NetworkEncoder(Encoder):
    """An encoder whose law comes from ``head(body((x - centre) / spread))``; subclasses set ``body`` and ``head``."""

    body: nn.Module
    head: nn.Linear
    centre: Tensor
    spread: Tensor
    activation: str = "tanh"
    started: bool = False  # whether the weights are pre-trained, so that `start` leaves them alone

    def __init__(self, features: int, latents: int) -> None:
        super().__init__(features, latents)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Standardise by the columns of x and draw the weights (variance 1 / fan-in, the scale head a hundredth).

        Layers fed by sigmoid units have 16 times that variance, by rectified ones twice: signals keep theirs.
        """
        if self.started:
            return
        spread = x.std(0, correction=int(len(x) > 1))
        self.centre.copy_(x.mean(0))
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
        unit, inner = ACTIVATIONS[self.activation], False
        with torch.no_grad():
            for layer in (*self.body.modules(), self.head):
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    draw = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
                    layer.weight.copy_((draw / layer.weight[0].numel() ** 0.5).to(x.dtype))
                    if layer.bias is not None:
                        layer.bias.zero_()
                    if inner and isinstance(layer, nn.Linear) and unit.name != "tanh":
                        unit.feed(layer)
                    inner = True
                elif isinstance(layer, nn.LayerNorm):
                    layer.reset_parameters()
            self.head.weight[self.latents :] *= 0.01
            self.head.bias[self.latents :] *= 0.01

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x."""
        self.centre.mul_(units)
        self.spread.mul_(units)

    def hidden_values(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples width"]:
        """Return the last hidden layer."""
        return self.body((x - self.centre) / self.spread)


def check_hidden(hidden: tuple[int, ...]) -> tuple[int, ...]:
    """Return the widths of hidden layers as a tuple of counts.

    Examples
    --------
    >>> check_hidden([8, 4])
    (8, 4)
    """
    if not isinstance(hidden, tuple | list):
        raise ParameterError(f"hidden should be a tuple of layer widths such as (128,), got {hidden!r}.")
    return tuple(check_count("hidden", width) for width in hidden)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer; the caller's random state stays as it was.

    Examples
    --------
    >>> linear(3, 2)
    Linear(in_features=3, out_features=2, bias=True)
    """
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(inputs, outputs)


def perceptron(
    features: int,
    hidden: tuple[int, ...],
    residual: bool = False,
    normalize: bool = False,
    activation: str = "tanh",
) -> nn.Sequential:
    """Build hidden layers of units, optionally with layer normalisation before and a skip around each.

    Examples
    --------
    >>> perceptron(5, (8,))
    Sequential(
      (0): Linear(in_features=5, out_features=8, bias=True)
      (1): Tanh()
    )
    """
    layers: list[nn.Module] = []
    unit = ACTIVATIONS[activation].module
    for a, b in pairwise((features, *hidden)):
        parts: list[nn.Module] = [linear(a, b), *([nn.LayerNorm(b)] if normalize else []), unit()]
        layers += [Residual(nn.Sequential(*parts))] if residual and a == b and layers else parts
    return nn.Sequential(*layers)
