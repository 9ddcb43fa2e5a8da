r"""Count, mean and scatter: all that a Gaussian likelihood needs to know of the rows of x.

.. math:: S = \sum_n (x_n - \bar x)(x_n - \bar x)'

How the sums are taken in one pass is told in :mod:`probae.moments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae import moments
from probae.checks import DataError, Table, check_count, check_data, check_table


class SufficientStatistics:
    """Count, mean and scatter of the rows of x; `a + b` describes the rows of both.

    Rows fewer than features are kept as they are, centred: `root` (count, features), of which the scatter is
    `root.T @ root`, formed only when it is asked for.

    Attributes
    ----------
    count : int
        Number of rows.
    mean : Tensor (features,), float64
    scatter : Tensor (features, features), float64
        Sum of the outer products of the centred rows.
    root : Tensor (count, features), float64, or None
        The centred rows, where they are fewer than the features.
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

    def __init__(
        self,
        count: int,
        mean: Float[Tensor, " features"],
        scatter: Float[Tensor, "features features"] | None = None,
        names: tuple[str, ...] | None = None,
        *,
        root: Float[Tensor, "rows features"] | None = None,
    ) -> None:
        if (scatter is None) == (root is None):
            raise DataError(
                "SufficientStatistics need a scatter or a root, one of the two: give count, mean and it."
            )
        self.count = count
        self.mean = mean
        self.names = names
        self.root = root
        if scatter is not None:
            self.scatter = scatter

    @cached_property
    def scatter(self) -> Float[Tensor, "features features"]:
        """Sum of the outer products of the centred rows."""
        assert self.root is not None
        return self.root.T @ self.root

    @classmethod
    def from_data(cls, x: Any, weights: Any = None) -> SufficientStatistics:
        """Read x once, in blocks of rows and in float64; a memory map is never loaded whole.

        Parameters
        ----------
        x : table of shape (samples, features)
            Anything `check_data` accepts; `scipy.sparse` goes through its sparse Gram matrix. A Dask array or data
            frame is reduced chunk by chunk, where each chunk lives; only its moments travel.
        weights : vector of shape (samples,), optional
            How much each row counts, none negative; scaled to sum to the number of rows.

        Raises
        ------
        DataError
            As `check_data`; NaN, infinity and squares beyond float64 are refused.

        Examples
        --------
        >>> SufficientStatistics.from_data([[1, 2], [3, 6]]).covariance
        tensor([[1., 2.],
                [2., 4.]], dtype=torch.float64)
        >>> SufficientStatistics.from_data([[1, 2], [3, 6]], weights=[3, 1]).mean
        tensor([1.5000, 3.0000], dtype=torch.float64)
        """
        if is_dask(x):
            return _reduce_chunks(x, weights)
        table = check_table(x, sparse="allow")
        return cls.of_table(table, None if weights is None else _check_weights(weights, table.array.shape[0]))

    @classmethod
    def of_table(cls, table: Table, weights: np.ndarray | None = None) -> SufficientStatistics:
        """Read a table that `check_table` has opened."""
        try:
            return cls.of_moments(moments.of_table(table, weights), table.names)
        except moments.NotFinite as found:
            raise found.explain(table.names) from None

    @classmethod
    def of_moments(cls, found: moments.Moments, names: tuple[str, ...] | None) -> SufficientStatistics:
        """Take moments that were collected elsewhere."""
        mean = torch.from_numpy(found.mean)
        if found.root is not None:
            return cls(round(found.count), mean, names=names, root=torch.from_numpy(found.root))
        return cls(round(found.count), mean, torch.from_numpy(found.dense()), names)

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
        tables = (check_table(_table_of(batch), sparse="allow") for batch in batches)
        return cls.of_moments(*moments.collect_all(tables))

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

    @cached_property
    def variances(self) -> Float[Tensor, " features"]:
        """Diagonal of the covariance; a scatter is not formed for it."""
        if self.root is None:
            return self.scatter.diagonal() / self.count
        root = self.root.numpy()
        return torch.from_numpy(np.einsum("nd,nd->d", root, root)) / self.count

    def covariance_times(
        self, matrix: Float[Tensor, "features columns"]
    ) -> Float[Tensor, "features columns"]:
        """Multiply the covariance by a matrix; through the root where there is one.

        Examples
        --------
        >>> wide = SufficientStatistics.from_data([[1.0, 2.0, 3.0], [3.0, 6.0, 1.0]])
        >>> bool((wide.covariance_times(torch.eye(3).double()) == wide.covariance).all())
        True
        """
        if self.root is None:
            return self.scatter @ matrix / self.count
        return self.root.T @ (self.root @ matrix) / self.count

    def scaled(self, units: Float[Tensor, " features"]) -> SufficientStatistics:
        """Describe x / units.

        Examples
        --------
        >>> SufficientStatistics.from_data([[2.0], [6.0]]).scaled(torch.tensor([2.0]).double()).mean
        tensor([2.], dtype=torch.float64)
        """
        mean = self.mean / units
        if self.root is not None:
            return SufficientStatistics(self.count, mean, names=self.names, root=self.root / units)
        scatter = self.scatter / torch.outer(units, units)
        return SufficientStatistics(self.count, mean, scatter, self.names)

    def named(self, names: Sequence[str] | None) -> SufficientStatistics:
        """Describe the same rows under other feature names."""
        chosen = None if names is None else tuple(names)
        scatter = None if self.root is not None else self.scatter
        return SufficientStatistics(self.count, self.mean, scatter, chosen, root=self.root)

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        if not isinstance(other, SufficientStatistics):
            return NotImplemented
        names = moments.shared_names(self.features, self.names, other.features, other.names)
        return SufficientStatistics.of_moments(self._moments() + other._moments(), names)

    def __repr__(self) -> str:
        kept = "root" if self.root is not None else "scatter"
        return f"SufficientStatistics(count={self.count}, features={self.features}, {kept})"

    def _moments(self) -> moments.Moments:
        root = None if self.root is None else self.root.numpy()
        scatter = self.scatter.numpy() if root is None else None
        return moments.Moments(self.count, self.mean.numpy(), scatter, root)


