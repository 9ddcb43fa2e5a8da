"""What every public boundary checks, and the sentences it says.

Input is checked once, where a user's value enters; everything below trusts it. Each message says what is
needed, what came, and what to do. The errors, the warnings and the tables these functions deal in can be
imported from here too.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from probae.containers import check_numeric, is_sparse, open_container, result_dtype
from probae.degenerate import warn_degenerate, warn_degenerate_moments
from probae.errors import (
    BoundaryWarning,
    CollinearWarning,
    ConstantColumnWarning,
    ConvergenceWarning,
    DataError,
    DivergenceWarning,
    EnergyWarning,
    FileError,
    FitError,
    GuideWarning,
    HeywoodWarning,
    IntegerDataWarning,
    MissingRowWarning,
    NotExactError,
    ParameterError,
    ProbaeError,
    ProbaeWarning,
    TreeDepthWarning,
    UnderidentifiedWarning,
    warn,
)
from probae.tables import (
    LARGEST,
    Data,
    Table,
    check_names,
    check_shape,
    check_values,
    distinct_labels,
    own_copy,
    sparse_data,
    warn_missing_rows,
)

__all__ = [
    "LARGEST",
    "BoundaryWarning",
    "CollinearWarning",
    "ConstantColumnWarning",
    "ConvergenceWarning",
    "Data",
    "DataError",
    "DivergenceWarning",
    "EnergyWarning",
    "FileError",
    "FitError",
    "GuideWarning",
    "HeywoodWarning",
    "IntegerDataWarning",
    "MissingRowWarning",
    "NotExactError",
    "ParameterError",
    "ProbaeError",
    "ProbaeWarning",
    "Table",
    "TreeDepthWarning",
    "UnderidentifiedWarning",
    "check_choice",
    "check_count",
    "check_data",
    "check_features",
    "check_positive",
    "check_table",
    "warn",
    "warn_degenerate",
    "warn_degenerate_moments",
]


def check_data(
    x: Any,
    *,
    features: int | None = None,
    names: Sequence[str] | None = None,
    minimum_rows: int = 1,
    missing: str = "refuse",
    sparse: str = "refuse",
) -> Data:
    """Turn a user's table into `Data`, or say in one sentence why it cannot be.

    Accepted are numpy arrays (any real dtype, order, strides; masked entries are missing), nested lists,
    torch tensors, pandas and polars DataFrames, two-dimensional xarray DataArrays, AnnData, anything with
    `to_pandas` or `__array__`, and `scipy.sparse` where `sparse="allow"`. The caller's object is never
    modified.

    Parameters
    ----------
    x : table of shape (samples, features)
    features : int, optional
        The number of features the model was built for.
    names : sequence of str, optional
        The feature names the model was fitted with. A table that has names must have these, in this order;
        a table without names takes them.
    minimum_rows : int
        The fewest rows that will do.
    missing : {"refuse", "allow"}
        Whether NaN means a missing value or an error. Infinity is always an error.
    sparse : {"refuse", "allow"}
        Whether a `scipy.sparse` matrix may pass, as CSR.

    Returns
    -------
    Data

    Raises
    ------
    DataError
        With what is needed, what came and what to do.

    Warns
    -----
    MissingRowWarning
        Rows without any observed value; they are kept.

    Notes
    -----
    Repeated column names are refused: a result could not be addressed by name, and a repeated name is most
    often a column joined in twice. The default labels of a pandas DataFrame (0, 1, ...) count as no names.
    Objects, strings, categories, times and complex numbers are refused, never converted.

    Examples
    --------
    >>> data = check_data([[1, 2], [3, 4], [5, 7]])
    >>> data.values.shape, data.dtype
    (torch.Size([3, 2]), torch.float64)
    >>> check_data([[1.0, float("nan")]])
    Traceback (most recent call last):
    ...
    probae.errors.DataError: x contains NaN at row 0, column 1 (1 of 2 values):
    use a model that integrates missing values out, or fill them in first.
    """
    check_choice("missing", missing, ("refuse", "allow"))
    table = check_table(x, features=features, names=names, minimum_rows=minimum_rows, sparse=sparse)
    if is_sparse(table.array):
        return sparse_data(table)
    array = own_copy(table.array)
    absent = check_values(array, table, missing)
    if absent is not None:
        warn_missing_rows(absent)
    mask = None if absent is None else torch.from_numpy(absent)
    return Data(torch.from_numpy(array), table.names, table.rows, table.dtype, mask)


def check_table(
    x: Any,
    *,
    features: int | None = None,
    names: Sequence[str] | None = None,
    minimum_rows: int = 1,
    sparse: str = "refuse",
) -> Table:
    """Do the part of `check_data` that needs no value: container, shape, names and dtype.

    For code that streams over x; a memory map stays on the disk. NaN and infinity are not looked for.

    Examples
    --------
    >>> check_table([[1, 2], [3, 4]]).array.sum()
    np.int64(10)
    """
    check_choice("sparse", sparse, ("refuse", "allow"))
    opened = open_container(x)
    found = distinct_labels(opened.names)
    check_names(found, names)
    check_shape(opened.array, features, names, minimum_rows)
    labels = found if names is None else distinct_labels(names)
    if is_sparse(opened.array) and sparse == "refuse":
        raise DataError(
            f"x should be dense, got a sparse {type(opened.array).__name__}: "
            "use x.toarray(), or a model with Gaussian latents."
        )
    check_numeric(opened.array, labels)
    rows = None if opened.rows is None else tuple(map(str, opened.rows))
    return Table(opened.array, labels, rows, opened.dtype or result_dtype(opened.array))


def check_features(features: int, wanted: int) -> None:
    """Refuse statistics of another number of features than the model's.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_features(2, wanted=3)
    Traceback (most recent call last):
    ...
    probae.errors.DataError: The statistics have 2 features, the model was built for 3.
    """
    if features != wanted:
        raise DataError(f"The statistics have {features} features, the model was built for {wanted}.")


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`.

    Raises
    ------
    ParameterError
        `value` is no whole number, or too small.

    Examples
    --------
    >>> check_count("latents", 3)
    3
    >>> check_count("latents", 0)
    Traceback (most recent call last):
    ...
    probae.errors.ParameterError: latents should be a whole number of at least 1, got 0.
    """
    message = f"{name} should be a whole number of at least {minimum}, got {reprlib.repr(value)}."
    if isinstance(value, (bool, np.bool_)):
        raise ParameterError(message)
    try:
        count = operator.index(value)
    except TypeError:
        raise ParameterError(message) from None
    if count < minimum:
        raise ParameterError(message)
    return count


