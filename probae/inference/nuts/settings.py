"""What an engine reads of the method, and what it returns: the method imports the engines, so they cannot import it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Sampled", "Settings"]

Sampled = tuple[dict[str, Tensor], dict[str, Tensor], bool]  # draws, statistics (C, T, ...), interrupted


class Settings(Protocol):
    """The fields of `NUTS`."""

    @property
    def draws(self) -> int:
        """Draws kept of each chain."""

    @property
    def warmup(self) -> int:
        """Moves of each chain before them."""

    @property
    def chains(self) -> int:
        """Number of chains."""

    @property
    def target_acceptance(self) -> float:
        """Mean acceptance to adapt to."""

    @property
    def tree_depth(self) -> int:
        """A trajectory has at most 2^tree_depth steps."""

    @property
    def engine(self) -> str:
        """What draws."""
