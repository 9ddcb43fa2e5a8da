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

BLOCK = 2**22  # correlations held at a time: few blocks, because threads wait for each other at each
PIECE = 64  # rows a thread takes at a time
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
        atoms = self.atoms.double().T.contiguous()
        gram = (atoms @ atoms.T).contiguous()
        longest = math.sqrt(max(float(gram.diagonal().max()), 1e-300))
        short = (atoms / longest).float().T
        shape = len(x), len(gram)
        codes = torch.zeros(shape, dtype=x.dtype) if start is None else start.to(x.dtype, copy=True)
        gaps, used = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.int64)
        size = max(PIECE, BLOCK // len(gram))
        with sharing(len(x)) as share:
            for first in range(0, len(x), size):
                part = slice(first, first + size)
                rows, z = x[part].double() / self.penalty, codes[part].double()
                norms = torch.linalg.vector_norm(rows, dim=1)
                near = norms * longest < 1 - 1e-12  # |a'x| <= |a| |x| < penalty for every atom: codes of 0
                far = norms * longest > FAR
                live = torch.nonzero(~(near | far)).flatten()
                if len(live) < len(rows):
                    z[near] = 0.0
                    gaps[part][far], used[part][far] = torch.inf, -1
                    rows, norms = rows[live], norms[live]
                cross = (rows * longest).float() @ short
                # of a product of D terms in float32 (Higham, 2002, Accuracy and Stability, eq. 3.5), inputs rounded
                doubt = (rows.shape[1] + 4) * 2.0**-24 * longest * norms
                solve = self._solver(gram, atoms, start is not None, z, gaps[part], used[part])
                share(solve, [a.numpy() for a in (rows, cross, doubt, 0.5 * norms.square(), live)])
                if z.dtype != codes.dtype:
                    codes[part] = z
        return Codes(codes, gaps.to(x.dtype), used)

    def _solver(
        self, gram: Tensor, atoms: Tensor, warm: bool, *results: Tensor
    ) -> Callable[[list[np.ndarray]], None]:
        from probae.codes.active_set import solve_rows  # compiled on first use

        options = (self.penalty, self.tolerance, self.rounds, self.nonnegative, warm)
        outputs = [a.numpy() for a in results]

        def solve(arrays: list[np.ndarray]) -> None:
            solve_rows(gram.numpy(), atoms.numpy(), *arrays, *options, *outputs)

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
