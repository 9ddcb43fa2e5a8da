"""Which solver takes the lasso of given rows."""

from __future__ import annotations

import torch
from torch import Tensor

from probae.codes.proximal import proximal_gradient
from probae.codes.result import Codes
from probae.codes.rows import RowSolver


def lasso(
    x: Tensor,
    atoms: Tensor,
    penalty: float,
    tolerance: float,
    steps: int,
    start: Tensor | None = None,
    nonnegative: bool = False,
) -> Codes:
    """Solve the lasso of each row; arguments as in :func:`sparse_codes`, already checked.

    On the CPU the compiled active-set solver works in float64 whatever the dtype. Other devices and tensors that need
    gradients take proximal gradient, and so do rows that rounding stopped.
    """
    tensors = [x, atoms] if start is None else [x, atoms, start]
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if tracked or any(t.device.type != "cpu" for t in tensors):
        return proximal_gradient(x, atoms, penalty, tolerance, steps, start, nonnegative)
    x, atoms = x.detach(), atoms.detach()
    codes = RowSolver(atoms, penalty, tolerance, steps, nonnegative)(
        x, None if start is None else start.detach()
    )
    stopped = torch.nonzero(codes.iterations < 0).flatten()
    if len(stopped) == 0:
        return codes
    again = proximal_gradient(
        x[stopped].double(), atoms.double(), penalty, tolerance, steps, codes.z[stopped].double(), nonnegative
    )
    better = again.gap.to(x.dtype) < codes.gap[stopped]
    codes.z[stopped[better]] = again.z[better].to(x.dtype)
    codes.gap[stopped[better]] = again.gap[better].to(x.dtype)
    codes.iterations[stopped] = again.iterations
    return codes
