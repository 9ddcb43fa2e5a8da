"""Data sets like x simulated from a fit, or from the priors of a model: one for each draw of the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.analysis.draws_likelihood import models_of
from probae.analysis.weighted_draws import draw_weights, draws_of
from probae.inference import Fit
from probae.inference.fit import fit
from probae.models import LatentModel, LinearFactorModel
from probae.models.pyro_context import local_parameters

SIMULATED = 10_000  # rows that stand for the covariance of a model without a closed form of it


@dataclass(frozen=True, eq=False)
class Replicate:
    """A simulated data set, the covariance that x is held against, and the one that the data set is held against."""

    x: Float[Tensor, "samples features"]
    covariance: Float[Tensor, "features features"]
    own: Float[Tensor, "features features"]


def of_draws(run: Fit, like: Float[Tensor, "samples features"], sets: int) -> Iterator[Replicate]:
    """Simulate from draws of the parameters spread evenly over the chains, each as often as its weight says."""
    places = spread(draw_weights(run).log, sets)
    chosen = {name: value.flatten(0, 1)[None, places] for name, value in draws_of(run).items()}
    _, models = models_of(run.model, chosen)
    for model in models:
        covariance = covariance_of(model)
        yield Replicate(rows_like(model, like), covariance, covariance)


def of_point(
    run: Fit, like: Float[Tensor, "samples features"], sets: int, refit: bool
) -> Iterator[Replicate]:
    """Simulate from the fitted parameters again and again, and fit to each set if asked to."""
    covariance = covariance_of(run.model)
    for _ in range(sets):
        x = rows_like(run.model, like)
        yield Replicate(x, covariance, covariance_of(_again(run, x).model) if refit else covariance)


def of_program(
    program: LatentModel, like: Float[Tensor, "samples features"], sets: int
) -> Iterator[Replicate]:
    """Simulate from a Pyro program whose parameters have priors: they are drawn anew for each set."""
    for _ in range(sets):
        trace = pyro.poutine.trace(program).get_trace(size=len(like))
        x = trace.nodes["x"]["value"].double().masked_fill(like.isnan(), torch.nan)
        drawn = {name: trace.nodes[name]["value"] for name in program.parameter_names if name in trace.nodes}
        covariance = covariance_of(program, drawn)
        yield Replicate(x, covariance, covariance)


def rows_like(
    model: LatentModel, like: Float[Tensor, "samples features"]
) -> Float[Tensor, "samples features"]:
    """Simulate as many rows, by torch's global generator; what is missing in ``like`` is missing in them."""
    return model.sample(len(like)).double().masked_fill(like.isnan(), torch.nan)


@local_parameters
def covariance_of(
    model: LatentModel, drawn: dict[str, Tensor] | None = None
) -> Float[Tensor, "features features"]:
    """Return the covariance of x, W cov(z) W' + Psi; that of 10,000 simulated rows for models that are not linear."""
    if not isinstance(model, LinearFactorModel):
        return torch.cov(model.sample(SIMULATED).double().mT, correction=0).reshape(
            model.features, model.features
        )
    found = {
        name: drawn[name] if drawn and name in drawn else getattr(model, name)
        for name in model.parameter_names
    }
    loadings = found["loadings"].detach().double()
    law = model.prior.distribution(model.latents, like=loadings)
    phi = model.factor_correlation if model.gaussian else law.variance.diag()
    signal = loadings @ phi @ loadings.mT
    if model.noise == "none":
        return signal
    noise = found["noise_variance"].detach().double()
    if model.noise == "complement":
        own = torch.linalg.qr(loadings)[0]
        return signal + noise * (torch.eye(model.features, dtype=torch.float64) - own @ own.mT)
    return signal + noise.expand(model.features).diag()


def spread(log_weights: Float[Tensor, " draws"], sets: int) -> Int[Tensor, " sets"]:
    """Return which draws make so many sets, evenly spread over their weights of sum 1.

    Examples
    --------
    >>> spread(torch.full((10,), 0.1).log(), 4), spread(torch.tensor([0.7, 0.1, 0.2]).log(), 4)
    (tensor([1, 3, 6, 8]), tensor([0, 0, 0, 2]))
    """
    edges = log_weights.exp().cumsum(0)
    places = (torch.arange(sets, dtype=edges.dtype) + 0.5) / sets * edges[-1]
    return torch.searchsorted(edges, places)


def _again(run: Fit, x: Tensor) -> Any:
    """Fit to a simulated set as the data were fitted."""
    found = fit(run.model, x, run.method, seed=run.seed)
    if found.interrupted:
        raise KeyboardInterrupt
    return found
