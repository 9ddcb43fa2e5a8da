"""Hand rows to the compiled solver of the lasso."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from probae.codes.blocks import in_blocks
from probae.codes.result import Codes

FAR = 1e30  # |a| |x| in units of the penalty from which float32 may overflow


@dataclass(frozen=True)
class RowSolver:
    """The lasso of rows on the CPU, in float64 and in units of the penalty."""

    atoms: Tensor
    penalty: float
    tolerance: float
    rounds: int
    nonnegative: bool = False

    def __call__(self, x: Tensor, start: Tensor | None) -> Codes:
        """Solve each row; iterations are -1 where rounding stopped a row before its gap was small."""
        shape = len(x), self.atoms.shape[1]
        codes = untouched_zeros(shape, x.dtype) if start is None else start.to(x.dtype, copy=True)
        gaps, used = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.int64)
        atoms = self.atoms.double().T.contiguous()
        block = Atoms(atoms, (atoms @ atoms.T).contiguous())

        def solve(part: slice) -> None:
            self._solve(block, x[part], start is not None, codes[part], gaps[part], used[part])

        in_blocks(solve, *shape)
        return Codes(codes, gaps.to(x.dtype), used)

    def _solve(self, atoms: Atoms, x: Tensor, warm: bool, codes: Tensor, gaps: Tensor, used: Tensor) -> None:
        """Solve a block of rows in place."""
        from probae.codes.active_set import solve_rows  # compiled on first use

        longest = atoms.longest
        rows = x.to(torch.float64, copy=True).div_(self.penalty)
        norms = torch.linalg.vector_norm(rows, dim=1)
        near = norms * longest < 1 - 1e-12  # |a'x| <= |a| |x| < penalty for every atom: codes of 0
        far = norms * longest > FAR
        live = torch.nonzero(~(near | far)).flatten()
        if len(live) < len(rows):
            codes[near] = 0.0
            gaps[far], used[far] = torch.inf, -1
            rows, norms = rows[live], norms[live]
        cross = torch.mul(rows, longest, out=torch.empty(rows.shape, dtype=torch.float32)) @ atoms.short
        # of a product of D terms in float32 (Higham, 2002, Accuracy and Stability, eq. 3.5), inputs rounded
        doubt = (rows.shape[1] + 4) * 2.0**-24 * longest * norms
        arrays = (atoms.gram, atoms.values, rows, cross, doubt, 0.5 * norms.square(), live)
        options = (self.penalty, self.tolerance, self.rounds, self.nonnegative, warm)
        solve_rows(*(a.numpy() for a in arrays), *options, codes.numpy(), gaps.numpy(), used.numpy())


def untouched_zeros(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return zeros whose memory the system clears page by page, for the thread that first writes to it.

    torch clears all of it beforehand, in one thread: a third of the time of rows with few active atoms.
    """
    return torch.from_numpy(np.zeros(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype))


@dataclass(frozen=True)
class Atoms:
    """Atoms as rows (K, D), and their Gram matrix (K, K)."""

    values: Tensor
    gram: Tensor

    @cached_property
    def longest(self) -> float:
        """Norm of the longest atom."""
        return math.sqrt(max(float(self.gram.diagonal().max()), 1e-300))

    @cached_property
    def short(self) -> Tensor:
        """The atoms over that norm, as columns in float32."""
        return (self.values / self.longest).float().T
