r"""Factor scores of a Gaussian model, with what is known of their error.

With M = W' Psi^{-1} W over the observed features of a row, S the covariance of these, and z ~ N(0, Phi),

    regression    Phi W' S^{-1} (x - mean)           the posterior mean: least mean square error       (Thomson, 1934)
    Bartlett      M^{-1} W' Psi^{-1} (x - mean)      unbiased given z: least noise among those         (Bartlett, 1937)
    tenBerge      A W' S^{-1} (x - mean)             covariance Phi, as the factors have it  (ten Berge et al., 1999)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import MissingRowWarning, ParameterError, check_data, warn
from probae.factors.structure import Structure, structure_of
from probae.inference import Fit
from probae.models.marginal import missing_patterns

RANK = 1e-12  # of Psi^{-1/2} W, relative: below it unbiased scores do not exist


@dataclass(frozen=True, eq=False)
class FactorScores:
    r"""Scores of the rows, and how good they are.

    Matrices are (K, K), one for all rows, or (N, K, K) where entries are missing; likewise the vectors.

    Attributes
    ----------
    values : Tensor (N, K)
    covariance : Tensor (K, K) or (N, K, K)
        Covariance of the scores over rows of the population.
    error_covariance : Tensor (K, K) or (N, K, K)
        Mean of (score - z)(score - z)'. For regression scores it is also the posterior covariance of z.
    validity : Tensor (K,) or (N, K)
        Correlation of each score with its factor.
    determinacy : Tensor (K,) or (N, K)
        The largest such correlation any linear score can have: the multiple correlation rho of the factor with x, which
        regression scores reach.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> scores = pa.bartlett_scores(pa.fit(pa.FactorAnalysis(9, 2), x), x)
    >>> scores.values.shape, scores.error_covariance.shape, bool((scores.validity <= scores.determinacy).all())
    (torch.Size([301, 2]), torch.Size([2, 2]), True)
    """

    values: Float[Tensor, "samples latents"]
    covariance: Float[Tensor, "*samples latents latents"]
    error_covariance: Float[Tensor, "*samples latents latents"]
    validity: Float[Tensor, "*samples latents"]
    determinacy: Float[Tensor, "*samples latents"]

    @property
    def minimum_correlation(self) -> Float[Tensor, "*samples latents"]:
        """Smallest correlation between two equally right sets of factor scores, 2 rho^2 - 1 (Guttman, 1955).

        Below 0 two sets of scores that the model allows equally may point in opposite directions.
        """
        return 2 * self.determinacy.square() - 1


class _Rule(NamedTuple):
    """A linear score: weights (K, D), and the covariance of scores and of their errors."""

    weights: Tensor
    covariance: Tensor
    error: Tensor
    cross: Tensor  # of the scores with z


def regression_scores(run: Fit, x: Any) -> FactorScores:
    """Regression (Thomson) scores: the posterior mean of z, shrunk towards zero.

    Parameters
    ----------
    run : Fit
        Of a Gaussian model with noise; correlated factors lend each other strength.
    x : table (N, D)
        NaN is integrated out; a row with no entry has score 0 and determinacy 0.

    Returns
    -------
    FactorScores

    Raises
    ------
    NotExactError, ParameterError
        The fit is of another model.
    DataError
        As `check_data`.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x)
    >>> scores = pa.regression_scores(run, x)
    >>> bool(torch.allclose(scores.values, run.posterior(x).mean)), round(scores.determinacy.item(), 3)
    (True, 0.942)
    """
    return _scores(run, x, "regression_scores", _regression)


def bartlett_scores(run: Fit, x: Any) -> FactorScores:
    """Bartlett scores: weighted least squares, unbiased for z, with the noise of x in them.

    Parameters
    ----------
    run : Fit
        As for `regression_scores`.
    x : table (N, D)
        A row with fewer observed features than its factors need has no unbiased score: it gets NaN.

    Returns
    -------
    FactorScores

    Raises
    ------
    NotExactError
        The fit is of another model.
    ParameterError
        The loadings do not have full column rank.
    DataError
        As `check_data`.

    Warns
    -----
    MissingRowWarning
        Some rows have too few entries.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x)
    >>> unbiased, shrunk = pa.bartlett_scores(run, x), pa.regression_scores(run, x)
    >>> bool(torch.allclose(shrunk.values, unbiased.values * shrunk.determinacy.square()))
    True
    """
    _check_rank(run)
    return _scores(run, x, "bartlett_scores", _bartlett)


def ten_berge_scores(run: Fit, x: Any) -> FactorScores:
    """Scores with the covariance of the factors themselves, closest to them otherwise.

    Parameters
    ----------
    run : Fit
        As for `regression_scores`.
    x : table (N, D)
        As for `bartlett_scores`.

    Returns
    -------
    FactorScores

    Raises
    ------
    NotExactError, ParameterError, DataError
        As `bartlett_scores`.

    References
    ----------
    .. [1] ten Berge, J. M. F., Krijnen, W. P., Wansbeek, T. & Shapiro, A. (1999). Some new results on
       correlation-preserving factor scores prediction methods. Linear Algebra and its Applications 289, 311-318.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> scores = pa.ten_berge_scores(pa.fit(pa.FactorAnalysis(9, 2), x), x)
    >>> torch.cov(scores.values.T, correction=0).round(decimals=6).abs()
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    _check_rank(run)
    return _scores(run, x, "ten_berge_scores", _ten_berge)


