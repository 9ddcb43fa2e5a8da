"""Search for the maximum of a likelihood with fixed zeros: starts, Newton's method, and the boundary of Phi."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from probae.inference.masked import Group, Layout, Point, evaluate, hessian, information
from probae.inference.profile import FLOOR

__all__ = ["Answer", "minimize", "scaled", "starting_points"]

STEPS = 300
GRADIENT = 1e-9  # of f, at which a start has converged
FLAT = 1e-10  # scaled information of a direction that the likelihood does not see
STEP_LIMITS = (1.0, 0.5, 2.0)  # of a loading, a correlation and a log-uniqueness in one step
LOWEST = math.log(FLOOR)
HIGHEST = math.log(100.0)  # a uniqueness of 100 variances: only a runaway start gets there
SINGULAR = 1e-8  # smallest eigenvalue of the factor correlations, below which they are at their boundary
STARTS = 6  # tried when the first ends at a boundary or does not converge


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a start ended, the values on the way, and whether the gradient vanished."""

    point: Point
    history: list[float]
    converged: bool


def minimize(layout: Layout, groups: tuple[Group, ...], starts: Iterator[np.ndarray]) -> Answer:
    """Take the first start, and the best of several when it ends at a boundary, at a saddle or nowhere."""
    best: Answer | None = None
    for theta in starts:
        answer = newton(layout, groups, theta)
        if not answer.converged or _smallest_eigenvalue(layout, answer.point) < 1e-3:
            answer = _boundary(layout, groups, answer)
        if (
            best is None
            or answer.point.value < best.point.value - 1e-10
            or (answer.converged and not best.converged)
        ):
            best = answer
        if best.converged and not _suspicious(layout, groups, best.point):
            break
    assert best is not None
    return best


def _suspicious(layout: Layout, groups: tuple[Group, ...], point: Point) -> bool:
    if point.theta[layout.split[1] :].min() < LOWEST + 1e-6 or _smallest_eigenvalue(layout, point) < 1e-4:
        return True
    curvature = np.linalg.eigvalsh(scaled(hessian(layout, groups, point), information(layout, groups, point)))
    return bool(curvature[0] < -1e-7)


def newton(layout: Layout, groups: tuple[Group, ...], theta: np.ndarray) -> Answer:
    """Minimise f by Newton's method, by scoring where f is not convex, with a backtracking line search."""
    point = evaluate(layout, groups, _clip(layout, theta))
    assert point is not None  # every start has positive uniquenesses and positive definite correlations
    history = [point.value]
    for _ in range(STEPS):
        free = _free(layout, point)
        if np.abs(point.gradient[free]).max(initial=0.0) < GRADIENT:
            return Answer(point, history, True)
        direction = _direction(layout, groups, point, free)
        following = _line_search(layout, groups, point, direction)
        if following is None:
            return Answer(point, history, bool(np.abs(point.gradient[free]).max() < 1e-6))
        history.append(following.value)
        point = following
    return Answer(point, history, False)


def _free(layout: Layout, point: Point) -> np.ndarray:
    """Return which parameters may move: not a uniqueness at its bound that f pushes further out."""
    free = np.ones(len(point.theta), dtype=bool)
    tail = slice(layout.split[1], None)
    at_floor = (point.theta[tail] <= LOWEST) & (point.gradient[tail] > 0)
    free[tail] = ~(at_floor | (point.theta[tail] >= HIGHEST) & (point.gradient[tail] < 0))
    return free


