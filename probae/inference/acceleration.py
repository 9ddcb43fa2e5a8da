r"""Acceleration of a slow ascent such as EM, never downhill.

For a map G that does not lower the objective, with f = G(theta) - theta, Anderson's step from the last differences is

.. math:: \theta + f - (\Delta\Theta + \Delta F) \gamma, \qquad \gamma = \arg\min \|f - \Delta F \gamma\|^2,

a quasi-Newton step towards f = 0 (Anderson, 1965; Fang & Saad, 2009). It is taken only if the objective does not
fall; otherwise what was remembered is dropped and the step is that of G, as in Henderson & Varadhan (2019). Half the
slope of the objective along Anderson's step estimates the gain that is left: the ascent has converged when that is
nothing and the gradient is too, not merely when a step was small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

MEMORY = 20  # differences remembered
PAUSE = 2  # plain steps after a refused one, to have something to remember
STRICT = 1e-2  # part of the tolerance that the estimated gain may reach: it is an estimate
CALM = 2  # times in a row that convergence must be seen


@dataclass(frozen=True, eq=False)
class Point:
    """The objective at theta, its gradient, and where one plain step leads."""

    theta: Float[Tensor, " size"]
    value: float
    gradient: Float[Tensor, " size"]
    following: Float[Tensor, " size"]


class Problem(Protocol):
    """What is climbed."""

    def evaluate(self, theta: Tensor) -> Point:
        """Return the objective, its gradient and the plain step at a point inside the bounds."""

    def bounded(self, start: Tensor, step: Tensor) -> Tensor:
        """Return start + step, shortened and held inside the bounds."""

    def slope(self, point: Point) -> float:
        """Return the size of the gradient in directions without units."""

    def leap(self, point: Point) -> Point | None:
        """Return a better point that small steps would take very long to reach, or None."""


class Ascent:
    """The path of an accelerated ascent: iterate over it for one better point after the other.

    Attributes
    ----------
    point : Point
        The best point so far; the start before the first step.
    converged : bool
        Whether the path ended because nothing was left to gain.

    Examples
    --------
    >>> import torch
    >>> class Halving:
    ...     def evaluate(self, theta):
    ...         return Point(theta, -0.5 * float(theta @ theta), -theta, 0.9 * theta)
    ...     def bounded(self, start, step):
    ...         return start + step
    ...     def slope(self, point):
    ...         return 0.0
    ...     def leap(self, point):
    ...         return None
    >>> ascent = Ascent(Halving(), torch.ones(1, dtype=torch.float64), 1e-10)
    >>> steps = list(ascent)
    >>> ascent.converged, len(steps) < 5, abs(ascent.point.value) < 1e-10
    (True, True, True)
    """

    def __init__(self, problem: Problem, start: Float[Tensor, " size"], tolerance: float) -> None:
        self.problem = problem
        self.tolerance = tolerance
        self.point = problem.evaluate(start)
        self.converged = False
        self.moves: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.waiting = 0

    def __iter__(self) -> Iterator[Point]:
        calm, count = 0, 0
        while calm < CALM:
            step = self._anderson()
            gain = math.inf if step is None else 0.5 * abs(float(self.point.gradient @ step))
            leap = self.problem.leap(self.point) if gain < self.tolerance or count % 10 == 9 else None
            count += 1
            if leap is not None:
                self._forget(0)
                self.point, calm = leap, 0
                yield leap
                continue
            before = self.point
            accelerated = self._advance(step)
            if accelerated is None:
                self.converged = 0.5 * abs(self._slope_of_plain_step()) < self.tolerance
                return
            settled = accelerated and max(gain / STRICT, self.point.value - before.value) < self.tolerance
            steep = self.problem.slope(self.point) > STRICT * self.tolerance**0.5
            calm = calm + 1 if settled and not steep else 0
            self.converged = calm == CALM
            yield self.point

    def _advance(self, step: Tensor | None) -> bool | None:
        """Take the step, or else the plain one: True, False; None when rounding hides any gain."""
        before, plain = self.point, self.point.following - self.point.theta
        point = None if step is None else self._try(self.problem.bounded(before.theta, step))
        accelerated = point is not None
        if point is None:
            if step is not None:
                self._forget(PAUSE)
            point = self._try(before.following)
            if point is None:
                return None
        self.moves.append(point.theta - before.theta)
        self.changes.append(point.following - point.theta - plain)
        del self.moves[:-MEMORY], self.changes[:-MEMORY]
        self.point = point
        return accelerated

    def _try(self, theta: Tensor) -> Point | None:
        point = self.problem.evaluate(theta)
        usable = math.isfinite(point.value) and bool(point.following.isfinite().all())
        return point if usable and point.value >= self.point.value else None

    def _anderson(self) -> Tensor | None:
        if self.waiting or not self.moves:
            self.waiting = max(self.waiting - 1, 0)
            return None
        plain = self.point.following - self.point.theta
        changes, moves = torch.stack(self.changes, 1), torch.stack(self.moves, 1)
        size = changes.norm(dim=0).clamp_min(1e-300)
        answer = torch.linalg.lstsq(changes / size, plain.unsqueeze(1), rcond=1e-10, driver="gelsd").solution
        return plain - (moves + changes) @ (answer.squeeze(1) / size)

    def _slope_of_plain_step(self) -> float:
        return float(self.point.gradient @ (self.point.following - self.point.theta))

    def _forget(self, pause: int) -> None:
        self.moves.clear()
        self.changes.clear()
        self.waiting = pause
