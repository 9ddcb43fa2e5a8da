"""The verb: ``fit(model, x, method)``."""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probae.checks import (
    ConstantColumnWarning,
    ConvergenceWarning,
    DataError,
    ParameterError,
    ProbaeWarning,
    check_count,
    check_data,
    check_features,
    check_table,
    warn,
    warn_degenerate,
    warn_degenerate_moments,
)
from probae.inference.base import ExactPosterior, Fit, Method, Outcome
from probae.inference.em import EM
from probae.inference.gibbs import Gibbs
from probae.inference.importance import ImportancePosterior
from probae.inference.map import MAP
from probae.inference.maximum_likelihood import MaximumLikelihood
from probae.inference.stopping import HELD_OUT
from probae.inference.units import ALIKE, spread_of
from probae.models import ConfirmatoryFactorAnalysis, LatentModel, LinearFactorModel
from probae.moments import NotFinite, of_table
from probae.parameter_priors import Fixed, ParameterPrior
from probae.priors import MultivariateStudentT
from probae.statistics import SufficientStatistics, is_dask

ALL_CONSTANT = "x needs at least one column that varies, but every column is constant."


def fit(model: LatentModel, x: Any, method: Method | None = None, *, seed: int = 0) -> Fit:
    """Fit a model to data.

    The model and the method are copied; the caller's random state is left as it was.

    Parameters
    ----------
    model : LatentModel
        What to fit, such as ``FactorAnalysis(9, 3)``.
    x : array, DataFrame, Tensor (N, D), or SufficientStatistics
        Rows are samples. NaN is a missing value where the model can integrate it out.
    method : Method, optional
        How to fit. By default exact maximum likelihood where it exists (EM when entries are missing), importance-
        sampled maximum likelihood for fewer non-Gaussian factors than features, MAP for overcomplete codes, and
        Gibbs sampling where parameters carry a prior.
    seed : int
        Seed of everything random; one seed gives one result.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the data cannot be used, with what to do.
    ParameterError, NotExactError
        If model and method do not go together.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> [round(u, 3) for u in (run.model.uniquenesses / data.x.var(0, correction=0)).tolist()]
    [0.513, 0.749, 0.543, 0.279, 0.243, 0.305, 0.502, 0.469, 0.543]
    """
    if not isinstance(model, LatentModel):
        raise ParameterError(
            f"model should be a probae model such as FactorAnalysis(9, 3), got {type(model).__name__}."
        )
    seed = check_count("seed", seed, minimum=0)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if method is not None and not isinstance(method, Method):
            raise ParameterError(f"method should be a value such as MaximumLikelihood(), got {method!r}.")
        data = _check(model, x, method)
        method = _default(model, data) if method is None else method
        given = model.point() if model.random_parameters else model
        fitted, own = copy.deepcopy((given, method))  # one copy: separate ones would untie shared parameters
        outcome = _run(fitted, own, data, seed)
        if not (outcome.converged or outcome.interrupted or own.random):  # samplers have said what is wrong
            _warn_unfinished(method)
    for warning in caught:
        warnings.warn(warning.message, warning.category, stacklevel=2)
    fitted.requires_grad_(False)
    return Fit(
        model=fitted,
        program=fitted if outcome.program is None else outcome.program,
        posterior=outcome.posterior,
        method=own,
        seed=seed,
        names=data.names,
        history=torch.tensor(outcome.history, dtype=torch.float64),
        converged=outcome.converged and not outcome.interrupted,
        seconds=time.perf_counter() - start,
        warnings=tuple(dict.fromkeys(str(w.message) for w in caught)),
        interrupted=outcome.interrupted,
        draws=outcome.draws,
        sample_stats=outcome.sample_stats,
        restarts=tuple(outcome.restarts),
    )


