"""What every dataset function returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Observations, with their names, where they come from, and the truth where it is known.

    Attributes
    ----------
    x : observations, float64, shape (N, D)
    feature_names : D names
    source : the citation of measured data, or the recipe of generated data
    truth : what generated x, by name (`loadings`, `noise_variance`, `mean`, `z`, ...); None for measured data
    labels : class of each row, shape (N,), where there is one
    extra : further columns or maps that belong to the data, by name

    Examples
    --------
    >>> import torch
    >>> Dataset(torch.zeros(2, 1, dtype=torch.float64), ("length",), "made up")
    Dataset(x=(2, 1), source='made up')
    """

    x: Float[Tensor, "samples features"]
    feature_names: tuple[str, ...]
    source: str
    truth: dict[str, Tensor] | None = None
    labels: Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Dataset(x={tuple(self.x.shape)}, source={self.source!r})"
