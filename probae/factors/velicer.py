"""Velicer's minimum average partial correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probae.checks import ParameterError
from probae.factors.rule import Judgement, Rule
from probae.factors.sample import Sample

LEFT = 1e-8  # share of a column's variance that must be left for its partial correlations to mean anything
FEWEST_COMPONENTS = 30  # looked at, where there are so many; more for few features


@dataclass(frozen=True)
class MinimumAveragePartial(Rule):
    r"""The number of components after which the partial correlations are smallest.

    With the first k components partialled out, :math:`C = R - \sum_{j \le k} l_j u_j u_j'` and
    :math:`r_{ij} = C_{ij} / \sqrt{C_{ii} C_{jj}}`,

    .. math:: f_k = \frac{1}{p (p - 1)} \sum_{i \ne j} |r_{ij}|^{\text{power}}

    Parameters
    ----------
    power : int
        2 is the original rule (Velicer, 1976, Psychometrika 41, 321-327), 4 the revision of Velicer, Eaton & Fava
        (2000).

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.number_of_factors(x, rules=[MinimumAveragePartial(2), MinimumAveragePartial(4)]).answers
    {'minimum average partial (1976)': 2, 'minimum average partial (2000)': 2}
    """

    power: int = 2
    statistic: ClassVar[str] = "average partial correlation to the power"
    source: ClassVar[str] = "Velicer (1976); Velicer, Eaton & Fava (2000)"

    def __post_init__(self) -> None:
        if self.power not in (2, 4):
            raise ParameterError(
                f"power should be 2 (Velicer, 1976) or 4 (revised 2000), got {self.power!r}."
            )

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"minimum average partial ({1976 if self.power == 2 else 2000})"

    def judge(self, sample: Sample) -> Judgement:
        """Partial out one component after the other."""
        both = sample.share(MinimumAveragePartial, lambda: average_partials(sample.correlation, sample.rank))
        values = both[self.power // 2 - 1]
        answer = int(values.argmin())
        return self.answer(answer, 0, values, note="the most looked at" * (answer == len(values) - 1))


def average_partials(correlation: np.ndarray, rank: int) -> np.ndarray:
    """Return the averages of squared and of fourth powers of partial correlations after 0, 1, ... components, (2, .).

    It ends before components leave a column without variance.

    Examples
    --------
    >>> average_partials(np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]), 3)[:, 0].round(4)
    array([0.0833, 0.0208])
    """
    p = len(correlation)
    values, vectors = np.linalg.eigh(correlation)
    rest = correlation.copy()
    found = []
    for k in range(min(p - 1, rank, max(FEWEST_COMPONENTS, 20_000 // p) + 1)):
        variance = rest.diagonal()
        if variance.min() < LEFT:
            break
        squares = np.square(rest) / np.outer(variance, variance)
        np.fill_diagonal(squares, 0.0)
        found.append([squares.sum(), np.square(squares).sum()])
        component = np.sqrt(max(values[-1 - k], 0.0)) * vectors[:, -1 - k]
        rest = rest - np.outer(component, component)
    return np.array(found).T / (p * (p - 1))
