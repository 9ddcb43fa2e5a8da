r"""Sparse codes with a certificate: the lasso of every row, with its duality gap.

.. math:: P(z) = \tfrac12 \|x - A z\|^2 + \lambda \|z\|_1, \qquad
          D(\theta) = \tfrac12 \|x\|^2 - \tfrac12 \|x - \theta\|^2, \quad \|A' \theta\|_\infty \le \lambda

P(z) - D(theta) bounds how far z is from the optimum; theta is the residual shrunk to be feasible.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.checks import DataError, check_count, check_data, check_positive

CHECK_EVERY = 10


class Codes(NamedTuple):
    """Sparse codes of each row.

    Attributes
    ----------
    z : Tensor (N, K)
    gap : Tensor (N,)
        Duality gap: the objective is at most this far above its minimum.
    iterations : Tensor (N,)
        Iterations each row took.
    """

    z: Float[Tensor, "samples latents"]
    gap: Float[Tensor, "samples"]
    iterations: Int[Tensor, "samples"]


def sparse_codes(
    x: Any,
    dictionary: Any,
    penalty: float,
    *,
    tolerance: float = 1e-6,
    steps: int = 10_000,
    start: Tensor | None = None,
) -> Codes:
    r"""Minimise 1/2 ||x - A z||^2 + penalty ||z||_1 for every row, by accelerated proximal gradient with restarts.

    A row stops when its duality gap falls below ``tolerance`` times max(P(z), P(0)/1000); finished rows leave.

    Parameters
    ----------
    x : array or Tensor (N, D)
    dictionary : array or Tensor (D, K)
    penalty : float
    tolerance : float
        Relative duality gap to reach.
    steps : int
        Most iterations; a row that needs more keeps its gap as it is.
    start : Tensor (N, K), optional
        Codes to start from.

    Returns
    -------
    Codes

    Raises
    ------
    DataError, ParameterError
        For a wrong shape or value.

    References
    ----------
    .. [1] Beck, A. & Teboulle, M. (2009). A fast iterative shrinkage-thresholding algorithm for linear inverse
       problems. SIAM Journal on Imaging Sciences 2, 183-202, eqs. 4.1-4.3.
    .. [2] O'Donoghue, B. & Candes, E. (2015). Adaptive restart for accelerated gradient schemes. Foundations of
       Computational Mathematics 15, 715-732, section 3.2.

    Examples
    --------
    >>> import torch
    >>> codes = sparse_codes(torch.tensor([[3.0, 0.5]]), torch.eye(2), penalty=1.0)
    >>> codes.z
    tensor([[2., 0.]])
    """
    data = check_data(x)
    atoms = check_data(dictionary).values
    if atoms.shape[0] != data.values.shape[1]:
        raise DataError(
            f"dictionary should have shape ({data.values.shape[1]}, atoms) for these rows, got {tuple(atoms.shape)}."
        )
    wanted = (len(data.values), atoms.shape[1])
    if start is not None and (tuple(start.shape) != wanted or not bool(start.isfinite().all())):
        raise DataError(f"start should hold finite codes of shape {wanted}, got shape {tuple(start.shape)}.")
    check_positive("penalty", penalty)
    check_positive("tolerance", tolerance)
    dtype = data.dtype if tolerance >= 1e-5 else torch.float64  # float32 cannot certify a smaller gap
    codes = lasso(
        data.values.to(dtype), atoms.to(dtype), penalty, tolerance, check_count("steps", steps), start
    )
    return Codes(codes.z.to(data.dtype), codes.gap.to(data.dtype), codes.iterations)


def lasso(
    x: Tensor, atoms: Tensor, penalty: float, tolerance: float, steps: int, start: Tensor | None = None
) -> Codes:
    """Solve the lasso of each row; arguments as in :func:`sparse_codes`, already checked."""
    gram, cross = atoms.T @ atoms, x @ atoms
    largest = torch.linalg.eigvalsh(gram)[-1] if len(gram) <= 2000 else torch.linalg.matrix_norm(gram, 2)
    step = 1.0 / float(largest.clamp_min(torch.finfo(x.dtype).tiny) * (1 + 1e-6))
    power = 0.5 * x.square().sum(1)
    answer = torch.zeros_like(cross) if start is None else start.to(x.dtype).clone()
    gap = torch.full_like(power, torch.inf)
    iterations = torch.full(power.shape, steps)
    live = torch.arange(len(x))
    z = answer.clone()
    ahead, momentum = z, torch.ones(len(x), 1, dtype=x.dtype)
    for iteration in range(steps + 1):
        if iteration % CHECK_EVERY == 0 or iteration == steps:
            value, slack = certificate(z, gram, cross[live], power[live], penalty)
            answer[live], gap[live] = z, slack
            done = slack <= tolerance * torch.maximum(value, 1e-3 * power[live])
            iterations[live[done]] = iteration
            keep = ~done
            live, z, ahead, momentum = live[keep], z[keep], ahead[keep], momentum[keep]
            if len(live) == 0 or iteration == steps:
                break
        following = soft_threshold(ahead - step * (ahead @ gram - cross[live]), step * penalty)
        change = following - z
        restart = ((ahead - following) * change).sum(1, keepdim=True) > 0
        momentum = torch.where(restart, torch.ones_like(momentum), momentum)
        larger = 0.5 * (1 + (1 + 4 * momentum.square()).sqrt())
        ahead = following + torch.where(restart, torch.zeros_like(momentum), (momentum - 1) / larger) * change
        z, momentum = following, larger
    return Codes(answer, gap, iterations)


def certificate(
    z: Tensor, gram: Tensor, cross: Tensor, power: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Return the objective and the duality gap of each row from the Gram matrix alone."""
    correlation = cross - z @ gram  # A' r
    fit = (z * cross).sum(1)
    residual = (2 * power - fit - (z * correlation).sum(1)).clamp_min(0.0)  # |r|^2
    value = 0.5 * residual + penalty * z.abs().sum(1)
    shrink = (penalty / correlation.abs().amax(1).clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1.0)
    along = 2 * power - fit  # x' r
    dual = shrink * along - 0.5 * shrink.square() * residual
    return value, (value - dual).clamp_min(0.0)


def soft_threshold(v: Tensor, level: float) -> Tensor:
    """Return sign(v) max(|v| - level, 0)."""
    return v - v.clamp(-level, level)
