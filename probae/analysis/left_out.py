"""The density of each row with the row among the data and without it, from one set of draws of the parameters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from torch import Tensor

from probae.analysis.predictive_density import draws_blocks
from probae.analysis.weighted_draws import EQUAL, smoothed
from probae.inference import Fit

PROBES = 20  # rows whose effective sample size stands for that of all: each takes a millisecond


class LeftOut(NamedTuple):
    """Log predictive density of each row without it and with it, k-hat, and Monte Carlo errors of both densities."""

    elpd: Float[Tensor, " samples"]
    in_sample: Float[Tensor, " samples"]
    k_hat: Float[Tensor, " samples"]
    error: Float[Tensor, " samples"]
    in_sample_error: Float[Tensor, " samples"]


def leave_out(
    log_likelihood: Float[Tensor, "chain draw samples"],
    efficiency: float = 1.0,
    log_weight: Float[Tensor, " draws"] | None = None,
) -> LeftOut:
    r"""Weigh draws by 1 / p(x_n | theta_s), times what they weigh in the posterior where they are not drawn from it.

    Parameters
    ----------
    log_likelihood : Tensor (C, S, N)
    efficiency : float
        Effective draws for each draw.
    log_weight : Tensor (C S,), optional
        log p(x, theta) - log q(theta) of draws from q, chains one after the other.

    Examples
    --------
    >>> found = leave_out(torch.full((1, 200, 3), -1.5).double())           # all draws alike: nothing to learn
    >>> found.elpd, found.k_hat
    (tensor([-1.5000, -1.5000, -1.5000], dtype=torch.float64), tensor([0., 0., 0.], dtype=torch.float64))
    """
    flat = log_likelihood.flatten(0, 1).mT.contiguous()  # (N, S)
    own = flat.new_zeros(1, flat.shape[1]) if log_weight is None else log_weight.unsqueeze(0)
    kept, _ = smoothed(own, efficiency)
    in_sample, in_sample_error = averaged(kept.expand_as(flat), flat, efficiency)
    weights, k_hat = smoothed(own - flat, efficiency)
    elpd, error = averaged(weights, flat, efficiency)
    return LeftOut(elpd, in_sample, k_hat, error, in_sample_error)


def averaged(
    log_weights: Float[Tensor, "samples draws"],
    log_density: Float[Tensor, "samples draws"],
    efficiency: float,
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """Return the log of the weighted mean of densities, and its standard error by the delta method."""
    value = (log_weights + log_density).logsumexp(1)
    deviation = (
        log_weights + log_density - value.unsqueeze(1)
    ).exp() - log_weights.exp()  # w_s (p_s / mean - 1)
    return value, (deviation.square().sum(1) / efficiency).sqrt()


def relative_efficiency(run: Fit, values: Float[Tensor, "samples features"]) -> float:
    """Return effective draws of the density of a row over draws, the mean of some rows, by arviz-stats."""
    chosen = values[:: max(len(values) // PROBES, 1)]
    density = torch.cat([block for _, block in draws_blocks(run, chosen)], -1)
    density = (density - density.amax((0, 1))).exp()
    varying = density[:, :, density.std((0, 1)) > EQUAL].numpy()
    if varying.shape[1] < 4 or varying.shape[2] == 0:
        return 1.0
    sizes = np.asarray(array_stats.ess(varying, chain_axis=0, draw_axis=1, method="mean"))
    found = float(np.nanmean(sizes)) / (varying.shape[0] * varying.shape[1])
    return found if math.isfinite(found) and found > 0 else 1.0
