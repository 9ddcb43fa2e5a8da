"""Maximum likelihood and EM of confirmatory factor analysis, with or without missing entries."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.optimize
import torch

from probae.checks import BoundaryWarning, Data, DataError, UnderidentifiedWarning
from probae.inference.base import Loop
from probae.inference.gaussian import warn_heywood
from probae.inference.masked import Group, Layout, Point, evaluate, hessian, information
from probae.inference.profile import FLOOR
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.models.marginal import missing_patterns
from probae.priors import CorrelatedGaussian, Gaussian
from probae.statistics import SufficientStatistics

STEPS = 300
GRADIENT = 1e-9  # of f, at which a start has converged
FLAT = 1e-10  # scaled information of a direction that the likelihood does not see
STEP_LIMITS = (1.0, 0.5, 2.0)  # of a loading, a correlation and a log-uniqueness in one step
LOWEST = math.log(FLOOR)
HIGHEST = math.log(100.0)  # a uniqueness of 100 variances: only a runaway start gets there
SINGULAR = 1e-8  # smallest eigenvalue of the factor correlations, below which they are at their boundary
STARTS = 6  # tried when the first ends at a boundary or does not converge


@dataclass(frozen=True, eq=False)
class Standardized:
    """Rows in units of their standard deviations, grouped by observed entries; constant columns left out."""

    groups: tuple[Group, ...]
    varying: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    observed: float

    @property
    def correlation(self) -> np.ndarray:
        """Covariance of the columns about their means, over the rows that have both entries."""
        shares = sum(g.share * np.outer(g.observed, g.observed) for g in self.groups)
        total = sum(
            g.share * (g.covariance + np.outer(g.mean * g.observed, g.mean * g.observed)) for g in self.groups
        )
        matrix = total / np.maximum(shares, 1e-300) * (shares > 0)
        scale = np.sqrt(matrix.diagonal())
        return matrix / np.outer(scale, scale)


def fit_confirmatory(
    model: ConfirmatoryFactorAnalysis, data: Data | SufficientStatistics, seed: int
) -> tuple[list[float], bool]:
    """Maximise the likelihood in place; return the log-likelihood per row at each step and whether it converged."""
    _check_names(model, data.names)
    rows = standardize(data)
    layout = _layout(model, rows)
    best = _minimize(layout, rows.groups, starting_points(layout, rows.correlation, seed))
    _assign(model, layout, rows, best.point)
    _warn(model, layout, rows, best.point, data.names)
    constant = rows.observed * math.log(2 * math.pi)
    constant += 2 * float(sum(g.share * np.log(rows.scale[g.observed]).sum() for g in rows.groups))
    return [-0.5 * (value + constant) for value in best.history], best.converged


def group_rows(data: Data | SufficientStatistics) -> list[Group]:
    """Group the rows by which entries they have; rows without any are left out, but count among all."""
    if isinstance(data, SufficientStatistics) or data.missing is None:
        moments = (
            data if isinstance(data, SufficientStatistics) else SufficientStatistics.from_data(data.values)
        )
        everything = np.ones(moments.features, dtype=bool)
        return [Group(1.0, everything, moments.mean.numpy(), moments.covariance.numpy())]
    groups = []
    for rows, seen in missing_patterns(data.values):
        filled = data.values[rows].nan_to_num().numpy()
        mean = filled.mean(axis=0)
        centred = filled - mean
        share = len(filled) / len(data.values)
        groups.append(Group(share, seen.numpy(), mean, centred.T @ centred / len(filled)))
    return [group for group in groups if group.observed.any()]


def standardize(data: Data | SufficientStatistics) -> Standardized:
    """Group the rows and bring every varying column to mean 0 and variance 1 over its observed entries."""
    parts = group_rows(data)
    shares = sum(part.share * part.observed for part in parts)
    centre = sum(part.share * part.observed * part.mean for part in parts) / shares
    second = sum(p.share * p.observed * (p.covariance.diagonal() + (p.mean - centre) ** 2) for p in parts)
    variance = second / shares
    varying = variance > FLOOR**2 * variance.max(initial=np.finfo(float).tiny)
    if varying.sum() < 2:
        raise DataError("Factor analysis needs at least two columns that vary; all others are constant.")
    scale = np.sqrt(variance[varying])
    groups = []
    for part in parts:
        own = part.observed[varying]
        shifted = np.where(own, (part.mean - centre)[varying] / scale, 0.0)
        block = part.covariance[np.ix_(varying, varying)] / np.outer(scale, scale)
        groups.append(Group(part.share, own, shifted, block))
    groups = [group for group in groups if group.observed.any()]
    observed = float(sum(group.share * group.observed.sum() for group in groups))
    return Standardized(tuple(groups), varying, scale, centre, observed)


def _check_names(model: ConfirmatoryFactorAnalysis, names: tuple[str, ...] | None) -> None:
    """Refuse columns in another order than that of the pattern's rows."""
    wanted = model.feature_names
    if wanted is None or names is None or tuple(names) == tuple(wanted):
        return
    place = next(i for i, (a, b) in enumerate(zip(names, wanted, strict=True)) if a != b)
    raise DataError(
        f"x should have the columns of the pattern in its order, got {names[place]!r} where the pattern has "
        f"{wanted[place]!r}: pass x[list(model.feature_names)]."
    )


