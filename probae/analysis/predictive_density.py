"""The log density of rows under a fit, its parameters averaged over where they have draws."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.draws_likelihood import log_likelihood_of_draws
from probae.analysis.evidence import log_evidence
from probae.analysis.weighted_draws import BEYOND_REPAIR, REWEIGHTED, draw_weights, draws_of
from probae.checks import (
    Data,
    MissingRowWarning,
    ParameterError,
    ProbaeWarning,
    check_count,
    check_data,
    warn,
)
from probae.inference import Fit
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters

__all__ = ["log_predictive_density"]

NUMBERS = 2**22  # log densities of draws and rows held at a time: 32 MB


@local_parameters
def log_predictive_density(run: Fit, x: Any, *, seed: int = 0) -> Float[Tensor, " samples"]:
    r"""Return the log predictive density of each row, latents and parameters integrated out, in nats, float64.

    .. math:: \log \sum_{s=1}^S w_s\, p(x_n \mid \theta_s)

    Draws of the posterior weigh 1 / S each, those of an approximation what their ``log_weight`` says. For fits without
    draws of the parameters it is log p(x_n) at the fitted ones, as `log_evidence` has it.

    Parameters
    ----------
    run : Fit
    x : array, DataFrame or Tensor (N, D)
        Rows that the fit has not seen, if they are to tell how well it predicts.
    seed : int
        Of the draws of z where p(x) has no closed form.

    Raises
    ------
    NotExactError
        There are draws of the parameters, and log p(x) has no closed form.
    DataError
        For rows the model cannot take.

    Warns
    -----
    ProbaeWarning
        The draws come from an approximation that no weights repair.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x[:200])
    >>> pa.log_predictive_density(run, x[200:]).shape
    torch.Size([101])
    """
    check_fit(run, "log_predictive_density")
    seed = check_count("seed", seed, minimum=0)
    data = rows_of(run.model, x)
    if not draws_of(run):
        return log_evidence(run, data.values, seed=seed).value.double()
    weights = draw_weights(run)
    if BEYOND_REPAIR in weights.notes:
        warn(f"{REWEIGHTED.capitalize()} But {BEYOND_REPAIR}", ProbaeWarning)
    return torch.cat([averaged(block, weights.log) for _, block in draws_blocks(run, data.values)])


def averaged(
    log_likelihood: Float[Tensor, "chain draw samples"], log_weights: Float[Tensor, " draws"]
) -> Float[Tensor, " samples"]:
    """Return the log of the mean density over all draws, with weights of sum 1."""
    return (log_likelihood.flatten(0, 1) + log_weights.unsqueeze(1)).logsumexp(0)


def draws_blocks(run: Fit, values: Tensor) -> Iterator[tuple[slice, Float[Tensor, "chain draw samples"]]]:
    """Walk over rows: which, and their log-likelihood under each draw of the parameters, z integrated out."""
    draws = draws_of(run)
    count = math.prod(next(iter(draws.values())).shape[:2])
    step = max(NUMBERS // count, 1)
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingRowWarning)  # said once, of all rows
            yield rows, log_likelihood_of_draws(run.model, draws, values[rows])


def rows_of(model: Any, x: Any) -> Data:
    """Return the rows of a fit, with missing entries where its model integrates them out."""
    exact = isinstance(model, LinearFactorModel) and model.gaussian and model.noise != "none"
    missing = "allow" if exact else "refuse"
    data = check_data(x, features=model.features, names=model.feature_names, missing=missing)
    model.check(data.values)
    return data


def check_fit(run: Any, name: str) -> None:
    """Refuse what is no result of fit."""
    if not isinstance(run, Fit):
        raise ParameterError(f"{name} needs the result of fit, got {type(run).__name__}.")
