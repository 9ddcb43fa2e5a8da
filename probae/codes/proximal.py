r"""The lasso of many rows at once by accelerated proximal gradient, on any device and under autograd.

.. math:: P(z) = \tfrac12 \|x - A z\|^2 + \lambda \|z\|_1, \qquad
          D(\theta) = \tfrac12 \|x\|^2 - \tfrac12 \|x - \theta\|^2, \quad \|A' \theta\|_\infty \le \lambda

P(z) - D(theta) bounds how far z is from the optimum; theta is the residual shrunk to be feasible. Codes that may not
be negative need only A' theta <= lambda.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probae.codes.result import Codes

CHECK_EVERY = 10


def proximal_gradient(
    x: Tensor,
    atoms: Tensor,
    penalty: float,
    tolerance: float,
    steps: int,
    start: Tensor | None = None,
    nonnegative: bool = False,
) -> Codes:
    """Solve the lasso of each row; a row stops when its gap is small, and finished rows leave.

    Beck & Teboulle (2009), SIAM J. Imaging Sciences 2, 183-202, eqs. 4.1-4.3, restarted as O'Donoghue & Candes (2015),
    Found. Comput. Math. 15, 715-732, section 3.2.
    """
    gram, cross = atoms.T @ atoms, x @ atoms
    largest = torch.linalg.eigvalsh(gram)[-1] if len(gram) <= 2000 else torch.linalg.matrix_norm(gram, 2)
    step = 1.0 / float(largest.clamp_min(torch.finfo(x.dtype).tiny) * (1 + 1e-6))
    power = 0.5 * x.square().sum(1)
    answer = torch.zeros_like(cross) if start is None else start.to(x.dtype).clone()
    gap = torch.full_like(power, torch.inf)
    iterations = torch.full(power.shape, steps, device=x.device)
    live = torch.arange(len(x), device=x.device)
    z = answer.clone()
    ahead, momentum = z, torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
    for iteration in range(steps + 1):
        if iteration % CHECK_EVERY == 0 or iteration == steps:
            value, slack = certificate(z, gram, cross[live], power[live], penalty, nonnegative)
            answer[live], gap[live] = z, slack
            done = slack <= tolerance * torch.maximum(value, 1e-3 * power[live])
            iterations[live[done]] = iteration
            keep = ~done
            live, z, ahead, momentum = live[keep], z[keep], ahead[keep], momentum[keep]
            if len(live) == 0 or iteration == steps:
                break
        following = soft_threshold(ahead - step * (ahead @ gram - cross[live]), step * penalty, nonnegative)
        change = following - z
        restart = ((ahead - following) * change).sum(1, keepdim=True) > 0
        momentum = torch.where(restart, torch.ones_like(momentum), momentum)
        larger = 0.5 * (1 + (1 + 4 * momentum.square()).sqrt())
        ahead = following + torch.where(restart, torch.zeros_like(momentum), (momentum - 1) / larger) * change
        z, momentum = following, larger
    return Codes(answer, gap, iterations)


def certificate(
    z: Tensor, gram: Tensor, cross: Tensor, power: Tensor, penalty: float, nonnegative: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the objective and the duality gap of each row from the Gram matrix alone.

    The gap is (1 - s)^2 |r|^2 / 2 + penalty |z|_1 - s z'A'r, where the part of |x|^2 has cancelled by hand.
    """
    correlation = cross - z @ gram  # A' r
    along, size = (z * correlation).sum(1), penalty * z.abs().sum(1)
    residual = (2 * power - (z * cross).sum(1) - along).clamp_min(0.0)  # |r|^2
    tightest = correlation.amax(1) if nonnegative else correlation.abs().amax(1)
    shrink = (penalty / tightest.clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1.0)
    gap = 0.5 * (1 - shrink).square() * residual + (size - shrink * along).clamp_min(0.0)
    return 0.5 * residual + size, gap


def soft_threshold(v: Tensor, level: float, nonnegative: bool = False) -> Tensor:
    """Return sign(v) max(|v| - level, 0), or max(v - level, 0)."""
    return (v - level).clamp_min(0.0) if nonnegative else v - v.clamp(-level, level)
