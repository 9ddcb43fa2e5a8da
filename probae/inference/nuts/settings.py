"""How long a sampler runs, apart from the compiled code, which is loaded on first use."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Sampled", "Settings"]

Sampled = tuple[dict[str, Tensor], dict[str, Tensor], bool]  # draws, statistics (C, T, ...), interrupted


@dataclass(frozen=True)
class Settings:
    """Draws and warm-up moves of each chain, chains, the acceptance aimed at, and the largest depth of a tree."""

    draws: int
    warmup: int
    chains: int
    goal: float
    depths: int
