"""Factor analysis with 0, 1, 2, ... factors: the fits that several rules share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from probae.checks import ParameterError
from probae.factors.parallel_analysis import ParallelAnalysis
from probae.factors.sample import NotApplicable, Sample
from probae.inference import Fit, MaximumLikelihood
from probae.inference.fit import fit
from probae.models import FactorAnalysis
from probae.statistics import SufficientStatistics


@dataclass(frozen=True, eq=False)
class FactorFit:
    """Maximum likelihood factor analysis with a number of factors, and how well it fits.

    Attributes
    ----------
    factors : int
    log_likelihood : float
        Of all rows, in nats.
    parameters, degrees : int
        Free parameters, means included, and degrees of freedom of the test.
    chi_square, p_value : float or None
        Likelihood ratio against the saturated model with Bartlett's correction; None where there are no degrees of
        freedom, or no saturated model because the covariance is singular.
    rmsea, cfi : float or None
        From the likelihood ratio without correction.
    aic, bic : float
    loadings : array (features, factors)
        Of the standardised columns.
    warnings : tuple of str
        What the fit warned of, such as Heywood cases.
    """

    factors: int
    log_likelihood: float
    parameters: int
    degrees: int
    chi_square: float | None
    p_value: float | None
    rmsea: float | None
    cfi: float | None
    aic: float
    bic: float
    loadings: np.ndarray
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        names = (
            "factors",
            "log_likelihood",
            "parameters",
            "degrees",
            "chi_square",
            "p_value",
            "rmsea",
            "cfi",
        )
        return {name: getattr(self, name) for name in (*names, "aic", "bic")} | {
            "warnings": list(self.warnings)
        }


def degrees_of_freedom(features: int, factors: int) -> int:
    """Return ((p - k)^2 - p - k) / 2.

    Examples
    --------
    >>> [degrees_of_freedom(9, k) for k in range(6)]
    [36, 27, 19, 12, 6, 1]
    """
    return ((features - factors) ** 2 - features - factors) // 2


def ledermann_bound(features: int) -> int:
    """Return the most factors that leave no negative degrees of freedom.

    Examples
    --------
    >>> [ledermann_bound(p) for p in (3, 6, 9, 24)]
    [1, 3, 5, 17]
    """
    bound = int((2 * features + 1 - math.sqrt(8 * features + 1)) / 2 + 1e-9)
    return max(bound, 0)


FEWEST_LARGEST = 6  # what the most factors are at least, where the columns allow it
ABOVE = 4  # how many more are fitted than parallel analysis names


def most_factors(sample: Sample) -> int:
    """Return the most factors that models are fitted with, chosen where the user did not.

    Raises
    ------
    ParameterError
        If the user's number is above the Ledermann bound.
    """
    bound = max(min(ledermann_bound(sample.features), sample.count - 2), 0)
    if sample.limit is None:
        named = ParallelAnalysis().apply(sample).answer or 0
        return min(bound, max(FEWEST_LARGEST, named + ABOVE))
    if sample.limit > bound:
        raise ParameterError(
            f"largest should be at most {bound}, the Ledermann bound for {sample.features} columns "
            f"(and two fewer than the {sample.count} rows), got {sample.limit}."
        )
    return sample.limit


def factor_fits(sample: Sample) -> tuple[FactorFit, ...]:
    """Return the fits with 0, ..., `most_factors` factors, found once."""
    return sample.share(factor_fits, lambda: _fit_all(sample))


def fit_quietly(statistics: SufficientStatistics, factors: int, seed: int, starts: int | None = None) -> Fit:
    """Fit factor analysis; its warnings are in the Fit only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = MaximumLikelihood(starts=starts)
        return fit(FactorAnalysis(statistics.features, factors), statistics, method, seed=seed)


def independence_log_likelihood(sample: Sample) -> float:
    """Return the log-likelihood of independent Gaussian columns, of all rows in nats."""
    p = sample.features
    log_variance = float(sample.statistics.variances.log().sum())
    return -0.5 * sample.count * (p * math.log(2 * math.pi) + p + log_variance)


def _fit_all(sample: Sample) -> tuple[FactorFit, ...]:
    base = independence_log_likelihood(sample)
    found: list[tuple[float, np.ndarray, Sequence[str]]] = [(base, np.zeros((sample.features, 0)), ())]
    spread = sample.statistics.variances.sqrt()
    for k in range(1, most_factors(sample) + 1):
        run = fit_quietly(sample.statistics, k, sample.seed)
        value = float(run.history[-1]) * sample.count
        loadings = (run.model.loadings.detach() / spread.unsqueeze(1)).numpy()
        found.append((value, loadings, run.warnings))
    gain = _saturated_gain(sample)
    ratios = [None if gain is None else max(2 * (base + gain - value), 0.0) for value, _, _ in found]
    return tuple(
        _judge_fit(sample, k, value, loadings, notes, ratios[k], ratios[0])
        for k, (value, loadings, notes) in enumerate(found)
    )


def _saturated_gain(sample: Sample) -> float | None:
    """Return the log-likelihood of the saturated model above independence, -n/2 log |R|, where it exists."""
    try:
        sample.inverse  # noqa: B018
    except NotApplicable:
        return None
    return -0.5 * sample.count * float(np.log(sample.eigenvalues).sum())


def _judge_fit(
    sample: Sample,
    k: int,
    value: float,
    loadings: np.ndarray,
    notes: Sequence[str],
    ratio: float | None,
    null_ratio: float | None,
) -> FactorFit:
    n, p = sample.count, sample.features
    degrees = degrees_of_freedom(p, k)
    parameters = 2 * p + p * k - k * (k - 1) // 2
    chi_square = p_value = rmsea = cfi = None
    if ratio is not None and null_ratio is not None and degrees > 0:
        chi_square = max(n - 1 - (2 * p + 5) / 6 - 2 * k / 3, 0.0) * ratio / n
        p_value = float(stats.chi2.sf(chi_square, degrees))
        excess = max(ratio - degrees, 0.0)
        rmsea = math.sqrt(excess / (n * degrees))
        baseline = max(null_ratio - degrees_of_freedom(p, 0), excess)
        cfi = 1.0 - excess / baseline if baseline > 0 else 1.0
    return FactorFit(
        factors=k,
        log_likelihood=value,
        parameters=parameters,
        degrees=degrees,
        chi_square=chi_square,
        p_value=p_value,
        rmsea=rmsea,
        cfi=cfi,
        aic=2 * parameters - 2 * value,
        bic=math.log(n) * parameters - 2 * value,
        loadings=loadings,
        warnings=tuple(notes),
    )