def check_positive(name: str, value: Any) -> float:
    """Return `value` as a finite float above 0.

    Raises
    ------
    ParameterError
        `value` is no number, not finite, or not above 0.

    Examples
    --------
    >>> check_positive("penalty", 1)
    1.0
    >>> check_positive("penalty", -1)
    Traceback (most recent call last):
    ...
    probae.errors.ParameterError: penalty should be a finite number above 0, got -1.
    """
    message = f"{name} should be a finite number above 0, got {reprlib.repr(value)}."
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise ParameterError(message)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several elements
        raise ParameterError(message) from None
    if not math.isfinite(number) or number <= 0:
        raise ParameterError(message)
    return number


def check_choice(name: str, value: Any, choices: Iterable) -> Any:
    """Return `value` if it is one of `choices`.

    Raises
    ------
    ParameterError
        It is not; the message lists the choices.

    Examples
    --------
    >>> check_choice("noise", "diagonal", ("diagonal", "isotropic"))
    'diagonal'
    >>> check_choice("noise", "full", ("diagonal", "isotropic"))
    Traceback (most recent call last):
    ...
    probae.errors.ParameterError: noise should be 'diagonal' or 'isotropic', got 'full'.
    """
    allowed = tuple(choices)
    if isinstance(value, Hashable) and value in allowed:
        return value
    *most, last = (repr(choice) for choice in allowed)
    listed = f"{', '.join(most)} or {last}" if most else last
    raise ParameterError(f"{name} should be {listed}, got {reprlib.repr(value)}.")
