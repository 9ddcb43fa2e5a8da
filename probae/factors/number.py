"""How many factors? Every usual rule in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from probae.checks import ParameterError, check_count
from probae.factors.comparison_data import ComparisonData
from probae.factors.eigenvalue_rules import AccelerationFactor, EmpiricalKaiser, Kaiser
from probae.factors.hull import HullCAF, HullCFI, HullRMSEA
from probae.factors.likelihood_rules import AIC, BIC, HeldOutLikelihood, SequentialChiSquare
from probae.factors.minka import MinkaEvidence
from probae.factors.number_table import NumberOfFactors
from probae.factors.parallel_analysis import ParallelAnalysis
from probae.factors.rule import Judgement, Rule
from probae.factors.sample import open_sample
from probae.factors.sequence import factor_fits, most_factors
from probae.factors.velicer import MinimumAveragePartial

__all__ = [
    "AIC",
    "BIC",
    "AccelerationFactor",
    "ComparisonData",
    "EmpiricalKaiser",
    "HeldOutLikelihood",
    "HullCAF",
    "HullCFI",
    "HullRMSEA",
    "Judgement",
    "Kaiser",
    "MinimumAveragePartial",
    "MinkaEvidence",
    "NumberOfFactors",
    "ParallelAnalysis",
    "Rule",
    "SequentialChiSquare",
    "number_of_factors",
]

RULES: tuple[Rule, ...] = (
    Kaiser(),
    EmpiricalKaiser(),
    ParallelAnalysis(),
    ParallelAnalysis(permute=True),
    ParallelAnalysis(common=True),
    ParallelAnalysis(common=True, permute=True),
    MinimumAveragePartial(2),
    MinimumAveragePartial(4),
    AccelerationFactor(),
    ComparisonData(),
    HullCAF(),
    HullCFI(),
    HullRMSEA(),
    SequentialChiSquare(),
    BIC(),
    AIC(),
    MinkaEvidence(),
    HeldOutLikelihood(),
    HeldOutLikelihood(standard_errors=1.0),
)


def number_of_factors(
    x: Any, largest: int | None = None, *, rules: Sequence[Rule] | None = None, seed: int = 0
) -> NumberOfFactors:
    """Ask every usual rule how many factors the columns of x have.

    The rules disagree, and none is right everywhere. The result shows each answer with the statistic behind it; it
    does not vote. Columns are standardised (`MinkaEvidence` excepted).

    Parameters
    ----------
    x : array, DataFrame, Tensor (N, D), or SufficientStatistics
        Of a summary, such as a published correlation matrix with its number of rows, the rules that need rows say so.
        Of rows with missing values the other rules see the maximum likelihood covariance, as if it came from as many
        complete rows: their tests are then somewhat too ready to see factors.
    largest : int, optional
        The most factors that are fitted. By default 4 more than parallel analysis names and at least 6, within the
        Ledermann bound. Rules that need no fit are not limited by it.
    rules : sequence of Rule, optional
        Which rules to ask; by default all of `probae.factors.number`, with their usual settings.
    seed : int
        Seed of what is simulated or split at random; each rule has its own stream.

    Returns
    -------
    NumberOfFactors
        ``print`` shows it; ``.answers`` is a dictionary; `probae.plots.scree` draws it.

    Raises
    ------
    DataError
        If x cannot be used, or has fewer than three columns that vary.
    ParameterError
        If ``largest`` is above the Ledermann bound.

    Warns
    -----
    ConstantColumnWarning
        Columns that do not vary; they are left out.

    Examples
    --------
    >>> import probae as pa
    >>> result = pa.number_of_factors(pa.datasets.holzinger_swineford().x)
    >>> result.answers["parallel analysis (components, Gaussian)"], result.answers["BIC"]
    (3, 3)
    >>> result.range
    (1, 7)
    """
    asked = _check_rules(rules)
    limit = None if largest is None else check_count("largest", largest)
    sample = open_sample(x, check_count("seed", seed, minimum=0), limit)
    if limit is not None:
        most_factors(sample)  # says so before any work if the number is too large
    judgements = tuple(rule.apply(sample) for rule in asked)
    return NumberOfFactors(
        sample.count, sample.features, judgements, sample.found(factor_fits) or (), sample.incomplete
    )


def _check_rules(rules: Sequence[Rule] | None) -> tuple[Rule, ...]:
    if rules is None:
        return RULES
    problem = "rules should be a list of rules such as [Kaiser(), BIC()] of probae.factors.number"
    if isinstance(rules, (str, Rule)) or not isinstance(rules, Sequence) or not rules:
        raise ParameterError(f"{problem}, got {rules!r}.")
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ParameterError(f"{problem}, got a list with {rule!r}.")
    if len({rule.name for rule in rules}) < len(rules):
        raise ParameterError("rules should have different names: ask for one setting of a rule at a time.")
    return tuple(rules)
