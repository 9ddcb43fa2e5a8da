"""The log-likelihood of rows as a posterior tree holds it: exact and lazy, or estimated with its error beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probae.analysis.cubature import Quadrature
from probae.analysis.draws_likelihood import log_likelihood_of_draws, models_of
from probae.analysis.evidence import CHEAP, log_evidence
from probae.analysis.exact import Exact
from probae.analysis.importance_weighted import ImportanceWeighted
from probae.analysis.lazy import lazily
from probae.analysis.recipes import RowLikelihood
from probae.analysis.result import Estimator, Evidence
from probae.checks import NotExactError
from probae.inference import Fit
from probae.models import LinearFactorModel

__all__ = ["RowValues", "row_likelihood"]

DRAWS = 1000  # importance draws of a point fit
DRAWS_EACH = 100  # of each draw of the parameters


@dataclass(frozen=True, eq=False)
class RowValues:
    """log p(x_n) in nats with what is known of its error.

    Attributes
    ----------
    values : array (chain, draw, N)
        May be lazy.
    attributes : dict
        How it was found; ``importance_draws`` and standard errors where it was estimated.
    standard_error : array (N,) or None
        The largest over the draws of the parameters.
    doubtful : int
        Rows whose estimate is not to be trusted.
    """

    values: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    standard_error: np.ndarray | None = None
    doubtful: int = 0


def row_likelihood(
    run: Fit,
    draws: Mapping[str, Tensor],
    x: Tensor,
    shape: tuple[int, int],
    estimator: Estimator | None,
    seed: int,
) -> RowValues:
    """Return log p(x_n) of each row: under each draw of the parameters, or for a point fit the same for each draw.

    Raises
    ------
    ProbaeError
        Where there is neither a closed form nor an estimate.
    """
    if draws:
        return _of_draws(run.model, draws, x, shape, estimator, seed)
    found = _of_point(run, x, estimator, seed)
    attributes = _described([found]) | {
        "parameters": "fixed at their estimates, so the same value for each draw: leave-one-out cross-validation needs "
        "draws of the parameters"
    }
    values = np.broadcast_to(found.value.double().numpy(), (*shape, len(x)))
    return RowValues(values, attributes, *_errors([found]))


def _of_draws(
    model: LinearFactorModel,
    draws: Mapping[str, Tensor],
    x: Tensor,
    shape: tuple[int, int],
    estimator: Estimator | None,
    seed: int,
) -> RowValues:
    if estimator is None or isinstance(estimator, Exact):
        try:
            log_likelihood_of_draws(model, {name: value[:1, :1] for name, value in draws.items()}, x[:1])
            attributes = {"bound": "exact", "estimator": "Exact()"}
            return RowValues(lazily((*shape, len(x)), RowLikelihood(model, draws, x)), attributes)
        except NotExactError:
            if estimator is not None:
                raise
            estimator = ImportanceWeighted(DRAWS_EACH)
    _, models = models_of(model, draws)
    found = [estimator.estimate(one, x, seed + place) for place, one in enumerate(models)]
    values = torch.stack([one.value for one in found]).double().reshape(*shape, len(x))
    return RowValues(values.numpy(), _described(found), *_errors(found))


def _of_point(run: Fit, x: Tensor, estimator: Estimator | None, seed: int) -> Evidence:
    """Ask for the closed form first; two or three independent latents have a quadrature, others importance draws."""
    if estimator is not None or not isinstance(run.model, LinearFactorModel):
        return log_evidence(run, x, estimator, seed=seed)
    try:
        return log_evidence(run, x, Exact(), seed=seed)
    except NotExactError:
        few = run.model.latents <= CHEAP and run.model.prior.coordinates(run.model.latents) is not None
        return log_evidence(run, x, Quadrature() if few else ImportanceWeighted(DRAWS), seed=seed)


def _described(found: list[Evidence]) -> dict[str, Any]:
    """Say how estimates were made and how far off they are, in what a netCDF file can hold."""
    one = found[0]
    attributes: dict[str, Any] = {"bound": one.bound, "estimator": repr(one.estimator)}
    if one.bound == "exact":
        return attributes
    if isinstance(one.estimator, ImportanceWeighted):
        attributes["importance_draws"] = one.estimator.draws
    errors = torch.stack([each.standard_error for each in found]).double()
    return attributes | {
        "standard_error_mean": float(errors.mean()),
        "standard_error_max": float(errors.max()),
        "doubtful_rows": _doubtful(found),
    }


def _errors(found: list[Evidence]) -> tuple[np.ndarray | None, int]:
    if found[0].bound == "exact":
        return None, 0
    errors = torch.stack([each.standard_error for each in found]).double()
    return errors.amax(0).numpy(), _doubtful(found)


def _doubtful(found: list[Evidence]) -> int:
    """Count rows whose estimate is in doubt under any draw."""
    return int(torch.stack([each.doubtful for each in found]).any(0).sum())
