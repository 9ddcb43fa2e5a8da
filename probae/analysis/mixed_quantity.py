"""R-hat and effective sample sizes of the numbers of one kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from torch import Tensor

from probae.inference.parameter_draws import LARGEST_R_HAT

__all__ = ["Quantity", "even_choice", "quantity_of"]

MOST = 200  # numbers that are looked at
TAILS = (0.05, 0.95)


@dataclass(frozen=True, eq=False)
class Quantity:
    """R-hat and effective sample sizes of one row of the table; NaN where nothing varies.

    Attributes
    ----------
    name : str
    draws : Tensor (chain, draw, Q)
        The numbers that were looked at.
    labels : tuple of str
        What each of them is.
    r_hat, bulk, tail : Tensor (Q,)
        Rank-normalised split R-hat, bulk and tail effective sample size.
    total : int
        How many numbers the quantity has.
    """

    name: str
    draws: Float[Tensor, "chains draws numbers"]
    labels: tuple[str, ...]
    r_hat: Float[Tensor, " numbers"]
    bulk: Float[Tensor, " numbers"]
    tail: Float[Tensor, " numbers"]
    total: int

    @property
    def worst_r_hat(self) -> float:
        """Largest R-hat, 1 where nothing varies."""
        return _extreme(self.r_hat, largest=True)

    @property
    def least_bulk(self) -> float:
        """Smallest bulk effective sample size."""
        return _extreme(self.bulk, largest=False)

    @property
    def least_tail(self) -> float:
        """Smallest tail effective sample size."""
        return _extreme(self.tail, largest=False)

    @property
    def mixed(self) -> bool:
        """Whether R-hat is at most 1.01 throughout."""
        return self.worst_r_hat <= LARGEST_R_HAT


def quantity_of(name: str, draws: Tensor, labels: list[str], total: int | None = None) -> Quantity:
    """Diagnose an even choice of the numbers; one that never changes has NaN.

    Parameters
    ----------
    name : str
    draws : Tensor (chain, draw, Q)
    labels : list of str
        What each number is.
    total : int, optional
        How many there are, if ``draws`` is a choice already.
    """
    chosen = even_choice(draws.shape[-1])
    values = draws[..., chosen]
    varies = (values != values[:1, :1]).flatten(0, 1).any(0)
    parts = []
    for statistic, unknown, options in (
        (array_stats.rhat, np.inf, {}),
        (array_stats.ess, 0.0, {"method": "bulk"}),
        (array_stats.ess, 0.0, {"method": "tail", "prob": TAILS}),
    ):
        found = torch.full((len(chosen),), torch.nan, dtype=torch.float64)
        if bool(varies.any()):
            answer = np.asarray(statistic(halves(values[..., varies]), chain_axis=0, draw_axis=1, **options))
            found[varies] = torch.from_numpy(np.where(np.isnan(answer), unknown, answer))
        parts.append(found)
    picked = tuple(labels[i] for i in chosen.tolist())
    r_hat, bulk, tail = parts
    return Quantity(name, values, picked, r_hat, bulk, tail, total or len(labels))


def even_choice(total: int) -> Int[Tensor, " places"]:
    """Return the places of an even choice of numbers."""
    return torch.linspace(0, total - 1, min(total, MOST), dtype=torch.float64).round().long()


def halves(values: Float[Tensor, "chains draws numbers"]) -> np.ndarray:
    """Cut a single chain in two: diagnostics ask for two chains at least."""
    if len(values) == 1:
        half = values.shape[1] // 2
        values = torch.cat([values[:, :half], values[:, -half:]])
    return values.numpy(force=True)


def _extreme(values: Tensor, largest: bool) -> float:
    known = values[~values.isnan()]
    if len(known) == 0:
        return 1.0 if largest else float("inf")
    return float(known.max() if largest else known.min())
