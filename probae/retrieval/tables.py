"""Tables that are not the rows of a model, called by their own names in errors."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from probae.checks import DataError, check_data


def check_named(name: str, table: Any, columns: int | None = None) -> Tensor:
    """Return a table as float64; errors are those of ``check_data`` about ``name``.

    Raises
    ------
    DataError
        If it is no complete table of numbers, or has another number of columns.

    Examples
    --------
    >>> check_named("codes", [0.0, 1.0])
    Traceback (most recent call last):
    ...
    probae.errors.DataError: codes should be two-dimensional (samples, features), got shape (2,):
    use codes.reshape(1, -1) for one row or codes.reshape(-1, 1) for one feature.
    """
    try:
        values: Tensor = check_data(table).values
    except DataError as error:
        raise DataError(re.sub(r"^x\b|\bx(?=[.\[])", name, str(error))) from None
    if columns is not None and values.shape[1] != columns:
        raise DataError(f"{name} should have shape (samples, {columns}), got {tuple(values.shape)}.")
    return values
