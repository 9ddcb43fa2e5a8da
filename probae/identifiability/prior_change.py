r"""How the prior density of loadings changes along a path of rotations.

Closed forms where there are any. The local scales of a horseshoe integrate to

    p(w | tau) = exp(u^2 / 2) E_1(u^2 / 2) / (sqrt(2 pi^3) s tau),   u = w / (s tau),   E_1 the exponential integral

and tau is one sum over a grid. Other hyperparameters h are drawn given the loadings, a step of the path at a time:

    p(W R) / p(W) = E_{h | W} [p(W R | h) / p(W | h)]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.special
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count
from probae.parameter_priors.base import LoadingsPrior, expanded, log_normal
from probae.parameter_priors.horseshoe import Horseshoe

__all__ = ["by_draws", "has_closed_form", "log_horseshoe", "prior_change"]

CHAINS, NUMBERS = (
    64,
    32_000,
)  # draws of the hyperparameters at a step, in each direction; fewer if they are large
FIRST, SWEEPS = 50, 5  # updates of the hyperparameters before the first step, and before each
SCALES = 400  # points of log tau
SMALLEST = 1e-150  # of u^2 / 2: the density has a pole at 0


def prior_change(
    prior: Any,
    loadings: Float[Tensor, "features latents"],
    rotations: Float[Tensor, "angles latents latents"],
    *,
    seed: int = 0,
) -> tuple[Float[Tensor, " angles"], Float[Tensor, " angles"]]:
    """Return log p(W R) - log p(W) along a path of rotations, and its Monte Carlo error (0 in closed form).

    Parameters
    ----------
    prior : LoadingsPrior or Pyro distribution
    loadings : Tensor (D, K)
    rotations : Tensor (A, K, K)
        Neighbours a few degrees apart, the identity among them.
    seed : int

    Notes
    -----
    A law that puts weight on exact zeros has no density beside them: the change is minus infinity where zeros get lost,
    0 elsewhere (its slab has one scale for all factors).

    Examples
    --------
    >>> import pyro.distributions as dist
    >>> from probae.linalg import givens
    >>> quarter = givens(2, 0, 1, torch.tensor([0.0, math.pi / 4]))
    >>> prior_change(dist.Laplace(0.0, 1.0), torch.eye(2, dtype=torch.float64), quarter)[0]     # 2 - 2 sqrt 2
    tensor([ 0.0000, -0.8284], dtype=torch.float64)
    """
    turned = loadings @ rotations
    home = int((rotations - torch.eye(loadings.shape[1])).square().sum((1, 2)).argmin())
    if not isinstance(prior, LoadingsPrior):
        log_prob = torch.stack([expanded(prior, loadings.shape).log_prob(w) for w in turned]).double()
        return log_prob - log_prob[home], torch.zeros(len(turned), dtype=torch.float64)
    if prior.sparse:
        lost = (turned.abs() < 1e-9 * loadings.abs().max()).sum((1, 2)) < (loadings == 0).sum()
        return torch.where(lost, -math.inf, 0.0).double(), torch.zeros(len(turned), dtype=torch.float64)
    if not has_closed_form(prior):
        return by_draws(prior, turned, home, check_count("seed", seed, minimum=0))
    log_prob = log_horseshoe(prior, turned) if isinstance(prior, Horseshoe) else prior.log_marginal(turned)
    return log_prob - log_prob[home], torch.zeros_like(log_prob)


def has_closed_form(prior: Any) -> bool:
    """Whether the change of a prior needs no draws of hyperparameters.

    Examples
    --------
    >>> from probae import parameter_priors
    >>> has_closed_form(parameter_priors.ARD()), has_closed_form(parameter_priors.MultiplicativeGamma())
    (True, False)
    """
    if not isinstance(prior, LoadingsPrior) or isinstance(prior, Horseshoe) or prior.sparse:
        return True
    return type(prior).log_marginal is not LoadingsPrior.log_marginal


def log_horseshoe(
    prior: Horseshoe, loadings: Float[Tensor, "angles features latents"]
) -> Float[Tensor, " angles"]:
    """Return log p(W) of a horseshoe up to a constant, all its scales integrated out.

    Examples
    --------
    >>> w = torch.tensor([[[0.1]], [[1.0]]], dtype=torch.float64)
    >>> bool(log_horseshoe(Horseshoe(), w).diff() < 0)
    True
    """
    reach = math.log(prior.global_scale) + np.linspace(-16.0, 16.0, SCALES)
    units = (loadings / prior.entries).flatten(1).numpy()
    total = np.empty((len(units), SCALES))
    for place, log_tau in enumerate(reach):
        half = np.maximum(0.5 * (units * math.exp(-log_tau)) ** 2, SMALLEST)
        near = np.minimum(
            half, 500.0
        )  # beyond, E_1 is exp(-h) / h to one part in 500, which its series mends
        tail = np.where(
            half < 500.0,
            scipy.special.exp1(near) * np.exp(near),
            (1 - 1 / half + 2 / half**2) / half,
        )
        weight = log_tau - math.log1p(math.exp(2 * (log_tau - math.log(prior.global_scale))))  # half-Cauchy
        total[:, place] = np.log(tail).sum(1) - units.shape[1] * log_tau + weight
    return torch.from_numpy(np.asarray(scipy.special.logsumexp(total, axis=1)))


def by_draws(
    prior: LoadingsPrior, turned: Float[Tensor, "angles features latents"], home: int, seed: int
) -> tuple[Float[Tensor, " angles"], Float[Tensor, " angles"]]:
    """Walk along the path and back: draws lag behind the loadings, in opposite senses, and the mean of both does not.

    The error is that of the draws and half of the difference of the two walks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        there, variance = _walk(prior, turned)
        back, other = (part.flip(0) for part in _walk(prior, turned.flip(0)))
    there, back = there - there[home], back - back[home]
    spread = 0.25 * ((variance - variance[home]).abs() + (other - other[home]).abs())
    return 0.5 * (there + back), (spread + 0.25 * (there - back).square()).sqrt()


def _walk(prior: LoadingsPrior, turned: Tensor) -> tuple[Tensor, Tensor]:
    """Add up steps, each the mean of a ratio forward and one backward, and their variances."""
    features, latents = turned.shape[1:]
    chains = max(16, min(CHAINS, NUMBERS // (features * latents)))
    state = prior.start(chains, features, latents)
    before: tuple[Tensor, Tensor] | None = None
    steps, squares = [turned.new_zeros(())], [turned.new_zeros(())]
    for here in turned:
        loadings = here.expand(chains, features, latents)
        for _ in range(SWEEPS if before else FIRST):
            state = prior.update(state, loadings)
        variance = prior.variance(state)
        if before is not None:
            there, old = before
            forward = log_normal(loadings, old) - log_normal(there, old)
            backward = log_normal(there, variance) - log_normal(loadings, variance)
            steps.append(0.5 * (_log_mean(forward) - _log_mean(backward)))
            squares.append(0.25 * (_relative_variance(forward) + _relative_variance(backward)))
        before = loadings, variance
    return torch.stack(steps).cumsum(0), torch.stack(squares).cumsum(0)


def _log_mean(log_ratio: Tensor) -> Tensor:
    return log_ratio.logsumexp(0) - math.log(len(log_ratio))


def _relative_variance(log_ratio: Tensor) -> Tensor:
    """Return the squared relative error of the mean of the ratios."""
    weights = log_ratio.softmax(0)
    return (weights - 1 / len(weights)).square().sum()
