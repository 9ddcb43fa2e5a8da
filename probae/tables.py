"""Tables, opened and checked: what their shape, names and values should be, and how a message points into them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.errors import DataError, MissingRowWarning, warn

LARGEST = 1e150  # the square of anything larger overflows, or leaves no room to add squares up, in float64


@dataclass(frozen=True, eq=False)
class Data:
    """Checked data: the result of `check_data`.

    Attributes
    ----------
    values : Tensor (samples, features), float64
        An own, contiguous copy on the CPU; NaN where a value is missing. For sparse input a
        `scipy.sparse.csr_array`.
    names : tuple of str or None
        Feature names.
    rows : tuple of str or None
        Row names.
    dtype : torch.dtype
        What results should come back in: float32 for float32 and narrower floats, else float64.
    missing : Tensor (samples, features), bool, or None
        True where a value is missing; None when nothing is.
    """

    values: Float[Any, "samples features"]  # a Tensor, save where sparse="allow" was asked for
    names: tuple[str, ...] | None
    rows: tuple[str, ...] | None
    dtype: torch.dtype
    missing: Bool[Tensor, "samples features"] | None


@dataclass(frozen=True, eq=False)
class Table:
    """A container opened, its values not yet read: the result of `check_table`.

    Attributes
    ----------
    array : numpy.ndarray or scipy.sparse array (samples, features)
        Real numbers of any width; the caller's own memory where that was possible, so only to be read.
    names, rows : tuple of str or None
        Feature names; row names.
    dtype : torch.dtype
        What results should come back in.
    """

    array: Any
    names: tuple[str, ...] | None
    rows: tuple[str, ...] | None
    dtype: torch.dtype


def check_shape(array: Any, features: int | None, names: Sequence | None, minimum_rows: int) -> None:
    """Refuse a table that is not two-dimensional, or has other features or fewer rows than are needed."""
    shape = tuple(array.shape)
    if len(shape) != 2:
        advice = "use x.reshape(1, -1) for one row or x.reshape(-1, 1) for one feature"
        if len(shape) > 2:
            advice = "use x.reshape(len(x), -1) to lay each sample out as one row"
        raise DataError(f"x should be two-dimensional (samples, features), got shape {shape}: {advice}.")
    if features is None and names is not None:
        features = len(names)
    if features is not None and shape[1] != features:
        raise DataError(
            f"x should have shape (samples, {features}), got {shape}: "
            f"the model was built for {features} feature{'s' * (features != 1)}."
        )
    if shape[1] == 0:
        raise DataError(f"x should have at least 1 feature, got shape {shape}: select its columns again.")
    least = max(minimum_rows, 1)
    if shape[0] < least:
        advice = "give more rows, or fit fewer latents" if shape[0] else "check the selection that made it"
        raise DataError(
            f"x should have at least {least} row{'s' * (least > 1)}, got shape {shape}: {advice}."
        )


def distinct_labels(labels: Iterable | None) -> tuple[str, ...] | None:
    """Turn labels into strings, and refuse repeated ones."""
    if labels is None:
        return None
    found = tuple(str(label) for label in labels)
    if len(set(found)) < len(found):
        repeated = next(name for name, times in Counter(found).items() if times > 1)
        raise DataError(
            f"x should have distinct column names, got {repeated!r} {found.count(repeated)} times: "
            "rename or drop one."
        )
    return found


def check_names(found: tuple[str, ...] | None, wanted: Sequence[str] | None) -> None:
    """Refuse columns other than the wanted ones, or in another order."""
    if found is None or wanted is None or found == tuple(map(str, wanted)):
        return
    expected = tuple(map(str, wanted))
    have, want = set(found), set(expected)
    absent = [name for name in expected if name not in have]
    extra = [name for name in found if name not in want]
    if absent:
        lacks = f"it lacks {_listed(absent)}" + (f" and has {_listed(extra)} instead" if extra else "")
        raise DataError(f"x should have the columns the model was fitted with, {lacks}: rename or add them.")
    if extra:
        raise DataError(
            f"x should have only the columns the model was fitted with, got {_listed(extra)} as well: "
            "drop them, as in x[names]."
        )
    first = next(i for i, name in enumerate(expected) if name != found[i])
    raise DataError(
        f"x should have its columns in the order of the fit, got {found[first]!r} where {expected[first]!r} "
        "belongs: reorder them, as in x[names]."
    )


def own_copy(array: np.ndarray) -> np.ndarray:
    """Copy to float64, row after row."""
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf, which is then refused
        return np.array(array, dtype=np.float64, order="C")


def check_values(array: np.ndarray, table: Table, missing: str) -> np.ndarray | None:
    """Return the missing mask, or None; one pass over good data, details only when something is found."""
    if array.min() >= -LARGEST and array.max() <= LARGEST:  # NaN wins min and max, and fails both comparisons
        return None
    infinite = np.isinf(array)
    if infinite.any():
        raise DataError(
            f"x contains {_first(infinite, array, table)}: replace it, or drop the row; "
            "infinity is never treated as missing."
        )
    large = np.abs(array) > LARGEST
    if large.any():
        raise DataError(
            f"x is out of range with {_first(large, array, table)}: "
            f"squares of values above {LARGEST:g} overflow; divide the column by a constant."
        )
    absent = np.isnan(array)
    if missing == "refuse":
        raise DataError(
            f"x contains {_first(absent, array, table)}: "
            "use a model that integrates missing values out, or fill them in first."
        )
    return absent


def _first(hit: np.ndarray, array: np.ndarray, table: Table) -> str:
    row, column = divmod(int(hit.argmax()), hit.shape[1])
    value = "NaN" if np.isnan(array[row, column]) else f"{array[row, column]:g}"
    label = f"{row}" if table.rows is None else f"{row} ({table.rows[row]!r})"
    return f"{value} at row {label}, {column_label(column, table.names)} ({hit.sum()} of {hit.size} values)"


def warn_missing_rows(absent: np.ndarray) -> None:
    """Warn of rows in which every value is missing."""
    empty = np.flatnonzero(absent.all(axis=1))
    if len(empty) == 0:
        return
    shown = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
    warn(
        f"x has {len(empty)} row{'s' * (len(empty) > 1)} without any observed value (row {shown}): "
        "kept, with the prior as posterior.",
        MissingRowWarning,
    )


def sparse_data(table: Table) -> Data:
    """Copy a sparse table to `Data`, in CSR form."""
    matrix = sys.modules["scipy.sparse"].csr_array(table.array, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    large = ~(np.abs(matrix.data) <= LARGEST)  # true of NaN as well
    if large.any():
        stored, bad = matrix.tocoo(), int(large.argmax())
        raise DataError(
            f"x should hold finite values up to {LARGEST:g}, got {stored.data[bad]:g} at row {stored.row[bad]}, "
            f"{column_label(int(stored.col[bad]), table.names)}: replace it, or use toarray() "
            "where NaN means missing."
        )
    return Data(matrix, table.names, table.rows, table.dtype, None)


def column_label(position: int, names: Sequence | None) -> str:
    """Say where a column is, by its name if it has one."""
    return f"column {position}" if names is None else f"column {str(names[position])!r}"


def column_labels(positions: Sequence[int] | np.ndarray, names: Sequence | None) -> str:
    """Say where columns are, the first five of them."""
    shown = [column_label(int(i), names).removeprefix("column ") for i in positions]
    return f"column{'s' * (len(shown) > 1)} " + ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
