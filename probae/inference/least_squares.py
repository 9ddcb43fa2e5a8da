r"""Least squares on the correlation matrix: the sum of squares that the likelihood replaces, and its derivatives.

With R the correlation matrix, e_1 >= ... >= e_D and u_j the eigenvalues and vectors of R - Psi, the best K columns of
loadings for given uniquenesses are W = U_K diag(max(e, 0))^{1/2}, and what they leave is

    f(psi)      = 1/2 sum_ij (R - Psi - W W')_ij^2 = 1/2 sum_{m > K} e_m^2
    df/dpsi_i   = - sum_{m > K} e_m u_im^2
    d2f/dpsi2   = (U_> U_>')_ij^2 + 2 sum_{m > K >= n} e_m / (e_m - e_n) u_im u_in u_jm u_jn

(Joreskog, 1977, "Factor analysis by least-squares and maximum-likelihood methods", section 3; eigenvalues up to K that
are negative count among the rest).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data, DataError, NotExactError, ParameterError
from probae.inference import profile
from probae.inference.base import ExactPosterior, Method, Outcome
from probae.inference.eigenpairs import leading_eigenpairs
from probae.inference.gaussian import assign, usable_latents, warn_heywood
from probae.models import LinearFactorModel
from probae.priors import Gaussian
from probae.statistics import SufficientStatistics


class Solution(NamedTuple):
    """Uniquenesses (D,) of standardised variables, the objective after each step, and whether it converged."""

    psi: np.ndarray
    history: list[float]
    converged: bool


@dataclass(frozen=True)
class LeastSquares(Method):
    """A method that explains the correlations off the diagonal by least squares; subclasses say how to iterate."""

    objective_name: ClassVar[str] = "minus half the squared residual correlations"
    accepts_statistics: ClassVar[bool] = True

    def solve(self, correlation: np.ndarray, latents: int) -> Solution:
        """Find the uniquenesses."""
        raise NotImplementedError

    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Fit factor analysis in place, on the correlation matrix; undo the standardisation."""
        self._check(model)
        statistics = self._summarize(data)
        covariance = statistics.covariance.numpy()
        variance = covariance.diagonal()
        varying = variance > profile.FLOOR**2 * max(variance.max(), np.finfo(float).tiny)
        if varying.sum() < 2:
            raise DataError("Factor analysis needs at least two columns that vary; all others are constant.")
        scale = np.sqrt(variance[varying])
        correlation = covariance[np.ix_(varying, varying)] / np.outer(scale, scale)
        latents = usable_latents(model, int(varying.sum()))
        found = self.solve(correlation, latents)
        loadings = np.zeros((model.features, model.latents))
        loadings[np.ix_(varying, np.arange(latents))] = scale[:, None] * best_loadings(
            correlation, found.psi, latents
        )
        noise = np.full(model.features, profile.FLOOR * scale.min() ** 2)
        noise[varying] = found.psi * scale**2
        assign(model, loadings, noise, statistics.mean)
        warn_heywood(np.flatnonzero(varying)[found.psi <= profile.FLOOR * 1.01], statistics.names)
        return Outcome(ExactPosterior(model), found.history, found.converged)

    def objective_in_units(self, value: float, units: Float[Tensor, " features"]) -> float:
        """Return the objective as it is: correlations have no unit."""
        return value

    def _check(self, model: LinearFactorModel) -> None:
        name = type(self).__name__
        if not isinstance(model, LinearFactorModel) or not isinstance(model.prior, Gaussian):
            raise NotExactError(
                f"{name} explains correlations by uncorrelated Gaussian factors, got {model!r}: use FactorAnalysis."
            )
        if model.noise != "diagonal":
            raise ParameterError(f'{name} needs a model with noise="diagonal", got noise="{model.noise}".')
        if not bool(torch.as_tensor(getattr(model, "pattern", True)).all()):
            raise ParameterError(
                f"{name} has no fixed loadings: fit a confirmatory model with MaximumLikelihood()."
            )

    def _summarize(self, data: Data | SufficientStatistics) -> SufficientStatistics:
        if isinstance(data, SufficientStatistics):
            return data
        if data.missing is not None:
            raise DataError(
                f"{type(self).__name__} needs complete rows, but x has missing values: use EM(), which integrates "
                "them out."
            )
        statistics = SufficientStatistics.from_data(data.values)
        return SufficientStatistics(statistics.count, statistics.mean, statistics.scatter, data.names)


@dataclass(frozen=True, eq=False)
class Residual:
    """Value, gradient and eigenpairs of f at one point, eigenvalues from the largest down."""

    psi: np.ndarray
    value: float
    gradient: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    kept: int

    def hessians(self) -> tuple[np.ndarray, np.ndarray]:
        """Second derivatives, and the part of them that is never negative."""
        rest = self.eigenvectors[:, self.kept :]
        projection = rest @ rest.T
        squared = projection * projection
        exact = squared.copy()
        low = self.eigenvalues[self.kept :]
        for j in range(self.kept):
            weight = low / np.minimum(low - self.eigenvalues[j], -1e-8)
            vector = self.eigenvectors[:, j]
            exact += 2 * np.outer(vector, vector) * ((rest * weight) @ rest.T)
        return exact, squared


def evaluate(correlation: np.ndarray, psi: np.ndarray, latents: int) -> Residual:
    """Evaluate f and its gradient at uniquenesses ``psi`` (D,)."""
    values, vectors = scipy.linalg.eigh(correlation - np.diag(psi), check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = int((values[:latents] > 0).sum())
    rest = values[kept:]
    return Residual(
        psi, float(0.5 * rest @ rest), -np.square(vectors[:, kept:]) @ rest, values, vectors, kept
    )


def best_loadings(correlation: np.ndarray, psi: np.ndarray, latents: int) -> np.ndarray:
    """Return the principal axes (D, K) of R - Psi."""
    values, vectors = leading_eigenpairs(correlation - np.diag(psi), latents)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def multiple_correlations(correlation: np.ndarray) -> np.ndarray:
    """Return one minus the squared multiple correlation of each variable with the others: where to start.

    Where R is singular it is one minus the largest squared correlation.
    """
    factor, info = scipy.linalg.lapack.dpotrf(correlation)
    if info == 0 and factor.diagonal().min() > 1e-6:
        inverse, _ = scipy.linalg.lapack.dpotri(factor)
        guess = 1.0 / inverse.diagonal()
    else:
        off = np.abs(correlation - np.diag(correlation.diagonal()))
        guess = 1.0 - off.max(axis=1) ** 2
    return np.clip(guess, 0.005, 0.995)
