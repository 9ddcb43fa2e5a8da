"""Comparison data: eigenvalues of x against those of data with 1, 2, ... factors and the columns' own laws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from probae.checks import ParameterError, check_count
from probae.factors.rule import Judgement, Rule
from probae.factors.sample import NotApplicable, Sample
from probae.factors.sequence import most_factors

WORK = 2e10  # multiplications the samples of one number of factors may take
FEWEST, MOST = 100, 500  # samples, when the work decides
LARGEST_POPULATION = 5_000_000  # values beyond which making a population takes too long
TRIALS = 5  # refinements without gain before a population is good enough
AXIS_STEPS = 50


@dataclass(frozen=True)
class ComparisonData(Rule):
    """More factors as long as they bring simulated eigenvalues significantly closer to those of x.

    For 1, 2, ... factors a finite population is made whose columns are distributed as those of x and correlate as
    that number of factors lets them. Samples of the size of x are drawn, and the root mean square difference of their
    eigenvalues to those of x is noted. A further factor is kept if a Mann-Whitney test finds its differences smaller.
    It never answers 0.

    Parameters
    ----------
    level : float
        Of the one-sided test; .30 was found best by the authors.
    population : int
        Rows of each population; at least as many as x has.
    samples : int, optional
        By default between 100 and 500, fewer for large data.

    Notes
    -----
    Ruscio & Roche (2012), Determining the number of factors to retain in an exploratory factor analysis using
    comparison data of known factorial structure, Psychological Assessment 24, 282-292; populations after Ruscio &
    Kaczetow (2008), Multivariate Behavioral Research 43, 355-381.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.number_of_factors(x, rules=[ComparisonData(population=2000, samples=100)]).answers
    {'comparison data': 3}
    """

    level: float = 0.30
    population: int = 10_000
    samples: int | None = None
    statistic: ClassVar[str] = "median RMS difference of eigenvalues"
    source: ClassVar[str] = "Ruscio & Roche (2012)"

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ParameterError(f"level should be between 0 and 1, got {self.level!r}: 0.30 is usual.")
        check_count("population", self.population, minimum=10)
        if self.samples is not None:
            check_count("samples", self.samples, minimum=10)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "comparison data"

    def judge(self, sample: Sample) -> Judgement:
        """Add factors until one does not help."""
        rows = sample.require_rows()
        size = max(self.population, len(rows))
        if size * rows.shape[1] > LARGEST_POPULATION:
            raise NotApplicable(
                f"populations of {size} rows of {rows.shape[1]} columns take too long to make"
            )
        generator = sample.generator(self.name)
        before, medians, answer = None, [], None
        for factors in range(1, most_factors(sample) + 1):
            differences = self._differences(sample, rows, factors, generator)
            medians.append(float(np.median(differences)))
            if before is not None and not _smaller(differences, before, self.level):
                answer = factors - 1
                break
            before = differences
        if answer is None:
            note = f"every further factor up to {most_factors(sample)} helps"
            return self.answer(
                most_factors(sample) if most_factors(sample) == 1 else None, 1, medians, note=note
            )
        return self.answer(answer, 1, medians)

    def _differences(
        self, sample: Sample, rows: np.ndarray, factors: int, generator: np.random.Generator
    ) -> np.ndarray:
        n, p = rows.shape
        size = max(self.population, n)
        people = make_population(rows, sample.correlation, factors, size, generator)
        samples = self.samples or int(np.clip(WORK / (n * p * min(n, p) + 10 * min(n, p) ** 3), FEWEST, MOST))
        spectra = (_spectrum(people[generator.integers(size, size=n)]) for _ in range(samples))
        own = sample.eigenvalues[: min(n, p)]
        total = np.array([np.square(found - own).sum() for found in spectra])
        return np.sqrt(total / p)


def make_population(
    rows: np.ndarray, correlation: np.ndarray, factors: int, size: int, generator: np.random.Generator
) -> np.ndarray:
    """Return rows (size, p) with the laws of the columns of ``rows`` and nearly the correlations of so many factors.

    Gaussian factor scores are replaced, rank by rank, with values of x. That changes the correlations, so the
    correlations aimed at are corrected by what was missed until this helps no more.
    """
    p = rows.shape[1]
    values = np.sort(np.stack([generator.choice(rows[:, j], size) for j in range(p)], axis=1), axis=0)
    shared, own = generator.standard_normal((size, factors)), generator.standard_normal((size, p))
    upper = np.triu_indices(p, 1)
    best, aim, missed, best_error = values, correlation, np.zeros_like(correlation), math.inf
    target, trials = correlation, 0
    while trials < TRIALS:
        loadings = principal_axes(target, factors)
        unique = np.sqrt(np.clip(1.0 - np.square(loadings).sum(axis=1), 0.0, 1.0))
        order = (shared @ loadings.T + own * unique).argsort(axis=0)
        people = np.empty_like(values)
        np.put_along_axis(people, order, values, axis=0)
        residual = correlation - _correlation(people)
        error = float(np.sqrt(np.square(residual[upper]).mean()))
        if error < best_error * (1.0 - 1e-6):
            best, best_error, aim, missed, trials = people, error, target, residual, 0
            target = aim + missed
        else:
            trials += 1
            target = aim + 0.5**trials * missed
    return best


def principal_axes(correlation: np.ndarray, factors: int) -> np.ndarray:
    """Return principal-axis loadings (p, factors), communalities iterated until they settle.

    Examples
    --------
    >>> w = np.array([[0.8], [0.6], [0.5]])
    >>> R = w @ w.T + np.diag(1 - w[:, 0] ** 2)
    >>> found = principal_axes(R, 1)
    >>> bool(np.abs(np.abs(found) - w).max() < 0.01)
    True
    """
    reduced = correlation.copy()
    communality = np.abs(correlation - np.eye(len(correlation))).max(axis=1)
    loadings = np.zeros((len(correlation), factors))
    for _ in range(AXIS_STEPS):
        np.fill_diagonal(reduced, communality)
        values, vectors = np.linalg.eigh(reduced)
        loadings = vectors[:, -factors:] * np.sqrt(np.maximum(values[-factors:], 0.0))
        updated = np.minimum(np.square(loadings).sum(axis=1), 1.0)
        if np.abs(updated - communality).max() < 1e-3:
            break
        communality = updated
    size = np.sqrt(np.square(loadings).sum(axis=1, keepdims=True))
    return loadings / np.maximum(size, 1.0)  # a communality above 1 cannot be simulated


def _spectrum(rows: np.ndarray) -> np.ndarray:
    """Return the min(n, p) largest eigenvalues of the correlations of rows (n, p), largest first."""
    root = _standardised(rows)
    gram = root @ root.T if len(root) < root.shape[1] else root.T @ root
    return np.linalg.eigvalsh(gram)[::-1]


def _correlation(rows: np.ndarray) -> np.ndarray:
    root = _standardised(rows)
    return root.T @ root


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Return centred columns of length 1; a column that a sample happened to make constant becomes zero."""
    centred = rows - rows.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    return centred / np.where(size > 0, size, 1.0)


def _smaller(differences: np.ndarray, before: np.ndarray, level: float) -> bool:
    test = stats.mannwhitneyu(differences, before, alternative="less", method="asymptotic")
    return bool(test.pvalue < level)
