"""Columns a fit will stumble over: constants, copies of each other, and small counts."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from probae.errors import CollinearWarning, ConstantColumnWarning, DataError, IntegerDataWarning, warn
from probae.tables import Data, column_label, column_labels


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
    >>> from probae.checks import check_data
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
    _warn_constant(constant if len(values) > 1 else np.zeros_like(constant), data.names)
    _warn_collinear(_collinear_pairs(values, constant), data.names)
    _warn_counts(_small_counts(values, low) & ~constant, data.names)


def _warn_constant(constant: np.ndarray, names: tuple[str, ...] | None) -> None:
    if constant.any():
        warn(
            f"x is constant in {column_labels(np.flatnonzero(constant), names)}: "
            "loadings there will be 0 and noise variances at their floor; leave constant columns out.",
            ConstantColumnWarning,
        )


def _warn_collinear(pairs: list[tuple[int, int]], names: tuple[str, ...] | None) -> None:
    if pairs:
        shown = "; ".join(
            f"{column_label(int(i), names)} and {column_label(int(j), names)}" for i, j in pairs[:5]
        )
        more = "; and more" if len(pairs) > 5 else ""
        warn(
            f"x has columns that are copies of each other up to shift and scale ({shown}{more}): "
            "their noise variances will fall to the floor; keep one of each pair.",
            CollinearWarning,
        )


def _warn_counts(counts: np.ndarray, names: tuple[str, ...] | None) -> None:
    if counts.any():
        warn(
            f"x holds small whole numbers in {column_labels(np.flatnonzero(counts), names)}: Gaussian noise "
            "describes counts and truth values only roughly; transform counts first, as in log1p.",
            IntegerDataWarning,
        )


def warn_degenerate_moments(
    array: np.ndarray, names: tuple[str, ...] | None, mean: np.ndarray, scatter: np.ndarray
) -> np.ndarray:
    """Warn as `warn_degenerate` of complete rows whose moments are known: most of them need not be read again.

    Returns which columns are constant, (features,).

    Parameters
    ----------
    array : numpy.ndarray (samples, features)
    names : feature names
    mean, scatter : moments of the rows (features,), and (features, features) or its diagonal alone

    Examples
    --------
    >>> import warnings
    >>> x = np.array([[0.1, 5.5], [0.2, 5.5], [0.4, 5.5]])
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_degenerate_moments(x, ("u", "v"), x.mean(0), 3 * np.cov(x.T, bias=True)).tolist()
    [False, True]
    >>> str(caught[0].message)[:29]
    "x is constant in column 'v': "
    """
    size = scatter if scatter.ndim == 1 else scatter.diagonal()
    still = np.flatnonzero(size <= len(array) * (1e-6 * mean) ** 2)
    constant = np.zeros(len(mean), dtype=bool)
    low, high = np.empty(len(still)), np.empty(len(still))
    for position, column in enumerate(still):
        low[position], high[position] = array[:, column].min(), array[:, column].max()
    constant[still] = high - low <= 1e-14 * np.maximum(np.abs(low), np.abs(high))
    _warn_constant(constant if len(array) > 1 else np.zeros_like(constant), names)
    if scatter.ndim == 2 and len(array) >= 4:
        spread = np.sqrt(np.where(constant | (size <= 0), np.inf, size))
        correlation = scatter / spread[:, None] / spread
        _warn_collinear(
            [tuple(pair) for pair in np.argwhere(np.triu(np.abs(correlation) > 1 - 1e-9, 1))[:6]], names
        )
    _warn_counts(_whole_columns(array, (mean >= 0) & (mean <= 20) & ~constant), names)
    return constant


def _whole_columns(array: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Which of the chosen columns hold whole numbers only, none negative; reads on while any is left."""
    result = np.zeros(array.shape[1], dtype=bool)
    left = np.flatnonzero(chosen)
    step, start = 4, 0  # real measurements are found out by their first rows
    while start < len(array) and len(left):
        block = np.asarray(array[start : start + step])[:, left]
        left = left[((block == np.rint(block)) & (block >= 0)).all(axis=0)]
        start, step = start + step, max(2**20 // array.shape[1], 4)
    result[left] = True
    return result


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
            f"x should have an observed value in every column, got none in {column_labels(empty, data.names)}: "
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
