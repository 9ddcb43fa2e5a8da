r"""Directions of the parameters of a Gaussian factor model that its covariance does not see.

With S = W Phi W' + Psi = L L', derivatives S_a by the free parameters, the columns

    vec(L^{-1} S_a L^{-T}) / sqrt 2,   brought to length 1,

have the correlations of the Fisher information as their inner products: its null space is theirs, and the singular
values of these columns are found without squaring them. Among the null directions, those of B in gl(K) with

    dW = W B,  dPhi = -B Phi - Phi B',   where both keep every fixed loading, correlation and variance,

are rotations of the factors; all others change the noise variances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from probae.checks import NotExactError, ParameterError
from probae.identifiability.structure import connected
from probae.inference.masked import Layout
from probae.inference.profile import FLOOR
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel

__all__ = ["Nullity", "Rotations", "fisher_nullity"]

NULL = 1e-9  # singular value, relative to the largest, of a direction that the covariance does not see
GAP = 1e4  # least ratio of the smallest other singular value to it
MIXING = 1e-6  # entry of a rotation below which two factors do not mix
LARGEST = 30_000_000  # numbers in the Jacobian; beyond, its cross products are used


@dataclass(frozen=True)
class Rotations:
    """What the fixed zeros leave of the rotations W -> W B of the factors.

    Attributes
    ----------
    dimension : int
        Dimension of the group that is left.
    blocks : tuple of tuples of int
        Factors that mix among each other; a block of one mixes with no other.
    fixed : tuple of int
        Factors whose own column of loadings no rotation changes.
    oblique : bool
        Whether the correlations of the factors are free, so that B need not be orthogonal.
    """

    dimension: int
    blocks: tuple[tuple[int, ...], ...]
    fixed: tuple[int, ...]
    oblique: bool


@dataclass(frozen=True)
class Nullity:
    """Dimension of the flat directions of the likelihood, and how clearly it was found.

    Attributes
    ----------
    dimension : int
        Flat directions of all free parameters.
    rotations : Rotations
        Those that turn the factors.
    features : tuple of int
        Features whose noise variance changes along the other flat directions.
    parameters : int
        Free parameters, the means left out.
    largest_null, smallest_other : float
        Singular values on either side of the gap, relative to the largest.
    boundary : tuple of int
        Features at the floor of their noise variance, whose noise was held fixed.
    spectrum : tuple of float
        All singular values, ascending, relative to the largest.
    """

    dimension: int
    rotations: Rotations
    features: tuple[int, ...]
    parameters: int
    largest_null: float
    smallest_other: float
    boundary: tuple[int, ...]
    spectrum: tuple[float, ...] = ()

    @property
    def beyond_rotations(self) -> int:
        """Flat directions that are no rotation: the noise variances are then not identified."""
        return max(self.dimension - self.rotations.dimension, 0)

    @property
    def conclusive(self) -> bool:
        """Whether the singular values fall into two groups, four decades apart."""
        return self.smallest_other > GAP * max(self.largest_null, 1e-13)


@dataclass(frozen=True, eq=False)
class Parts:
    """Loadings, correlations and noise of a model as arrays, in units of each feature, and which of them are free."""

    layout: Layout
    loadings: np.ndarray
    correlation: np.ndarray
    noise: np.ndarray
    isotropic: bool
    boundary: np.ndarray

    @classmethod
    def of(cls, model: LinearFactorModel) -> Parts:
        """Read a Gaussian model with noise."""
        if not isinstance(model, LinearFactorModel) or not model.gaussian:
            raise NotExactError(
                f"Counting rules read the covariance of Gaussian factors, got {model!r}: other laws are identified by "
                "more than the covariance; ask audit(fit, x)."
            )
        if model.noise == "none":
            raise ParameterError(
                'Counting rules are about loadings and noise variances, and the model has noise="none".'
            )
        loadings, noise, _ = (value.numpy() for value in model._gaussian_parameters())
        correlation = model.factor_correlation.numpy()
        variance = ((loadings @ correlation) * loadings).sum(axis=1) + noise
        if not (np.isfinite(variance).all() and (variance > 0).all()):
            raise ParameterError("The loadings and noise variances should be finite: fit the model again.")
        masked = isinstance(model, ConfirmatoryFactorAnalysis)
        pattern = model.pattern.numpy() if masked else np.ones(loadings.shape, dtype=bool)
        pairs = tuple(model.free_correlations) if masked else ()
        isotropic = model.noise == "isotropic"
        boundary = (noise <= 1.01 * FLOOR * variance) & (not isotropic)
        scale = np.full(len(variance), math.sqrt(variance.mean())) if isotropic else np.sqrt(variance)
        return cls(
            Layout(pattern, pairs),
            loadings / scale[:, None],
            correlation,
            noise / scale**2,
            isotropic,
            boundary,
        )


def fisher_nullity(model: LinearFactorModel) -> Nullity:
    """Count the directions of the parameters along which the likelihood of a Gaussian factor model is flat.

    Free parameters are the loadings (those of the pattern, for a `ConfirmatoryFactorAnalysis`), the free correlations
    and the noise variances, apart from those at their floor.

    Parameters
    ----------
    model : LinearFactorModel
        With Gaussian factors and noise, at the parameters it has.

    Returns
    -------
    Nullity

    Raises
    ------
    NotExactError
        The factors are not Gaussian.
    ParameterError
        The model has no noise, or parameters that are not finite.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> found = fisher_nullity(run.model)
    >>> found.dimension, found.rotations.dimension, found.conclusive
    (3, 3, True)
    """
    parts = Parts.of(model)
    values, vectors = _singular(parts)
    relative = values / max(float(values.max(initial=0.0)), 1e-300)
    null = relative < NULL
    rotations = remaining_rotations(parts)
    return Nullity(
        dimension=int(null.sum()),
        rotations=rotations,
        features=_unidentified_noise(parts, vectors[:, null]),
        parameters=len(values),
        largest_null=float(relative[null].max(initial=0.0)),
        smallest_other=float(relative[~null].min(initial=1.0)),
        boundary=tuple(np.flatnonzero(parts.boundary).tolist()),
        spectrum=tuple(np.sort(relative).tolist()),
    )


def _columns(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Return U, V (D, parameters) with S_a = u_a v_a' + v_a u_a', those of noise at its floor left out."""
    U, V = parts.layout.derivatives(parts.loadings, parts.correlation, parts.noise)
    tail = parts.layout.split[1]
    kept = np.concatenate([np.ones(tail, dtype=bool), ~parts.boundary])
    return U[:, kept], V[:, kept]


