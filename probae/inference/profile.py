r"""Maximum likelihood of factor analysis: the likelihood profiled over the loadings, as a function of the uniquenesses.

With R the correlation matrix, theta = log psi and (l_j, u_j) the K largest eigenpairs of Psi^{-1/2} R Psi^{-1/2},
the best loadings are W = Psi^{1/2} U (L - I)^{1/2} and minus twice the log-likelihood per row, up to a constant, is

    f(theta)   = sum_i theta_i + sum_{j <= K} (log l_j + 1 - l_j) + tr Psi^{-1} R
    df/dtheta_i = 1 - R_ii / psi_i + sum_{j <= K} (l_j - 1) u_ij^2
    d2f/dtheta2 ~ (I - U U') o (I - U U')          (exact where the model fits exactly)

(Joreskog, 1967, eqs. 11-20). Only K eigenpairs are needed at each scoring step. Where those do not suffice, near
vanishing uniquenesses above all, the exact Hessian takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from probae.inference.eigenpairs import DENSE_LIMIT, Correlation, DenseCorrelation

FLOOR = 1e-6  # smallest uniqueness of a standardised variable: below it the variable is a Heywood case
AT_FLOOR = 2 * FLOOR  # of the variance: where other parameters moved since, a Heywood case is one up to here
DAMPING = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the scoring matrix, whose size is 1
MOST_HEYWOOD = 20  # features that are tried as Heywood cases
RANDOM_STARTS = 30
SCORING_STEPS = 6  # scoring converges in so many where the model fits; else the exact Hessian pays
STEP_LIMIT = 2.0  # largest change of a log-uniqueness in one step


@dataclass(frozen=True, eq=False)
class Profile:
    """Value, gradient and eigenpairs of the profile likelihood at one point."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray

    def loadings(self) -> np.ndarray:
        """Return the best loadings (D, K) for these uniquenesses."""
        strength = np.sqrt(np.maximum(self.eigenvalues - 1.0, 0.0))
        return np.exp(0.5 * self.theta)[:, None] * self.eigenvectors * strength

    def newton_direction(self, free: np.ndarray, hessian: np.ndarray | None = None) -> np.ndarray:
        """Return the Newton step on the free coordinates (D,), zero elsewhere; without a Hessian the scoring step.

        Where a uniqueness vanishes the scoring matrix does too, and the Hessian can have any sign: either is damped
        until it is positive definite and no coordinate moves by more than the limit. Cutting single coordinates of an
        undamped step could turn it uphill.
        """
        step = np.zeros_like(self.theta)
        matrix = self._scoring_matrix(free) if hessian is None else hessian[np.ix_(free, free)]
        for damping in DAMPING:
            found = _solve(matrix, damping, -self.gradient[free])
            if found is not None:
                step[free] = found
                if np.abs(step).max() <= STEP_LIMIT:
                    break
        if not step.any() and hessian is not None:  # nowhere positive definite
            return self.newton_direction(free)
        return step * min(1.0, STEP_LIMIT / np.abs(step).max(initial=1e-300))

    def _scoring_matrix(self, free: np.ndarray) -> np.ndarray | Callable[[np.ndarray], np.ndarray]:
        """Return (I - U U') o (I - U U'), or for many features its product with a vector."""
        basis = self.eigenvectors[free]
        if len(basis) <= DENSE_LIMIT:
            complement = np.eye(len(basis)) - basis @ basis.T
            return complement * complement
        diagonal = 1.0 - 2.0 * np.square(basis).sum(axis=1)

        def multiply(v: np.ndarray) -> np.ndarray:  # (U U' o U U') v = diag U (U' diag(v) U) U', O(D K^2)
            inner = basis.T @ (v.reshape(-1, 1) * basis)
            return diagonal * v.ravel() + np.einsum("dk,dk->d", basis @ inner, basis)

        return multiply


def _solve(
    matrix: np.ndarray | Callable[[np.ndarray], np.ndarray], damping: float, right: np.ndarray
) -> np.ndarray | None:
    """Solve (matrix + damping I) x = right; None if that is not positive definite."""
    if callable(matrix):
        operator = scipy.sparse.linalg.LinearOperator(
            (len(right), len(right)), matvec=lambda v: matrix(v) + damping * v.ravel(), dtype=np.float64
        )
        return scipy.sparse.linalg.cg(operator, right, rtol=1e-8)[0]
    damped = matrix + damping * np.eye(len(right))
    factor, info = scipy.linalg.lapack.dpotrf(damped)
    return scipy.linalg.lapack.dpotrs(factor, right)[0] if info == 0 else None