def _run(model: Any, method: Method, data: Any, seed: int) -> Outcome:
    """Run the method on data in units near 1 and put the answer back; Ctrl-C returns what the model has become."""
    units = _units(model, method, data)
    scaled = data if units is None else _rescaled(data, units)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every device
        try:
            outcome = (method if units is None else method.in_units(units)).fit(model, scaled, seed)
        except KeyboardInterrupt:
            if not isinstance(model, LinearFactorModel):
                raise
            elliptical = isinstance(model.prior, MultivariateStudentT)
            exact = model.gaussian or model.invertible or elliptical
            outcome = Outcome(
                ExactPosterior(model) if exact else ImportancePosterior(model), [], False, interrupted=True
            )
    if units is not None:
        model.rescale(units)
        encoder = getattr(outcome.posterior, "encoder", None)
        if encoder is not None:
            encoder.rescale(units)
        missing = getattr(data, "missing", None)  # entries without a density have no unit to put back
        excess = 0.0 if missing is None else float(missing.double().mean(0) @ units.log())
        outcome.history = [method.objective_in_units(value, units) + excess for value in outcome.history]
        for one in outcome.restarts:
            if HELD_OUT in one:
                one[HELD_OUT] = method.objective_in_units(one[HELD_OUT], units)
    return outcome


def _units(model: Any, method: Method, data: Any) -> torch.Tensor | None:
    """Return the spread of each column, or one for all where model or method ask for it: fits run on x / units."""
    if model.units is None or not method.unit_free:
        return None
    if isinstance(data, SufficientStatistics):
        spread = data.variances.sqrt()
        varying = spread[spread > 0]
        if data.root is not None and varying.amin() > 1 / ALIKE and varying.amax() < ALIKE:
            return None  # fits cope with such units, without a second copy of wide rows
    else:
        spread = spread_of(data.values)
    if model.units == "common" or method.common_unit:
        spread = torch.full_like(spread, float(spread.max()))
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _rescaled(data: Any, units: torch.Tensor) -> Any:
    """Return the data of x / units."""
    if isinstance(data, SufficientStatistics):
        return data.scaled(units)
    return replace(data, values=data.values / units)


def _check(model: LatentModel, x: Any, method: Method | None) -> Any:
    """Check the data once: Data, or SufficientStatistics of the right width where the moments say all."""
    _check_priors(model, method)
    gaussian = isinstance(model, LinearFactorModel) and model.gaussian
    if is_dask(x):
        x = SufficientStatistics.from_data(x)
    if isinstance(x, SufficientStatistics):
        return _check_statistics(model, x)
    if gaussian and (method is None or method.accepts_statistics):
        statistics = _read_moments(model, x)
        if statistics is not None:
            return statistics
    missing = "allow" if gaussian and model.noise != "none" else "refuse"
    data = check_data(
        x, features=model.features, minimum_rows=2, missing=missing, sparse="allow" if gaussian else "refuse"
    )
    if not isinstance(data.values, torch.Tensor):  # sparse rows of a Gaussian model: their moments are enough
        return _check_statistics(model, SufficientStatistics.from_data(data.values).named(data.names))
    warn_degenerate(data)
    first = data.values[0]
    if bool((data.values[-1] == first).all()) and bool((data.values == first).all()):
        raise DataError(ALL_CONSTANT)
    return data


def _check_priors(model: LatentModel, method: Method | None) -> None:
    """Refuse a method that would answer without the priors of the parameters."""
    if method.random if method is not None else _sampled_by_default(model):
        return
    asked = "fit without a method" if method is None else type(method).__name__
    if model.random_parameters:
        raise ParameterError(
            f"{asked} finds fixed parameters, but {', '.join(model.random_parameters)} carry a prior: pass Gibbs() or "
            "NUTS(), or use model.point(), the model without them."
        )
    if isinstance(model.parameter_priors.get("mean"), Fixed):
        raise ParameterError(
            f"{asked} estimates the mean, which with_priors(mean=Fixed()) holds: pass Gibbs() or NUTS(), or a model "
            "without it."
        )


