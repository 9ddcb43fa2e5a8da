"""Opening whatever holds a table: arrays, tensors, data frames, labelled arrays, AnnData, nested lists.

No container library is imported here: one that is not loaded cannot have made `x`.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probae.errors import DataError
from probae.tables import column_label


@dataclass(frozen=True)
class Opened:
    """What a container holds: its array and, where it has them, the labels of its columns and rows."""

    array: Any
    names: Iterable | None = None
    rows: Iterable | None = None
    dtype: torch.dtype | None = None  # None: read it off the array


def open_container(x: Any) -> Opened:
    """Take the array and the labels out of a container, without copying where that is possible."""
    if isinstance(x, Tensor):
        return _open_tensor(x)
    if isinstance(x, np.ma.MaskedArray):
        return _open_masked(x)
    if isinstance(x, np.ndarray) or is_sparse(x):
        return Opened(x)
    if _is(x, "pandas", "DataFrame"):
        return _open_pandas(x)
    if _is(x, "polars", "DataFrame"):
        return _open_polars(x)
    if _is(x, "polars", "LazyFrame"):
        raise DataError("x should hold its values, got a polars LazyFrame: pass x.collect().")
    if _is(x, "xarray", "DataArray"):
        return _open_xarray(x)
    if _is(x, "xarray", "Dataset"):
        raise DataError("x should be one table, got an xarray Dataset: pass one variable, as in x['name'].")
    if all(hasattr(x, part) for part in ("obs_names", "var_names", "X")):
        inner = open_container(x.X)
        return Opened(inner.array, x.var_names, x.obs_names, inner.dtype)
    if not hasattr(x, "__array__") and hasattr(x, "to_pandas"):
        return open_container(x.to_pandas())
    return _open_sequence(x)


def _is(x: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(x, kind)


def is_sparse(x: Any) -> bool:
    """Whether x is a scipy.sparse matrix or array."""
    module = sys.modules.get("scipy.sparse")
    return module is not None and bool(module.issparse(x))


def _open_tensor(x: Tensor) -> Opened:
    if x.layout is not torch.strided:
        raise DataError(f"x should be a dense tensor, got layout {x.layout}: pass x.to_dense().")
    if x.device.type == "meta":
        raise DataError("x should hold values, got a tensor on the meta device: pass the tensor itself.")
    if x.is_complex() or x.is_quantized:
        raise DataError(f"x should hold real numbers, got dtype {x.dtype}: convert it first, as in x.real.")
    narrow = x.is_floating_point() and x.element_size() <= 4
    plain = x.detach().cpu()
    if narrow and plain.dtype is not torch.float32:
        plain = plain.float()  # numpy has no bfloat16
    return Opened(plain.numpy(force=True), dtype=torch.float32 if narrow else torch.float64)


def _open_masked(x: np.ma.MaskedArray) -> Opened:
    if x.dtype.kind not in "biuf":
        return Opened(x.data)
    return Opened(np.where(np.ma.getmaskarray(x), np.nan, x.data), dtype=result_dtype(x))


def _open_pandas(x: Any) -> Opened:
    names = None if _counts_up(x.columns) else x.columns
    rows = None if _counts_up(x.index) else x.index
    for position, kind in enumerate(x.dtypes):
        if getattr(kind, "kind", "O") not in "biuf":
            _refuse_column(position, None if names is None else list(names), kind)
    narrow = x.shape[1] > 0 and all(k.kind == "f" and getattr(k, "itemsize", 8) <= 4 for k in x.dtypes)
    array = x.to_numpy(dtype=np.float64, na_value=np.nan)
    return Opened(array, names, rows, torch.float32 if narrow else torch.float64)


def _counts_up(index: Any) -> bool:
    """Whether a pandas index is the default one, 0, 1, ..., which names nothing."""
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _open_polars(x: Any) -> Opened:
    polars = sys.modules["polars"]
    for position, kind in enumerate(x.dtypes):
        if not (kind.is_numeric() or kind == polars.Boolean):
            _refuse_column(position, x.columns, kind)
    narrow = x.width > 0 and all(kind == polars.Float32 for kind in x.dtypes)
    array = x.cast(polars.Float64).to_numpy()
    return Opened(array, x.columns, dtype=torch.float32 if narrow else torch.float64)


def _open_xarray(x: Any) -> Opened:
    labels = [x.coords[dim].values if dim in x.coords else None for dim in x.dims]
    rows, names = labels if len(labels) == 2 else (None, None)
    return Opened(x.values, names, rows)


def _open_sequence(x: Any) -> Opened:
    if isinstance(x, (list, tuple)) and len(x) > 0 and all(isinstance(row, Tensor) for row in x):
        x = [row.numpy(force=True) for row in x]
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        if "inhomogeneous" in str(error):
            problem = "x should have rows of equal length, got rows that differ: pad them with nan."
        else:
            problem = f"x should be a table of numbers, got a {type(x).__name__}: numpy reports {error}."
        raise DataError(problem) from None
    if array.ndim == 0:
        raise DataError(
            f"x should be a table of shape (samples, features), got a {type(x).__name__}: "
            "pass a 2-D array, tensor or DataFrame."
        )
    return Opened(array)


def result_dtype(array: Any) -> torch.dtype:
    """Give the dtype results should come back in: float32 for float32 and narrower floats, else float64."""
    narrow = array.dtype.kind not in "biu" and array.dtype.itemsize <= 4
    return torch.float32 if narrow else torch.float64


def check_numeric(array: Any, names: Sequence | None) -> None:
    """Refuse an array of anything but real numbers."""
    kind = array.dtype
    if kind.kind in "biuf" or kind.name == "bfloat16":
        return
    got, advice = f"dtype {kind}", "convert it, as in x.astype(float)"
    if kind.kind == "c":
        advice = "stack x.real and x.imag as columns"
    if kind.kind in "Mm":
        advice = "convert times to numbers in a unit you choose"
    if kind.kind == "O":
        odd = (i for i, value in enumerate(array.flat) if not isinstance(value, (int, float, np.number)))
        row, column = divmod(next(odd, -1), array.shape[1])
        if row >= 0:
            got = f"{reprlib.repr(array[row, column])} at row {row}, {column_label(column, names)}"
            advice = "convert it, and write a missing value as nan"
    raise DataError(f"x should hold real numbers, got {got}: {advice}.")


def _refuse_column(position: int, names: Sequence | None, kind: Any) -> None:
    raise DataError(
        f"x should hold real numbers, got {kind} in {column_label(position, names)}: "
        "convert that column to numbers, or drop it."
    )
