"""Units of networks, and how the weights of a layer that they feed begin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from probae.checks import check_choice


@dataclass(frozen=True)
class Activation:
    """A unit h = s(a), with what keeps the variance of a small signal from layer to layer.

    Parameters
    ----------
    name : str
    module : type
        The unit as a module.
    gain : float
        Variance of a over that of h: 16 for sigmoid units, whose slope is 1/4; 2 for half of a rectified signal.
    rest : float
        h at a = 0.
    middle : float
        Where s is close to linear for a of unit variance.
    """

    name: str
    module: type[nn.Module]
    gain: float
    rest: float
    middle: float

    @torch.no_grad()
    def feed(self, layer: nn.Linear) -> None:
        """Put weights of variance 1 / fan-in that are fed by these units on their scale, about their rest."""
        layer.weight.mul_(self.gain**0.5)
        layer.bias.copy_(-self.rest * layer.weight.sum(1))


ACTIVATIONS = {
    one.name: one
    for one in (
        Activation("tanh", nn.Tanh, gain=1.0, rest=0.0, middle=0.0),
        Activation("sigmoid", nn.Sigmoid, gain=16.0, rest=0.5, middle=0.0),
        Activation("relu", nn.ReLU, gain=2.0, rest=0.0, middle=3.0),
    )
}


def check_activation(name: str) -> Activation:
    """Return the activation of this name.

    Examples
    --------
    >>> check_activation("sigmoid").gain
    16.0
    """
    return ACTIVATIONS[check_choice("activation", name, tuple(ACTIVATIONS))]