def _singular(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Return singular values and right singular vectors of the normalised Jacobian."""
    covariance = parts.loadings @ parts.correlation @ parts.loadings.T + np.diag(parts.noise)
    lower = np.linalg.cholesky(covariance)
    U, V = (scipy.linalg.solve_triangular(lower, side, lower=True) for side in _columns(parts))
    rows, columns = np.tril_indices(len(lower))
    count = len(U.T) - (len(parts.noise) - 1 if parts.isotropic else 0)
    if len(rows) * count > LARGEST and not parts.isotropic:
        gram = (V.T @ U) * (U.T @ V) + (U.T @ U) * (V.T @ V)
        size = np.sqrt(gram.diagonal())
        eigenvalues, vectors = np.linalg.eigh(gram / np.outer(size, size))
        values = np.sqrt(np.maximum(eigenvalues, 0.0))
        return np.where(values < 1e-6, 1e-14, values), vectors
    weight = np.where(rows == columns, math.sqrt(0.5), 1.0)[:, None]
    jacobian = weight * (U[rows] * V[columns] + V[rows] * U[columns])
    if parts.isotropic:
        tail = parts.layout.split[1]
        jacobian = np.column_stack([jacobian[:, :tail], jacobian[:, tail:].sum(axis=1)])
    jacobian /= np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
    triangular = np.linalg.qr(jacobian, mode="r")  # the same singular values, without the long side
    _, values, right = np.linalg.svd(triangular, full_matrices=True)
    values = np.concatenate([values, np.zeros(jacobian.shape[1] - len(values))])
    return values, right.T


def _unidentified_noise(parts: Parts, null: np.ndarray) -> tuple[int, ...]:
    """Return the features whose noise variance moves along a null direction (rotations do not move any)."""
    if parts.isotropic or null.shape[1] == 0:
        return ()
    moved = np.abs(null[parts.layout.split[1] :]).max(axis=1) > 1e-6
    return tuple(np.flatnonzero(~parts.boundary)[moved].tolist())


def remaining_rotations(parts: Parts) -> Rotations:
    """Solve for the B in gl(K) that keep every fixed loading, correlation and factor variance."""
    pattern, phi = parts.layout.pattern, parts.correlation
    latents = pattern.shape[1]
    units = [np.eye(latents)[[j]].T @ np.eye(latents)[[k]] for j in range(latents) for k in range(latents)]
    moved = [(parts.loadings @ unit, unit @ phi + phi @ unit.T) for unit in units]
    free = np.zeros((latents, latents), dtype=bool)
    free[parts.layout.sides] = True
    fixed = np.triu(~free)
    constraints = np.array([np.concatenate([w[~pattern], p[fixed]]) for w, p in moved])
    effect = np.array([np.concatenate([w[pattern], p[free]]) for w, p in moved])
    basis = scipy.linalg.null_space(np.linalg.qr(constraints.T, mode="r"), rcond=1e-10)
    shift = effect.T @ basis
    _, values, right = np.linalg.svd(np.linalg.qr(shift, mode="r"), full_matrices=True)
    rank = int((values > 1e-9 * max(float(values.max(initial=0.0)), 1.0)).sum())
    algebra = (basis @ right[:rank].T).T.reshape(rank, latents, latents)
    mixing = np.abs(algebra).max(axis=0, initial=0.0) > MIXING
    np.fill_diagonal(mixing, False)
    edges = {(min(j, k), max(j, k)) for j, k in np.argwhere(mixing).tolist()}
    still = tuple(np.flatnonzero(~mixing.any(axis=0)).tolist())
    return Rotations(rank, connected(latents, edges), still, bool(parts.layout.pairs))
