r"""Gradient projection over orthogonal and oblique frames, for many starting frames at once.

A step multiplies the frame from the right, T R, so loadings and factor correlations can be updated without the loadings
one started from. With :math:`M = \Lambda' \, \partial Q / \partial\Lambda` the slope along a step is

.. math:: \text{orthogonal, } R = \exp X,\ X' = -X: \quad \tfrac12 (M - M'), \qquad
          \text{oblique, } R = I + X,\ \operatorname{diag} X = 0: \quad \Phi \operatorname{diag}(M) - M',

the projected gradients of Jennrich (2001, 2002) seen from the frame itself. Because both are plain matrices, a
limited-memory quasi-Newton direction can be built from past steps; a backtracking line search makes every start
descend monotonically.

References
----------
.. [1] Jennrich, R. I. (2001). A simple general procedure for orthogonal rotation. Psychometrika 66, 289-306.
.. [2] Jennrich, R. I. (2002). A simple general method for oblique rotation. Psychometrika 67, 7-19.
.. [3] Bernaards, C. A. & Jennrich, R. I. (2005). Gradient projection algorithms and software for arbitrary rotation
   criteria in factor analysis. Educational and Psychological Measurement 65, 676-696.
.. [4] Nocedal, J. & Wright, S. J. (2006). Numerical Optimization, 2nd ed., algorithm 7.4.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.rotation.base import Criterion

MEMORY = 8  # past steps behind a direction
LONGEST = 0.7  # Frobenius norm of a step: I + X stays invertible, and no minimum nearby is jumped over
ENOUGH = 1e-4  # share of the decrease promised by the slope that a step must bring
COLLAPSED = 1e3  # loadings this many times their first size: factors have become collinear
HALVINGS = 40
ROUNDING = 1e-14  # relative to the size of the criterion: a change below it is none


@dataclass(eq=False)
class Frames:
    """Frames T with their loadings, correlations, criterion values and slopes; the first dimension counts starts."""

    loadings: Float[Tensor, "*starts features latents"]
    transform: Float[Tensor, "*starts latents latents"]
    correlation: Float[Tensor, "*starts latents latents"]
    value: Float[Tensor, "*starts"]
    slope: Float[Tensor, "*starts latents latents"]

    def at(self, index: Tensor | int) -> Frames:
        """Return some of the frames, or one without the first dimension."""
        return Frames(*(getattr(self, field.name)[index] for field in fields(self)))

    def put(self, index: Tensor, other: Frames) -> None:
        """Replace some of the frames."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


@dataclass(frozen=True, eq=False)
class Problem:
    """A loading matrix to rotate (or one for each start), a criterion and a kind of rotation."""

    unrotated: Float[Tensor, "*starts features latents"]
    criterion: Criterion
    oblique: bool

    def frames(self, transform: Float[Tensor, "starts latents latents"]) -> Frames:
        """Return the frames with these columns T: loadings W T, or W T'^{-1} when oblique."""
        turn = torch.linalg.inv(transform).mT if self.oblique else transform
        return self._evaluated(self.unrotated @ turn, transform, transform.mT @ transform)

    def tangent(self, step: Float[Tensor, "starts latents latents"]) -> Tensor:
        """Return the part of a matrix that is a step: antisymmetric, or without diagonal when oblique."""
        if self.oblique:
            return step - torch.diag_embed(step.diagonal(dim1=-2, dim2=-1))
        return 0.5 * (step - step.mT)

    def moved(self, frames: Frames, step: Float[Tensor, "starts latents latents"]) -> Frames:
        """Return the frames after a step X."""
        identity = torch.eye(step.shape[-1], dtype=step.dtype)
        if not self.oblique:  # Cayley's form of exp X
            turn = torch.linalg.solve(identity - 0.5 * step, identity + 0.5 * step)
            return self._evaluated(frames.loadings @ turn, frames.transform @ turn, frames.correlation)
        turn = identity + step
        transform = frames.transform @ turn
        length = transform.norm(dim=-2, keepdim=True)
        transform = transform / length
        loadings = frames.loadings @ torch.linalg.inv(turn).mT * length
        return self._evaluated(loadings, transform, transform.mT @ transform)

    def _evaluated(self, loadings: Tensor, transform: Tensor, correlation: Tensor) -> Frames:
        moment = loadings.mT @ self.criterion.gradient(loadings)
        if self.oblique:
            slope = correlation * moment.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) - moment.mT
        else:
            slope = moment
        slope = self.tangent(slope)
        return Frames(loadings, transform, correlation, self.criterion.value(loadings), slope)