def scaled(matrix: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return a matrix in units in which the other has the diagonal 1."""
    size = np.sqrt(np.maximum(scale.diagonal(), 1e-300))
    return matrix / np.outer(size, size)


def _direction(layout: Layout, groups: tuple[Group, ...], point: Point, free: np.ndarray) -> np.ndarray:
    """Return the Newton step, or the scoring step where the Hessian is indefinite; flat directions stay still."""
    expected = information(layout, groups, point)[np.ix_(free, free)]
    size = np.sqrt(np.maximum(expected.diagonal(), 1e-300))
    exact = hessian(layout, groups, point)[np.ix_(free, free)] / np.outer(size, size)
    values, vectors = np.linalg.eigh(exact)
    if values[0] < -FLAT:
        values, vectors = np.linalg.eigh(expected / np.outer(size, size))
    slope = vectors.T @ (point.gradient[free] / size)
    step = np.zeros_like(point.theta)
    useful = values > FLAT
    step[free] = -(vectors[:, useful] @ (slope[useful] / values[useful])) / size
    first, second = layout.split
    parts = (step[:first], step[first:second], step[second:])
    longest = max(
        np.abs(part).max(initial=0.0) / limit for part, limit in zip(parts, STEP_LIMITS, strict=True)
    )
    return step / max(longest, 1.0)


def _line_search(
    layout: Layout, groups: tuple[Group, ...], point: Point, direction: np.ndarray
) -> Point | None:
    """Halve the step until f falls enough and the correlations stay positive definite; None when rounding decides."""
    length = 1.0
    while length > 1e-10:
        trial = evaluate(layout, groups, _clip(layout, point.theta + length * direction))
        if trial is not None and _smallest_eigenvalue(layout, trial) > 0.1 * SINGULAR:
            promised = point.gradient @ (trial.theta - point.theta)
            tiny = abs(promised) < 1e-13 and trial.value <= point.value + 1e-14 * abs(point.value)
            if trial.value <= point.value + 1e-4 * promised and promised < 0 or tiny:
                return None if np.array_equal(trial.theta, point.theta) else trial
        length *= 0.5
    return None


def _clip(layout: Layout, theta: np.ndarray) -> np.ndarray:
    tail = layout.split[1]
    return np.concatenate([theta[:tail], np.clip(theta[tail:], LOWEST, HIGHEST)])


def _smallest_eigenvalue(layout: Layout, point: Point) -> float:
    return float(np.linalg.eigvalsh(layout.unpack(point.theta)[1])[0]) if layout.pairs else 1.0


def _boundary(layout: Layout, groups: tuple[Group, ...], answer: Answer) -> Answer:
    """Go on over Phi = T T' with rows of T of length 1, in which a singular Phi is no boundary but a smooth point."""
    if not layout.pairs:
        return answer
    first, second = layout.split
    factors = layout.pattern.shape[1]
    lower = np.tril_indices(factors)
    start = layout.unpack(answer.point.theta)[1]
    root = np.linalg.cholesky(0.999 * start + 0.001 * np.eye(factors))

    def unpack(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.zeros((factors, factors))
        rows[lower] = values[first : first + len(lower[0])]
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = rows / length
        theta = np.concatenate(
            [values[:first], (unit @ unit.T)[layout.sides], values[first + len(lower[0]) :]]
        )
        return theta, unit, length

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        theta, unit, length = unpack(values)
        point = evaluate(layout, groups, theta)
        if point is None:
            return 1e10, np.zeros_like(values)
        pull = np.zeros((factors, factors))
        pull[layout.sides] = point.gradient[first:second]
        towards = (pull + pull.T) @ unit
        towards = (towards - unit * (towards * unit).sum(axis=1, keepdims=True)) / length
        return point.value, np.concatenate([point.gradient[:first], towards[lower], point.gradient[second:]])

    theta = answer.point.theta
    values = np.concatenate([theta[:first], root[lower], theta[second:]])
    bounds = [(None, None)] * (first + len(lower[0])) + [(LOWEST, HIGHEST)] * (len(theta) - second)
    found = scipy.optimize.minimize(
        objective, values, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-8, "maxcor": 30},
    )  # fmt: skip
    point = evaluate(layout, groups, unpack(found.x)[0])
    if point is None or point.value > answer.point.value - 1e-12 and answer.converged:
        return answer
    inside = np.abs(objective(found.x)[1]) if point is not None else np.array([np.inf])
    stuck = np.zeros(len(values), dtype=bool)
    stuck[first + len(lower[0]) :] = ~_free(layout, point)[second:]
    return Answer(point, [*answer.history, point.value], bool(inside[~stuck].max() < 1e-5))


def starting_points(layout: Layout, correlation: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield parameters to start from: the leading component of each factor's features, then random ones."""
    pattern = layout.pattern
    rng = np.random.default_rng(seed)
    shared = np.sqrt(np.maximum(pattern.sum(axis=1), 1))
    rest = correlation.copy()
    loadings = np.zeros(pattern.shape)
    for k in np.argsort(-pattern.sum(axis=0), kind="stable"):
        own = np.flatnonzero(pattern[:, k])
        values, vectors = np.linalg.eigh(rest[np.ix_(own, own)])
        sign = 1.0 if vectors[:, -1].sum() >= 0 else -1.0
        loadings[own, k] = sign * vectors[:, -1] * math.sqrt(max(values[-1], 0.1)) * 0.8
        if not layout.pairs:  # uncorrelated factors explain the rest one after the other
            rest = rest - np.outer(loadings[:, k], loadings[:, k])
    if layout.pairs:
        loadings /= shared[:, None]
    size = 0.9 / np.maximum(np.sqrt(np.square(loadings).sum(axis=1)), 0.9)
    loadings *= size[:, None]
    composite = loadings.T @ correlation @ loadings
    length = np.sqrt(np.maximum(composite.diagonal(), 1e-12))
    phi = 0.8 * np.clip(composite / np.outer(length, length), -1.0, 1.0)
    np.fill_diagonal(phi, 1.0)
    smallest = float(np.linalg.eigvalsh(phi)[0])
    if smallest < 0.05:  # pairs of columns may have been seen in different rows
        phi = np.eye(len(phi)) + (phi - np.eye(len(phi))) * 0.95 / (1.0 - smallest)
    yield _pack_start(layout, loadings, phi)
    for _ in range(STARTS):
        signs = np.where(loadings < 0, -1.0, 1.0) * np.where(rng.random(pattern.shape) < 0.15, -1.0, 1.0)
        drawn = pattern * signs * rng.uniform(0.2, 0.8, pattern.shape) / shared[:, None]
        weight = rng.uniform(0.0, 0.8)
        yield _pack_start(layout, drawn, weight * phi + (1 - weight) * np.eye(len(phi)))


def _pack_start(layout: Layout, loadings: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    if not layout.pairs:
        correlation = np.eye(len(correlation))
    explained = ((loadings @ correlation) * loadings).sum(axis=1)
    return layout.pack(loadings, correlation, np.clip(1.0 - explained, 0.1, 0.95))
