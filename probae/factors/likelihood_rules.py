"""Rules that compare maximum likelihood fits: tests, information criteria, held-out rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from probae.checks import ParameterError, check_count
from probae.factors.rule import Judgement, Rule
from probae.factors.sample import NotApplicable, Sample
from probae.factors.sequence import factor_fits, fit_quietly, most_factors
from probae.statistics import SufficientStatistics


@dataclass(frozen=True)
class SequentialChiSquare(Rule):
    r"""The fewest factors that the likelihood-ratio test does not reject.

    .. math:: X^2 = \Big(n - 1 - \frac{2p + 5}{6} - \frac{2k}{3}\Big)
              \big(\log|\hat\Sigma_k| - \log|S|\big), \qquad \tfrac12 [(p - k)^2 - p - k] \text{ degrees of freedom}

    With many rows small departures from the model ask for many factors.

    Parameters
    ----------
    level : float
        The p-value from which a number of factors is accepted.

    Notes
    -----
    Bartlett (1950), British Journal of Statistical Psychology 3, 77-85; Lawley & Maxwell (1971), chapter 4.

    Examples
    --------
    >>> import probae as pa
    >>> table = pa.datasets.ability_cov()
    >>> published = pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)
    >>> pa.number_of_factors(published, rules=[SequentialChiSquare()]).answers
    {'sequential chi-square': 2}
    """

    level: float = 0.05
    statistic: ClassVar[str] = "p-value"
    source: ClassVar[str] = "Bartlett (1950); Lawley & Maxwell (1971)"

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ParameterError(f"level should be between 0 and 1, got {self.level!r}: 0.05 is usual.")

    @property
    def name(self) -> str:
        """Name in tables."""
        return "sequential chi-square"

    def judge(self, sample: Sample) -> Judgement:
        """Test 0, 1, ... factors until one is not rejected."""
        sample.inverse  # noqa: B018 - says why there is no test
        values = np.array([one.p_value for one in factor_fits(sample) if one.p_value is not None])
        accepted = np.flatnonzero(values >= self.level)
        answer = int(accepted[0]) if len(accepted) else None
        note = "" if len(accepted) else f"every number up to {len(values) - 1} is rejected"
        return self.answer(answer, 0, values, np.full(len(values), self.level), note=note)


@dataclass(frozen=True)
class BIC(Rule):
    """The number of factors with the smallest Bayesian information criterion, q log n - 2 log L.

    Notes
    -----
    Schwarz (1978), Annals of Statistics 6, 461-464.

    Examples
    --------
    >>> import probae as pa
    >>> pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[BIC(), AIC()]).answers
    {'BIC': 3, 'AIC': 4}
    """

    statistic: ClassVar[str] = "BIC"
    source: ClassVar[str] = "Schwarz (1978)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "BIC"

    def judge(self, sample: Sample) -> Judgement:
        """Find the smallest."""
        values = np.array([one.bic for one in factor_fits(sample)])
        return self.answer(int(values.argmin()), 0, values)


@dataclass(frozen=True)
class AIC(Rule):
    """The number of factors with the smallest Akaike information criterion, 2 q - 2 log L; it tends to name more.

    Notes
    -----
    Akaike (1987), Factor analysis and AIC, Psychometrika 52, 317-332.

    Examples
    --------
    >>> import probae as pa
    >>> pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[AIC()]).answers
    {'AIC': 4}
    """

    statistic: ClassVar[str] = "AIC"
    source: ClassVar[str] = "Akaike (1987)"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "AIC"

    def judge(self, sample: Sample) -> Judgement:
        """Find the smallest."""
        values = np.array([one.aic for one in factor_fits(sample)])
        return self.answer(int(values.argmin()), 0, values)


@dataclass(frozen=True)
class HeldOutLikelihood(Rule):
    """The number of factors that gives rows left out of the fit the largest log-likelihood.

    Parameters
    ----------
    folds : int
        The rows are split at random into so many parts; each is left out once.
    standard_errors : float
        0 names the best; 1 names the fewest factors whose mean is within one standard error of it. The standard error
        is that of the mean difference to the best, row by row.

    Notes
    -----
    Browne & Cudeck (1989), Multivariate Behavioral Research 24, 445-455; the one-standard-error choice after Breiman,
    Friedman, Olshen & Stone (1984), Classification and Regression Trees.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.number_of_factors(x, rules=[HeldOutLikelihood()]).answers
    {'held-out likelihood': 3}
    """

    folds: int = 5
    standard_errors: float = 0.0
    statistic: ClassVar[str] = "log-likelihood per held-out row"
    source: ClassVar[str] = "Browne & Cudeck (1989)"

    def __post_init__(self) -> None:
        check_count("folds", self.folds, minimum=2)
        if not self.standard_errors >= 0 or math.isinf(self.standard_errors):
            raise ParameterError(
                f"standard_errors should be a finite number from 0, got {self.standard_errors!r}."
            )

    @property
    def name(self) -> str:
        """Name in tables."""
        within = f" within {self.standard_errors:g} standard errors" if self.standard_errors else ""
        return "held-out likelihood" + within.replace(" 1 standard errors", " 1 standard error")

    def judge(self, sample: Sample) -> Judgement:
        """Compare the held-out log-likelihood of each number of factors, row by row."""
        rows = sample.require_rows()
        values = sample.share((HeldOutLikelihood, self.folds), lambda: held_out(rows, sample, self.folds))
        best = int(values.mean(axis=1).argmax())
        lag = values[best] - values
        error = lag.std(axis=1, ddof=1) / math.sqrt(lag.shape[1])
        answer = int(np.flatnonzero(lag.mean(axis=1) <= self.standard_errors * error)[0])
        note = ""
        if answer != best:
            note = f"{lag[answer].mean():.3g} +- {error[answer]:.2g} nats per row below the best, {best}"
        elif best > 0:
            note = f"1 fewer loses {lag[best - 1].mean():.3g} +- {error[best - 1]:.2g} nats per row"
        return self.answer(answer, 0, values.mean(axis=1), note=note)


def held_out(rows: np.ndarray, sample: Sample, folds: int) -> np.ndarray:
    """Return the log-likelihood (largest + 1, rows) of each row under fits to the other folds."""
    if len(rows) < 3 * folds:
        raise NotApplicable(f"{folds} folds need at least {3 * folds} rows, got {len(rows)}")
    part = sample.generator("held-out folds").permutation(len(rows)) % folds
    found = np.empty((most_factors(sample) + 1, len(rows)))
    for fold in range(folds):
        kept, left = rows[part != fold], torch.from_numpy(rows[part == fold])
        statistics = SufficientStatistics.from_data(kept)
        mean, variance = statistics.mean, statistics.variances
        if bool((variance == 0).any()):
            raise NotApplicable("a column is constant on the rows of a fold: use fewer folds")
        found[0, part == fold] = (
            torch.distributions.Normal(mean, variance.sqrt()).log_prob(left).sum(1).numpy()
        )
        for k in range(1, most_factors(sample) + 1):
            run = fit_quietly(
                statistics, k, sample.seed, starts=5
            )  # a lower maximum of one fold hardly matters
            found[k, part == fold] = run.model.log_likelihood(left).detach().numpy()
    return found
