"""Rules that look at the eigenvalues of the correlation matrix alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probae.factors.rule import Judgement, Rule, leading
from probae.factors.sample import NotApplicable, Sample


@dataclass(frozen=True)
class Kaiser(Rule):
    """As many factors as the correlation matrix has eigenvalues above 1.

    Known to name too many: in pure noise half of the sample eigenvalues are above 1.

    Examples
    --------
    >>> import probae as pa
    >>> result = pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[Kaiser()])
    >>> result.answers
    {'Kaiser': 3}
    """

    statistic: ClassVar[str] = "eigenvalue"
    source: ClassVar[str] = "Guttman (1954); Kaiser (1960)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "Kaiser"

    def judge(self, sample: Sample) -> Judgement:
        """Count the eigenvalues above 1."""
        values = sample.eigenvalues
        return self.answer(int((values > 1.0).sum()), 1, values, np.ones_like(values))


@dataclass(frozen=True)
class EmpiricalKaiser(Rule):
    r"""Eigenvalues above what noise would give them, after the larger ones have taken their share.

    .. math:: l_j > \max\Big(1,\; \frac{p - \sum_{i<j} l_i}{p - j + 1} \big(1 + \sqrt{p / n}\big)^2\Big)

    The last factor is the one before the first eigenvalue that fails.

    Notes
    -----
    Braeken & van Assen (2017), An empirical Kaiser criterion, Psychological Methods 22, 450-466, eq. 4.

    Examples
    --------
    >>> import probae as pa
    >>> result = pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[EmpiricalKaiser()])
    >>> result.answers
    {'empirical Kaiser': 3}
    """

    statistic: ClassVar[str] = "eigenvalue"
    source: ClassVar[str] = "Braeken & van Assen (2017)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "empirical Kaiser"

    def judge(self, sample: Sample) -> Judgement:
        """Compare with the edge of the spectrum of noise, in the variance the larger eigenvalues left."""
        values, p = sample.eigenvalues, sample.features
        if p > sample.count:
            raise NotApplicable("the edge of noise it looks for is that of no more columns than rows")
        left = p - np.concatenate([[0.0], np.cumsum(values)[:-1]])
        edge = left / np.arange(p, 0, -1) * (1.0 + np.sqrt(p / sample.count)) ** 2
        threshold = np.maximum(edge, 1.0)
        return self.answer(leading(values > threshold), 1, values, threshold)


@dataclass(frozen=True)
class AccelerationFactor(Rule):
    r"""The elbow of the scree: the eigenvalue where its slope changes most is the first that is left out.

    .. math:: k = \arg\max_{1 \le j \le p - 2} \; l_j - 2 l_{j + 1} + l_{j + 2}

    It cannot answer 0 and often stops at the first factor, which is the largest by far.

    Notes
    -----
    Raiche, Walls, Magis, Riopel & Blais (2013), Non-graphical solutions for Cattell's scree test, Methodology 9,
    23-29.

    Examples
    --------
    >>> import probae as pa
    >>> pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[AccelerationFactor()]).answers
    {'acceleration factor': 1}
    """

    statistic: ClassVar[str] = "second difference"
    source: ClassVar[str] = "Raiche et al. (2013)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "acceleration factor"

    def judge(self, sample: Sample) -> Judgement:
        """Find the largest second difference of the eigenvalues."""
        bend = np.diff(sample.eigenvalues, 2)
        return self.answer(1 + int(bend.argmax()), 1, bend)
