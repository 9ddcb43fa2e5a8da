r"""Draws of the parameters of a fit, and what each of them weighs.

Draws of the posterior weigh the same. Those of an approximation q, as `LaplaceApproximation` and `VariationalBayes`
give them, stand for the posterior with the weights p(x, theta) / q(theta), whose tail is smoothed by a generalised
Pareto distribution: every average over draws that predicts something takes them from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from torch import Tensor

from probae.analysis.result import DOUBTFUL_SHAPE, FEWEST, LOWEST
from probae.inference import Fit

EQUAL = 1e-9  # spread of log weights that is rounding
REWEIGHTED = "the draws come from an approximation of the posterior and were weighted towards it."
BEYOND_REPAIR = (
    f"the Pareto k of these weights is above {DOUBTFUL_SHAPE}: the approximation misses what no weights bring back, so "
    "fit by Gibbs() or NUTS()."
)


@dataclass(frozen=True, eq=False)
class DrawWeights:
    """Log weights of the draws of the parameters, the chains one after the other.

    Attributes
    ----------
    log : Tensor (S,)
        Of sum 1, the largest smoothed.
    raw : Tensor (S,)
        log p(x, theta) - log q(theta) as it is, less the largest; 0 for draws of the posterior.
    k_hat : float or None
        Pareto shape of the raw weights; None for draws of the posterior, NaN for fewer than 100.
    """

    log: Float[Tensor, " draws"]
    raw: Float[Tensor, " draws"]
    k_hat: float | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before an average over the draws is used."""
        if self.k_hat is None:
            return ()
        return (REWEIGHTED,) + (BEYOND_REPAIR,) * (self.k_hat > DOUBTFUL_SHAPE)


def draws_of(run: Fit) -> dict[str, Tensor]:
    """Return draws (chain, draw, ...) of the parameters of the model, by name; none for a point fit."""
    drawn = run.draws or {}
    return {name: drawn[name] for name in run.model.parameter_names if name in drawn}


def draw_weights(run: Fit) -> DrawWeights:
    """Return what the draws of the parameters weigh, of a fit that has some."""
    chains, draws = next(iter(draws_of(run).values())).shape[:2]
    given = (run.sample_stats or {}).get("log_weight")
    if given is None:
        equal = torch.full((chains * draws,), -math.log(chains * draws), dtype=torch.float64)
        return DrawWeights(equal, torch.zeros_like(equal), None)
    raw = (given - given.max()).clamp_min(LOWEST).double().flatten()
    if len(raw) < FEWEST:
        return DrawWeights(raw - raw.logsumexp(0), raw, math.nan)
    log, k_hat = smoothed(raw.unsqueeze(0), 1.0)  # draws of an approximation are independent
    return DrawWeights(log[0], raw, float(k_hat))


def smoothed(
    log_weights: Float[Tensor, "samples draws"], efficiency: float
) -> tuple[Float[Tensor, "samples draws"], Float[Tensor, " samples"]]:
    """Return normalised log weights with a smoothed tail, and k-hat, by arviz-stats.

    Parameters
    ----------
    log_weights : Tensor (N, S)
    efficiency : float
        Effective draws for each draw.

    Examples
    --------
    >>> smoothed(torch.zeros(1, 4).double(), 1.0)[0].exp()                       # all alike: there is no tail
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]], dtype=torch.float64)
    """
    draws = log_weights.shape[1]
    weights = log_weights - log_weights.logsumexp(1, keepdim=True)
    k_hat = torch.zeros(len(log_weights), dtype=torch.float64)
    tail = min(math.ceil(min(draws / 5, 3 * (draws / efficiency) ** 0.5)) + 1, draws)
    largest = log_weights.topk(tail, 1).values
    uneven = largest[:, 0] - largest[:, -1] > EQUAL
    if bool(uneven.any()):
        # its argument is minus a log weight, a log likelihood
        found, shape = array_stats.psislw(-log_weights[uneven].numpy(), r_eff=efficiency)
        weights[uneven] = torch.from_numpy(np.asarray(found))
        k_hat[uneven] = torch.from_numpy(np.asarray(shape))
    return weights, k_hat