def hessian(matrix: np.ndarray | Correlation, theta: np.ndarray, latents: int) -> np.ndarray:
    r"""Return the exact Hessian of the profile likelihood (D, D), from all D eigenpairs.

    With the sum over the K leading eigenvalues above 1, s the diagonal of Psi^{-1/2} R Psi^{-1/2} and o the elementwise
    product,

        H = diag(s) - sum_m u_m u_m' o U diag(c_m) U',
        c_mn = (l_m + l_n) / 2 for n <= K,   (l_m - 1) (l_m + l_n) / (l_m - l_n) beyond

    (equivalent to Clarke, 1970, eq. 12).
    """
    correlation = Correlation.of(matrix)
    scale = np.exp(-0.5 * theta)
    scaled = correlation.dense() * np.outer(scale, scale)
    values, vectors = scipy.linalg.eigh(scaled, check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    leading = min(latents, int((values > 1.0).sum()))
    result = np.diag(scaled.diagonal())
    for m in range(leading):
        weights = 0.5 * (values[m] + values)
        weights[leading:] *= 2.0 * (values[m] - 1.0) / np.maximum(values[m] - values[leading:], 1e-12)
        outer = (vectors * weights) @ vectors.T
        result -= outer * np.outer(vectors[:, m], vectors[:, m])
    return result


def evaluate(matrix: np.ndarray | Correlation, theta: np.ndarray, latents: int) -> Profile:
    """Evaluate the profile likelihood at log-uniquenesses ``theta`` (D,)."""
    correlation = Correlation.of(matrix)
    scale = np.exp(-0.5 * theta)
    values, vectors = correlation.leading(scale, latents)
    diagonal = scale**2 * correlation.diagonal
    useful = np.maximum(values, 1.0)  # a factor below the noise has loading zero
    value = theta.sum() + diagonal.sum() + (np.log(useful) + 1.0 - useful).sum()
    gradient = 1.0 - diagonal + np.square(vectors) @ (useful - 1.0)
    return Profile(theta, float(value), gradient, useful, vectors)


def minimize(
    matrix: np.ndarray | Correlation,
    latents: int,
    theta: np.ndarray,
    steps: int = 200,
    tolerance: float = 1e-10,
) -> tuple[Profile, list[float], bool]:
    """Minimise the profile by projected Newton scoring with a backtracking line search; by Newton if that takes long.

    Returns the last point, the value at each step, and whether the projected gradient vanished or the decrease promised
    by the step fell below ``tolerance``; that step is still taken, without a line search, which rounding would decide.
    """
    lowest, highest = np.log(FLOOR), 0.0
    correlation = Correlation.of(matrix)
    correlation.expect(np.inf)
    point = evaluate(correlation, np.clip(theta, lowest, highest), latents)
    history = [point.value]
    for _ in range(steps):
        stuck = (point.theta <= lowest) & (point.gradient > 0) | (point.theta >= highest) & (
            point.gradient < 0
        )
        if np.abs(point.gradient[~stuck]).max(initial=0.0) < 1e-9:
            return point, history, True
        curved = len(history) > SCORING_STEPS and correlation.features <= DENSE_LIMIT
        curvature = hessian(correlation, point.theta, latents) if curved else None
        direction = point.newton_direction(~stuck, curvature)
        correlation.expect(-direction @ point.gradient)
        if -direction @ point.gradient < tolerance:
            theta = np.clip(point.theta + direction, lowest, highest)
            last = evaluate(correlation, theta, latents)
            best = last if last.value <= point.value else point
            return best, [*history, best.value], True
        following = _line_search(correlation, latents, point, direction, (lowest, highest))
        if following is None:
            return point, history, bool(np.abs(point.gradient[~stuck]).max() < 1e-4)
        point = following
        history.append(point.value)
    return point, history, False


def _line_search(
    correlation: Correlation, latents: int, point: Profile, direction: np.ndarray, bounds: tuple[float, float]
) -> Profile | None:
    """Halve the step until the value falls enough (Armijo); None when rounding leaves nothing to gain."""
    length = 1.0
    while length > 1e-8:
        theta = np.clip(point.theta + length * direction, *bounds)
        trial = evaluate(correlation, theta, latents)
        if trial.value <= point.value + 1e-4 * point.gradient @ (theta - point.theta):
            return trial
        length *= 0.5 if length > 0.1 else 0.1
    return None


def starting_points(matrix: np.ndarray | Correlation, latents: int, seed: int) -> Iterator[np.ndarray]:
    """Yield log-uniquenesses to start from: of the principal components, then others for a suspicious first answer.

    The components come first because the usual guess, from the inverse correlations, costs more for many features.
    """
    correlation = Correlation.of(matrix)
    size = correlation.features
    explained = _explained(correlation, latents)
    yield np.log(np.clip(1.0 - explained, 0.005, 0.95))
    if isinstance(correlation, DenseCorrelation):
        factor, info = scipy.linalg.lapack.dpotrf(correlation.matrix)
        if info == 0 and factor.diagonal().min() > 1e-6 * factor.diagonal().max():
            inverse, _ = scipy.linalg.lapack.dpotri(factor)
            guess = (1.0 - 0.5 * latents / size) / inverse.diagonal()  # Joreskog (1967), section 6
            yield np.log(np.clip(guess, 0.005, 0.995))
    yield np.full(size, np.log(0.5))
    yield from np.log(np.random.default_rng(seed).uniform(0.05, 0.95, (2, size)))


def heywood_points(matrix: np.ndarray | Correlation, latents: int) -> Iterator[np.ndarray]:
    """Yield starts with one uniqueness near zero, those most explained first: each may end at a maximum of its own."""
    correlation = Correlation.of(matrix)
    if correlation.features > DENSE_LIMIT:
        return
    explained = _explained(correlation, latents)
    for column in np.argsort(-explained)[: min(MOST_HEYWOOD, _affordable(len(explained)))]:
        theta = np.log(np.clip(1.0 - explained, 0.2, 0.8))
        theta[column] = np.log(1e-3)
        yield theta


def random_points(matrix: np.ndarray | Correlation, seed: int) -> Iterator[np.ndarray]:
    """Yield random uniquenesses."""
    size = Correlation.of(matrix).features
    count = _affordable(size) if size <= DENSE_LIMIT else 0
    yield from np.log(np.random.default_rng([seed, 1]).uniform(1e-3, 0.99, (count, size)))


def _affordable(size: int) -> int:
    return min(
        RANDOM_STARTS, max(5, 1200 // size)
    )  # the work for one start grows with the square of the features


def _explained(correlation: Correlation, latents: int) -> np.ndarray:
    """Return the share of each variance that the principal components explain beyond noise."""
    correlation.expect(np.inf)
    size = correlation.features
    values, vectors = correlation.leading(np.ones(size), latents)
    noise = max((size - values.sum()) / max(size - latents, 1), 0.0)
    return np.square(vectors) @ np.maximum(values - noise, 0.0)
