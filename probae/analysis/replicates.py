"""Data sets like x simulated from a fit, or from the priors of a model: one for each draw of the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.draws_likelihood import flat_parameters
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
    """Simulate from draws of the parameters spread evenly over the chains.

    Random numbers come from torch's global generator. What is missing in ``like`` is missing in every set.
    """
    assert run.draws is not None
    _, loadings, noise, mean = flat_parameters(run.model, run.draws)
    absent = like.isnan()
    for draw in spread(len(mean), sets):
        covariance = loadings[draw] @ loadings[draw].mT + noise[draw].diag()
        z = torch.randn(len(like), loadings.shape[2], dtype=torch.float64)
        error = noise[draw].sqrt() * torch.randn(like.shape, dtype=torch.float64)
        x = mean[draw] + z @ loadings[draw].mT + error
        yield Replicate(x.masked_fill(absent, torch.nan), covariance, covariance)


def of_point(
    run: Fit, like: Float[Tensor, "samples features"], sets: int, refit: bool
) -> Iterator[Replicate]:
    """Simulate from the fitted parameters again and again, and fit to each set if asked to."""
    covariance = covariance_of(run.model)
    absent = like.isnan()
    for _ in range(sets):
        x = run.model.sample(len(like)).double().masked_fill(absent, torch.nan)
        yield Replicate(x, covariance, covariance_of(_again(run, x).model) if refit else covariance)


@local_parameters
def of_program(
    program: LatentModel, like: Float[Tensor, "samples features"], sets: int
) -> Iterator[Replicate]:
    """Simulate from a Pyro program whose parameters have priors: they are drawn anew for each set."""
    absent = like.isnan()
    for _ in range(sets):
        trace = pyro.poutine.trace(program).get_trace(size=len(like))
        x = trace.nodes["x"]["value"].double().masked_fill(absent, torch.nan)
        drawn = {name: trace.nodes[name]["value"] for name in program.parameter_names if name in trace.nodes}
        covariance = covariance_of(program, drawn)
        yield Replicate(x, covariance, covariance)


@local_parameters
def covariance_of(
    model: LatentModel, drawn: dict[str, Tensor] | None = None
) -> Float[Tensor, "features features"]:
    """Return the covariance of x, W cov(z) W' + Psi; that of 10,000 simulated rows for models that are not linear."""
    if not isinstance(model, LinearFactorModel):
        return torch.cov(model.sample(SIMULATED).double().mT, correction=0).reshape(
            model.features, model.features
        )
    found = drawn or {}
    loadings = found.get("loadings", model.loadings).detach().double()
    variance = model.prior.distribution(model.latents, like=loadings).variance
    phi = model.factor_correlation if model.gaussian else variance.diag()
    signal = loadings @ phi @ loadings.mT
    if model.noise == "none":
        return signal
    noise = found.get("noise_variance", model.noise_variance).detach().double()
    if model.noise == "complement":
        own = torch.linalg.qr(loadings)[0]
        return signal + noise * (torch.eye(model.features, dtype=torch.float64) - own @ own.mT)
    return signal + noise.expand(model.features).diag()


def spread(count: int, sets: int) -> list[int]:
    """Return which of so many draws make so many sets: evenly spread, and again from the first if they are fewer.

    Examples
    --------
    >>> spread(10, 3), spread(2, 4)
    ([0, 3, 6], [0, 1, 0, 1])
    """
    if count < sets:
        return [place % count for place in range(sets)]
    return [place * count // sets for place in range(sets)]


def _again(run: Fit, x: Tensor) -> Any:
    """Fit to a simulated set as the data were fitted."""
    found = fit(run.model, x, run.method, seed=run.seed)
    if found.interrupted:
        raise KeyboardInterrupt
    return found
