r"""Normal laws N(m, F F') of parameters, with as many numbers to learn as their covariance has.

Each starts from a mode with precision H = C'^{-1} C^{-1}; the numbers learnt are free of units.

- full: m = mode + C u, F = C R with R lower triangular;
- entries: m = mode + C u, F = E' (diag(s), U) with E the basis of the frame: independent entries of the parameters,
  with U of the given rank besides; of the entries of loadings, only the part in the frame counts.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.inference.parameter_mode import Mode, root_of_inverse

Law = tuple[Float[Tensor, " p"], Float[Tensor, "p q"]]


class FullFamily:
    """Any covariance.

    Attributes
    ----------
    learnt : list of Parameter
    """

    def __init__(self, mode: Mode) -> None:
        self.mode, self.root = mode.theta, root_of_inverse(mode.precision)
        size = len(self.mode)
        self.shift = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.log_diagonal = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.below = nn.Parameter(torch.zeros(size, size, dtype=torch.float64))
        self.learnt = [self.shift, self.log_diagonal, self.below]

    def law(self) -> Law:
        """Return m and F."""
        factor = self.below.tril(-1) + self.log_diagonal.exp().diag()
        return self.mode + self.root @ self.shift, self.root @ factor


class EntriesFamily:
    """Independent entries, and a covariance of low rank besides."""

    def __init__(self, mode: Mode, rank: int) -> None:
        self.mode, self.root = mode.theta, root_of_inverse(mode.precision)
        basis, size = mode.coordinates.frame.basis, len(self.mode)
        others = torch.eye(size - basis.shape[1], dtype=torch.float64)
        self.inside = torch.block_diag(basis.T, others)  # E', (P, entries)
        self.spread = (self.inside * (mode.precision @ self.inside)).sum(0).clamp_min(1e-300).rsqrt()
        self.shift = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(len(self.spread), dtype=torch.float64))
        self.ways = nn.Parameter(self._main_ways(rank))
        self.learnt = [self.shift, self.log_scale] + ([self.ways] if rank else [])

    def _main_ways(self, rank: int) -> Float[Tensor, "entries rank"]:
        """What the independent entries miss most of the covariance at the mode."""
        outer = (self.inside.T @ self.root) / self.spread[:, None]
        values, axes = torch.linalg.eigh(outer @ outer.T)
        values, axes = values.flip(0)[:rank], axes.flip(1)[:, :rank]
        return axes * (values - 1.0).clamp_min(0.01).sqrt()

    def law(self) -> Law:
        """Return m and F."""
        entries = torch.cat([self.log_scale.exp().diag(), self.ways], 1) * self.spread[:, None]
        return self.mode + self.root @ self.shift, self.inside @ entries
