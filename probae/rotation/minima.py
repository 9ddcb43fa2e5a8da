"""Telling local minima apart: two starts found the same one if their loadings agree up to order and signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.matching import assign
from probae.rotation.base import Criterion

__all__ = ["Minimum"]

SAME_VALUE = 1e-6  # relative to the size of the criterion
SAME_LOADINGS = 1e-2  # relative to the largest loading: what no reader would call another solution


@dataclass(frozen=True, eq=False)
class Minimum:
    """A local minimum of a rotation criterion.

    Attributes
    ----------
    value : float
        The criterion.
    count : int
        How many starts ended here.
    loadings : Tensor (D, K)
    matrix : Tensor (K, K)
        ``loadings = unrotated @ matrix``.
    factor_correlation : Tensor (K, K)

    Examples
    --------
    >>> import torch, probae as pa
    >>> W = torch.tensor([[0.7, 0.3], [0.8, 0.2], [0.3, -0.7], [0.2, -0.6]], dtype=torch.float64)
    >>> pa.rotate(W, pa.rotation.Varimax(), starts=20).minima[0].count
    20
    """

    value: float
    count: int
    loadings: Float[Tensor, "features latents"]
    matrix: Float[Tensor, "latents latents"]
    factor_correlation: Float[Tensor, "latents latents"]

    def __repr__(self) -> str:
        return f"Minimum(value={self.value:.6g}, count={self.count})"


def ordering(
    criterion: Criterion,
    loadings: Float[Tensor, "features latents"],
    correlation: Float[Tensor, "latents latents"],
) -> tuple[Int[Tensor, " latents"], Float[Tensor, " latents"]]:
    """Return the order and the signs of the columns: most variance first, the largest entry of each positive.

    The variance that factor k explains is the k-th diagonal entry of Phi L'L; over the factors they add up to the
    communalities. Columns that the criterion has given a place keep it.
    """
    latents = loadings.shape[1]
    order, signs = torch.arange(latents), torch.ones(latents, dtype=loadings.dtype)
    if criterion.placed:
        return order, signs
    variance = (correlation * (loadings.mT @ loadings)).sum(0)
    free = criterion.leading
    order[free:] = free + variance[free:].argsort(descending=True, stable=True)
    largest = loadings.abs().argmax(0, keepdim=True)
    signs = torch.where(loadings.gather(0, largest)[0] < 0, -signs, signs)
    return order, signs[order]


def group(
    criterion: Criterion,
    loadings: Float[Tensor, "starts features latents"],
    values: Float[Tensor, " starts"],
    value_unit: float,
) -> list[list[int]]:
    """Group starts by the minimum they ended in, lowest first; the first of each group is its lowest."""
    rows, tolerance = loadings.numpy(), SAME_LOADINGS * float(loadings.abs().max())
    groups: list[list[int]] = []
    for start in values.argsort(stable=True).tolist():
        near = (g for g in reversed(groups) if values[start] - values[g[0]] <= SAME_VALUE * value_unit)
        found = next((g for g in near if _same(criterion, rows[g[0]], rows[start], tolerance)), None)
        if found is None:
            groups.append([start])
        else:
            found.append(start)
    return groups


def _same(criterion: Criterion, one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    """Whether two solutions agree up to the order and signs of the columns that are free to change them."""
    if criterion.placed:
        return bool(np.abs(one - other).max() <= tolerance)
    for columns in (slice(None, criterion.leading), slice(criterion.leading, None)):
        a, b = one[:, columns], other[:, columns]
        if a.shape[1] == 0:
            continue
        order, signs = assign(a.T @ b)
        if np.abs(a - b[:, order] * signs).max() > tolerance:
            return False
    return True