def _scores(
    run: Fit, x: Any, what: str, rule: Callable[[Tensor, Tensor, Tensor], _Rule | None]
) -> FactorScores:
    structure = structure_of(run, what)
    data = check_data(x, features=run.model.features, names=run.names, missing="allow")
    patterns = missing_patterns(data.values)
    K, N = structure.layout.latents, len(data.values)
    single = len(patterns) == 1
    values = torch.full((N, K), torch.nan, dtype=torch.float64)
    covariance, error, cross = (torch.full((1 if single else N, K, K), torch.nan).double() for _ in range(3))
    determinacy = torch.zeros(1 if single else N, K, dtype=torch.float64)
    short = 0
    for rows, observed in patterns:
        where = slice(None) if single else rows
        determinacy[where] = _determinacy(structure, observed)
        found = rule(structure.loadings[observed], structure.noise[observed], structure.correlation)
        if found is None:
            short += len(values[where])
            continue
        values[where] = (data.values[where][:, observed] - structure.mean[observed]) @ found.weights.mT
        covariance[where], error[where], cross[where] = found.covariance, found.error, found.cross
    if short:
        warn(f"{short} rows of x have too few observed values for {what}: they get NaN.", MissingRowWarning)
    spread = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    validity = cross.diagonal(dim1=-2, dim2=-1) / spread
    validity = torch.where(spread > 0, validity, torch.where(spread.isnan(), torch.nan, 0.0))
    parts = [covariance, error, validity, determinacy]
    return FactorScores(values.to(data.dtype), *([part[0] for part in parts] if single else parts))


def _precision(loadings: Tensor, noise: Tensor) -> Tensor:
    """M = W' Psi^{-1} W."""
    return loadings.mT @ (loadings / noise.unsqueeze(1))


def _regression(loadings: Tensor, noise: Tensor, correlation: Tensor) -> _Rule:
    lower = torch.linalg.cholesky(correlation)
    W = loadings @ lower
    capacitance = torch.eye(W.shape[1], dtype=W.dtype) + _precision(W, noise)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(capacitance))
    weights = lower @ inverse @ (W / noise.unsqueeze(1)).mT
    error = lower @ inverse @ lower.mT
    return _Rule(weights, correlation - error, error, correlation - error)


def _bartlett(loadings: Tensor, noise: Tensor, correlation: Tensor) -> _Rule | None:
    whitened = loadings / noise.sqrt().unsqueeze(1)
    if not _full_rank(whitened):
        return None
    q, r = torch.linalg.qr(whitened)
    inverse = torch.linalg.solve_triangular(r, torch.eye(len(r), dtype=r.dtype), upper=True)
    error = inverse @ inverse.mT
    return _Rule((inverse @ q.mT) / noise.sqrt(), correlation + error, error, correlation)


def _ten_berge(loadings: Tensor, noise: Tensor, correlation: Tensor) -> _Rule | None:
    if not _full_rank(loadings / noise.sqrt().unsqueeze(1)):
        return None
    root = _power(correlation, 0.5)
    W = loadings @ root
    precision = _precision(W, noise)
    capacitance = torch.eye(W.shape[1], dtype=W.dtype) + precision
    within = torch.linalg.solve(capacitance, precision)  # W' S^{-1} W
    within = (within + within.mT) / 2
    weights = root @ _power(within, -0.5) @ torch.linalg.solve(capacitance, (W / noise.unsqueeze(1)).mT)
    cross = root @ _power(within, 0.5) @ root
    return _Rule(weights, correlation, 2 * correlation - cross - cross.mT, cross)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.pow(exponent)) @ vectors.mT


def _determinacy(structure: Structure, observed: Tensor) -> Tensor:
    rule = _regression(structure.loadings[observed], structure.noise[observed], structure.correlation)
    return rule.covariance.diagonal().clamp(0.0, 1.0).sqrt()


def _full_rank(whitened: Tensor) -> bool:
    if whitened.shape[0] < whitened.shape[1]:
        return False
    singular = torch.linalg.svdvals(whitened)
    return bool(singular[-1] > RANK * singular[0])


def _check_rank(run: Fit) -> None:
    structure = structure_of(run, "this score")
    if not _full_rank(structure.loadings / structure.noise.sqrt().unsqueeze(1)):
        raise ParameterError(
            "Unbiased scores need loadings of full column rank, but some factor is a combination of others or has no "
            "loading: fit fewer factors, or use regression_scores."
        )
