"""Minimum residuals (unweighted least squares) by projected Newton steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from probae.checks import check_count
from probae.inference import profile
from probae.inference.least_squares import LeastSquares, Residual, Solution, evaluate, multiple_correlations

BOUNDS = (profile.FLOOR, 1.0)
GRADIENT = 1e-11  # of a standardised variable: the uniquenesses are then right to about as many digits


@dataclass(frozen=True)
class MinimumResiduals(LeastSquares):
    r"""Minimum residuals of factor analysis, also called minres or unweighted least squares (ULS).

    .. math:: f = \tfrac12 \sum_{ij} (R - W W' - \Psi)_{ij}^2, \quad \text{R the correlation matrix}

    The diagonal fits exactly wherever a uniqueness is above its floor, so this is the sum over the pairs i < j of
    squared residual correlations. No law of x is assumed, every correlation counts alike, and R may be singular.
    The fit is to correlations, so it follows the units of x exactly. Uniquenesses stop at a millionth with a
    :class:`HeywoodWarning`, and other starts are then tried. Loadings come in the principal axes of R - Psi.

    Parameters
    ----------
    steps : int
        Most Newton steps from one start.

    References
    ----------
    .. [1] Harman, H. H. & Jones, W. H. (1966). Factor analysis by minimizing residuals (minres). Psychometrika 31,
       351-368.
    .. [2] Joreskog, K. G. (1977). Factor analysis by least-squares and maximum-likelihood methods. In Enslein,
       Ralston & Wilf (eds.), Statistical Methods for Digital Computers III, Wiley.

    Examples
    --------
    >>> import probae as pa
    >>> table = pa.datasets.ability_cov()
    >>> statistics = pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)
    >>> run = pa.fit(pa.FactorAnalysis(6, 1), statistics, pa.MinimumResiduals())
    >>> [round(u, 3) for u in (run.model.uniquenesses / table.covariance.diagonal()).tolist()]
    [0.356, 0.723, 0.533, 0.838, 0.48, 0.515]
    """

    steps: int = 200

    def __post_init__(self) -> None:
        check_count("steps", self.steps)

    def solve(self, correlation: np.ndarray, latents: int) -> Solution:
        """Minimise from the multiple correlations, from elsewhere only if that ends on the floor or not at all."""
        best: Solution | None = None
        for start in _starts(correlation):
            found = minimize(correlation, latents, start, self.steps)
            if best is None or found.history[-1] > best.history[-1] + 1e-12:
                best = found
            if best.converged and best.psi.min() > 2 * profile.FLOOR:
                break
        assert best is not None
        return best


def _starts(correlation: np.ndarray) -> Iterator[np.ndarray]:
    yield multiple_correlations(correlation)
    yield np.full(len(correlation), 0.5)
    yield from np.random.default_rng(0).uniform(0.05, 0.95, (4, len(correlation)))


def minimize(correlation: np.ndarray, latents: int, psi: np.ndarray, steps: int) -> Solution:
    """Take projected Newton steps with a backtracking line search until the projected gradient vanishes."""
    point = evaluate(correlation, psi, latents)
    history = [-point.value]
    for _ in range(steps):
        free = ~(
            (point.psi <= BOUNDS[0]) & (point.gradient > 0) | (point.psi >= BOUNDS[1]) & (point.gradient < 0)
        )
        if np.abs(point.gradient[free]).max(initial=0.0) < GRADIENT:
            return Solution(point.psi, history, True)
        following = _line_search(correlation, latents, point, _direction(point, free))
        if following is None:  # rounding leaves nothing to gain
            return Solution(point.psi, history, bool(np.abs(point.gradient[free]).max() < 1e-6))
        point = following
        history.append(-point.value)
    return Solution(point.psi, history, False)


def _direction(point: Residual, free: np.ndarray) -> np.ndarray:
    """Newton step on the free coordinates; by the positive part of the Hessian where the whole is indefinite."""
    step = np.zeros_like(point.psi)
    index = np.ix_(free, free)
    for hessian in point.hessians():
        try:
            factor = scipy.linalg.cho_factor(hessian[index] + 1e-12 * np.eye(int(free.sum())))
        except np.linalg.LinAlgError:
            continue
        step[free] = -scipy.linalg.cho_solve(factor, point.gradient[free])
        break
    else:
        step[free] = -point.gradient[free]
    return step * min(1.0, 0.5 / np.abs(step).max(initial=1e-300))


def _line_search(
    correlation: np.ndarray, latents: int, point: Residual, direction: np.ndarray
) -> Residual | None:
    """Halve the step until the value falls enough (Armijo), or the gradient does where the value cannot tell."""
    length, before = 1.0, np.linalg.norm(point.gradient)
    while length > 1e-10:
        psi = np.clip(point.psi + length * direction, *BOUNDS)
        trial = evaluate(correlation, psi, latents)
        promised = 1e-4 * point.gradient @ (psi - point.psi)
        if trial.value <= point.value + promised and trial.value < point.value:
            return trial
        level = trial.value <= point.value * (1 + 1e-13) + 1e-300
        if length == 1.0 and level and np.linalg.norm(trial.gradient) < 0.5 * before:
            return trial
        length *= 0.5 if length > 0.1 else 0.1
    return None