def _layout(model: ConfirmatoryFactorAnalysis, rows: Standardized) -> Layout:
    """Return the layout of the free parameters of the columns that vary."""
    pattern = model.pattern.numpy()[rows.varying]
    empty = np.flatnonzero(~pattern.any(axis=0))
    if len(empty):
        raise DataError(
            f"Every column that measures {model.factor_labels[empty[0]]} is constant: leave that factor out."
        )
    return Layout(pattern, tuple(model.free_correlations))


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a start ended, the values on the way, and whether the gradient vanished."""

    point: Point
    history: list[float]
    converged: bool


def _minimize(layout: Layout, groups: tuple[Group, ...], starts: Iterator[np.ndarray]) -> Answer:
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
    curvature = np.linalg.eigvalsh(
        _scaled(hessian(layout, groups, point), information(layout, groups, point))
    )
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


def _scaled(matrix: np.ndarray, scale: np.ndarray) -> np.ndarray:
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
    phi = 0.8 * composite / np.outer(length, length) + 0.2 * np.eye(len(length))
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


def _assign(model: ConfirmatoryFactorAnalysis, layout: Layout, rows: Standardized, point: Point) -> None:
    """Write the parameters in the units of x, each column of loadings with a positive sum."""
    loadings, correlation, noise = layout.unpack(point.theta)
    sign = np.where(loadings.sum(axis=0) < 0, -1.0, 1.0)
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest < SINGULAR:
        weight = (SINGULAR - smallest) / (1 - smallest)
        correlation = (1 - weight) * correlation + weight * np.eye(len(correlation))
    full = np.zeros((model.features, model.latents))
    full[rows.varying] = rows.scale[:, None] * loadings * sign + 0.0  # no negative zeros
    psi = np.full(model.features, FLOOR * rows.scale.min() ** 2)
    psi[rows.varying] = noise * rows.scale**2
    mean = rows.centre.copy()
    mean[rows.varying] += point.mean * rows.scale
    model.loadings = torch.as_tensor(full)
    model.noise_variance = torch.as_tensor(psi)
    model.mean = torch.as_tensor(mean)
    if layout.pairs:
        model.prior = CorrelatedGaussian(correlation * np.outer(sign, sign), learn=True)


def _warn(
    model: ConfirmatoryFactorAnalysis,
    layout: Layout,
    rows: Standardized,
    point: Point,
    names: tuple[str, ...] | None,
) -> None:
    """Say which uniquenesses and correlations stopped at a bound, and whether the likelihood has flat directions."""
    low = point.theta[layout.split[1] :] <= LOWEST + 0.01
    warn_heywood(np.flatnonzero(rows.varying)[low], names)
    values, vectors = np.linalg.eigh(layout.unpack(point.theta)[1])
    singular = values[0] < 2 * SINGULAR
    if singular:
        involved = [model.factor_labels[k] for k in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
        warnings.warn(
            f"The correlations of {', '.join(involved)} reached the boundary: one of these factors is a function of "
            "the others; merge them, or fix a correlation.",
            BoundaryWarning,
            stacklevel=2,
        )
    free = np.concatenate([np.ones(layout.split[1], dtype=bool), ~low])
    scaled = information(layout, rows.groups, point)[np.ix_(free, free)]
    flat = int((np.linalg.eigvalsh(_scaled(scaled, scaled)) < FLAT).sum())
    if flat and not singular:
        warnings.warn(
            f"The zeros leave {flat} direction{'s' if flat > 1 else ''} in which the likelihood is flat: the estimates "
            "are one of many with this likelihood (counting_rules names the rows and columns).",
            UnderidentifiedWarning,
            stacklevel=2,
        )


def fit_by_em(
    model: ConfirmatoryFactorAnalysis, data: Data | SufficientStatistics, seed: int, steps: int, tol: float
) -> tuple[list[float], bool, bool]:
    """Run EM in place; return the log-likelihood per row at each step, whether it converged, whether interrupted."""
    _check_names(model, data.names)
    rows = standardize(data)
    layout = _layout(model, rows)
    start = evaluate(layout, rows.groups, next(starting_points(layout, rows.correlation, seed)))
    assert start is not None
    _assign(model, layout, rows, start)
    step = masked_step(model, group_rows(data))
    history: list[float] = []
    converged = False
    with Loop("EM") as loop:
        for _ in loop.steps(steps):
            history.append(step())
            loop.value = history[-1]
            if len(history) > 1 and abs(history[-1] - history[-2]) < tol:
                converged = True
                break
    loadings, noise, _ = (value.numpy() for value in model._gaussian_parameters())
    varying = rows.varying
    inside = np.clip(noise[varying] / rows.scale**2, FLOOR, None)
    theta = layout.pack(loadings[varying] / rows.scale[:, None], model.factor_correlation.numpy(), inside)
    point = evaluate(layout, rows.groups, theta)
    if point is not None:
        _assign(model, layout, rows, replace(point, mean=_standard_mean(model, rows)))
        _warn(model, layout, rows, point, data.names)
    return history, converged, loop.interrupted


def _standard_mean(model: ConfirmatoryFactorAnalysis, rows: Standardized) -> np.ndarray:
    return (model.mean.detach().double().numpy() - rows.centre)[rows.varying] / rows.scale


def masked_step(model: ConfirmatoryFactorAnalysis, groups: list[Group]) -> Callable[[], float]:
    r"""Return one EM step, which returns the log-likelihood per row before it.

    Each feature is regressed on the factors that it may load on, and on 1 for the mean. The factors get the
    covariance that they have given x, and are brought back to variance 1 by scaling the columns of the loadings,
    which no fixed zero minds (parameter-expanded EM: Liu, Rubin & Wu, 1998).
    """
    pattern = model.pattern.numpy()
    shares = np.array(sum(group.share * group.observed for group in groups))
    centre = sum(group.share * group.observed * group.mean for group in groups) / shares
    spread = sum(g.share * g.observed * (g.covariance.diagonal() + (g.mean - centre) ** 2) for g in groups)
    variance = np.asarray(spread) / shares
    floor = FLOOR * np.maximum(variance, 1e-6 * variance.mean())

    def step() -> float:
        loadings, noise, mean = (value.numpy() for value in model._gaussian_parameters())
        expected = expectation(groups, loadings, model.factor_correlation.numpy(), noise, mean)
        updated, centres, residual = _regress(pattern, expected)
        length = np.sqrt(expected.factors.diagonal())
        model.loadings = torch.as_tensor(updated * length)
        model.mean = torch.as_tensor(centres)
        model.noise_variance = torch.as_tensor(np.maximum(residual / shares, floor))
        if model.free_correlations:
            phi = expected.factors / np.outer(length, length)
            model.prior = CorrelatedGaussian(0.5 * (phi + phi.T), learn=True)
        return expected.log_likelihood

    return step


@dataclass(frozen=True, eq=False)
class Expectation:
    """Moments of x and of (z, 1) given x, summed over the rows that have the feature; E zz' over all rows."""

    moments: np.ndarray
    cross: np.ndarray
    power: np.ndarray
    factors: np.ndarray
    log_likelihood: float


