r"""Preconditioned quasi-Newton ascent of the likelihood of an unmixing matrix.

L-BFGS on the relative step E, B -> (I + E) B, whose first guess of the inverse Hessian is exact for the block diagonal
Hessian of independent sources: for each pair (i, j) the 2 x 2 system (Ablin, Cardoso & Gramfort, 2018, section III)

.. math:: \begin{pmatrix} h_{ij} & 1 \\ 1 & h_{ji} \end{pmatrix}
          \begin{pmatrix} E_{ij} \\ E_{ji} \end{pmatrix} = \begin{pmatrix} G_{ij} \\ G_{ji} \end{pmatrix},
          \qquad E_{ii} = \frac{G_{ii}}{1 + h_{ii}}.

Where a pair is not concave (h_ij h_ji <= 1: the sources are no maximum in that plane yet), both h are raised until the
smallest eigenvalue of its system is FLOOR. Learnt shapes are further coordinates, whose curvature is the mean square of
their score. Steps are halved until the likelihood rises in proportion to the slope or, where rounding hides any
rise, until the slope along the step has fallen (the approximate Wolfe condition of Hager & Zhang, 2005).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.unmixing import Point, UnmixingLikelihood

MEMORY = 10  # steps remembered
FLOOR = 0.05  # smallest eigenvalue of a pair's system
HALVINGS = 15
RISE = 1e-4  # part of the slope's promise that a step must keep
ROUNDING = 1e-13  # relative error of a mean over many rows
LONGEST = 1.5  # largest singular value a relative step may have
BOUNDS = (-3.0, 8.0)  # of the log of a learnt shape above its lower bound: 0.05 to 3,000
SHAPE_STEP = 1.0  # of that logarithm at a time


def ascend(
    likelihood: UnmixingLikelihood, point: Point, width: float, tol: float, steps: int
) -> Iterator[Point]:
    """Yield better and better points, until no entry of the gradient exceeds `tol` or no step is found."""
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    for _ in range(steps):
        if slope_inside(point) < tol:
            return
        found = search(likelihood, point, direction(point, pairs), width)
        if found is None and pairs:  # the memory misleads
            pairs.clear()
            found = search(likelihood, point, direction(point, pairs), width)
        if found is None:
            return
        following, taken = found
        change = flat_gradient(point) - flat_gradient(following)
        curvature = float(taken @ change)
        if curvature > 1e-10 * float(taken.norm() * change.norm()):
            pairs.append((taken, change, curvature))
        point = following
        yield point


def slope_inside(point: Point) -> float:
    """Return the largest entry of the gradient, shapes that push against their bounds left out."""
    largest = float(point.gradient.abs().max())
    inside = _free(point.shapes, point.shape_gradient)
    return max(largest, float(inside.abs().max())) if len(inside) else largest


def direction(point: Point, pairs: deque[tuple[Tensor, Tensor, float]]) -> Float[Tensor, " size"]:
    """Return the L-BFGS step from the remembered pairs and the preconditioner, by the two-loop recursion."""
    step = flat_gradient(point)
    shares = []
    for taken, change, curvature in reversed(pairs):
        share = float(taken @ step) / curvature
        shares.append(share)
        step = step - share * change
    step = precondition(point, step)
    for (taken, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        step = step + (share - float(change @ step) / curvature) * taken
    if float(step @ flat_gradient(point)) <= 0:  # the memory belongs to another landscape
        pairs.clear()
        return precondition(point, flat_gradient(point))
    return step


def flat_gradient(point: Point) -> Float[Tensor, " size"]:
    """Return the gradient in E and in the shapes as one vector."""
    return torch.cat([point.gradient.flatten(), _free(point.shapes, point.shape_gradient)])


def precondition(point: Point, vector: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
    """Solve the 2 x 2 systems of all pairs, and divide the shapes' part by their curvature."""
    h = point.curvature
    latents = len(h)
    right = vector[: latents**2].view(latents, latents)
    lowest = 0.5 * (h + h.T - ((h - h.T).square() + 4).sqrt())
    h = h + (FLOOR - lowest).clamp_min(0.0).fill_diagonal_(0.0)
    off = (h.T * right - right.T) / (h * h.T - 1).fill_diagonal_(1.0)
    diagonal = right.diagonal() / (1 + h.diagonal()).clamp_min(FLOOR)
    solved = off.diagonal_scatter(diagonal)
    shapes = vector[latents**2 :] / point.shape_curvature.clamp_min(1e-3)
    return torch.cat([solved.flatten(), shapes])


def search(
    likelihood: UnmixingLikelihood, point: Point, move: Float[Tensor, " size"], width: float
) -> tuple[Point, Float[Tensor, " size"]] | None:
    """Return the first point along the step that is good enough and the step taken, or None."""
    latents = len(point.gradient)
    one = torch.eye(latents, dtype=torch.float64)
    relative, shapes = move[: latents**2].view(latents, latents), move[latents**2 :]
    slope = float(move @ flat_gradient(point))
    longest = float(relative.norm())
    if longest > LONGEST:  # what it bounds costs more
        longest = float(torch.linalg.matrix_norm(relative, 2))
    furthest = float(shapes.abs().max()) if len(shapes) else 0.0
    size = min(1.0, LONGEST / max(longest, 1e-300), SHAPE_STEP / max(furthest, 1e-300))
    noise = ROUNDING * (1 + abs(point.value))
    for _ in range(HALVINGS):
        change = one + size * relative
        moved = (point.shapes + size * shapes).clamp(*BOUNDS)
        trial = likelihood.evaluate(change @ point.unmixing, moved, width)
        if trial.value >= point.value + RISE * size * slope:
            break
        if trial.value >= point.value - noise and size * slope < noise:
            along = float((trial.gradient * torch.linalg.solve(change, relative)).sum())
            along += float(trial.shape_gradient @ shapes)
            if abs(along) <= 0.9 * slope:
                break
        size *= 0.5
    else:
        likelihood.set_shapes(point.shapes)
        return None
    return trial, torch.cat([size * relative.flatten(), moved - point.shapes])


def _free(shapes: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the shapes, 0 where it pushes against a bound."""
    outward = ((shapes <= BOUNDS[0]) & (gradient < 0)) | ((shapes >= BOUNDS[1]) & (gradient > 0))
    return torch.where(outward, 0.0, gradient)
