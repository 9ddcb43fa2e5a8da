r"""The posterior of the factors when the parameters are random: one Gaussian for each draw of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.checks import check_data
from probae.linalg import LowRankCovariance

__all__ = ["DrawsPosterior", "ScoreMixture"]

KEPT = 1000  # draws of the parameters; more change mean and density by less than their own error
BLOCK = 8_000_000  # numbers held at a time


@dataclass(eq=False)
class DrawsPosterior:
    r"""Posterior p(z | x) averaged over draws of the parameters, all in one frame.

    .. math:: p(z \mid x_n) = \frac1S \sum_s N\big(M_s^{-1} W_s' \Psi_s^{-1} (x_n - \mu_s),\, M_s^{-1}\big), \quad
              M_s = I + W_s' \Psi_s^{-1} W_s

    Attributes
    ----------
    loadings : Tensor (S, D, K)
        Aligned to one reference: draws in mixed rotations would average to nothing.
    noise : Tensor (S, D)
    mean : Tensor (S, D)

    Examples
    --------
    >>> import torch
    >>> posterior = DrawsPosterior(torch.ones(2, 3, 1), torch.ones(2, 3), torch.zeros(2, 3))
    >>> posterior([[4.0, 4.0, 4.0]]).mean
    tensor([[3.]], dtype=torch.float64)
    """

    loadings: Float[Tensor, "draws features latents"]
    noise: Float[Tensor, "draws features"]
    mean: Float[Tensor, "draws features"]
    feature_names: ClassVar[tuple[str, ...] | None] = None  # of the data a Fit saw, which sets it; in no file

    @classmethod
    def of(cls, loadings: Tensor, noise: Tensor, mean: Tensor) -> Self:
        """Keep at most 1,000 draws, evenly spaced."""
        kept = torch.linspace(0, len(loadings) - 1, min(len(loadings), KEPT)).round().long()
        return cls(loadings[kept], noise[kept].contiguous(), mean[kept])

    def __call__(self, x: Any) -> ScoreMixture:
        """Return the mixture for each row; NaN entries are integrated out."""
        data = check_data(x, features=self.loadings.shape[1], names=self.feature_names, missing="allow")
        rows = data.values.double()
        observed = ~rows.isnan()
        patterns, owner = torch.unique(observed, dim=0, return_inverse=True)
        parts = []
        for number, pattern in enumerate(patterns):
            covariance = LowRankCovariance.factor(self.loadings.double() * pattern[:, None], self.noise)
            which = torch.nonzero(owner == number).flatten()
            parts.append((which, covariance.posterior_map.mT, covariance.capacitance_cholesky))
        return ScoreMixture(rows.nan_to_num(), self.mean.double(), parts, data.dtype)


class ScoreMixture(TorchDistribution):
    """Equal mixture of Gaussians for each row: batch shape (N,), event shape (K,).

    Parameters
    ----------
    rows : Tensor (N, D)
        0 where missing.
    mean : Tensor (S, D)
    parts : list of (rows of one pattern, maps (S, D, K), Cholesky factor of M (S, K, K))
    dtype : torch.dtype
        Of the answers.
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self,
        rows: Float[Tensor, "samples features"],
        mean: Float[Tensor, "draws features"],
        parts: list[tuple[Tensor, Tensor, Tensor]],
        dtype: torch.dtype,
    ) -> None:
        self.rows, self.offsets, self.parts, self.dtype = rows, mean, parts, dtype
        self.draws, self.latents = len(mean), parts[0][1].shape[-1]
        self._moments: tuple[Tensor, Tensor] | None = None
        super().__init__(rows.shape[:1], torch.Size([self.latents]), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "samples latents"]:
        """Posterior mean, (N, K)."""
        return self._both[0].to(self.dtype)

    @property
    def variance(self) -> Float[Tensor, "samples latents"]:
        """Posterior variance, (N, K): that within the Gaussians and that between their means."""
        return self._both[1].to(self.dtype)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw a set of parameters for each row and draw, then z, (*sample_shape, N, K)."""
        total = torch.Size(sample_shape).numel()
        drawn = torch.empty(total, *self.rows.shape[:1], self.latents, dtype=torch.float64)
        for rows, maps, chol in self.parts:
            chosen = torch.randint(self.draws, (total, len(rows)))
            for one, picks in enumerate(chosen):
                centred = self.rows[rows] - self.offsets[picks]
                location = (centred.unsqueeze(-2) @ maps[picks]).squeeze(-2)
                noise = torch.randn(len(rows), self.latents, 1, dtype=torch.float64)
                spread = torch.linalg.solve_triangular(chol[picks].mT, noise, upper=True).squeeze(-1)
                drawn[one, rows] = location + spread
        return drawn.reshape(*sample_shape, *drawn.shape[1:]).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of each row, in nats."""
        value = value.double()
        batch = torch.broadcast_shapes(value.shape[:-1], self.rows.shape[:1])
        value = value.expand(*batch, self.latents)
        answer = torch.empty(batch, dtype=torch.float64)
        for rows, maps, chol in self.parts:
            log_det = chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            for block in self._blocks(rows):
                location = self._locations(block, maps)
                deviation = (value[..., None, block, :] - location) @ chol
                normal = -0.5 * deviation.square().sum(-1) - 0.5 * self.latents * math.log(2 * math.pi)
                answer[..., block] = (normal + log_det[:, None]).logsumexp(-2) - math.log(self.draws)
        return answer.to(self.dtype)

    @property
    def _both(self) -> tuple[Tensor, Tensor]:
        """Mean and variance, computed once."""
        if self._moments is None:
            mean = torch.empty(*self.rows.shape[:1], self.latents, dtype=torch.float64)
            variance = torch.empty_like(mean)
            for rows, maps, chol in self.parts:
                within = torch.cholesky_inverse(chol).diagonal(dim1=-2, dim2=-1).mean(0)
                for block in self._blocks(rows):
                    location = self._locations(block, maps)
                    mean[block] = location.mean(0)
                    variance[block] = within + location.var(0, correction=0)
            self._moments = mean, variance
        return self._moments

    def _locations(self, rows: Tensor, maps: Tensor) -> Float[Tensor, "draws samples latents"]:
        return self.rows[rows] @ maps - (self.offsets.unsqueeze(-2) @ maps)

    def _blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(max(1, BLOCK // (self.draws * self.latents)))
