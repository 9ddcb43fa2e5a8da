"""What every public boundary checks, the sentences it says, and the error and warning classes.

Input is checked once, where a user's value enters; everything below trusts it. Each message says what is
needed, what came, and what to do. No container library is imported here: one that is not loaded cannot have
made `x`.
"""

from __future__ import annotations

import inspect
import math
import operator
import reprlib
import sys
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

LARGEST = 1e150  # the square of anything larger overflows, or leaves no room to add squares up, in float64


class ProbaeError(Exception):
    """Base of every error this package raises on purpose."""


class DataError(ProbaeError, ValueError):
    """The data cannot be used as they are."""


class ParameterError(ProbaeError, ValueError):
    """A setting is outside its allowed range."""


class NotExactError(ProbaeError, NotImplementedError):
    """No exact answer exists for this combination; the message names the alternative."""


class FitError(ProbaeError, RuntimeError):
    """A fit could not be finished."""


class FileError(ProbaeError, OSError):
    """A file could not be read or written."""


class ProbaeWarning(UserWarning):
    """Base of every warning this package gives."""


class HeywoodWarning(ProbaeWarning):
    """A noise variance has reached its floor."""


class UnderidentifiedWarning(ProbaeWarning):
    """The data cannot determine every parameter."""


class ConstantColumnWarning(ProbaeWarning):
    """A column does not vary."""


class CollinearWarning(ProbaeWarning):
    """Two columns are copies of each other up to shift and scale."""


class IntegerDataWarning(ProbaeWarning):
    """A column holds truth values or small counts, for which Gaussian noise is a rough description."""


class MissingRowWarning(ProbaeWarning):
    """A row has no observed value."""


class ConvergenceWarning(ProbaeWarning):
    """An iteration stopped before it converged."""


class GuideWarning(ProbaeWarning):
    """The variational family shapes the answer."""


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


