r"""Information of a noisy linear model from the scores of its rows: the metric in which its likelihood is round.

By Fisher's identity the score of a row is the posterior mean of that of x and z together,

.. math::
    \nabla_W = \Psi^{-1} (x - \mu)\, m' - \Psi^{-1} W S, \qquad \nabla_\mu = \Psi^{-1} (x - \mu - W m), \qquad
    \nabla_{\log \psi_d} = \tfrac12 (E (x - \mu - W z)_d^2 / \psi_d - 1)

with m = E[z | x], S = E[z z' | x]; its covariance over rows estimates the information (Berndt et al., 1974). Along
rotations the likelihood of nearly Gaussian factors is a thousand times flatter than across them, and a search that does
not know it stops before it has turned.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.importance import differentiable_scores, weighted_draws
from probae.priors import Prior

__all__ = ["information_root", "row_scores"]

RIDGE = 1e-6  # of the information in units of its diagonal: directions without any information stay finite
LEAST = 1e-3  # of the standard deviation of a score with z observed
LARGEST = 1500  # parameters; beyond, the factorization would cost more than it saves


def row_scores(
    prior: Prior,
    x: Float[Tensor, "samples features"],
    loadings: Float[Tensor, "features latents"],
    noise: Float[Tensor, " features"],
    mean: Float[Tensor, " features"],
    draws: Float[Tensor, "draws samples latents"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores (N, D, K), (N, D) and (N, D) of loadings, log noise and mean, by importance sampling.

    Examples
    --------
    >>> from probae.inference.importance import standard_draws
    >>> from probae.priors import Laplace
    >>> generator = torch.Generator().manual_seed(0)
    >>> loadings, noise = torch.tensor([[1.0], [0.5]]).double(), torch.ones(2).double()
    >>> x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    >>> found = row_scores(Laplace(), x, loadings, noise, torch.zeros(2).double(), standard_draws(64, 5, 1, generator))
    >>> [tuple(one.shape) for one in found]
    [(5, 2, 1), (5, 2), (5, 2)]
    """
    z, weights = weighted_draws(prior, differentiable_scores(x, loadings, noise, mean), draws)
    share = weights.softmax(0)
    first = torch.einsum("sn,snk->nk", share, z)
    second = torch.einsum("sn,snk,snl->nkl", share, z, z)
    centred = x - mean
    fitted = first @ loadings.mT
    spread = torch.einsum("dk,nkl,dl->nd", loadings, second, loadings)  # E (W z)_d^2
    squares = centred.square() - 2 * centred * fitted + spread
    of_loadings = (centred.unsqueeze(-1) * first.unsqueeze(1) - loadings @ second) / noise.unsqueeze(-1)
    return of_loadings, 0.5 * (squares / noise - 1), (centred - fitted) / noise


def information_root(
    scores: Float[Tensor, "samples size"], complete: Float[Tensor, " size"]
) -> Float[Tensor, "size size"]:
    """Return lower-triangular L with L L' the mean square of the scores, its diagonal a little raised.

    No coordinate counts as less than a thousandth as well known as with z observed, ``complete`` being its information
    then: at a column that does not vary all scores may be 0. With more than 1,500 parameters, or fewer than two rows
    for each, L is diagonal.

    Examples
    --------
    >>> scores = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> root = information_root(scores, torch.ones(3, dtype=torch.float64))
    >>> bool((root @ root.T - scores.T @ scores / 50).abs().max() < 1e-4)
    True
    """
    sizes = torch.hypot(scores.square().mean(0).sqrt(), LEAST * complete.sqrt())
    if scores.shape[1] > min(LARGEST, len(scores) // 2):
        return torch.diag(sizes)
    units = scores / sizes
    raised = units.mT @ units / len(scores) + RIDGE * torch.eye(scores.shape[1], dtype=torch.float64)
    return sizes.unsqueeze(1) * torch.linalg.cholesky(raised)
