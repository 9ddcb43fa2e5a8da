"""Minka's evidence for the number of principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from probae.factors.rule import Judgement, Rule
from probae.factors.sample import NotApplicable, Sample


@dataclass(frozen=True)
class MinkaEvidence(Rule):
    r"""The number of components with the largest evidence of probabilistic PCA, in Laplace's approximation.

    With eigenvalues :math:`l_1 > \dots > l_p` of the covariance, :math:`v` the mean of those after the first k, and
    :math:`m = p k - k (k + 1) / 2`,

    .. math:: \log p(x \mid k) \approx \log p(U) - \tfrac n2 \sum_{j \le k} \log l_j - \tfrac{n (p - k)}2 \log v
              + \tfrac{m + k}2 \log 2 \pi - \tfrac12 \log |A_Z| - \tfrac k2 \log n

    Unlike the other rules it looks at the covariance: the noise of PPCA has one variance in the units of x. Where the
    columns have different units, divide them by their standard deviations first.

    Notes
    -----
    Minka (2000), Automatic choice of dimensionality for PCA, NIPS 13, eqs. 73-77 of the report. scikit-learn's
    ``PCA(n_components="mle")`` is the same evidence without k = 0.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(1000, 10, 3, noise=0.5, seed=0).x
    >>> pa.number_of_factors(x, rules=[MinkaEvidence()]).answers
    {'Minka evidence': 3}
    """

    statistic: ClassVar[str] = "log evidence per row"
    source: ClassVar[str] = "Minka (2000)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "Minka evidence"

    def judge(self, sample: Sample) -> Judgement:
        """Compute the evidence of 0 to p - 1 components."""
        sample.inverse  # noqa: B018 - says so where the covariance is singular
        spectrum = np.linalg.eigvalsh(sample.statistics.covariance.numpy())[::-1]
        if spectrum[-1] <= 1e-14 * spectrum[0]:
            raise NotApplicable("the covariance is singular to the last digit in the units of x")
        evidence = log_evidence(spectrum, sample.count)
        return self.answer(int(evidence.argmax()), 0, evidence / sample.count)


def log_evidence(spectrum: np.ndarray, n: int) -> np.ndarray:
    """Return the log evidence of k = 0, ..., p - 1 components, up to a constant, from a falling spectrum (p,).

    Examples
    --------
    >>> int(log_evidence(np.array([9.0, 5.0, 1.1, 1.0, 0.9]), 100).argmax())
    2
    """
    p = len(spectrum)
    k = np.arange(p)
    noise = (spectrum.sum() - np.concatenate([[0.0], np.cumsum(spectrum)[:-1]])) / (p - k)
    half = 0.5 * (p - np.arange(p))  # (p - i + 1) / 2 for i = 1 ... p
    frame = _before(-np.log(2.0) + gammaln(half) - half * np.log(np.pi))
    fit = -0.5 * n * (_before(np.log(spectrum)) + (p - k) * np.log(noise))
    m = p * k - k * (k + 1) // 2
    return (
        frame
        + fit
        + 0.5 * (m + k) * np.log(2 * np.pi)
        - 0.5 * (_log_hessian(spectrum, noise) + (m + k) * np.log(n))
    )


def _log_hessian(spectrum: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return log |A_Z| without its powers of n: over i <= k, i < j, of (l_i - l_j) (1 / l^_j - 1 / l^_i)."""
    p = len(spectrum)
    tie = np.finfo(float).eps * spectrum[0]
    i, j = np.triu_indices(p, 1)
    gap = np.zeros((p, p))
    gap[i, j] = np.log(np.maximum(spectrum[i] - spectrum[j], tie))
    between = np.zeros((p, p))
    between[i, j] = gap[i, j] - np.log(spectrum[i]) - np.log(spectrum[j])  # of 1 / l_j - 1 / l_i
    inside = _before(between.sum(axis=0))  # both among the first k
    result = _before(gap.sum(axis=1)) + inside
    for k in range(1, p):
        lead = spectrum[:k]
        excess = np.maximum(lead - noise[k], tie)
        result[k] += (p - k) * (np.log(excess) - np.log(lead) - np.log(noise[k])).sum()
    return result


def _before(values: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ..., p - 1 values."""
    return np.concatenate([[0.0], np.cumsum(values)[:-1]])