def size(x: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch"]:
    """Return the Frobenius norm."""
    return x.square().sum((-2, -1)).sqrt()


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of products of entries."""
    return (a * b).sum((-2, -1))


def descend(problem: Problem, start: Frames, unit: tuple[float, float], tol: float, steps: int) -> Frames:
    """Follow every start downhill until its slope is at most ``tol`` times its unit.

    Parameters
    ----------
    start : Frames
    unit : (float, float)
        Sizes of a slope and of a value on this problem, which make tolerances free of units.
    tol : float
    steps : int
        Most steps of any start.
    """
    slope_unit, value_unit = unit
    ends = start.at(torch.arange(len(start.value)))
    running = torch.nonzero(~collapsed(problem, ends) & (size(ends.slope) > tol * slope_unit)).flatten()
    now = ends.at(running)
    memory = Memory.empty(now.slope, 0.5 / slope_unit if slope_unit > 0 else 1.0)
    for _ in range(steps):
        if len(running) == 0:
            break
        direction = memory.direction(now.slope)
        after, step = _search(problem, now, direction, value_unit)
        memory = memory.extended(now, after, step)
        now = after
        going = (size(step) > 0) & (size(now.slope) > tol * slope_unit) & ~collapsed(problem, now)
        if not bool(going.all()):
            ends.put(running, now)
            kept = torch.nonzero(going).flatten()
            running, now, memory = running[kept], now.at(kept), memory.at(kept)
    ends.put(running, now)
    return ends


def collapsed(problem: Problem, frames: Frames) -> Bool[Tensor, " starts"]:
    """Whether the factors have become collinear, or value or slope are not finite."""
    finite = frames.value.isfinite() & size(frames.slope).isfinite()
    limit = COLLAPSED * problem.unrotated.square().sum().sqrt()
    return ~finite | (frames.loadings.square().sum((-2, -1)).sqrt() > limit)


def joined(parts: list[Frames]) -> Frames:
    """Return the frames of several batches as one."""
    return Frames(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Frames)))


def _search(problem: Problem, now: Frames, direction: Tensor, value_unit: float) -> tuple[Frames, Tensor]:
    """Halve the steps until each brings a start low enough; return the frames reached and the steps, 0 for none."""
    promised = inner(now.slope, direction)
    allowance = ROUNDING * now.value.abs().clamp_min(value_unit)
    steepness = size(now.slope)
    after, taken = now.at(torch.arange(len(now.value))), torch.zeros_like(direction)
    pending, step = torch.arange(len(now.value)), direction
    for halvings in range(HALVINGS):
        before = now.at(pending) if halvings else now
        trial = problem.moved(before, step)
        low = trial.value <= before.value + ENOUGH * 0.5**halvings * promised[pending]
        # where values no longer differ, a smaller slope is progress
        level = (trial.value <= before.value + allowance[pending]) & (size(trial.slope) < steepness[pending])
        good = low | level
        if not halvings and bool(good.all()):
            return trial, step
        chosen, left = torch.nonzero(good).flatten(), torch.nonzero(~good).flatten()
        after.put(pending[chosen], trial.at(chosen))
        taken[pending[chosen]] = step[chosen]
        if len(left) == 0:
            break
        pending, step = pending[left], 0.5 * step[left]
    return after, taken


@dataclass(frozen=True, eq=False)
class Memory:
    """Past steps s and changes of slope y of every start; ``weight`` is 1 / s'y, or 0 where that told nothing."""

    steps: tuple[Tensor, ...]
    changes: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    scale: Float[Tensor, "starts 1 1"]  # first guess of the inverse Hessian

    @classmethod
    def empty(cls, slope: Tensor, scale: float) -> Memory:
        """Return a memory without steps."""
        return cls((), (), (), torch.full((len(slope), 1, 1), scale, dtype=slope.dtype))

    def at(self, index: Tensor) -> Memory:
        """Return the memory of some starts."""
        return Memory(
            tuple(s[index] for s in self.steps),
            tuple(y[index] for y in self.changes),
            tuple(w[index] for w in self.weights),
            self.scale[index],
        )

    def direction(self, slope: Float[Tensor, "starts latents latents"]) -> Tensor:
        """Return the quasi-Newton direction [4]_, no longer than allowed; downhill because every s'y is positive."""
        q, shares = slope, []
        past = list(zip(self.steps, self.changes, self.weights, strict=True))
        for s, y, w in reversed(past):
            share = w * (s * q).sum((-2, -1), keepdim=True)
            q = q - share * y
            shares.append(share)
        q = self.scale * q
        for (s, y, w), share in zip(past, reversed(shares), strict=True):
            q = q + s * (share - w * (y * q).sum((-2, -1), keepdim=True))
        length = size(q)[:, None, None]
        return -q * (LONGEST / length.clamp_min(LONGEST))

    def extended(self, before: Frames, after: Frames, step: Tensor) -> Memory:
        """Return the memory with one more step, whose coordinates are the same in the frame it led to."""
        change = after.slope - before.slope
        curvature = inner(step, change)
        told = curvature > 1e-8 * size(step) * size(change)
        weight = torch.where(told, 1 / torch.where(told, curvature, 1.0), 0.0)[:, None, None]
        fresh = (curvature / torch.where(told, change.square().sum((-2, -1)), 1.0))[:, None, None]
        keep = slice(-(MEMORY - 1), None)
        return Memory(
            steps=(*self.steps[keep], step),
            changes=(*self.changes[keep], change),
            weights=(*self.weights[keep], weight),
            scale=torch.where(told[:, None, None], fresh, 2 * self.scale),  # no valley seen: dare more
        )
