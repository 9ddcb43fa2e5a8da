r"""Information of a covariance structure S = W Phi W' + Psi about its parameters, per row of x, in closed form.

With A = S^{-1}, C the sample covariance about the mean and P = A C A, derivatives S_a of S by the parameters,

    expected      1/2 tr(A S_a A S_b) = F(A, A)_ab
    observed      2 F(A, P)_ab - F(A, A)_ab + 1/2 tr((A - P) S_ab)

where F(X, Y)_ab is the symmetric part of 1/2 tr(X S_a Y S_b). As S_a = e_i b_r' + b_r e_i' for a loading
(b_r column r of B = W Phi), w_t w_u' + w_u w_t' for a correlation and e_i e_i' for a noise variance, every entry is
a product of entries of X, Y and their products with B and W: no D x D derivative is ever formed. Features that are
missing have zero rows in A and P.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.factors.structure import Structure

SquareMatrix = Float[Tensor, "features features"]
FullMatrix = Float[Tensor, "full full"]


def bilinear(structure: Structure, X: SquareMatrix, Y: SquareMatrix) -> FullMatrix:
    """F(X, Y) over all loadings, correlations and noise variances, in the order of `Layout`."""
    W = structure.loadings
    B = W @ structure.correlation
    t, u = structure.layout.pairs
    XB, YB, XW, YW = X @ B, Y @ B, X @ W, Y @ W
    D, K = W.shape
    cross = torch.einsum("is,jr->irjs", XB, YB) + torch.einsum("ij,rs->irjs", X, B.mT @ YB)
    cross += torch.einsum("ij,rs->irjs", Y, B.mT @ XB) + torch.einsum("jr,is->irjs", XB, YB)
    loading_noise = torch.einsum("ij,jr->irj", X, YB) + torch.einsum("ij,jr->irj", Y, XB)
    HX, HY = B.mT @ XW, B.mT @ YW
    loading_pair = torch.einsum("ip,rp->irp", XW[:, u], HY[:, t]) + torch.einsum(
        "ip,rp->irp", XW[:, t], HY[:, u]
    )
    loading_pair += torch.einsum("ip,rp->irp", YW[:, u], HX[:, t]) + torch.einsum(
        "ip,rp->irp", YW[:, t], HX[:, u]
    )
    GX, GY = W.mT @ XW, W.mT @ YW
    pair = _pairs(GX, GY, t, u) + _pairs(GY, GX, t, u)
    pair_noise = (XW[:, t] * YW[:, u] + XW[:, u] * YW[:, t]).mT
    first = torch.cat(
        [cross.reshape(D * K, D * K), loading_pair.reshape(D * K, -1), loading_noise.reshape(D * K, D)], 1
    )
    second = torch.cat([loading_pair.reshape(D * K, -1).mT, pair, pair_noise], 1)
    third = torch.cat([loading_noise.reshape(D * K, D).mT, pair_noise.mT, X * Y], 1)
    return 0.5 * torch.cat([first, second, third])


def _pairs(G: Tensor, H: Tensor, t: Tensor, u: Tensor) -> Tensor:
    """Tr of the pairs (r, s) against (t, u): G_ur H_st + G_us H_rt."""
    return G[u][:, t].mT * H[u][:, t] + G[u][:, u].mT * H[t][:, t]


def curvature(structure: Structure, Q: SquareMatrix) -> FullMatrix:
    """1/2 tr(Q S_ab) for the second derivatives S_ab, which only loadings and correlations have."""
    W, D, K = structure.loadings, *structure.loadings.shape
    t, u = structure.layout.pairs
    QW, identity = Q @ W, torch.eye(K, dtype=W.dtype)
    loading = torch.einsum("ij,rs->irjs", Q, structure.correlation).reshape(D * K, D * K)
    mixed = torch.einsum("ip,rp->irp", QW[:, t], identity[:, u]) + torch.einsum(
        "ip,rp->irp", QW[:, u], identity[:, t]
    )
    mixed = mixed.reshape(D * K, -1)
    full = torch.zeros(D * K + len(t) + D, D * K + len(t) + D, dtype=W.dtype)
    full[: D * K, : D * K] = loading
    full[: D * K, D * K : D * K + len(t)] = mixed
    full[D * K : D * K + len(t), : D * K] = mixed.mT
    return full


def expected(structure: Structure, A: SquareMatrix) -> FullMatrix:
    """Expected information of one row whose observed part has inverse covariance A."""
    return bilinear(structure, A, A)


def observed(structure: Structure, A: SquareMatrix, second: SquareMatrix, count: float) -> FullMatrix:
    """Observed information of ``count`` rows whose outer products about the mean add up to ``second``."""
    P = A @ second @ A
    return (
        2 * bilinear(structure, A, P)
        - count * bilinear(structure, A, A)
        + curvature(structure, count * A - P)
    )


def mean_cross(
    structure: Structure, A: SquareMatrix, total: Float[Tensor, " features"]
) -> Float[Tensor, "features full"]:
    """Observed information between the mean and the other parameters, ``total`` the sum of the centred rows."""
    W = structure.loadings
    B = W @ structure.correlation
    t, u = structure.layout.pairs
    y, AB, AW = A @ total, A @ B, A @ W
    loading = torch.einsum("di,r->dir", A, B.mT @ y) + torch.einsum("dr,i->dir", AB, y)
    pair = AW[:, t] * (W.mT @ y)[u] + AW[:, u] * (W.mT @ y)[t]
    return torch.cat([loading.flatten(1), pair, A * y], 1)


def row_scores(
    structure: Structure, A: SquareMatrix, centred: Float[Tensor, "samples features"]
) -> Float[Tensor, "samples full"]:
    """Gradient of log p(x) of each centred row, missing entries of the row set to zero."""
    W = structure.loadings
    B = W @ structure.correlation
    t, u = structure.layout.pairs
    y = centred @ A
    project = y @ W
    loading = y.unsqueeze(2) * (y @ B).unsqueeze(1) - A @ B
    pair = project[:, t] * project[:, u] - (W.mT @ A @ W)[t, u]
    return torch.cat([loading.flatten(1), pair, 0.5 * (y.square() - A.diagonal())], 1)