def expectation(
    groups: list[Group], loadings: np.ndarray, correlation: np.ndarray, noise: np.ndarray, mean: np.ndarray
) -> Expectation:
    """Take the expectations of one EM step, per row of the data."""
    features, factors = loadings.shape
    moments = np.zeros((features, factors + 1, factors + 1))
    cross, power = np.zeros((features, factors + 1)), np.zeros(features)
    total = correlation * (1.0 - sum(group.share for group in groups))  # rows without any value
    value = 0.0
    for group in groups:
        seen = group.observed
        own, shift = loadings[seen], (group.mean - mean)[seen]
        factor = scipy.linalg.cho_factor(own @ correlation @ own.T + np.diag(noise[seen]), lower=True)
        gain = scipy.linalg.cho_solve(factor, own @ correlation).T
        spread = group.covariance[np.ix_(seen, seen)]
        second = spread + np.outer(shift, shift)
        first = gain @ shift
        squares = correlation - gain @ own @ correlation + gain @ second @ gain.T
        both = np.block([[squares, first[:, None]], [first[None, :], np.ones((1, 1))]])
        centre = group.mean[seen]
        moments[seen] += group.share * both
        cross[seen, :-1] += group.share * (spread + np.outer(centre, shift)) @ gain.T
        cross[seen, -1] += group.share * centre
        power[seen] += group.share * (spread.diagonal() + centre**2)
        total += group.share * squares
        log_det = 2 * np.log(factor[0].diagonal()).sum()
        distance = float(scipy.linalg.cho_solve(factor, second).trace())
        value -= 0.5 * group.share * (len(centre) * math.log(2 * math.pi) + log_det + distance)
    return Expectation(moments, cross, power, total, float(value))


