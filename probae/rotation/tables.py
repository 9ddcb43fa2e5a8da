"""Loadings as they come in, from arrays, data frames, models and fits, and as they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError
from probae.containers import is_sparse, open_container
from probae.tables import LARGEST, distinct_labels

__all__ = ["Loadings", "read_loadings", "read_matrix"]


def read_matrix(name: str, value: Any, *, missing: bool = False) -> Float[Tensor, "features latents"]:
    """Return a matrix of finite numbers in float64, an own copy; NaN may pass where it means not specified.

    Raises
    ------
    DataError
        With what is needed and what came.

    Examples
    --------
    >>> read_matrix("loadings", [[1, 2], [3, 4]]).dtype
    torch.float64
    >>> read_matrix("loadings", [1.0, 2.0])
    Traceback (most recent call last):
    ...
    probae.errors.DataError: loadings should be a matrix of shape (features, latents), got shape (2,).
    """
    return _read(name, value, missing)[0]


def _read(name: str, value: Any, missing: bool = False) -> tuple[Tensor, tuple[str, ...] | None]:
    """Return the matrix, and the names of its rows if it has any."""
    try:
        opened = open_container(value)
        names = distinct_labels(opened.rows)
    except DataError as error:  # its sentence speaks of a table x
        raise DataError(
            str(error).replace("x should", f"{name} should", 1).replace("column names", "names")
        ) from None
    if is_sparse(opened.array):
        raise DataError(f"{name} should be dense, got a sparse {type(opened.array).__name__}: use toarray().")
    array = opened.array
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{name} should be a matrix of shape (features, latents), got shape {tuple(array.shape)}."
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} should hold real numbers, got dtype {array.dtype}: convert it first.")
    matrix = np.array(array, dtype=np.float64, order="C")
    wrong = ~(np.abs(matrix) <= LARGEST)
    if missing:
        wrong &= ~np.isnan(matrix)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{name} should hold finite numbers up to {LARGEST:g}, got {matrix[row, column]:g} at row {row}, "
            f"column {column}."
        )
    return torch.from_numpy(matrix), names


@dataclass(frozen=True, eq=False)
class Loadings:
    """Loadings to rotate.

    Attributes
    ----------
    values : Tensor (D, K)
    units : Tensor (D,)
        Standard deviations that a model gives the features; ones for a bare matrix.
    names : tuple of str, or None
        Feature names.
    """

    values: Float[Tensor, "features latents"]
    units: Float[Tensor, " features"]
    names: tuple[str, ...] | None


def read_loadings(source: Any) -> Loadings:
    """Return the loadings of a matrix, a model or a fit.

    The factors of a model should have a law that no rotation changes.

    Raises
    ------
    DataError
        For a matrix that is none.
    ParameterError
        For a model without loadings, or with loadings that a rotation would make those of another model.

    Examples
    --------
    >>> import probae as pa
    >>> found = read_loadings(pa.FactorAnalysis(9, 3))
    >>> found.values.shape, found.units.shape, found.names
    (torch.Size([9, 3]), torch.Size([9]), None)
    """
    model = getattr(source, "model", source)
    prior = getattr(model, "prior", None)
    if prior is None:
        values, names = _read("loadings", source)
        return Loadings(values, torch.ones_like(values[:, 0]), names)
    loadings = getattr(model, "loadings", None)
    if not isinstance(loadings, Tensor):
        raise ParameterError(f"{type(model).__name__} has no loadings to rotate: use a linear factor model.")
    if not prior.spherical:
        raise ParameterError(
            f"rotate should get factors whose law no rotation changes, got {prior!r}: with it rotated loadings are "
            "another model; pass model.loadings to rotate the matrix alone."
        )
    values = read_matrix("loadings", loadings)
    noise = getattr(model, "noise_variance", torch.zeros(())) if model.noise != "none" else torch.zeros(())
    units = (values.square().sum(1) + noise.detach().double().cpu()).sqrt()
    names = getattr(source, "names", None) or getattr(model, "feature_names", None)
    return Loadings(
        values, torch.where(units > 0, units, 1.0), None if names is None else tuple(map(str, names))
    )


def aligned(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return numbers with two decimals under their column names, after the names of the rows."""
    width = max(len(title), *(len(name) for name, _ in rows))
    cells = [[f"{value:.2f}" for value in values] for _, values in rows]
    widths = [max(len(head), *(len(line[i]) for line in cells)) for i, head in enumerate(columns)]
    lines = [[title.ljust(width), *(head.rjust(w) for head, w in zip(columns, widths, strict=True))]]
    for (name, _), line in zip(rows, cells, strict=True):
        lines.append([name.ljust(width), *(cell.rjust(w) for cell, w in zip(line, widths, strict=False))])
    return "\n".join("  ".join(line).rstrip() for line in lines)
