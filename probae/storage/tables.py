"""What every table file turns into: numbers, with the names of columns and rows if it has any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from probae.checks import DataError

if TYPE_CHECKING:
    import xarray

Names = tuple[str, ...] | None
Parsed = tuple[NDArray[Any], Names, Names]  # values, column names, row names


def label(values: NDArray[Any], names: Names, rows: Names) -> xarray.DataArray:
    """Return the table with its names."""
    import xarray

    coordinates = {"samples": rows, "features": names}
    present = {dim: list(labels) for dim, labels in coordinates.items() if labels is not None}
    return xarray.DataArray(values, dims=("samples", "features"), coords=present)


def positions(columns: Names, names: Sequence[str] | None) -> list[int]:
    """Return where the columns to keep are.

    Examples
    --------
    >>> positions(("b", "a"), ["a", "b", "c"])
    [1, 0]
    """
    if columns is None:
        return list(range(len(names or ())))
    if names is None:
        raise DataError("Columns are chosen by their names, but the table has no line of names.")
    absent = [name for name in columns if name not in names]
    if absent:
        listed = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
        raise DataError(f"The table has no column {absent[0]!r}: it has {listed}.")
    return [list(names).index(name) for name in columns]
