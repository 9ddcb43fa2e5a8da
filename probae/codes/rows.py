"""Hand rows to the compiled solver: blocks bound the memory, and as many threads as torch may use share a block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probae.codes.result import Codes

BLOCK = 2**19  # correlations held at a time
PIECE = 64  # rows a thread takes at a time


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
        atoms = self.atoms.double()
        gram, scaled = (atoms.T @ atoms).numpy(), atoms / self.penalty
        longest = math.sqrt(gram.diagonal().max())
        codes = torch.zeros(len(x), len(gram), dtype=x.dtype)
        gaps, used = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.int64)
        size = max(PIECE, BLOCK // len(gram))
        with sharing(len(x)) as share:
            for first in range(0, len(x), size):
                rows = x[first : first + size].double()
                power = 0.5 * (rows / self.penalty).square().sum(1)
                # |a'x| <= |a| |x| < penalty for every atom, with room for rounding: the codes are 0
                live = torch.nonzero(~((2 * power).sqrt() * longest < 1 - 1e-12)).flatten()
                if len(live) < len(rows):
                    rows, power = rows[live], power[live]
                z = torch.zeros(len(live), len(gram), dtype=torch.float64)
                if start is not None:
                    z = start[first : first + size][live].double() / self.penalty
                ends = torch.zeros(len(live), dtype=torch.float64), torch.zeros(len(live), dtype=torch.int64)
                arrays = [a.numpy() for a in (rows @ scaled, power, z, *ends)]
                share(self._solve(gram, start is not None), arrays)
                codes[first + live] = z.mul_(self.penalty).to(x.dtype)
                gaps[first + live], used[first + live] = ends[0] * self.penalty**2, ends[1]
        return Codes(codes, gaps.to(x.dtype), used)

    def _solve(self, gram: np.ndarray, warm: bool) -> Callable[[list[np.ndarray]], None]:
        from probae.codes.active_set import solve_rows  # compiled on first use

        options = (self.tolerance, self.rounds, self.nonnegative, warm, min(self.atoms.shape))

        def solve(arrays: list[np.ndarray]) -> None:
            cross, power, *results = arrays
            solve_rows(gram, cross, power, *options, *results)

        return solve


@contextmanager
def sharing(count: int) -> Iterator[Callable[..., None]]:
    """Yield a function that applies another to all rows of some arrays, in torch's number of threads.

    Threads of Python serve because compiled code holds no lock; they need no layer that a fork or a second caller
    could upset.
    """
    threads = min(torch.get_num_threads(), -(-count // PIECE))
    if threads == 1:
        yield lambda solve, arrays: solve(arrays)
        return
    with ThreadPoolExecutor(threads) as pool:

        def share(solve: Callable[[list[np.ndarray]], None], arrays: list[np.ndarray]) -> None:
            parts = [[a[i : i + PIECE] for a in arrays] for i in range(0, len(arrays[0]), PIECE)]
            list(pool.map(solve, parts))

        yield share
