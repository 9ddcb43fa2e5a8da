r"""Count, mean and scatter: all that a Gaussian likelihood needs to know of the rows of x.

.. math:: S = \sum_n (x_n - \bar x)(x_n - \bar x)'

A block B of rows, with :math:`t = \sum_B (x_n - \bar x)` about the mean so far, changes them to

.. math:: S \leftarrow S + \sum_B (x_n - \bar x)(x_n - \bar x)' - t t' / N,
          \qquad \bar x \leftarrow \bar x + t / N

where N counts the block as well. Raw sums would lose the variation of the data under their offset.
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

BLOCK = 2**21  # values held at a time: 16 MB of float64; half of it is slower, twice is no faster


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
        if not isinstance(table.array, np.ndarray):
            return _from_sparse(x)
        mean, scatter = _moments(table.array)
        if not scatter.isfinite().all():
            _refuse(table)
        return cls(len(table.array), mean, scatter, table.names)

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
        total = None
        for batch in batches:
            inside = isinstance(batch, (tuple, list)) and len(batch) and getattr(batch[0], "ndim", 0) == 2
            part = cls.from_data(batch[0] if inside else batch)
            total = part if total is None else total + part
        if total is None:
            raise DataError(
                "batches should give at least one table, got none: an iterator can be read only once."
            )
        return total

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
        if self.features != other.features:
            raise DataError(
                f"statistics to merge should be of equal width, got {self.features} and {other.features} "
                "features: take the same columns for both."
            )
        if None not in (self.names, other.names) and self.names != other.names:
            raise DataError(
                f"statistics to merge should have the same columns in the same order, got {self.names} and "
                f"{other.names}: reorder or rename one."
            )
        count = self.count + other.count
        delta = other.mean - self.mean
        between = torch.outer(delta, delta) * (self.count * other.count / count)
        mean = self.mean + delta * (other.count / count)
        return SufficientStatistics(
            count, mean, self.scatter + other.scatter + between, self.names or other.names
        )


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, BLOCK // array.shape[1])
    for start in range(0, len(array), rows):
        yield np.asarray(array[start : start + rows])  # a plain array, whose memory map stays where it is


def _moments(array: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean (features,) and scatter (features, features) by the update at the top of this file.

    numpy centres and sums, torch multiplies: a block has one parallel region, so that other work on the
    machine can hold it up only once.
    """
    features = array.shape[1]
    scatter = torch.zeros(features, features, dtype=torch.float64)
    count, mean, centred = 0, np.zeros(features), np.empty((0, features))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the result
        for block in _blocks(array):
            if count == 0:
                mean = block.mean(axis=0, dtype=np.float64)  # any point near the data would do
                centred = np.empty(block.shape)  # one buffer for all blocks, the last of which may be shorter
            part = np.subtract(block, mean, out=centred[: len(block)])
            total = part.sum(axis=0)
            count += len(block)
            rows = torch.from_numpy(part)
            scatter.addmm_(rows.T, rows)
            scatter -= torch.from_numpy(np.outer(total, total) / count)
            mean = mean + total / count
    return torch.from_numpy(mean), (scatter + scatter.T) / 2  # a product may round (i, j) and (j, i) apart


def _from_sparse(x: Any) -> SufficientStatistics:
    """The scatter as X'X - N m m' without a dense copy of x; its zeros keep m small against the spread."""
    data = check_data(x, sparse="allow")
    matrix: Any = data.values
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    scatter = (matrix.T @ matrix).toarray() - matrix.shape[0] * np.outer(mean, mean)
    return SufficientStatistics(
        matrix.shape[0], torch.from_numpy(mean), torch.from_numpy(scatter), data.names
    )


def _refuse(table: Table) -> None:
    start = 0
    for block in _blocks(table.array):
        bad = ~(np.abs(block) <= LARGEST)  # true of NaN as well
        if bad.any():
            row, column = divmod(int(bad.argmax()), bad.shape[1])
            value = block[row, column]
            where = (
                f"row {start + row}, column {column if table.names is None else repr(table.names[column])}"
            )
            advice = f"replace it; squares of values above {LARGEST:g} overflow"
            if np.isnan(value):
                advice = "pass the rows to a model that integrates missing values out"
            raise DataError(f"x should hold finite values in range, got {value:g} at {where}: {advice}.")
        start += len(block)
    raise DataError("x should have squares that can be added in float64, got values too large: rescale x.")


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
