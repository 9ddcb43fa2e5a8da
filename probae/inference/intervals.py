"""Intervals of draws."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError

__all__ = ["quantile_interval"]


def quantile_interval(draws: Float[Tensor, "chains draws *shape"], level: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of equal-tailed intervals, all chains together.

    Raises
    ------
    ParameterError
        If the level is not between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> quantile_interval(torch.arange(101.0).reshape(1, 101), 0.9)
    (tensor(5.), tensor(95.))
    """
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ParameterError(f"level should be between 0 and 1, got {level!r}.")
    flat = draws.flatten(0, 1).sort(0).values
    last = len(flat) - 1
    ends = []
    for place in (0.5 * (1 - level) * last, 0.5 * (1 + level) * last):
        low = int(place)
        part = place - low
        ends.append((1 - part) * flat[low] + part * flat[min(low + 1, last)])
    return ends[0], ends[1]