def _regress(pattern: np.ndarray, expected: Expectation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return loadings, means and residual powers of the features, those with one set of factors at a time."""
    features, factors = pattern.shape
    updated, centres = np.zeros((features, factors)), np.zeros(features)
    residual = np.zeros(features)
    for own in np.unique(pattern, axis=0):
        rows = np.flatnonzero((pattern == own).all(axis=1))
        free = np.append(np.flatnonzero(own), factors)
        cross = expected.cross[np.ix_(rows, free)]
        answer = np.linalg.solve(expected.moments[np.ix_(rows, free, free)], cross[..., None])[..., 0]
        updated[np.ix_(rows, free[:-1])], centres[rows] = answer[:, :-1], answer[:, -1]
        residual[rows] = expected.power[rows] - (answer * cross).sum(axis=1)
    return updated, centres, residual


@contextmanager
def standard_factors(model: LinearFactorModel) -> Iterator[None]:
    """Fit a model of factors with fixed correlations Phi = L L' as one of uncorrelated factors with loadings W L."""
    law = model.prior
    if not isinstance(law, CorrelatedGaussian) or isinstance(model, ConfirmatoryFactorAnalysis):
        yield
        return
    factor = law.factor.detach().double()
    model.loadings = model.loadings.detach().double() @ factor
    model.prior = Gaussian()
    try:
        yield
    finally:
        model.prior = law
        standard = model.loadings.detach().double()
        model.loadings = torch.linalg.solve_triangular(factor, standard, upper=False, left=False)
