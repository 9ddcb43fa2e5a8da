"""The prox of a law with convex -log p, where no closed form exists."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["solve_prox"]

STEPS = 200  # a bisection alone needs 60


def solve_prox(
    score: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    v: Float[Tensor, "..."],
    step: Float[Tensor, "..."],
) -> Float[Tensor, "..."]:
    r"""The root of z + step psi(z) = v for an odd, increasing psi, between 0 and v.

    Newton steps, and a bisection wherever one would leave the bracket. The result is differentiable in v, in
    the step and in the shape of the law, through one last Newton step from the root (its derivative is that
    of the implicit function).

    Parameters
    ----------
    score, slope
        psi and its derivative, elementwise.
    v, step
        Point and step, float64 and of one shape; the step is above 0.

    Examples
    --------
    >>> v, step = torch.tensor([3.0, -2.0]), torch.ones(2)
    >>> solve_prox(lambda z: z**3, lambda z: 3 * z**2, v, step)
    tensor([ 1.2134, -1.0000])
    """
    with torch.no_grad():
        target = v.abs()
        low, high = torch.zeros_like(target), target
        z = 0.5 * target
        for _ in range(STEPS):
            excess = z + step * score(z) - target
            low, high = torch.where(excess < 0, z, low), torch.where(excess < 0, high, z)
            newton = z - excess / (1 + step * slope(z))
            inside = (newton >= low) & (newton <= high)
            following = torch.where(inside, newton, 0.5 * (low + high))
            moved = (following - z).abs()
            z = following
            if bool((moved <= 1e-15 * target).all()):
                break
        z = z.copysign(v)
        derivative = 1 + step * slope(z)
    return z - (z + step * score(z) - v) / derivative
