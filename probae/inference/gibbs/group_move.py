r"""Exact moves z -> A z, W -> W A^{-1}, along which the likelihood is constant.

A from its law along the orbit leaves the posterior as it is (Liu and Sabatti, 2000). Under Haar measure, with n rows of
Z and D of W, whose entries have variances v,

.. math:: p(A) \propto |A|^{n - D}
    \exp(-\tfrac12 \mathrm{tr}(A Z'Z A') - \tfrac12 \textstyle\sum_{dk} (W A^{-1})_{dk}^2 / v_{dk})

Z is drawn anew in the next sweep: only W is moved.

References
----------
.. [1] Liu, J. S. & Sabatti, C. (2000). Generalised Gibbs sampler and multigrid Monte Carlo for Bayesian computation.
   Biometrika 87, 353-369, theorem 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.generalized_inverse_gaussian import draw_generalized_inverse_gaussian
from probae.inference.gibbs.scores import bartlett, normals


class Moved(NamedTuple):
    """Loadings after the move, and the probability with which each chain accepted it."""

    loadings: Float[Tensor, "chains features latents"]
    acceptance: Float[Tensor, " chains"]


def scale_columns(
    loadings: Float[Tensor, "chains features latents"],
    square: Float[Tensor, "chains latents latents"],
    variance: Tensor,
    count: int,
) -> Moved:
    r"""Stretch each factor: a_k^2 ~ GIG((n - D_k) / 2, (Z'Z)_kk, \sum_d W_dk^2 / v_dk), an exact draw for any v.

    D_k counts the loadings that are not fixed at 0 by v_dk = 0, as those of a sparse law may be.
    """
    active = (variance > 0).expand_as(loadings)
    length = torch.where(active, loadings.square() / variance, 0.0).sum(-2)
    length = length.clamp_min(1e-290)  # without loadings any stretch will do
    order = 0.5 * (count - active.sum(-2)).double()
    stretch = draw_generalized_inverse_gaussian(order, square.diagonal(dim1=-2, dim2=-1), length)
    return Moved(loadings * stretch.rsqrt()[:, None], torch.ones(len(loadings), dtype=torch.float64))


def move_frame(
    loadings: Float[Tensor, "chains features latents"],
    square: Float[Tensor, "chains latents latents"],
    variance: Tensor,
    count: int,
    generator: np.random.Generator,
    *,
    turn: bool = True,
) -> Moved:
    r"""Move by a full matrix, for variances v_d that are equal over factors, in any number not above D.

    With C = W' diag(1/v) W = L L' and A'A = L X L', X is matrix generalised inverse Gaussian,

    .. math:: p(X) \propto |X|^{d/2} \exp(-\tfrac12 \mathrm{tr}(X V) - \tfrac12 \mathrm{tr}(X^{-1})),
        \quad V = L' Z'Z L, \quad d = n - D - k - 1.

    The proposal is a Wishart law with the same mode, which has the eigenvectors of V and, for its eigenvalues e, the
    eigenvalues b with e b^2 - d b = 1; it has d + k + 1 + 2 mean(1/b) degrees of freedom.

    Parameters
    ----------
    turn : bool
        Whether W may come out in another orthogonal frame, for the caller to turn at random; otherwise A is symmetric.
    """
    latents = loadings.shape[-1]
    freedom = count - loadings.shape[-2] - latents - 1
    lower = torch.linalg.cholesky((loadings / variance).mT @ loadings)
    values, axes = torch.linalg.eigh(lower.mT @ square @ lower)
    values = values.clamp_min(0.0)
    root = (freedom**2 + 4.0 * values).sqrt()
    inverse_mode = 0.5 * (root - freedom) if freedom <= 0 else 2.0 * values / (root + freedom)
    weight = root.mean(-1)  # d + 2 mean(1/b)
    rate = inverse_mode * weight[:, None]
    triangle = bartlett(generator, (weight + latents + 1).numpy(), latents)
    # X = Y Y' with Y = axes rate^{-1/2} triangle, and A = Y'L'
    unturned = torch.linalg.solve_triangular(lower.mT, axes, upper=True)
    inner = torch.linalg.solve_triangular(triangle, torch.diag_embed(rate.sqrt()), upper=False)
    inverse = unturned @ inner.mT

    def gain(log_det: Tensor, diagonal: Tensor, inverse_trace: Tensor) -> Tensor:
        """Log target / proposal at X, given log |X|, the diagonal of X in the axes, and tr X^{-1}."""
        return 0.5 * ((freedom - weight) * log_det - ((values - rate) * diagonal).sum(-1) - inverse_trace)

    log_det = 2.0 * triangle.diagonal(dim1=-2, dim2=-1).log().sum(-1) - rate.log().sum(-1)
    proposed = gain(log_det, triangle.square().sum(-1) / rate, inner.square().sum((-2, -1)))
    log_det = -2.0 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    present = gain(log_det, unturned.square().sum(-2), lower.square().sum((-2, -1)))
    acceptance = (proposed - present).exp().clamp_max(1.0)
    accepted = torch.from_numpy(generator.random(len(acceptance))) < acceptance
    moved = loadings @ (inverse if turn else _symmetric(inverse))
    return Moved(torch.where(accepted[:, None, None], moved, loadings), acceptance)


def _symmetric(matrix: Float[Tensor, "chains latents latents"]) -> Float[Tensor, "chains latents latents"]:
    """Return the symmetric factor S of matrix = S Q, Q orthogonal."""
    left, values, _ = torch.linalg.svd(matrix)
    return (left * values[:, None]) @ left.mT


def random_frames(
    generator: np.random.Generator, shape: tuple[int, ...], latents: int
) -> Float[Tensor, "*batch latents latents"]:
    """Draw orthogonal matrices from Haar measure (Stewart, 1980): the exact move by an orthogonal A."""
    frame, triangle = torch.linalg.qr(normals(generator, (*shape, latents, latents)))
    return frame * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
