"""Parallel analysis: eigenvalues against those of data without factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probae.checks import ParameterError, check_count
from probae.factors.rule import Judgement, Rule, leading
from probae.factors.sample import NotApplicable, Sample

FEWEST, MOST = 100, 1000  # replicates, when the work decides
WORK = 1e10  # multiplications that all replicates may take together
HELD = 2**22  # numbers held at a time


@dataclass(frozen=True)
class ParallelAnalysis(Rule):
    r"""As many factors as eigenvalues exceed those of data without factors, up to the first that does not.

    Eigenvalue j of the sample is compared with the given percentile of eigenvalue j over many data sets of the same
    size whose columns are independent.

    Parameters
    ----------
    common : bool
        Look at the eigenvalues of the reduced correlation matrix, with squared multiple correlations on the diagonal
        (common factors), in place of those of the correlation matrix (components).
    permute : bool
        Data without factors come from permuting each column of x on its own, which keeps the columns' laws but needs
        the rows; otherwise they are Gaussian, for which the number of rows is enough.
    level : float
        The percentile, between 0 and 1.
    replicates : int, optional
        Number of data sets without factors; by default between 100 and 1000, fewer for large data.

    Notes
    -----
    Gaussian columns are not drawn: their scatter is L L' with L triangular, its diagonal chi variates and the rest
    normal (Bartlett's decomposition), so the cost does not depend on the number of rows.

    Horn (1965), Psychometrika 30, 179-185; the percentile after Glorfeld (1995), Educational and Psychological
    Measurement 55, 377-393; common factors after Humphreys & Montanelli (1975), Multivariate Behavioral Research 10,
    193-205. The common-factor form names more factors the more rows there are.

    Examples
    --------
    >>> import probae as pa
    >>> table = pa.datasets.ability_cov()
    >>> published = pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)
    >>> pa.number_of_factors(published, rules=[ParallelAnalysis()]).answers
    {'parallel analysis (components, Gaussian)': 1}
    """

    common: bool = False
    permute: bool = False
    level: float = 0.95
    replicates: int | None = None
    statistic: ClassVar[str] = "eigenvalue"
    source: ClassVar[str] = "Horn (1965); Glorfeld (1995); Humphreys & Montanelli (1975)"

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ParameterError(f"level should be between 0 and 1, got {self.level!r}: 0.95 is usual.")
        if self.replicates is not None:
            check_count("replicates", self.replicates, minimum=2)

    @property
    def name(self) -> str:
        """Name in tables."""
        kind = "common factors" if self.common else "components"
        return f"parallel analysis ({kind}, {'permuted' if self.permute else 'Gaussian'})"

    def judge(self, sample: Sample) -> Judgement:
        """Compare the eigenvalues with percentiles under independence."""
        values = (
            reduced_eigenvalues(sample.correlation, sample.inverse) if self.common else sample.eigenvalues
        )
        values = values[: sample.rank]
        random = self.null_eigenvalues(sample)
        threshold, typical = np.quantile(random, [self.level, 0.5], axis=0)
        note = f"{len(random)} replicates"
        return self.answer(leading(values > threshold), 1, values, threshold, typical, note)

    def null_eigenvalues(self, sample: Sample) -> np.ndarray:
        """Return eigenvalues (replicates, rank) of data without factors, largest first."""
        rows = sample.require_rows() if self.permute else None
        if self.common and sample.count <= sample.features:
            raise NotApplicable(
                f"it needs more rows than columns, got {sample.count} rows of {sample.features}"
            )
        n, p = sample.count, sample.features
        replicates, batch = self._plan(n, p)
        generator = sample.generator(self.name)
        found = []
        for start in range(0, replicates, batch):
            size = min(batch, replicates - start)
            roots = (
                gaussian_roots(size, n, p, generator)
                if rows is None
                else permuted_roots(size, rows, generator)
            )
            found.append(_spectra(roots, self.common)[:, : sample.rank])
        return np.concatenate(found)

    def _plan(self, n: int, p: int) -> tuple[int, int]:
        """Return how many replicates, and how many at a time."""
        height = n if self.permute else min(n, p)
        work = height * p * min(n, p) + (20 * n * p if self.permute else 0) + 10 * min(n, p) ** 3
        replicates = self.replicates or int(np.clip(WORK / work, FEWEST, MOST))
        return replicates, max(1, HELD // (height * p))


def reduced_eigenvalues(correlation: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of matrices (..., p, p) with squared multiple correlations on the diagonal.

    The squared multiple correlation of column i with the others is 1 - 1 / (R^-1)_ii. Largest first.

    Examples
    --------
    >>> R = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> reduced_eigenvalues(R, np.linalg.inv(R))                       # diagonal .25
    array([ 0.75, -0.25])
    """
    reduced = correlation.copy()
    diagonal = np.einsum("...ii->...i", reduced)
    diagonal -= 1.0 / np.einsum("...ii->...i", inverse)
    return np.linalg.eigvalsh(reduced)[..., ::-1]


def gaussian_roots(size: int, n: int, p: int, generator: np.random.Generator) -> np.ndarray:
    """Draw Z (size, rows, p) with unit columns such that Z'Z has the law of the correlations of n Gaussian rows."""
    if n <= p:
        roots = generator.standard_normal((size, n - 1, p))
    else:
        roots = np.triu(generator.standard_normal((size, p, p)), 1)
        diagonal = np.einsum("...ii->...i", roots)
        diagonal[:] = np.sqrt(generator.chisquare(n - 1 - np.arange(p), (size, p)))
    return roots / np.linalg.norm(roots, axis=1, keepdims=True)


def permuted_roots(size: int, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return Z (size, n, p) with centred unit columns, each a permutation of that column of the rows."""
    columns = np.ascontiguousarray((rows - rows.mean(axis=0)).T)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    return np.stack([generator.permuted(columns, axis=1).T for _ in range(size)])


def _spectra(roots: np.ndarray, common: bool) -> np.ndarray:
    """Return eigenvalues of Z'Z (size, .), largest first, through the smaller of Z'Z and ZZ'."""
    wide = roots.shape[1] < roots.shape[2]
    gram = roots @ roots.swapaxes(1, 2) if wide else roots.swapaxes(1, 2) @ roots
    if common:
        return reduced_eigenvalues(gram, np.linalg.inv(gram))
    return np.linalg.eigvalsh(gram)[:, ::-1]