@dataclass(frozen=True)
class _Opened:
    array: Any
    names: Iterable | None = None
    rows: Iterable | None = None
    dtype: torch.dtype | None = None  # None: read it off the array


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
    probae.checks.DataError: x contains NaN at row 0, column 1 (1 of 2 values):
    use a model that integrates missing values out, or fill them in first.
    """
    check_choice("missing", missing, ("refuse", "allow"))
    table = check_table(x, features=features, names=names, minimum_rows=minimum_rows, sparse=sparse)
    if _is_sparse(table.array):
        return _sparse_data(table)
    array = _own_copy(table.array)
    absent = _check_values(array, table, missing)
    if absent is not None:
        _warn_missing_rows(absent)
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
    opened = _open(x)
    found = _labels(opened.names)
    _check_names(found, names)
    _check_shape(opened.array, features, names, minimum_rows)
    labels = found if names is None else _labels(names)
    if _is_sparse(opened.array) and sparse == "refuse":
        raise DataError(
            f"x should be dense, got a sparse {type(opened.array).__name__}: "
            "use x.toarray(), or a model with Gaussian latents."
        )
    _check_numeric(opened.array, labels)
    rows = None if opened.rows is None else tuple(map(str, opened.rows))
    return Table(opened.array, labels, rows, opened.dtype or _result_dtype(opened.array))


def warn_degenerate(data: Data) -> None:
    """Warn of columns a fit will stumble over; a fit calls this once, a posterior never.

    Parameters
    ----------
    data : Data

    Raises
    ------
    DataError
        A column has no observed value at all. This is an error of fitting only: a posterior is asked for
        single rows, where one missing value empties a column.

    Warns
    -----
    ConstantColumnWarning
        Columns whose observed values are all the same.
    CollinearWarning
        Pairs of columns with a correlation beyond 1 - 1e-9 in size (up to 2000 columns). Columns with missing
        values are found when they miss the same rows.
    IntegerDataWarning
        Columns of whole numbers, none negative, with a mean of at most 20: truth values, ratings, small
        counts (a Poisson count with a larger mean is close to Gaussian).

    Notes
    -----
    Sparse data are not looked at.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_degenerate(check_data([[0.1, 5.5], [0.2, 5.5], [0.4, 5.5]]))
    >>> print(caught[0].message)
    x is constant in column 1: loadings there will be 0 and noise variances at their floor;
    leave constant columns out.
    """
    if not isinstance(data.values, Tensor):
        return
    values = _filled(data)
    low, high = values.min(axis=0), values.max(axis=0)
    # 1e-14 is 45 units in the last place: a constant that went through a few operations is still one
    constant = high - low <= 1e-14 * np.maximum(np.abs(low), np.abs(high))
    if len(values) > 1 and constant.any():
        warn(
            f"x is constant in {_columns(np.flatnonzero(constant), data.names)}: "
            "loadings there will be 0 and noise variances at their floor; leave constant columns out.",
            ConstantColumnWarning,
        )
    pairs = _collinear_pairs(values, constant)
    if pairs:
        shown = "; ".join(f"{_column(i, data.names)} and {_column(j, data.names)}" for i, j in pairs[:5])
        more = "; and more" if len(pairs) > 5 else ""
        warn(
            f"x has columns that are copies of each other up to shift and scale ({shown}{more}): "
            "their noise variances will fall to the floor; keep one of each pair.",
            CollinearWarning,
        )
    counts = _small_counts(values, low) & ~constant
    if counts.any():
        warn(
            f"x holds small whole numbers in {_columns(np.flatnonzero(counts), data.names)}: Gaussian noise "
            "describes counts and truth values only roughly; transform counts first, as in log1p.",
            IntegerDataWarning,
        )


def warn(message: str, category: type[ProbaeWarning]) -> None:
    """Give a warning that points at the first line outside this package, the user's own.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("The noise variance of column 2 is at its floor.", HeywoodWarning)
    >>> caught[0].category.__name__
    'HeywoodWarning'
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


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
    probae.checks.ParameterError: latents should be a whole number of at least 1, got 0.
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
    probae.checks.ParameterError: penalty should be a finite number above 0, got -1.
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
    probae.checks.ParameterError: noise should be 'diagonal' or 'isotropic', got 'full'.
    """
    allowed = tuple(choices)
    if isinstance(value, Hashable) and value in allowed:
        return value
    *most, last = (repr(choice) for choice in allowed)
    listed = f"{', '.join(most)} or {last}" if most else last
    raise ParameterError(f"{name} should be {listed}, got {reprlib.repr(value)}.")


def _open(x: Any) -> _Opened:
    if isinstance(x, Tensor):
        return _open_tensor(x)
    if isinstance(x, np.ma.MaskedArray):
        return _open_masked(x)
    if isinstance(x, np.ndarray) or _is_sparse(x):
        return _Opened(x)
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
        inner = _open(x.X)
        return _Opened(inner.array, x.var_names, x.obs_names, inner.dtype)
    if not hasattr(x, "__array__") and hasattr(x, "to_pandas"):
        return _open(x.to_pandas())
    return _open_sequence(x)


def _is(x: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(x, kind)


def _is_sparse(x: Any) -> bool:
    module = sys.modules.get("scipy.sparse")
    return module is not None and bool(module.issparse(x))


def _open_tensor(x: Tensor) -> _Opened:
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
    return _Opened(plain.numpy(force=True), dtype=torch.float32 if narrow else torch.float64)


def _open_masked(x: np.ma.MaskedArray) -> _Opened:
    if x.dtype.kind not in "biuf":
        return _Opened(x.data)
    return _Opened(np.where(np.ma.getmaskarray(x), np.nan, x.data), dtype=_result_dtype(x))


def _open_pandas(x: Any) -> _Opened:
    names = None if _counts_up(x.columns) else x.columns
    rows = None if _counts_up(x.index) else x.index
    for position, kind in enumerate(x.dtypes):
        if getattr(kind, "kind", "O") not in "biuf":
            _refuse_column(position, None if names is None else list(names), kind)
    narrow = x.shape[1] > 0 and all(k.kind == "f" and getattr(k, "itemsize", 8) <= 4 for k in x.dtypes)
    array = x.to_numpy(dtype=np.float64, na_value=np.nan)
    return _Opened(array, names, rows, torch.float32 if narrow else torch.float64)


def _counts_up(index: Any) -> bool:
    """Whether a pandas index is the default one, 0, 1, ..., which names nothing."""
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _open_polars(x: Any) -> _Opened:
    polars = sys.modules["polars"]
    for position, kind in enumerate(x.dtypes):
        if not (kind.is_numeric() or kind == polars.Boolean):
            _refuse_column(position, x.columns, kind)
    narrow = x.width > 0 and all(kind == polars.Float32 for kind in x.dtypes)
    array = x.cast(polars.Float64).to_numpy()
    return _Opened(array, x.columns, dtype=torch.float32 if narrow else torch.float64)


def _open_xarray(x: Any) -> _Opened:
    labels = [x.coords[dim].values if dim in x.coords else None for dim in x.dims]
    rows, names = labels if len(labels) == 2 else (None, None)
    return _Opened(x.values, names, rows)


def _open_sequence(x: Any) -> _Opened:
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
    return _Opened(array)


def _check_shape(array: Any, features: int | None, names: Sequence | None, minimum_rows: int) -> None:
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


def _labels(labels: Iterable | None) -> tuple[str, ...] | None:
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


def _check_names(found: tuple[str, ...] | None, wanted: Sequence[str] | None) -> None:
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


def _result_dtype(array: Any) -> torch.dtype:
    narrow = array.dtype.kind not in "biu" and array.dtype.itemsize <= 4
    return torch.float32 if narrow else torch.float64


def _check_numeric(array: Any, names: Sequence | None) -> None:
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
            got = f"{reprlib.repr(array[row, column])} at row {row}, {_column(column, names)}"
            advice = "convert it, and write a missing value as nan"
    raise DataError(f"x should hold real numbers, got {got}: {advice}.")


def _refuse_column(position: int, names: Sequence | None, kind: Any) -> None:
    raise DataError(
        f"x should hold real numbers, got {kind} in {_column(position, names)}: "
        "convert that column to numbers, or drop it."
    )


def _own_copy(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf, which is then refused
        return np.array(array, dtype=np.float64, order="C")


def _check_values(array: np.ndarray, table: Table, missing: str) -> np.ndarray | None:
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
    return f"{value} at row {label}, {_column(column, table.names)} ({hit.sum()} of {hit.size} values)"


def _warn_missing_rows(absent: np.ndarray) -> None:
    empty = np.flatnonzero(absent.all(axis=1))
    if len(empty) == 0:
        return
    shown = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
    warn(
        f"x has {len(empty)} row{'s' * (len(empty) > 1)} without any observed value (row {shown}): "
        "kept, with the prior as posterior.",
        MissingRowWarning,
    )


def _sparse_data(table: Table) -> Data:
    matrix = sys.modules["scipy.sparse"].csr_array(table.array, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    large = ~(np.abs(matrix.data) <= LARGEST)  # true of NaN as well
    if large.any():
        stored, bad = matrix.tocoo(), int(large.argmax())
        raise DataError(
            f"x should hold finite values up to {LARGEST:g}, got {stored.data[bad]:g} at row "
            f"{stored.row[bad]}, {_column(int(stored.col[bad]), table.names)}: replace it, or use toarray() "
            "where NaN means missing."
        )
    return Data(matrix, table.names, table.rows, table.dtype, None)


def _filled(data: Data) -> np.ndarray:
    """The values, with each missing one replaced by the first observed value of its column.

    Columns that are copies and miss the same rows stay copies; a constant column stays constant.
    """
    values = data.values.numpy()
    if data.missing is None:
        return values
    absent = data.missing.numpy()
    empty = np.flatnonzero(absent.all(axis=0))
    if len(empty):
        raise DataError(
            f"x should have an observed value in every column, got none in {_columns(empty, data.names)}: "
            "leave that out of the fit."
        )
    first = values[(~absent).argmax(axis=0), np.arange(values.shape[1])]
    return np.where(absent, first, values)


def _small_counts(values: np.ndarray, low: np.ndarray) -> np.ndarray:
    chosen = np.flatnonzero((low >= 0) & _whole(values[:100]))
    result = np.zeros(values.shape[1], dtype=bool)
    if len(chosen):
        part = values[:, chosen]
        result[chosen] = _whole(part) & (part.mean(axis=0) <= 20)
    return result


def _whole(values: np.ndarray) -> np.ndarray:
    return (values == np.rint(values)).all(axis=0)


def _collinear_pairs(values: np.ndarray, constant: np.ndarray) -> list[tuple[int, int]]:
    """At most six pairs with |corr| > 1 - 1e-9.

    Copies are copies on any rows, so about a thousand rows find the candidates and all rows decide. A column
    that is constant on those rows adds the first row where it moves.
    """
    samples, features = values.shape
    varying = np.flatnonzero(~constant)
    if samples < 4 or features > 2000 or len(varying) < 2:  # three points lie close to a line too easily
        return []
    rows = np.arange(0, samples, math.ceil(samples / 1024))
    still = varying[np.ptp(values[rows][:, varying], axis=0) == 0]
    rows = np.union1d(rows, [int((values[:, k] != values[0, k]).argmax()) for k in still]).astype(int)
    part = _unit(values[rows][:, varying])
    pairs: list[tuple[int, int]] = []
    for a, b in np.argwhere(np.triu(np.abs(part.T @ part) > 1 - 1e-6, 1)):
        i, j = int(varying[a]), int(varying[b])
        if abs(_unit(values[:, i]) @ _unit(values[:, j])) > 1 - 1e-9:
            pairs.append((i, j))
        if len(pairs) == 6:
            break
    return pairs


def _unit(columns: np.ndarray) -> np.ndarray:
    centred = columns - columns.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=0)


def _column(position: int, names: Sequence | None) -> str:
    return f"column {position}" if names is None else f"column {str(names[position])!r}"


def _columns(positions: Sequence[int] | np.ndarray, names: Sequence | None) -> str:
    shown = [_column(int(i), names).removeprefix("column ") for i in positions]
    return f"column{'s' * (len(shown) > 1)} " + ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
