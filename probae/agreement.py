r"""How well the columns of two matrices agree, beside what an arbitrary rotation would score.

A score of matched columns is inflated: the best of all signed permutations is far from 0 even for axes without
any meaning, so each comes with its chance level. A and B have columns to compare, numpy or torch; results are
float64 tensors and Python numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from probae.checks import DataError, check_count
from probae.linalg import haar_rotation
from probae.matching import Array, as_tensor, assign, matrix_pair

__all__ = [
    "Agreement",
    "ChanceLevel",
    "amari_distance",
    "chance_level",
    "mean_correlation",
    "mean_cosine",
    "tucker_congruence",
]


class ChanceLevel(NamedTuple):
    """What columns without meaning score: the mean, the 95 % quantile, and the standard error of the mean.

    The error is 0 where both are exact, else that of the simulation.
    """

    mean: float
    upper: float
    error: float = 0.0

    def __str__(self) -> str:
        known = f"Monte Carlo +- {self.error:.1g}" if self.error else "exact"
        return f"chance {self.mean:.3f}, 95 % of the time below {self.upper:.3f} ({known})"


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
    a, b = (_unit(name, columns) for name, columns in zip("AB", matrix_pair(A, B), strict=True))
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
    a, b = matrix_pair(z, truth, names=("z", "truth"))
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
    a, b = matrix_pair(A, B)
    unit = _unit("A", a)
    rotated = a @ _haar_draws(a.shape[1])
    cosines = unit.T @ (rotated / np.linalg.norm(rotated, axis=-2, keepdims=True))
    return _agreement(unit.T @ _unit("B", b), _chance(cosines))


@lru_cache(maxsize=64)
def chance_level(latents: int, dimension: int | None = None) -> ChanceLevel:
    r"""Mean and 95 % quantile of the matched mean |correlation| or |cosine| of columns that mean nothing.

    The score of U'V for two Haar-distributed orthonormal K-frames in ``dimension`` dimensions:

    - ``latents`` (the default): axes turned at random within the right subspace;
    - N - 1: scores of N rows that have nothing to do with the true ones;
    - D: orthonormal loadings of D features that have nothing to do with the true ones.

    Exact for one column, where :math:`\cos^2 \sim \mathrm{Beta}(1/2, (d - 1)/2)`, and for rotations of two; else
    simulated with a fixed seed (4000 rotations for two latents, fewer for more, standard error below .002).

    Raises
    ------
    ParameterError
        Fewer dimensions than latents.

    Examples
    --------
    >>> round(chance_level(2).mean, 4), round(chance_level(10).mean, 2)
    (0.9003, 0.59)
    >>> print(chance_level(1, 101))                              # one factor, 102 unrelated rows
    chance 0.080, 95 % of the time below 0.195 (exact)
    """
    check_count("latents", latents)
    size = latents if dimension is None else check_count("dimension", dimension, minimum=latents)
    if latents == 1:
        mean = math.exp(math.lgamma(size / 2) - math.lgamma((size + 1) / 2)) / math.sqrt(math.pi)
        upper = 1.0 if size == 1 else math.sqrt(stats.beta.ppf(0.95, 0.5, (size - 1) / 2))
        return ChanceLevel(mean, upper)
    if latents == size == 2:
        return ChanceLevel(2 * math.sqrt(2) / math.pi, math.cos(0.05 * math.pi / 4))
    return _chance(_haar_draws(latents) if size == latents else _frame_draws(latents, size))


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
    a, b = matrix_pair(A, B, same_columns=False)
    return as_tensor(_unit("A", a).T @ _unit("B", b))


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


def _agreement(similarity: Array, chance: ChanceLevel) -> Agreement:
    order, signs = assign(similarity)
    matched = np.abs(similarity[np.arange(len(order)), order])
    return Agreement(
        float(matched.mean()), chance, as_tensor(matched), torch.from_numpy(order), as_tensor(signs)
    )


def _haar_draws(latents: int) -> Array:
    """Enough draws for a standard error below .002: the score averages over latents, so fewer for more."""
    count = max(50, 8000 // latents)
    return haar_rotation(latents, torch.Generator().manual_seed(0), count).numpy()


def _frame_draws(latents: int, dimension: int) -> Array:
    """Draw U'V as the first K rows of X T^{-1}, X normal (dimension, K) and T'T = X'X, whose other rows are Wishart."""
    generator = torch.Generator().manual_seed(0)
    count, rest = max(50, 8000 // latents), dimension - latents
    shape = (count, min(rest, latents), latents)
    top = torch.randn(count, latents, latents, generator=generator, dtype=torch.float64)
    below = torch.randn(shape, generator=generator, dtype=torch.float64)
    if rest > latents:  # Bartlett: a triangle with chi variables on its diagonal has the same cross product
        freedom = (rest - torch.arange(latents, dtype=torch.float64)).expand(count, latents)
        chi = (2 * torch._standard_gamma(0.5 * freedom, generator=generator)).sqrt()
        below = below.triu(1) + torch.diag_embed(chi)
    root = torch.linalg.cholesky(top.mT @ top + below.mT @ below)
    return torch.linalg.solve_triangular(root, top.mT, upper=False).mT.numpy()


def _chance(similarities: Array) -> ChanceLevel:
    scores = [np.abs(s)[linear_sum_assignment(-np.abs(s))].mean() for s in similarities]
    error = np.std(scores) / math.sqrt(len(scores))
    return ChanceLevel(float(np.mean(scores)), float(np.quantile(scores, 0.95)), float(error))


def _spread(p: Array) -> float:
    """Sum over rows of (sum / max - 1); a row of zeros matches nothing and counts as fully mixed."""
    top = p.max(1)
    return float(np.where(top > 0, p.sum(1) / np.where(top > 0, top, 1.0) - 1, p.shape[1] - 1).sum())
