"""One test of the data: its statistic and p-value; and what every test asks of its table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, check_data

ALPHA = 0.01  # level of every gate


@dataclass(frozen=True)
class DataTest:
    """One test: its statistic, degrees of freedom where it has them, p-value, and how its null law is known."""

    name: str
    statistic: float
    degrees_of_freedom: int | None
    p_value: float
    null: str

    def describe(self) -> str:
        """Say the result in a sentence."""
        freedom = (
            "" if self.degrees_of_freedom is None else f" on {self.degrees_of_freedom} degrees of freedom"
        )
        return f"{self.name}: {self.statistic:.4g}{freedom}, p = {self.p_value:.3g} ({self.null})."


def checked_rows(x: Tensor, minimum: int) -> Tensor:
    """Return finite rows in float64, or refuse."""
    if x.ndim != 2 or len(x) < minimum:
        raise DataError(f"The test needs a table of at least {minimum} rows, got shape {tuple(x.shape)}.")
    if not bool(torch.isfinite(x).all()):
        raise DataError("The test needs finite values, got NaN or infinity: leave those rows out.")
    return x.detach().to(torch.float64)


def table_rows(x: Any, minimum: int) -> Tensor:
    """Return the complete rows of any table in float64, or refuse."""
    return checked_rows(check_data(x).values, minimum)


def holm(p_values: Mapping[tuple[int, int], float], alpha: float) -> set[tuple[int, int]]:
    """Return the planes whose p-values reject at familywise level alpha (Holm, 1979).

    Examples
    --------
    >>> sorted(holm({(0, 1): 0.004, (0, 2): 0.2, (1, 2): 0.001}, alpha=0.01))
    [(0, 1), (1, 2)]
    """
    order = sorted(p_values, key=p_values.__getitem__)
    gates = (alpha / left for left in range(len(order), 0, -1))
    passed = itertools.takewhile(lambda step: p_values[step[0]] < step[1], zip(order, gates, strict=True))
    return {plane for plane, _ in passed}


def monte_carlo_p(statistics: Float[Tensor, " replicates"]) -> float:
    """Return the p-value of the first of exchangeable statistics against large values, itself counted.

    Examples
    --------
    >>> monte_carlo_p(torch.tensor([5.0, 1.0, 2.0, 7.0]))
    0.5
    """
    return float((statistics >= statistics[0]).double().mean())
