r"""How close two sets of columns are: up to a rotation, up to signs and order, and beyond chance.

Loadings W and W R explain x equally well under a Gaussian prior, and W with signed and permuted columns
under any symmetric one, so two fits are compared only after the best such change. A and B are always (D, K)
with columns to compare, numpy or torch; results are float64 tensors and Python numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes, subspace_angles
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from probae.checks import DataError, check_count
from probae.linalg import haar_rotation

__all__ = [
    "Agreement",
    "ChanceLevel",
    "ColumnMatch",
    "Procrustes",
    "amari_distance",
    "chance_level",
    "match_columns",
    "mean_correlation",
    "mean_cosine",
    "principal_angles",
    "procrustes",
    "rotation_angle",
    "tucker_congruence",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Procrustes:
    """What `procrustes` finds: matched = B @ rotation, distance = ||A - matched||_F / ||A||_F."""

    rotation: Float[Tensor, "latents latents"]
    matched: Float[Tensor, "features latents"]
    distance: float


@dataclass(frozen=True, eq=False)
class ColumnMatch:
    """What `match_columns` finds: matched = B[:, order] * signs, and one cosine for each column of A."""

    order: Int[Tensor, " latents"]
    signs: Float[Tensor, " latents"]
    matched: Float[Tensor, "features latents"]
    distance: float
    cosines: Float[Tensor, " latents"]


class ChanceLevel(NamedTuple):
    """What an arbitrary rotation scores: the mean and the 95 % quantile."""

    mean: float
    upper: float


@dataclass(frozen=True, eq=False)
class Agreement:
    """Mean agreement of matched columns beside what an arbitrary rotation would score.

    Attributes
    ----------
    value : mean of `per_column`, in [0, 1]
    chance : Haar mean and 95 % quantile of the same score
    per_column : agreement of each column of the reference with its partner
    order, signs : the partner of column j of the reference is signs[j] times column order[j] of the estimate

    Examples
    --------
    >>> import torch
    >>> one = Agreement(0.9, ChanceLevel(0.8, 0.95), torch.ones(2), torch.arange(2), torch.ones(2))
    >>> round(one.corrected, 12)
    0.5
    """

    value: float
    chance: ChanceLevel
    per_column: Float[Tensor, " latents"]
    order: Int[Tensor, " latents"]
    signs: Float[Tensor, " latents"]

    @property
    def corrected(self) -> float:
        """(value - chance) / (1 - chance): 1 is perfect, 0 is chance; NaN for one column: it has no axes."""
        room = 1 - self.chance.mean
        return (self.value - self.chance.mean) / room if room > 1e-9 else math.nan


def procrustes(A: Any, B: Any) -> Procrustes:
    """Find the orthogonal R (reflections included) that minimises ||A - B R||_F.

    Parameters
    ----------
    A, B : shape (D, K)

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, or A is zero.

    References
    ----------
    Schonemann, P. H. (1966). A generalized solution of the orthogonal Procrustes problem. Psychometrika 31,
    1-10.

    Examples
    --------
    >>> A = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> procrustes(A, A[:, ::-1]).rotation.round(decimals=9).abs()
    tensor([[0., 1.],
            [1., 0.]], dtype=torch.float64)
    """
    a, b = _pair(A, B)
    rotation, _ = orthogonal_procrustes(b, a)
    return Procrustes(_tensor(rotation), _tensor(b @ rotation), _distance(a, b @ rotation))


def match_columns(A: Any, B: Any) -> ColumnMatch:
    """Find the signs and the order of B's columns that minimise ||A - matched||_F.

    One assignment problem on the cost ||a_i||^2 + ||b_j||^2 - 2 |a_i' b_j|, which has the optimum of the
    search over all 2^K K! signed permutations. `distance` is ||A - matched||_F / ||A||_F; `cosines` are
    those of the matched pairs (0 beside a zero column).

    Parameters
    ----------
    A, B : shape (D, K)

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, or A is zero.

    Examples
    --------
    >>> A = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> match = match_columns(A, -A[:, ::-1])
    >>> match.order, match.signs, match.distance
    (tensor([1, 0]), tensor([-1., -1.], dtype=torch.float64), 0.0)
    """
    a, b = _pair(A, B)
    order, signs = _assign(a.T @ b)
    matched = b[:, order] * signs
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(matched, axis=0)
    cosines = (a * matched).sum(0) / np.where(lengths > 0, lengths, 1.0)
    return ColumnMatch(
        torch.from_numpy(order), _tensor(signs), _tensor(matched), _distance(a, matched), _tensor(cosines)
    )


def principal_angles(A: Any, B: Any) -> Float[Tensor, " angles"]:
    """Angles between the column spaces of A (D, K) and B (D, L), in degrees, largest first.

    Blind to rotation and scale of the columns: what must be 0 before axes are worth comparing.

    Raises
    ------
    DataError
        If the numbers of rows differ, a value is not finite, or a matrix is zero.

    Examples
    --------
    >>> principal_angles([[1.0], [0.0]], [[1.0], [1.0]]).round(decimals=9)
    tensor([45.], dtype=torch.float64)
    """
    a, b = _pair(A, B, same_columns=False)
    _refuse_zero("A", a)
    _refuse_zero("B", b)
    return _tensor(np.degrees(subspace_angles(a, b)))


def amari_distance(A: Any, B: Any) -> float:
    r"""Amari index of P = A^+ B, in [0, 1]: 0 where each column of B is a scaled column of A, each used once.

    1 / (2 K (K - 1)) [ sum_i (sum_j |p_ij| / max_j |p_ij| - 1) + sum_j (sum_i |p_ij| / max_i |p_ij| - 1) ]

    Columns are scaled to unit length first, so scales, signs and order do not count. P sees B only inside
    the column space of A: for D > K read `principal_angles` beside it. One column always gives 0.

    Parameters
    ----------
    A : shape (D, K), of rank K
    B : shape (D, K), no zero column

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, a column is zero, or A has rank below K.

    References
    ----------
    Amari, S., Cichocki, A. & Yang, H. H. (1996). A new learning algorithm for blind signal separation. NIPS
    8, 757-763.

    Examples
    --------
    >>> round(amari_distance(np.eye(2), [[0.0, 3.0], [-2.0, 0.0]]), 12)
    0.0
    >>> round(amari_distance(np.eye(2), [[1.0, 1.0], [1.0, -1.0]]), 12)
    1.0
    """
    a, b = (_unit(name, columns) for name, columns in zip("AB", _pair(A, B), strict=True))
    k = a.shape[1]
    if np.linalg.matrix_rank(a) < k:
        raise DataError(
            f"A should have {k} independent columns, got rank {np.linalg.matrix_rank(a)}: "
            "its pseudo-inverse cannot tell them apart."
        )
    p = np.abs(np.linalg.pinv(a) @ b)
    return float((_spread(p) + _spread(p.T)) / (2 * k * (k - 1))) if k > 1 else 0.0


def mean_correlation(z: Any, truth: Any) -> Agreement:
    """Mean |correlation| of matched columns of estimated and true latents (MCC), beside its chance level.

    Columns are matched by one assignment that maximises the sum of |corr|. The score is inflated: an
    arbitrary rotation of two latents already averages 0.90, so read `corrected`, or compare with `chance`.

    Parameters
    ----------
    z, truth : shape (N, K), N >= 3

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, a column is constant, or there are fewer than 3 rows.

    Examples
    --------
    >>> truth = np.random.default_rng(0).laplace(size=(500, 3))
    >>> mcc = mean_correlation(-truth[:, [2, 0, 1]], truth)
    >>> round(mcc.value, 12), round(mcc.corrected, 12), mcc.order
    (1.0, 1.0, tensor([1, 2, 0]))
    """
    a, b = _pair(z, truth, names=("z", "truth"))
    if len(a) < 3:
        raise DataError(f"z should have at least 3 rows to correlate, got {len(a)}.")
    similarity = _standardise("truth", b).T @ _standardise("z", a)
    return _agreement(similarity, chance_level(a.shape[1]))


def mean_cosine(A: Any, B: Any) -> Agreement:
    """Mean |cosine| of matched columns of A (reference) and B (estimate), beside its chance level.

    Chance is the score of A R against A for Haar R: the right column space with arbitrary axes.

    Parameters
    ----------
    A, B : shape (D, K), no zero column

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, or a column is zero.

    Examples
    --------
    >>> A = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(mean_cosine(A, -3 * A).value, 12)
    1.0
    """
    a, b = _pair(A, B)
    unit = _unit("A", a)
    rotated = a @ _haar_draws(a.shape[1])
    cosines = unit.T @ (rotated / np.linalg.norm(rotated, axis=-2, keepdims=True))
    return _agreement(unit.T @ _unit("B", b), _chance(cosines))


@lru_cache(maxsize=64)
def chance_level(latents: int) -> ChanceLevel:
    """Mean and 95 % quantile of the matched mean |correlation| between latents and a Haar rotation of them.

    Simulated with a fixed seed (4000 rotations for two latents, fewer for more, standard error below .002).
    For two latents the exact mean is 2 sqrt(2) / pi = .9003.

    Examples
    --------
    >>> round(chance_level(2).mean, 2), round(chance_level(10).mean, 2)
    (0.9, 0.59)
    """
    return _chance(_haar_draws(check_count("latents", latents)))


def rotation_angle(R: Any) -> float:
    """Geodesic angle of an orthogonal matrix, ||log R||_F / sqrt(2), in degrees.

    The root of the sum of squared angles over the planes R turns. An eigenvalue -1 left without a partner (a
    reflection) counts with the complex principal logarithm, 180 / sqrt(2).

    Parameters
    ----------
    R : orthogonal, shape (K, K)

    Raises
    ------
    DataError
        If R is not square or R' R differs from I by more than 1e-6.

    Examples
    --------
    >>> from probae.linalg import givens
    >>> round(rotation_angle(givens(4, 1, 3, math.pi / 6)), 9)
    30.0
    """
    r = _matrix("R", R)
    if r.shape[0] != r.shape[1] or np.abs(r.T @ r - np.eye(len(r))).max() > 1e-6:
        raise DataError(f"R should be an orthogonal matrix, got shape {r.shape} with R' R not the identity.")
    return math.degrees(np.linalg.norm(np.angle(np.linalg.eigvals(r))) / math.sqrt(2))


def tucker_congruence(A: Any, B: Any) -> Float[Tensor, "latents others"]:
    """Tucker's congruence a_i' b_j / (|a_i| |b_j|) of every column of A (D, K) with every one of B (D, L).

    Raises
    ------
    DataError
        If the numbers of rows differ, a value is not finite, or a column is zero.

    References
    ----------
    Lorenzo-Seva, U. & ten Berge, J. M. F. (2006). Tucker's congruence coefficient as a meaningful index of
    factor similarity. Methodology 2, 57-64 (.85 to .94 fair, above .95 equal).

    Examples
    --------
    >>> tucker_congruence([[1.0], [1.0]], [[1.0, 2.0], [0.0, 2.0]])
    tensor([[0.7071, 1.0000]], dtype=torch.float64)
    """
    a, b = _pair(A, B, same_columns=False)
    return _tensor(_unit("A", a).T @ _unit("B", b))


def _matrix(name: str, value: Any) -> Array:
    raw = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    try:
        matrix = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} should be a matrix of numbers, got {type(value).__name__}: {error}"
        ) from error
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"{name} should be a matrix with rows and columns, got shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise DataError(f"{name} should be finite, got {matrix[row, column]} at row {row}, column {column}.")
    return matrix


def _pair(
    A: Any, B: Any, same_columns: bool = True, names: tuple[str, str] = ("A", "B")
) -> tuple[Array, Array]:
    a, b = _matrix(names[0], A), _matrix(names[1], B)
    if a.shape[0] != b.shape[0] or (same_columns and a.shape != b.shape):
        what = "the same shape" if same_columns else "the same number of rows"
        raise DataError(f"{names[0]} and {names[1]} should have {what}, got {a.shape} and {b.shape}.")
    return a, b


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _refuse_zero(name: str, matrix: Array) -> None:
    if not matrix.any():
        raise DataError(f"{name} should have a value other than zero: there is nothing to compare with.")


def _distance(a: Array, matched: Array) -> float:
    _refuse_zero("A", a)
    return float(np.linalg.norm(a - matched) / np.linalg.norm(a))


def _unit(name: str, columns: Array) -> Array:
    lengths = np.linalg.norm(columns, axis=0)
    if (lengths == 0).any():
        raise DataError(
            f"{name} should have no zero column, got one at {int(lengths.argmin())}: leave it out."
        )
    return columns / lengths


def _standardise(name: str, columns: Array) -> Array:
    spread = np.ptp(columns, axis=0)
    if (spread == 0).any():  # asked before centring, which leaves rounding where there was a constant
        raise DataError(
            f"{name} should have no constant column, got one at {int(spread.argmin())}: leave it out."
        )
    return _unit(name, columns - columns.mean(0))


def _assign(similarity: Array) -> tuple[NDArray[np.int64], Array]:
    """Partner (column) of each row that maximises the sum of |similarity|, and the sign of each pair."""
    order = linear_sum_assignment(-np.abs(similarity))[1].astype(np.int64)
    return order, np.where(similarity[np.arange(len(order)), order] < 0, -1.0, 1.0)


def _agreement(similarity: Array, chance: ChanceLevel) -> Agreement:
    order, signs = _assign(similarity)
    matched = np.abs(similarity[np.arange(len(order)), order])
    return Agreement(float(matched.mean()), chance, _tensor(matched), torch.from_numpy(order), _tensor(signs))


def _haar_draws(latents: int) -> Array:
    """Enough draws for a standard error below .002: the score averages over latents, so fewer for more."""
    count = max(50, 8000 // latents)
    return haar_rotation(latents, torch.Generator().manual_seed(0), count).numpy()


def _chance(similarities: Array) -> ChanceLevel:
    scores = [np.abs(s)[linear_sum_assignment(-np.abs(s))].mean() for s in similarities]
    return ChanceLevel(float(np.mean(scores)), float(np.quantile(scores, 0.95)))


def _spread(p: Array) -> float:
    """Sum over rows of (sum / max - 1); a row of zeros matches nothing and counts as fully mixed."""
    top = p.max(1)
    return float(np.where(top > 0, p.sum(1) / np.where(top > 0, top, 1.0) - 1, p.shape[1] - 1).sum())
