r"""How close two sets of columns are: up to a rotation, and up to signs and order.

Loadings W and W R explain x equally well under a Gaussian prior, and W with signed and permuted columns
under any symmetric one, so two fits are compared only after the best such change. A and B are always (D, K)
with columns to compare, numpy or torch; results are float64 tensors and Python numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.linalg import logm, orthogonal_procrustes, subspace_angles
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from probae.checks import DataError

__all__ = [
    "ColumnMatch",
    "Procrustes",
    "match_columns",
    "plane_angles",
    "principal_angles",
    "procrustes",
    "rotation_angle",
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
    a, b = matrix_pair(A, B)
    rotation, _ = orthogonal_procrustes(b, a)
    return Procrustes(as_tensor(rotation), as_tensor(b @ rotation), _distance(a, b @ rotation))


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
    a, b = matrix_pair(A, B)
    order, signs = assign(a.T @ b)
    matched = b[:, order] * signs
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(matched, axis=0)
    cosines = (a * matched).sum(0) / np.where(lengths > 0, lengths, 1.0)
    return ColumnMatch(
        torch.from_numpy(order),
        as_tensor(signs),
        as_tensor(matched),
        _distance(a, matched),
        as_tensor(cosines),
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
    a, b = matrix_pair(A, B, same_columns=False)
    _refuse_zero("A", a)
    _refuse_zero("B", b)
    return as_tensor(np.degrees(subspace_angles(a, b)))


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
    r = _orthogonal(R)
    return math.degrees(np.linalg.norm(np.angle(np.linalg.eigvals(r))) / math.sqrt(2))


def plane_angles(R: Any) -> Float[Tensor, "latents latents"]:
    """Angle in each plane of a rotation near the identity: the skew matrix log R, in degrees.

    Entry (i, j) is above 0 where axis i turns away from axis j. The root of the sum over planes of their squares is
    `rotation_angle`. Match signs and order first: beyond 180 degrees a logarithm is another one.

    Parameters
    ----------
    R : orthogonal with determinant 1, shape (K, K)

    Raises
    ------
    DataError
        If R is not orthogonal, or reflects.

    Examples
    --------
    >>> from probae.linalg import givens
    >>> plane_angles(givens(3, 0, 2, math.pi / 6)).abs().round(decimals=6)[0]
    tensor([ 0.,  0., 30.], dtype=torch.float64)
    """
    r = _orthogonal(R)
    if np.linalg.det(r) < 0:
        raise DataError("R should have determinant 1, got a reflection: flip the sign of a column first.")
    log = np.real(logm(r))
    return as_tensor(np.degrees(0.5 * (log - log.T)))


def _orthogonal(R: Any) -> Array:
    r = _matrix("R", R)
    if r.shape[0] != r.shape[1] or np.abs(r.T @ r - np.eye(len(r))).max() > 1e-6:
        raise DataError(f"R should be an orthogonal matrix, got shape {r.shape} with R' R not the identity.")
    return r


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


def matrix_pair(
    A: Any, B: Any, same_columns: bool = True, names: tuple[str, str] = ("A", "B")
) -> tuple[Array, Array]:
    """Read two matrices with as many rows, and as many columns if asked for."""
    a, b = _matrix(names[0], A), _matrix(names[1], B)
    if a.shape[0] != b.shape[0] or (same_columns and a.shape != b.shape):
        what = "the same shape" if same_columns else "the same number of rows"
        raise DataError(f"{names[0]} and {names[1]} should have {what}, got {a.shape} and {b.shape}.")
    return a, b


def as_tensor(values: Array) -> Tensor:
    """Turn an array into a contiguous float64 tensor, sharing its memory where that is possible."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _refuse_zero(name: str, matrix: Array) -> None:
    if not matrix.any():
        raise DataError(f"{name} should have a value other than zero: there is nothing to compare with.")


def _distance(a: Array, matched: Array) -> float:
    _refuse_zero("A", a)
    return float(np.linalg.norm(a - matched) / np.linalg.norm(a))


def assign(similarity: Array) -> tuple[NDArray[np.int64], Array]:
    """Partner (column) of each row that maximises the sum of |similarity|, and the sign of each pair."""
    order = linear_sum_assignment(-np.abs(similarity))[1].astype(np.int64)
    return order, np.where(similarity[np.arange(len(order)), order] < 0, -1.0, 1.0)
