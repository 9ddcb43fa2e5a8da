r"""The codes given their scales: what a Gaussian scale mixture makes of sparse coding.

With z | tau ~ N(0, T), T = diag(tau), whitened loadings V = Psi^{-1/2} W and rows y = Psi^{-1/2} (x - mean),

    p(z | tau, y) = N(S V' y, S),   S = T - T V' C^{-1} V T,   C = I + V T V'               (D x D)
                                      = T^{1/2} B^{-1} T^{1/2},  B = I + T^{1/2} V'V T^{1/2}  (K x K)

Nothing divides by tau, C and B have no eigenvalue below 1, and the smaller of the two is factored, for many rows at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError

BLOCK = 4_000_000  # numbers in the matrices that are factored at once
ROUNDING = 2.0**-49  # a pivot below this part of its diagonal entry, times the size, is rounding
TABLE = 8_000_000  # numbers in the table of outer products of the features of V


class Moments(NamedTuple):
    """Moments of z given tau and y.

    Attributes
    ----------
    mean, variance : Tensor (N, K)
    covariance : Tensor (K, K)
        Sum of S over the rows.
    log_det : Tensor (N,)
        log det C = log det B.
    """

    mean: Float[Tensor, "samples latents"]
    variance: Float[Tensor, "samples latents"]
    covariance: Float[Tensor, "latents latents"]
    log_det: Float[Tensor, "samples"]


class Drawn(NamedTuple):
    """A draw of z given tau, and the mean it was drawn around.

    Attributes
    ----------
    mean, z : Tensor (N, K)
    """

    mean: Float[Tensor, "samples latents"]
    z: Float[Tensor, "samples latents"]


class ScaleConditional:
    """The Gaussian law of z given tau and a row, for one set of parameters.

    Parameters
    ----------
    loadings : Tensor (D, K)
    noise : Tensor (D,) or ()

    Examples
    --------
    >>> import torch
    >>> law = ScaleConditional(torch.tensor([[2.0]], dtype=torch.float64), torch.tensor(1.0))
    >>> tau, y = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    >>> found = law.moments(tau, y)
    >>> [round(part.item(), 3) for part in found]            # 2 / (1 + 4), 1 / (1 + 4), again, log 5
    [0.4, 0.2, 0.2, 1.609]
    """

    def __init__(self, loadings: Float[Tensor, "features latents"], noise: Tensor) -> None:
        loadings = loadings.double()
        self.deviation = noise.double().expand(len(loadings)).sqrt()
        self.whitened = loadings / self.deviation.unsqueeze(1)
        self.features, self.latents = loadings.shape
        self.by_latents = self.latents <= self.features
        self.gram = self.whitened.mT @ self.whitened if self.by_latents else None
        pairs = self.features * (self.features + 1) // 2
        self.table: Tensor | None = None
        if not self.by_latents and pairs * self.latents <= TABLE:
            self.lower = torch.tril_indices(self.features, self.features)
            self.table = (self.whitened[self.lower[0]] * self.whitened[self.lower[1]]).mT.contiguous()

    def whiten(self, centred: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Return y = Psi^{-1/2} (x - mean) of centred rows."""
        return centred / self.deviation

    def blocks(self, rows: int, copies: int = 1) -> Iterator[slice]:
        """Cut rows, each met ``copies`` times, into blocks whose matrices fit in memory."""
        size = min(self.features, self.latents) if self.table is not None or self.by_latents else self.latents
        height = max(1, BLOCK // (copies * min(self.features, self.latents) * size))
        return (slice(start, start + height) for start in range(0, rows, height))

    def draw(self, tau: Float[Tensor, "samples latents"], y: Float[Tensor, "samples features"]) -> Drawn:
        """Draw z given tau and y; from torch's global generator.

        The D x D form is that of Bhattacharya, Chakraborty & Mallick (2016, Biometrika 103, algorithm 1).
        """
        root = tau.sqrt()
        factor = self._factor(tau, root)
        normal = torch.randn_like(tau)
        if self.by_latents:
            mean = self._mean(tau, root, factor, y)
            spread = torch.linalg.solve_triangular(factor.mT, normal.unsqueeze(-1), upper=True).squeeze(-1)
            return Drawn(mean, mean + root * spread)
        prior = root * normal
        echo = y - prior @ self.whitened.mT - torch.randn_like(y)
        solved = torch.cholesky_solve(torch.stack([y, echo], -1), factor)
        mean, change = (tau * (part @ self.whitened) for part in solved.unbind(-1))
        return Drawn(mean, prior + change)

    def moments(self, tau: Float[Tensor, "samples latents"], y: Float[Tensor, "samples features"]) -> Moments:
        """Return mean and variance of z, the sum of its covariances and log det C."""
        root = tau.sqrt()
        factor = self._factor(tau, root)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        mean = self._mean(tau, root, factor, y)
        if self.by_latents:
            inverse = torch.cholesky_inverse(factor).mul_(root.unsqueeze(-1)).mul_(root.unsqueeze(-2))
            return Moments(mean, inverse.diagonal(dim1=-2, dim2=-1).clone(), inverse.sum(0), log_det)
        identity = torch.eye(self.features, dtype=tau.dtype).expand_as(factor)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        explained = (inverse @ self.whitened).mul_(tau.unsqueeze(-2))  # L^{-1} V T
        variance = (tau - explained.square().sum(-2)).clamp_min(0.0)
        explained = explained.reshape(-1, self.latents)
        return Moments(mean, variance, tau.sum(0).diag() - explained.mT @ explained, log_det)

    def covariance(self, tau: Float[Tensor, "samples latents"]) -> Float[Tensor, "samples latents latents"]:
        """Return S of each row, in as much memory as that takes."""
        root = tau.sqrt()
        factor = self._factor(tau, root)
        if self.by_latents:
            return torch.cholesky_inverse(factor) * root.unsqueeze(-1) * root.unsqueeze(-2)
        scaled = (self.whitened * tau.unsqueeze(-2)).contiguous()
        explained = torch.linalg.solve_triangular(factor, scaled, upper=False)
        return torch.diag_embed(tau) - explained.mT @ explained

    def _mean(self, tau: Tensor, root: Tensor, factor: Tensor, y: Tensor) -> Float[Tensor, "samples latents"]:
        if self.by_latents:
            score = (root * (y @ self.whitened)).unsqueeze(-1)
            return root * torch.cholesky_solve(score, factor).squeeze(-1)
        return tau * (torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1) @ self.whitened)

    def _factor(self, tau: Tensor, root: Tensor) -> Float[Tensor, "samples size size"]:
        """Return the Cholesky factor of B or C of each row."""
        if self.by_latents:
            assert self.gram is not None
            matrix = (root.unsqueeze(-1) * root.unsqueeze(-2)).mul_(self.gram)
        elif self.table is not None:
            matrix = tau.new_zeros(len(tau), self.features, self.features)
            matrix[:, self.lower[0], self.lower[1]] = tau @ self.table
        else:
            scaled = self.whitened * root.unsqueeze(-2)
            matrix = scaled @ scaled.mT
        diagonal = matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
        factor, info = torch.linalg.cholesky_ex(matrix)
        pivots = factor.diagonal(dim1=-2, dim2=-1).square()
        if bool(info.any()) or not bool((pivots > ROUNDING * diagonal.shape[-1] * diagonal).all()):
            raise ParameterError(
                "The noise variance is too small for the loadings: their ratio leaves the range of float64. Raise "
                "noise_variance to at least 1e-14 of the largest squared loading."
            )
        return factor
