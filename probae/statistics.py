r"""Count, mean and scatter: all that a Gaussian likelihood needs to know of the rows of x.

.. math:: S = \sum_n (x_n - \bar x)(x_n - \bar x)'

With sums taken about a fixed point :math:`c` near the data, :math:`t = \sum_n (x_n - c)`,

.. math:: S = \sum_n (x_n - c)(x_n - c)' - t t' / N, \qquad \bar x = c + t / N,

which one pass collects. Sums about zero would lose the variation of the data under their offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import LARGEST, DataError, Table, check_count, check_data, check_table

BLOCK = 2**17  # values held at a time: 1 MB of float64 stays in the cache of one processor


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """Count, mean and scatter of the rows of x; `a + b` describes the rows of both.

    Attributes
    ----------
    count : int
        Number of rows.
    mean : Tensor (features,), float64
    scatter : Tensor (features, features), float64
        Sum of the outer products of the centred rows.
    names : tuple of str or None
        Feature names.

    Notes
    -----
    The sum of two statistics is the updating formula of Chan, Golub and LeVeque (1979), "Updating formulae
    and a pairwise algorithm for computing sample variances", report STAN-CS-79-773, with outer products for
    squares.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    >>> whole = SufficientStatistics.from_data(x)
    >>> whole.count, whole.mean
    (3, tensor([2., 2.], dtype=torch.float64))
    >>> parts = SufficientStatistics.from_data(x[:1]) + SufficientStatistics.from_data(x[1:])
    >>> torch.allclose(parts.scatter, whole.scatter)
    True
    """

    count: int
    mean: Float[Tensor, " features"]
    scatter: Float[Tensor, "features features"]
    names: tuple[str, ...] | None = None

    @classmethod
    def from_data(cls, x: Any) -> SufficientStatistics:
        """Read x once, in blocks of rows and in float64; a memory map is never loaded whole.

        Parameters
        ----------
        x : table of shape (samples, features)
            Anything `check_data` accepts; `scipy.sparse` goes through its sparse Gram matrix.

        Raises
        ------
        DataError
            As `check_data`; NaN, infinity and squares beyond float64 are refused.

        Examples
        --------
        >>> SufficientStatistics.from_data([[1, 2], [3, 6]]).covariance
        tensor([[1., 2.],
                [2., 4.]], dtype=torch.float64)
        """
        table = check_table(x, sparse="allow")
        return _accumulate([table]) if isinstance(table.array, np.ndarray) else _from_sparse(x)

    @classmethod
    def from_batches(cls, batches: Iterable) -> SufficientStatistics:
        """Read tables one after the other, as a DataLoader gives them.

        Parameters
        ----------
        batches : iterable of tables of shape (rows, features)
            A batch may be a tuple or list whose first member is the table, as from a `TensorDataset`.

        Raises
        ------
        DataError
            As `from_data`; no batch at all; batches of different features.

        Examples
        --------
        >>> SufficientStatistics.from_batches([[[1, 2]], [[3, 6], [5, 7]]]).mean
        tensor([3., 5.], dtype=torch.float64)
        """
        return _accumulate(check_table(_table_of(batch)) for batch in batches)

    @classmethod
    def from_covariance(
        cls, covariance: Any, *, count: int, mean: Any = None, ddof: int = 0
    ) -> SufficientStatistics:
        """Take a published covariance or correlation matrix in place of the rows.

        Parameters
        ----------
        covariance : matrix of shape (features, features)
            Names are taken from a DataFrame or DataArray.
        count : int
            The number of rows behind it, at least 2.
        mean : vector of shape (features,), optional
            Default: zeros.
        ddof : int
            The covariance is `scatter / (count - ddof)`: 1 for most software, 0 for maximum likelihood.

        Raises
        ------
        DataError
            The matrix is not square, not symmetric, or has a negative eigenvalue beyond rounding; `count` is
            too small; `mean` has another length.

        Examples
        --------
        >>> correlation = [[1.0, 0.5], [0.5, 1.0]]
        >>> SufficientStatistics.from_covariance(correlation, count=101, ddof=1).scatter
        tensor([[100.,  50.],
                [ 50., 100.]], dtype=torch.float64)
        """
        data = check_data(covariance)
        matrix = _check_covariance(data.values, torch.finfo(data.dtype).eps ** 0.5)
        rows = check_count("count", count, minimum=0) - check_count("ddof", ddof, minimum=0)
        if count < 2 or rows < 1:
            raise DataError(
                f"count should be at least 2 and more than ddof, got {count} and ddof {ddof}: "
                "give the number of rows behind the covariance."
            )
        features = len(matrix)
        centre = torch.zeros(features, dtype=torch.float64)
        if mean is not None:
            centre = check_data(np.atleast_2d(np.asarray(mean)), features=features).values[0]
        return cls(int(count), centre, matrix * rows, data.names)

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """Maximum likelihood covariance, `scatter / count`."""
        return self.scatter / self.count

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        if not isinstance(other, SufficientStatistics):
            return NotImplemented
        names = _shared_names(self.features, self.names, other.features, other.names)
        count = self.count + other.count
        delta = other.mean - self.mean
        between = torch.outer(delta, delta) * (self.count * other.count / count)
        mean = self.mean + delta * (other.count / count)
        return SufficientStatistics(count, mean, self.scatter + other.scatter + between, names)


class _Sums:
    """Sums of rows and of their outer products about a fixed point, the mean of the first thousand."""

    def __init__(self, first: np.ndarray) -> None:
        features = first.shape[1]
        self.count = 0
        head = np.array(first[:1000], dtype=np.float64, order="C")  # one layout, so one order of adding up
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found in the sums
            self.point = head.mean(axis=0)
        self.buffer = np.empty(first.shape)
        self.total = np.zeros(features)
        self.outer = np.zeros((features, features))

    def add(self, block: np.ndarray) -> bool:
        """Add a block of rows; False when its sums or squares are not finite.

        numpy computes a matrix times its own transpose as such: half the work of a general product, and
        exactly symmetric.
        """
        if len(block) > len(self.buffer):
            self.buffer = np.empty(block.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            part = np.subtract(block, self.point, out=self.buffer[: len(block)])
            self.total += np.ones(len(part)) @ part  # faster than a sum down narrow columns
            self.outer += part.T @ part
        self.count += len(block)
        return bool(np.isfinite(self.total).all() and np.isfinite(self.outer.diagonal()).all())


def _accumulate(tables: Iterable[Table]) -> SufficientStatistics:
    sums, names = None, None
    for table in tables:
        for start, block in _blocks(table.array):
            if sums is None:
                sums, names = _Sums(block), table.names
            names = _shared_names(len(sums.total), names, block.shape[1], table.names)
            if not sums.add(block):
                _refuse(block, start, table.names)
    if sums is None:
        raise DataError(
            "batches should give at least one table, got none: an iterator can be read only once."
        )
    mean = sums.point + sums.total / sums.count
    scatter = sums.outer - np.outer(sums.total, sums.total) / sums.count
    return SufficientStatistics(sums.count, torch.from_numpy(mean), torch.from_numpy(scatter), names)


def _blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    features = array.shape[1]
    rows = max(BLOCK // features, features)  # with fewer, adding to the sums would cost more than the products
    for start in range(0, len(array), rows):
        yield start, np.asarray(array[start : start + rows])  # plain; a memory map is read only when used


def _table_of(batch: Any) -> Any:
    inside = isinstance(batch, (tuple, list)) and len(batch) > 0 and getattr(batch[0], "ndim", 0) == 2
    return batch[0] if inside else batch


def _shared_names(
    width: int, names: tuple[str, ...] | None, other_width: int, other_names: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    if width != other_width:
        raise DataError(
            f"tables to merge should be of equal width, got {width} and {other_width} features: "
            "take the same columns of all."
        )
    if names is None or other_names is None or names == other_names:
        return names or other_names
    raise DataError(
        f"tables to merge should have the same columns in the same order, got {names} and {other_names}: "
        "reorder or rename."
    )


def _from_sparse(x: Any) -> SufficientStatistics:
    """The scatter as X'X - N m m' without a dense copy of x; its zeros keep m small against the spread."""
    data = check_data(x, sparse="allow")
    matrix: Any = data.values
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    scatter = (matrix.T @ matrix).toarray() - matrix.shape[0] * np.outer(mean, mean)
    return SufficientStatistics(
        matrix.shape[0], torch.from_numpy(mean), torch.from_numpy(scatter), data.names
    )


def _refuse(block: np.ndarray, start: int, names: tuple[str, ...] | None) -> None:
    bad = ~(np.abs(block) <= LARGEST)  # true of NaN as well
    if not bad.any():
        raise DataError("x should have squares that can be added in float64, got a sum too large: rescale x.")
    row, column = divmod(int(bad.argmax()), bad.shape[1])
    value, label = block[row, column], column if names is None else repr(names[column])
    advice = f"replace it; squares of values above {LARGEST:g} overflow"
    if np.isnan(value):
        advice = "pass the rows to a model that integrates missing values out"
    raise DataError(
        f"x should hold finite values in range, got {value:g} at row {start + row}, column {label}: {advice}."
    )


def _check_covariance(matrix: Tensor, tolerance: float) -> Tensor:
    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(
            f"covariance should be square, got shape {tuple(matrix.shape)}: pass all its rows and columns."
        )
    scale = matrix.abs().max()
    skew = (matrix - matrix.T).abs()
    if skew.max() > tolerance * scale:
        i, j = divmod(int(skew.argmax()), len(matrix))
        raise DataError(
            f"covariance should be symmetric, got {matrix[i, j]:g} at ({i}, {j}) and {matrix[j, i]:g} at "
            f"({j}, {i}): use (S + S.T) / 2 if both are right to rounding."
        )
    symmetric = (matrix + matrix.T) / 2
    lowest = torch.linalg.eigvalsh(symmetric)[0]
    if lowest < -tolerance * scale * len(matrix):
        raise DataError(
            f"covariance should have no negative eigenvalue, got {lowest:g}: one made of pairwise complete "
            "rows, or of few printed digits, needs a projection first."
        )
    return symmetric