def _read_moments(model: LatentModel, x: Any) -> SufficientStatistics | None:
    """Read complete rows once, for their moments; None when a value is missing or bad, to be dealt with row by row."""
    table = check_table(x, features=model.features, minimum_rows=2, sparse="allow")
    try:
        found = of_table(table)
    except NotFinite as problem:
        if problem.in_range:
            raise problem.explain(table.names) from None
        return None
    statistics = SufficientStatistics.of_moments(found, table.names)
    if not isinstance(table.array, np.ndarray):
        return _check_statistics(model, statistics)
    if not bool((statistics.variances > 0).any()):
        raise DataError(ALL_CONSTANT)
    _warn_covariance(table.array)
    small = statistics.features <= 2000  # as many as pairs are looked for among
    scatter = statistics.scatter if small else statistics.variances * statistics.count
    constant = warn_degenerate_moments(table.array, table.names, found.mean, scatter.numpy())
    return _without_variation(statistics, constant) if constant.any() else statistics


def _without_variation(statistics: SufficientStatistics, constant: np.ndarray) -> SufficientStatistics:
    """Take out what rounding varies in a constant column: in units of its spread it would look like any other."""
    kept = torch.from_numpy(~constant).double()
    count, mean, names = statistics.count, statistics.mean, statistics.names
    if statistics.root is not None:
        return SufficientStatistics(count, mean, names=names, root=statistics.root * kept)
    return SufficientStatistics(count, mean, statistics.scatter * torch.outer(kept, kept), names)


def _warn_covariance(array: np.ndarray) -> None:
    """Warn of a table that looks like a covariance matrix taken for rows."""
    square = array.shape[0] == array.shape[1] and array.shape[0] > 2
    if square and bool((array == array.T).all()) and bool((np.diagonal(array) > 0).all()):
        warn(
            "x is square and symmetric, like a covariance or correlation matrix, and is read as rows: if it is one, "
            "pass SufficientStatistics.from_covariance(x, count=n).",
            ProbaeWarning,
        )


def _check_statistics(model: LatentModel, statistics: SufficientStatistics) -> SufficientStatistics:
    check_features(statistics.features, model.features)
    if statistics.count < 2:
        raise DataError(f"A fit needs at least 2 rows, the statistics have {statistics.count}.")
    constant = torch.nonzero(statistics.variances == 0).flatten().tolist()
    if len(constant) == model.features:
        raise DataError(ALL_CONSTANT)
    if constant:
        labels = [statistics.names[i] if statistics.names else f"column {i}" for i in constant]
        warnings.warn(
            f"Constant: {', '.join(labels)}; its loadings will be zero.", ConstantColumnWarning, stacklevel=2
        )
    return statistics


def _warn_unfinished(method: Method) -> None:
    warnings.warn(
        f"{type(method).__name__} stopped before it converged: allow more steps or epochs, or a larger tolerance.",
        ConvergenceWarning,
        stacklevel=3,
    )


def _sampled_by_default(model: LatentModel) -> bool:
    """Whether parameters carry a prior, and Gibbs takes the model and every one of them."""
    linear = (
        isinstance(model, LinearFactorModel) and model.gaussian and model.noise in ("diagonal", "isotropic")
    )
    known = all(isinstance(law, ParameterPrior) for law in model.parameter_priors.values())
    return bool(model.random_parameters) and linear and known


def _default(model: LatentModel, data: Any) -> Method:
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"{type(model).__name__} has no default method: pass one, such as SVI(encoder).")
    if _sampled_by_default(model):
        return Gibbs()
    confirmatory = isinstance(model, ConfirmatoryFactorAnalysis)  # its Newton steps take missing entries too
    if getattr(data, "missing", None) is not None and model.gaussian and not confirmatory:
        return EM()
    exact = model.gaussian or isinstance(model.prior, MultivariateStudentT)
    overcomplete = not exact and model.noise != "none" and model.latents >= model.features
    return MAP() if overcomplete else MaximumLikelihood()