def is_dask(x: Any) -> bool:
    """Whether x is a Dask array or data frame: made of chunks that may live elsewhere."""
    return hasattr(x, "__dask_graph__") and hasattr(x, "to_delayed")


def _reduce_chunks(x: Any, weights: Any) -> SufficientStatistics:
    """Reduce each chunk of rows where it lives, and add the results up in pairs."""
    import dask

    if getattr(x, "ndim", 2) != 2:
        raise DataError(
            f"x should be two-dimensional (samples, features), got {x.ndim} dimensions: reshape it."
        )
    if weights is not None:
        raise DataError(
            "weights need rows in memory, got a Dask collection: reduce weighted chunks and add them up."
        )
    if hasattr(x, "rechunk"):
        x = x.rechunk({1: -1})
    chunks = [dask.delayed(_reduce_chunk)(chunk) for chunk in np.ravel(x.to_delayed())]
    while len(chunks) > 1:
        pairs = [chunks[i : i + 2] for i in range(0, len(chunks), 2)]
        chunks = [dask.delayed(_merge)(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    found = chunks[0].compute()
    if found is None:
        raise DataError("x should have at least 1 row, got none: check the selection that made it.")
    return found


def _reduce_chunk(chunk: Any) -> SufficientStatistics | None:
    return SufficientStatistics.from_data(chunk) if len(chunk) else None


def _merge(a: SufficientStatistics | None, b: SufficientStatistics | None) -> SufficientStatistics | None:
    return a + b if a is not None and b is not None else a or b


def _table_of(batch: Any) -> Any:
    inside = isinstance(batch, (tuple, list)) and len(batch) > 0 and getattr(batch[0], "ndim", 0) == 2
    return batch[0] if inside else batch


def _check_weights(weights: Any, rows: int) -> np.ndarray:
    """Return weights that sum to the number of rows."""
    values = np.asarray(weights)
    if values.shape != (rows,) or values.dtype.kind not in "biuf":
        raise DataError(
            f"weights should be {rows} numbers, one for each row, got shape {values.shape} of {values.dtype}."
        )
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise DataError(
            "weights should be finite, none negative and not all zero: drop rows that do not count."
        )
    return values * (rows / values.sum(dtype=np.float64))


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
