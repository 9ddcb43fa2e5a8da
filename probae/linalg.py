r"""Linear algebra of x = W z + noise: the covariance W W' + diag(psi) factored once; random rotations.

Everything here is float64 and differentiable. Nothing adds jitter: the factorisation is the QR decomposition
of the stacked matrix [Psi^{-1/2} W; I], whose condition number is the square root of that of the capacitance
M = I + W' Psi^{-1} W and which exists for every W and every positive psi.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError

__all__ = ["LowRankCovariance", "givens", "haar_rotation"]


@dataclass(frozen=True, eq=False)
class LowRankCovariance:
    r"""Covariance S = W W' + diag(psi), factored once and then used for any number of rows.

    With A = [Psi^{-1/2} W; I] = Q R (R upper triangular, positive diagonal), the capacitance
    M = I + W' Psi^{-1} W is R' R. For a centred row x the posterior mean of z is the least-squares solution
    m = R^{-1} Q_1' Psi^{-1/2} x, with Q_1 the first D rows of Q, and

        x' S^{-1} x = sum_d (x - W m)_d^2 / psi_d + m' m          (a sum of squares: nothing cancels)
        log det S   = sum_d log psi_d + 2 sum_k log R_kk

    Build it with :meth:`factor`. Leading batch dimensions of W and psi are allowed; rows then carry the same
    ones.

    Attributes
    ----------
    loadings : W, shape (*batch, D, K)
    noise : psi, shape (*batch, D), in squared units of x
    orthogonal : Q_1, shape (*batch, D, K)
    triangular : R, shape (*batch, K, K)

    Examples
    --------
    >>> import torch
    >>> W = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> S = LowRankCovariance.factor(W, torch.tensor([1.0, 1.0], dtype=torch.float64))
    >>> round(S.log_det.exp().item(), 12)                 # det [[2, 2], [2, 5]]
    6.0
    >>> S.quadratic_form(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    tensor([0.8333], dtype=torch.float64)
    """

    loadings: Float[Tensor, "*batch features latents"]
    noise: Float[Tensor, "*batch features"]
    orthogonal: Float[Tensor, "*batch features latents"]
    triangular: Float[Tensor, "*batch latents latents"]

    @classmethod
    def factor(cls, loadings: Float[Tensor, "*batch features latents"], noise: Tensor) -> LowRankCovariance:
        """Factor W W' + diag(psi) in O(D K^2).

        Parameters
        ----------
        loadings : shape (*batch, D, K)
        noise : positive; shape (*batch, D), or any shape that broadcasts to it: () is one variance for all
            features. Not checked here, so that the factorisation can run inside differentiated and compiled
            code.

        Examples
        --------
        >>> import torch
        >>> S = LowRankCovariance.factor(torch.ones(3, 1), torch.tensor(0.5))
        >>> round(S.capacitance_cholesky.item() ** 2, 12)                       # 1 + 3 / .5
        7.0
        """
        loadings = loadings.double()
        noise = noise.double().expand(loadings.shape[:-1])
        features, latents = loadings.shape[-2:]
        identity = torch.eye(latents, dtype=torch.float64, device=loadings.device)
        identity = identity.expand(*loadings.shape[:-2], latents, latents)
        q, r = torch.linalg.qr(torch.cat([loadings / noise.sqrt().unsqueeze(-1), identity], dim=-2))
        sign = r.diagonal(dim1=-2, dim2=-1).detach().sign()  # A has full rank, so no sign is zero
        return cls(loadings, noise, (q * sign.unsqueeze(-2))[..., :features, :], sign.unsqueeze(-1) * r)

    @property
    def log_det(self) -> Float[Tensor, "*batch"]:
        """Log determinant log det S, shape (*batch,).

        Examples
        --------
        >>> import torch
        >>> LowRankCovariance.factor(torch.zeros(2, 1), torch.ones(2)).log_det.item()
        0.0
        """
        return self.noise.log().sum(-1) + 2 * self.triangular.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @property
    def capacitance_cholesky(self) -> Float[Tensor, "*batch latents latents"]:
        """Lower triangular L with L L' = M = I + W' Psi^{-1} W, precision of z given x, shape (*batch, K, K).

        Examples
        --------
        >>> import torch
        >>> LowRankCovariance.factor(torch.tensor([[3.0]]), torch.tensor([3.0])).capacitance_cholesky
        tensor([[2.]], dtype=torch.float64)
        """
        return self.triangular.mT

    @property
    def posterior_map(self) -> Float[Tensor, "*batch latents features"]:
        """B = M^{-1} W' Psi^{-1} = W' S^{-1}, so that E[z given x] = B x for centred x, shape (*batch, K, D).

        Examples
        --------
        >>> import torch
        >>> LowRankCovariance.factor(torch.tensor([[1.0], [1.0]]), torch.tensor(2.0)).posterior_map
        tensor([[0.2500, 0.2500]], dtype=torch.float64)
        """
        whitened = self.orthogonal.mT / self.noise.sqrt().unsqueeze(-2)
        return torch.linalg.solve_triangular(self.triangular, whitened, upper=True)

    @property
    def posterior_covariance(self) -> Float[Tensor, "*batch latents latents"]:
        """Covariance M^{-1} of z given x, the same for every row, shape (*batch, K, K).

        Examples
        --------
        >>> import torch
        >>> LowRankCovariance.factor(torch.tensor([[3.0]]), torch.tensor([3.0])).posterior_covariance
        tensor([[0.2500]], dtype=torch.float64)
        """
        inverse = self._inverse_triangular()
        return inverse @ inverse.mT

    @property
    def posterior_scale_tril(self) -> Float[Tensor, "*batch latents latents"]:
        """Lower triangular T with T T' = M^{-1}, as torch's MultivariateNormal wants, shape (*batch, K, K).

        Found by a second QR, R^{-T} = Q' T', so it exists however ill-conditioned M is.

        Examples
        --------
        >>> import torch
        >>> LowRankCovariance.factor(torch.tensor([[3.0]]), torch.tensor([3.0])).posterior_scale_tril
        tensor([[0.5000]], dtype=torch.float64)
        """
        upper = torch.linalg.qr(self._inverse_triangular().mT)[1]
        return (upper.diagonal(dim1=-2, dim2=-1).detach().sign().unsqueeze(-1) * upper).mT

    def posterior_mean(
        self, centred: Float[Tensor, "*batch samples features"]
    ) -> Float[Tensor, "*batch samples latents"]:
        """E[z given x] of centred rows (*batch, N, D), shape (*batch, N, K).

        Examples
        --------
        >>> import torch
        >>> S = LowRankCovariance.factor(torch.tensor([[1.0], [1.0]]), torch.tensor(2.0))
        >>> S.posterior_mean(torch.tensor([[4.0, 0.0], [1.0, 1.0]]))
        tensor([[1.0000],
                [0.5000]], dtype=torch.float64)
        """
        projected = (centred.double() / self.noise.sqrt().unsqueeze(-2)) @ self.orthogonal
        return torch.linalg.solve_triangular(self.triangular.mT, projected, upper=False, left=False)

    def solve(
        self, centred: Float[Tensor, "*batch samples features"]
    ) -> Float[Tensor, "*batch samples features"]:
        """S^{-1} x of each row, as (x - W m) / psi, shape of the rows (*batch, N, D).

        Examples
        --------
        >>> import torch
        >>> S = LowRankCovariance.factor(torch.tensor([[1.0], [2.0]]), torch.ones(2))    # [[2, 2], [2, 5]]
        >>> S.solve(torch.tensor([[6.0, 0.0]])).round(decimals=9)
        tensor([[ 5., -2.]], dtype=torch.float64)
        """
        centred = centred.double()
        return (centred - self.posterior_mean(centred) @ self.loadings.mT) / self.noise.unsqueeze(-2)

    def quadratic_form(
        self, centred: Float[Tensor, "*batch samples features"]
    ) -> Float[Tensor, "*batch samples"]:
        """Quadratic form x' S^{-1} x of each centred row (*batch, N, D), shape (*batch, N).

        Examples
        --------
        >>> import torch
        >>> S = LowRankCovariance.factor(torch.tensor([[1.0], [2.0]]), torch.ones(2))
        >>> round(S.quadratic_form(torch.tensor([[6.0, 0.0]])).item(), 12)               # 36 * 5 / 6
        30.0
        """
        centred = centred.double()
        mean = self.posterior_mean(centred)
        residual = (centred - mean @ self.loadings.mT) / self.noise.sqrt().unsqueeze(-2)
        return residual.square().sum(-1) + mean.square().sum(-1)

    def trace(self, covariance: Float[Tensor, "*batch features features"]) -> Float[Tensor, "*batch"]:
        """tr(S^{-1} C) for a symmetric positive semi-definite C (*batch, D, D), in O(D^2 K), shape (*batch,).

        The mean quadratic form of rows with second moments C: with B the posterior map and E = I - W B,
        tr(E C E' Psi^{-1}) + tr(B C B').

        Examples
        --------
        >>> import torch
        >>> S = LowRankCovariance.factor(torch.tensor([[1.0], [2.0]]), torch.ones(2))
        >>> round(S.trace(torch.tensor([[2.0, 2.0], [2.0, 5.0]])).item(), 12)            # tr(I)
        2.0
        """
        covariance = covariance.double()
        posterior_map = self.posterior_map
        latent = posterior_map @ covariance
        residual = covariance - self.loadings @ latent
        explained = ((residual @ posterior_map.mT) * self.loadings).sum(-1)
        variance = residual.diagonal(dim1=-2, dim2=-1) - explained
        return (variance / self.noise).sum(-1) + (latent * posterior_map).sum((-2, -1))

    def log_density(
        self, centred: Float[Tensor, "*batch samples features"]
    ) -> Float[Tensor, "*batch samples"]:
        """Log density log N(x; 0, S) of each centred row (*batch, N, D) in nats, shape (*batch, N).

        Examples
        --------
        >>> import torch
        >>> S = LowRankCovariance.factor(torch.zeros(1, 1), torch.ones(1))
        >>> S.log_density(torch.zeros(1, 1))                                             # -log(2 pi) / 2
        tensor([-0.9189], dtype=torch.float64)
        """
        constant = self.loadings.shape[-2] * math.log(2 * math.pi) + self.log_det
        return -0.5 * (constant.unsqueeze(-1) + self.quadratic_form(centred))

    def _inverse_triangular(self) -> Float[Tensor, "*batch latents latents"]:
        identity = torch.eye(self.triangular.shape[-1], dtype=torch.float64, device=self.triangular.device)
        return torch.linalg.solve_triangular(self.triangular, identity.expand_as(self.triangular), upper=True)


def haar_rotation(
    k: int, generator: torch.Generator | None = None, count: int | None = None
) -> Float[Tensor, "*count k k"]:
    """Draw orthogonal matrices from the Haar (uniform) law on O(k), reflections included.

    QR of a Gaussian matrix, with the signs of diag R moved into Q; without that step the law is not Haar
    [1]_.

    Parameters
    ----------
    k : size of the matrix
    generator : source of randomness; torch's global generator when None
    count : number of draws; None gives one (k, k) matrix, otherwise the shape is (count, k, k)

    References
    ----------
    .. [1] Mezzadri, F. (2007). How to generate random matrices from the classical compact groups. Notices of
       the AMS 54, 592-604.

    Examples
    --------
    >>> import torch
    >>> R = haar_rotation(3, torch.Generator().manual_seed(0))
    >>> torch.allclose(R @ R.T, torch.eye(3, dtype=torch.float64))
    True
    """
    shape = (k, k) if count is None else (count, k, k)
    q, r = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64))
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def givens(k: int, i: int, j: int, theta: float | Float[Tensor, "*batch"]) -> Float[Tensor, "*batch k k"]:
    """Rotation by theta in the plane (i, j): G_ii = G_jj = cos, G_ji = sin, G_ij = -sin, identity elsewhere.

    Parameters
    ----------
    k : size of the matrix
    i, j : two different axes in 0 .. k - 1
    theta : angle in radians, a number or a tensor of any shape; the result is differentiable in it

    Raises
    ------
    ParameterError
        If i and j are equal or outside 0 .. k - 1.

    Examples
    --------
    >>> import math
    >>> givens(2, 0, 1, math.pi / 6)
    tensor([[ 0.8660, -0.5000],
            [ 0.5000,  0.8660]], dtype=torch.float64)
    """
    if i == j or not (0 <= i < k and 0 <= j < k):
        raise ParameterError(f"i and j should be two different axes in 0..{k - 1}, got i={i}, j={j}.")
    theta = torch.as_tensor(theta, dtype=torch.float64)
    identity = torch.eye(k, dtype=torch.float64)
    plane = torch.zeros(k, k, dtype=torch.float64)
    plane[i, i] = plane[j, j] = 1.0
    turn = torch.zeros(k, k, dtype=torch.float64)
    turn[j, i], turn[i, j] = 1.0, -1.0
    return (identity - plane) + theta.cos()[..., None, None] * plane + theta.sin()[..., None, None] * turn
