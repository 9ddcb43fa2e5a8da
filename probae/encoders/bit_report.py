"""How the bits of a code are used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EDGES = (0.1, 0.9)


@dataclass(frozen=True, eq=False)
class BitReport:
    """Balance, saturation and correlation of bits.

    Attributes
    ----------
    balance : Tensor (K,)
        Share of rows in which each bit is 1: 1/2 is best, 0 or 1 is a dead bit.
    saturation : Tensor (K,)
        Share of rows in which the activation of each bit is outside (.1, .9); 1 for codes.
    correlation : Tensor (K, K)
        Between bits over rows; 0 for a dead bit.

    Examples
    --------
    >>> BitReport(torch.tensor([0.5, 1.0]), torch.ones(2), torch.zeros(2, 2)).dead
    1
    """

    balance: Float[Tensor, "bits"]
    saturation: Float[Tensor, "bits"]
    correlation: Float[Tensor, "bits bits"]

    @property
    def dead(self) -> int:
        """Count the bits that are the same in every row."""
        return int(((self.balance == 0) | (self.balance == 1)).sum())

    @property
    def largest_correlation(self) -> float:
        """Largest absolute correlation of two bits, 0 for a single bit."""
        return float((self.correlation - self.correlation.diagonal().diag()).abs().max())

    def __repr__(self) -> str:
        return (
            f"BitReport({len(self.balance)} bits, {self.dead} dead, "
            f"balance {float(self.balance.min()):.2f} to {float(self.balance.max()):.2f}, "
            f"saturation {float(self.saturation.mean()):.2f}, |correlation| up to {self.largest_correlation:.2f})"
        )


def report_bits(bits: Bool[Tensor, "samples bits"], activations: Float[Tensor, "samples bits"]) -> BitReport:
    """Report on bits and the activations that were thresholded to give them.

    Examples
    --------
    >>> activations = torch.tensor([[0.95, 0.2], [0.05, 0.7]])
    >>> report_bits(activations > 0.5, activations)
    BitReport(2 bits, 0 dead, balance 0.50 to 0.50, saturation 0.50, |correlation| up to 1.00)
    """
    on = bits.double()
    balance = on.mean(0)
    centred = on - balance
    norm = centred.norm(dim=0)
    centred = centred / torch.where(norm > 0, norm, torch.ones_like(norm))
    saturated = (activations < EDGES[0]) | (activations > EDGES[1])
    return BitReport(balance, saturated.double().mean(0), centred.T @ centred)
