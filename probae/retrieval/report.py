"""How the bits of a code are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, check_data
from probae.retrieval.packed import PackedCodes

EDGES = (0.1, 0.9)


@dataclass(frozen=True, eq=False)
class CodeReport:
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
    >>> CodeReport(torch.tensor([0.5, 1.0]), torch.ones(2), torch.zeros(2, 2)).dead
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
            f"CodeReport({len(self.balance)} bits, {self.dead} dead, "
            f"balance {float(self.balance.min()):.2f} to {float(self.balance.max()):.2f}, "
            f"saturation {float(self.saturation.mean()):.2f}, |correlation| up to {self.largest_correlation:.2f})"
        )


def bit_report(activations: Any) -> CodeReport:
    """Report on codes, or on the activations in [0, 1] that are thresholded at 1/2 to give them.

    Parameters
    ----------
    activations : table (N, K) with entries from 0 to 1, booleans, or PackedCodes

    Returns
    -------
    CodeReport

    Raises
    ------
    DataError
        If an entry is outside [0, 1].

    Examples
    --------
    >>> bit_report([[0.95, 0.2], [0.99, 0.6], [0.05, 0.3], [0.02, 0.7]])
    CodeReport(2 bits, 0 dead, balance 0.50 to 0.50, saturation 0.50, |correlation| up to 0.00)
    """
    table = activations.unpack() if isinstance(activations, PackedCodes) else activations
    values = check_data(table).values
    if bool(((values < 0) | (values > 1)).any()):
        raise DataError(
            f"activations should be from 0 to 1, got {float(values.min()):.4g} to {float(values.max()):.4g}: "
            "pass the output of the logistic units, not their input."
        )
    bits = (values > 0.5).double()
    balance = bits.mean(0)
    centred = bits - balance
    norm = centred.norm(dim=0)
    centred = centred / torch.where(norm > 0, norm, torch.ones_like(norm))
    saturated = (values < EDGES[0]) | (values > EDGES[1])
    return CodeReport(balance, saturated.double().mean(0), centred.T @ centred)
