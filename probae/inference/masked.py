r"""The likelihood of loadings with fixed zeros and correlated factors, rows with missing entries included.

With S = W Phi W' + Psi, groups p of rows with the same observed entries, their share w_p, mean m_p and second moment
C_p about mu, A_p = S_p^{-1} (rows and columns of missing entries zero) and G_p = A_p - A_p C_p A_p, G = sum_p w_p G_p,

    f       = sum_p w_p [log |S_p| + tr A_p C_p]                  minus twice the log-likelihood per row, no constant
    df_a    = tr G S_a
    d2f_ab  = sum_p w_p [tr A_p S_a A_p S_b - 2 tr A_p S_a G_p S_b] + tr G S_ab - h_a' M^{-1} h_b / 2
    mu      = M^{-1} sum_p w_p A_p m_p,   M = sum_p w_p A_p,   h_a = 2 sum_p w_p A_p S_a A_p (m_p - mu)

(Joreskog, 1969; the groups after Allison, 1987). Derivatives S_a = u_a v_a' + v_a u_a' have rank two at most, so
the traces are sums of products of entries of U'AU, U'AV and V'AV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

__all__ = ["Group", "Layout", "Point", "evaluate", "hessian", "information"]


@dataclass(frozen=True, eq=False)
class Group:
    """Rows with the same observed entries: their share of all rows, the entries, mean and covariance of those."""

    share: float
    observed: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the free loadings, the free correlations and the log-uniquenesses stand among the parameters."""

    pattern: np.ndarray
    pairs: tuple[tuple[int, int], ...]

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every free loading."""
        rows, columns = np.nonzero(self.pattern)
        return rows, columns

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """First and second factor of every free correlation."""
        first, second = np.array(self.pairs, dtype=int).reshape(-1, 2).T
        return first, second

    @cached_property
    def split(self) -> tuple[int, int]:
        """Where the correlations and where the log-uniquenesses begin."""
        loadings = len(self.entries[0])
        return loadings, loadings + len(self.pairs)

    def pack(self, loadings: np.ndarray, correlation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the parameters as one vector theta."""
        return np.concatenate([loadings[self.entries], correlation[self.sides], np.log(noise)])

    def unpack(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return W (D, K), Phi (K, K) and psi (D,)."""
        first, second = self.split
        loadings = np.zeros(self.pattern.shape)
        loadings[self.entries] = theta[:first]
        correlation = np.eye(self.pattern.shape[1])
        one, other = self.sides
        correlation[one, other] = correlation[other, one] = theta[first:second]
        return loadings, correlation, np.exp(theta[second:])

    def derivatives(
        self, loadings: np.ndarray, correlation: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return U, V (D, parameters) with S_a = u_a v_a' + v_a u_a'."""
        identity = np.eye(len(noise))
        rows, columns = self.entries
        one, other = self.sides
        left = [identity[:, rows], loadings[:, one], identity]
        right = [(loadings @ correlation)[:, columns], loadings[:, other], identity * (0.5 * noise)]
        return np.concatenate(left, axis=1), np.concatenate(right, axis=1)


@dataclass(frozen=True, eq=False)
class Point:
    """f and its gradient at theta, with what its second derivatives need: A_p, G_p and m_p - mu of each group."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    mean: np.ndarray
    slope: np.ndarray
    inverses: tuple[np.ndarray, ...]
    slopes: tuple[np.ndarray, ...]
    shifts: tuple[np.ndarray, ...]


def evaluate(layout: Layout, groups: Sequence[Group], theta: np.ndarray) -> Point | None:
    """Return f and its gradient; None where S is not positive definite."""
    loadings, correlation, noise = layout.unpack(theta)
    covariance = loadings @ correlation @ loadings.T
    covariance[np.diag_indices_from(covariance)] += noise
    solved = [_invert(covariance, group.observed) for group in groups]
    if any(answer is None for answer in solved):
        return None
    inverses = tuple(answer[0] for answer in solved if answer is not None)
    value = sum(group.share * answer[1] for group, answer in zip(groups, solved, strict=True) if answer)
    mean = _mean(groups, inverses)
    slopes, shifts = [], []
    for group, inverse in zip(groups, inverses, strict=True):
        shift = np.where(group.observed, group.mean - mean, 0.0)
        second = group.covariance + np.outer(shift, shift)
        value += group.share * float((inverse * second).sum())
        slopes.append(inverse - inverse @ second @ inverse)
        shifts.append(shift)
    slope = sum(
        (group.share * part for group, part in zip(groups, slopes, strict=True)), np.zeros_like(covariance)
    )
    U, V = layout.derivatives(loadings, correlation, noise)
    gradient = 2 * ((slope @ U) * V).sum(axis=0)
    return Point(theta, float(value), gradient, mean, slope, inverses, tuple(slopes), tuple(shifts))


def information(layout: Layout, groups: Sequence[Group], point: Point) -> np.ndarray:
    """Return the expected second derivatives of f, twice the information of a row: sum_p w_p tr A_p S_a A_p S_b."""
    U, V = layout.derivatives(*layout.unpack(point.theta))
    total = np.zeros((len(point.theta), len(point.theta)))
    for group, inverse in zip(groups, point.inverses, strict=True):
        total += group.share * _traces(U, V, inverse, inverse)
    return total


def hessian(layout: Layout, groups: Sequence[Group], point: Point) -> np.ndarray:
    """Return the second derivatives of f, the mean profiled out."""
    loadings, correlation, noise = layout.unpack(point.theta)
    U, V = layout.derivatives(loadings, correlation, noise)
    total = _curvature(layout, point.slope, loadings, correlation, noise)
    cross = np.zeros_like(U)
    for group, inverse, slope, shift in zip(groups, point.inverses, point.slopes, point.shifts, strict=True):
        total += group.share * _traces(U, V, inverse, inverse - 2 * slope)
        pulled = inverse @ shift
        cross += 2 * group.share * inverse @ (U * (V.T @ pulled) + V * (U.T @ pulled))
    if len(groups) > 1:
        precision = sum(group.share * inverse for group, inverse in zip(groups, point.inverses, strict=True))
        total -= 0.5 * cross.T @ scipy.linalg.solve(precision, cross, assume_a="pos")
    return 0.5 * (total + total.T)


def _traces(U: np.ndarray, V: np.ndarray, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return tr X S_b Y S_a for all pairs of rank-two derivatives."""
    XU, XV, YU, YV = X @ U, X @ V, Y @ U, Y @ V
    total = (V.T @ XU) * (U.T @ YV) + (U.T @ XU) * (V.T @ YV)
    total += (V.T @ XV) * (U.T @ YU) + (U.T @ XV) * (V.T @ YU)
    return total


def _curvature(
    layout: Layout, slope: np.ndarray, loadings: np.ndarray, correlation: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Return tr G S_ab: S is bilinear in loadings and correlations, and exponential in log psi."""
    first, second = layout.split
    rows, columns = layout.entries
    bent = np.zeros((second + len(noise), second + len(noise)))
    bent[:first, :first] = 2 * slope[np.ix_(rows, rows)] * correlation[np.ix_(columns, columns)]
    product = slope @ loadings
    for index, (j, k) in enumerate(layout.pairs, start=first):
        mixed = 2 * (product[rows, k] * (columns == j) + product[rows, j] * (columns == k))
        bent[:first, index] = bent[index, :first] = mixed
    tail = np.arange(second, len(bent))
    bent[tail, tail] = slope.diagonal() * noise
    return bent


def _invert(covariance: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Return the inverse and log determinant of the observed block, the inverse with zeros elsewhere."""
    block = covariance if observed.all() else covariance[np.ix_(observed, observed)]
    factor, info = scipy.linalg.lapack.dpotrf(block, lower=1)
    if info != 0:
        return None
    lower, _ = scipy.linalg.lapack.dpotri(factor, lower=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    if not observed.all():
        padded = np.zeros_like(covariance)
        padded[np.ix_(observed, observed)] = inverse
        inverse = padded
    return inverse, float(2 * np.log(factor.diagonal()).sum())


def _mean(groups: Sequence[Group], inverses: Sequence[np.ndarray]) -> np.ndarray:
    """Return the best mean for given covariances."""
    if len(groups) == 1:
        return groups[0].mean
    precision = sum(group.share * inverse for group, inverse in zip(groups, inverses, strict=True))
    pull = sum(group.share * inverse @ group.mean for group, inverse in zip(groups, inverses, strict=True))
    return scipy.linalg.solve(precision, pull, assume_a="pos")
