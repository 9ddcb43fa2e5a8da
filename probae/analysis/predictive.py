r"""Does a model make data like x? Statistics of x held against those of data simulated from it.

With theta_s drawn from the posterior (or prior) and x_s simulated from p(x | theta_s), the p-value of a statistic is

.. math:: p = \Pr\{T(x_s, \theta_s) > T(x, \theta_s)\} + \tfrac12 \Pr\{T(x_s, \theta_s) = T(x, \theta_s)\}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from probae.analysis import replicates
from probae.analysis.predictive_density import check_fit, rows_of
from probae.analysis.predictive_result import PredictiveCheck, StatisticCheck
from probae.analysis.replicates import Replicate
from probae.analysis.row_statistics import STATISTICS, Own, RowStatistic
from probae.analysis.weighted_draws import draw_weights, draws_of
from probae.checks import Data, ParameterError, check_count
from probae.inference import Fit
from probae.inference.base import Loop
from probae.models import LatentModel
from probae.models.pyro_context import local_parameters

__all__ = ["posterior_predictive_check", "prior_predictive_check"]

Statistics = Sequence[RowStatistic | Callable[[Tensor], Any]]

POINT = (
    "the parameters are fixed at the fit, which has seen x: p-values of what was fitted (means, variances, "
    "covariances) lie near .5 or above, and a small one still counts; refit=True makes a parametric bootstrap of SRMR."
)
REFITTED = (
    "parametric bootstrap: each simulated set was fitted as x was, and SRMR is to the fit of its own set."
)
IMPROPER = "the mean has no proper prior and was held at that of the model: means say nothing."


@local_parameters
def posterior_predictive_check(
    run: Fit,
    x: Any,
    statistics: Statistics | None = None,
    *,
    sets: int = 300,
    refit: bool = False,
    seed: int = 0,
) -> PredictiveCheck:
    r"""Hold statistics of x against those of data sets simulated from the fit (Rubin, 1984; Gelman et al., 1996).

    Each set has as many rows as x and the same missing entries. Where the fit has draws of the parameters each set
    comes from another draw, and draws of an approximation make sets as often as their weights say; without draws all
    sets come from the fitted parameters, nonlinear models included.

    Parameters
    ----------
    run : Fit
    x : array, DataFrame or Tensor (N, D)
        The rows of the fit, or new ones.
    statistics : sequence of RowStatistic or callable, optional
        By default `STATISTICS` of :mod:`probae.analysis.row_statistics`: moments of each column, correlations, SRMR and
        Mardia's skewness and kurtosis. A function takes x (N, D), NaN where it is missing, to a number or a vector.
    sets : int
        Data sets to simulate, at least 20. No p-value is finer than 1 / sets.
    refit : bool
        Fit to each set as x was fitted, for fits without draws: a parametric bootstrap of what depends on the fit.
    seed : int

    Returns
    -------
    PredictiveCheck
        ``print`` shows it, ``plots.predictive`` draws it, ``.table`` is ready for a DataFrame.

    Raises
    ------
    ParameterError
        A statistic is none, or a fit with draws is to be refitted.
    DataError
        For rows the model cannot take.

    Notes
    -----
    x is used twice, for the fit and for the check, so p-values crowd around .5 where the statistic was fitted; those of
    higher moments hardly do. Where entries are many the joint p-value of a statistic counts, not the smallest.

    References
    ----------
    .. [1] Rubin, D. B. (1984). Bayesianly justifiable and relevant frequency calculations for the applied statistician.
       Annals of Statistics 12, 1151-1172.
    .. [2] Gelman, A., Meng, X.-L. & Stern, H. (1996). Posterior predictive assessment of model fitness via realized
       discrepancies. Statistica Sinica 6, 733-807.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> check = pa.posterior_predictive_check(run, data.x, sets=100)
    >>> check["Mardia kurtosis"].observed.round(decimals=1)                        # 99 for a normal law
    tensor([103.6000], dtype=torch.float64)
    >>> def largest(x):
    ...     return x.abs().max()
    >>> pa.posterior_predictive_check(run, data.x, [largest], sets=50)["largest"].replicated.shape
    torch.Size([50, 1])
    """
    check_fit(run, "posterior_predictive_check")
    drawn = bool(draws_of(run))
    if refit and drawn:
        raise ParameterError(
            "refit is for fits without draws of the parameters: these have them, and need no refit."
        )
    data = rows_of(run.model, x)

    def simulate() -> Iterator[Replicate]:
        if drawn:
            return replicates.of_draws(run, data.values, sets)
        return replicates.of_point(run, data.values, sets, refit)

    note = draw_weights(run).notes if drawn else (REFITTED if refit else POINT,)
    return _check(simulate, data, statistics, sets, seed, "Posterior", note)


@local_parameters
def prior_predictive_check(
    model_or_fit: LatentModel | Fit,
    x: Any,
    statistics: Statistics | None = None,
    *,
    sets: int = 300,
    seed: int = 0,
) -> PredictiveCheck:
    """Hold statistics of x against those of data simulated from the priors of the parameters.

    A p-value near 0 or 1 says that the prior hardly expects such data; that the data teach much is no reason to doubt
    the model. What to look for is a prior that makes impossible data, or none like x.

    Parameters
    ----------
    model_or_fit : LatentModel or Fit
        A model with priors on its parameters (``with_priors``), or a fit of one, whose ``program`` is taken.
    x, statistics, sets, seed
        As in `posterior_predictive_check`.

    Returns
    -------
    PredictiveCheck

    Raises
    ------
    ParameterError
        No parameter has a prior.
    DataError
        For rows the model cannot take.

    Examples
    --------
    >>> import probae as pa, pyro.distributions as dist
    >>> model = pa.FactorAnalysis(9, 3).with_priors(loadings=dist.Normal(0.0, 1.0))
    >>> check = pa.prior_predictive_check(model, pa.datasets.holzinger_swineford().x, sets=50)
    >>> check["sd"].replicated.shape
    torch.Size([50, 9])
    """
    program = model_or_fit.program if isinstance(model_or_fit, Fit) else model_or_fit
    if not isinstance(program, LatentModel):
        raise ParameterError(f"This needs a model or the result of fit, got {type(model_or_fit).__name__}.")
    if not program.random_parameters:
        raise ParameterError(
            "No parameter of the model carries a prior, so there is no prior to simulate from: use with_priors, or "
            "posterior_predictive_check for a fit."
        )
    data = rows_of(program, x)
    improper = "mean" in program.parameter_names and "mean" not in program.random_parameters

    def simulate() -> Iterator[Replicate]:
        return replicates.of_program(program, data.values, sets)

    return _check(simulate, data, statistics, sets, seed, "Prior", (IMPROPER,) if improper else ())


def _check(
    simulate: Callable[[], Iterator[Replicate]],
    data: Data,
    statistics: Statistics | None,
    sets: int,
    seed: int,
    kind: str,
    notes: tuple[str, ...],
) -> PredictiveCheck:
    """Compute the statistics of x and of every simulated set."""
    asked = _statistics(statistics)
    check_count("sets", sets, minimum=20)
    check_count("seed", seed, minimum=0)
    x = data.values
    none = torch.empty(0, 0, dtype=torch.float64)
    seen = {one.name: one.value(x, none) for one in asked if not one.needs_covariance}
    observed: dict[str, list[Tensor]] = {one.name: [] for one in asked}
    simulated: dict[str, list[Tensor]] = {one.name: [] for one in asked}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for replicate, _ in zip(simulate(), Loop("simulated sets").steps(sets), strict=False):
            for one in asked:
                own = one.value(x, replicate.covariance) if one.needs_covariance else seen[one.name]
                observed[one.name].append(own)
                simulated[one.name].append(_alike(one.value(replicate.x, replicate.own), own, one.name))
    features = data.names or tuple(map(str, range(x.shape[1])))
    found = tuple(
        StatisticCheck.of(one, torch.stack(observed[one.name]), torch.stack(simulated[one.name]), features)
        for one in asked
    )
    return PredictiveCheck(found, kind, len(x), sets, notes)


def _alike(value: Tensor, observed: Tensor, name: str) -> Tensor:
    """Return a statistic of a simulated set, which has as many entries as that of x."""
    if value.shape != observed.shape:
        raise ParameterError(
            f"statistic {name} should give as many numbers for every data set, got {len(observed)} for x and "
            f"{len(value)} for a simulated one."
        )
    return value


def _statistics(given: Any) -> tuple[RowStatistic, ...]:
    """Return statistics with different names."""
    if given is None:
        return STATISTICS
    if isinstance(given, RowStatistic) or callable(given) or not isinstance(given, Sequence) or not given:
        raise ParameterError(
            f"statistics should be a list, such as [*STATISTICS, my_function], got {given!r}: wrap one in [...]."
        )
    for one in given:
        if not (isinstance(one, RowStatistic) or callable(one)):
            raise ParameterError(f"a statistic should be a RowStatistic or a function of x, got {one!r}.")
    found = tuple(one if isinstance(one, RowStatistic) else Own(one) for one in given)
    if len({one.name for one in found}) < len(found):
        raise ParameterError("statistics should have different names: give each function its own.")
    return found
