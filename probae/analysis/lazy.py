"""Arrays of a posterior that are computed when they are first asked for, and only the part that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xarray.backends import BackendArray
from xarray.core import indexing

__all__ = ["Recipe", "lazily"]

Recipe = Callable[[Tensor, Tensor], Tensor]  # places (M,) and rows (R,) to values (M, R, *event)


class Computed(BackendArray):
    """An array (chain, draw, rows, *event) whose values come from a recipe; kept once all of it was asked for."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], recipe: Recipe) -> None:
        self.shape, self.dtype, self.recipe = shape, dtype, recipe
        self._kept: np.ndarray | None = None

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._part)

    def _part(self, key: tuple[Any, ...]) -> np.ndarray:
        """Compute what an integer, a slice or a one-dimensional array for each axis picks out."""
        wanted = [np.arange(size)[one] for size, one in zip(self.shape, key, strict=True)]
        chains, draws, rows, *event = [np.atleast_1d(one) for one in wanted]
        if self._kept is None:
            places = torch.from_numpy((chains[:, None] * self.shape[1] + draws).ravel())
            values = self.recipe(places, torch.from_numpy(rows)).numpy()
            values = values.reshape(len(chains), len(draws), len(rows), *self.shape[3:])
            if values.shape == self.shape and all(
                _whole(*pair) for pair in zip(self.shape, wanted, strict=True)
            ):
                self._kept = values
        else:
            values = self._kept[np.ix_(chains, draws, rows)]
        for axis, one in enumerate(event, start=3):
            values = values.take(one, axis)
        return values.reshape([len(one) for one in wanted if one.ndim]).astype(self.dtype, copy=False)


def _whole(size: int, wanted: np.ndarray) -> bool:
    return wanted.ndim == 1 and np.array_equal(wanted, np.arange(size))


def lazily(shape: tuple[int, ...], recipe: Recipe, dtype: torch.dtype = torch.float64) -> Any:
    """Return what xarray takes as the values of a variable (chain, draw, rows, *event), computed when asked for.

    Parameters
    ----------
    shape : tuple of int
    recipe : callable
        From places, the numbers chain * draws + draw, and numbers of rows to values (places, rows, *event); it must
        give the same values each time.
    dtype : torch.dtype
        Of the values.

    Examples
    --------
    >>> import xarray
    >>> def recipe(places, rows):
    ...     print(len(places), "draws of", len(rows), "rows")
    ...     return 10.0 * places[:, None] + rows
    >>> x = xarray.DataArray(lazily((2, 3, 4), recipe), dims=["chain", "draw", "obs"])
    >>> x[1, 0, :2].values
    1 draws of 2 rows
    array([30., 31.])
    """
    return indexing.LazilyIndexedArray(Computed(shape, torch.empty((), dtype=dtype).numpy().dtype, recipe))
