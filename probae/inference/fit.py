"""The verb: ``fit(model, x, method)``."""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import torch

from probae.checks import DataError, ParameterError, check_count, check_data, warn_degenerate
from probae.inference.base import Fit, Method
from probae.inference.em import EM
from probae.inference.map import MAP
from probae.inference.maximum_likelihood import MaximumLikelihood
from probae.models import LatentModel, LinearFactorModel
from probae.statistics import SufficientStatistics


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
        sampled maximum likelihood for fewer non-Gaussian factors than features, and MAP for overcomplete codes.
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
        data = _check(model, x)
        method = _default(model, data) if method is None else method
        if not isinstance(method, Method):
            raise ParameterError(f"method should be a value such as MaximumLikelihood(), got {method!r}.")
        fitted, method = copy.deepcopy(
            (model, method)
        )  # one copy: separate ones would untie shared parameters
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outcome = method.fit(fitted, data, seed)
    for warning in caught:
        warnings.warn(warning.message, warning.category, stacklevel=2)
    fitted.requires_grad_(False)
    return Fit(
        model=fitted,
        program=fitted,
        posterior=outcome.posterior,
        method=method,
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


def _check(model: LatentModel, x: Any) -> Any:
    """Check the data once: Data, or SufficientStatistics of the right width."""
    if isinstance(x, SufficientStatistics):
        if len(x.mean) != model.features:
            raise DataError(
                f"The statistics have {len(x.mean)} features, the model was built for {model.features}."
            )
        return x
    gaussian = isinstance(model, LinearFactorModel) and model.gaussian
    data = check_data(x, features=model.features, minimum_rows=2, missing="allow" if gaussian else "refuse")
    warn_degenerate(data)
    return data


def _default(model: LatentModel, data: Any) -> Method:
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"{type(model).__name__} has no default method: pass one, such as SVI(encoder).")
    if getattr(data, "missing", None) is not None and model.gaussian:
        return EM()
    overcomplete = not model.gaussian and model.noise != "none" and model.latents >= model.features
    return MAP() if overcomplete else MaximumLikelihood()
