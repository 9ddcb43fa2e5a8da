"""How probable rows are under a model, with the latents integrated out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from probae.analysis.annealed import AnnealedImportance
from probae.analysis.cubature import Quadrature
from probae.analysis.exact import Exact
from probae.analysis.importance_weighted import ImportanceWeighted
from probae.analysis.mixed_proposal import MixedProposal
from probae.analysis.result import Estimator, Evidence
from probae.analysis.rows import check_rows
from probae.checks import NotExactError, ParameterError, check_count
from probae.inference import Fit
from probae.inference.draws import Draws
from probae.inference.nonlinear_reference import gaussians_near
from probae.inference.refinement import Gaussians, gaussians_of
from probae.models import LatentModel, LinearFactorModel
from probae.models.pyro_context import local_parameters

__all__ = ["log_evidence"]

CHEAP = 2  # latents up to which quadrature is fast as well as accurate


@local_parameters
def log_evidence(
    model_or_fit: LatentModel | Fit, x: Any, estimator: Estimator | None = None, *, seed: int = 0
) -> Evidence:
    r"""Estimate the evidence of each row, log p(x) = log of the integral of p(x given z) p(z) over z, in nats.

    Parameters
    ----------
    model_or_fit : LatentModel or Fit
        A model with fixed parameters, or the result of `fit`, whose model is taken.
    x : array, DataFrame or Tensor (N, D)
        Complete rows; NaN entries are integrated out where the evidence is exact and the latents are Gaussian.
    estimator : Estimator, optional
        `Exact`, `Quadrature`, `ImportanceWeighted` or `AnnealedImportance`. By default the first of `Exact`,
        `Quadrature` (one or two independent latents) and `AnnealedImportance` that a linear model allows, and
        `ImportanceWeighted` for any other, by draws around the best Gaussian of each row. The search for that starts
        at the answer of a fit's encoder, and without one at the prior. Half of the draws are from the encoder itself
        where its law is no Gaussian, such as a flow.
    seed : int
        Seed of the draws; the caller's random state is left as it was.

    Returns
    -------
    Evidence
        Value, standard error and the side of the bound, in the dtype of x.

    Raises
    ------
    NotExactError
        The estimator cannot do this model.
    ParameterError
        A parameter of the model carries a prior, or an argument is of the wrong kind.
    DataError
        For rows the model cannot take.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(2, 3)
    >>> x = model.sample(5, seed=0)
    >>> result = pa.log_evidence(model, x)
    >>> result.bound
    'lower'
    >>> numerical = pa.log_evidence(model, x, pa.Quadrature())
    >>> bool(((result.value - numerical.value).abs() < 5 * result.standard_error + 0.01).all())
    True
    """
    model = checked_model(model_or_fit)
    check_count("seed", seed, minimum=0)
    check_estimator(estimator)
    if not isinstance(model, LinearFactorModel):
        return nonlinear_evidence(model_or_fit, x, estimator, seed)
    if estimator is not None:
        return estimator.estimate(model, x, seed)
    try:
        return Exact().estimate(model, x, seed)
    except NotExactError:
        few = model.latents <= CHEAP and model.prior.coordinates(model.latents) is not None
        return (Quadrature() if few else AnnealedImportance()).estimate(model, x, seed)


def nonlinear_evidence(
    model_or_fit: LatentModel | Fit,
    x: Any,
    estimator: Estimator | None,
    seed: int,
    draws: int = 1000,
    start: Gaussians | None = None,
) -> Evidence:
    """Estimate log p(x) from a start, or what the posterior of a fit says; draw from that too if it is no Gaussian."""
    model = checked_model(model_or_fit)
    if not isinstance(model_or_fit, Fit):
        return (estimator or ImportanceWeighted(draws)).estimate(model, x, seed)
    data = check_rows(model, x)
    law = model_or_fit.posterior(data.values)
    has_density = not isinstance(law, dist.Delta | Draws)
    if estimator is None and has_density and gaussians_of(law) is None:
        mixed = ImportanceWeighted(draws, MixedProposal(model_or_fit.posterior, model, seed))
        found = mixed.estimate(model, data.values, seed).to(data.dtype)
        return dataclasses.replace(found, estimator=ImportanceWeighted(draws))
    start = gaussians_near(law) if start is None else start
    return (estimator or ImportanceWeighted(draws)).estimate(model, x, seed, start)


def check_estimator(estimator: Any) -> None:
    """Refuse what is no estimator."""
    if estimator is not None and not isinstance(estimator, Estimator):
        raise ParameterError(f"estimator should be one such as AnnealedImportance(), got {estimator!r}.")


def start_of(model_or_fit: LatentModel | Fit, x: Float[Tensor, "samples features"]) -> Gaussians | None:
    """Return what the posterior of a fit says of rows, for the search of the best Gaussian to begin at.

    None where there is no posterior, or no search: linear models have a Gaussian without one.
    """
    if not isinstance(model_or_fit, Fit) or isinstance(model_or_fit.model, LinearFactorModel):
        return None
    return gaussians_near(model_or_fit.posterior(x))


def checked_model(model_or_fit: Any) -> Any:
    """Return the model of a fit, or the model itself."""
    model = model_or_fit.model if isinstance(model_or_fit, Fit) else model_or_fit
    if not isinstance(model, LatentModel):
        raise ParameterError(f"This needs a model or the result of fit, got {type(model_or_fit).__name__}.")
    if model.random_parameters:
        raise ParameterError(
            f"Evidence needs a model with fixed parameters, but {', '.join(model.random_parameters)} carry a prior: "
            "ask the model of a Fit."
        )
    return model
