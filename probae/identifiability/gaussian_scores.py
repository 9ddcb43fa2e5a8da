r"""Scores of a Gaussian refit, whitened: for Gaussian rows their law is known exactly, whatever the covariance.

With X_c the centred rows, any matrix A(S) of the covariance S alone and the scores X_c A brought to the covariance I,

    Y = X_c A (A' S A)^{-1/2},     O X_c =d X_c for every orthogonal O that keeps the vector of ones,

Y given S is uniform (Haar) on the centred N x K frames with Y' Y = N I, for Gaussian rows of any covariance and any
number of features. Whitened centred normal rows have the same law, so every test on Y has an exact Monte Carlo null.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ProbaeWarning, check_choice
from probae.identifiability.data_test import table_rows
from probae.inference.fit import fit
from probae.inference.maximum_likelihood import MaximumLikelihood
from probae.models import LinearFactorModel
from probae.models.noise import NOISES
from probae.statistics import SufficientStatistics

MINIMUM_ROWS = 30
EMPTY = (
    1e-6  # singular value of the weights, relative to the largest, of a direction that the refit leaves empty
)


def whitened_scores(x: Any, latents: int, noise: str = "diagonal") -> Float[Tensor, "samples latents"]:
    """Return the whitened scores of Gaussian factors fitted to the mean and the covariance of x, nothing else.

    Parameters
    ----------
    x : array, DataFrame or Tensor (N, D)
        Complete rows.
    latents : int
        Factors K, below N - 1. A refit of lower rank gives fewer columns.
    noise : str
        Shape of the noise, as `LinearFactorModel` names it; "none" whitens x itself. Rows fewer than the features have
        no diagonal noise to fit and take "isotropic".

    Returns
    -------
    Tensor (N, K), of mean 0 and covariance I

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or columns that follow from the others.
    ParameterError
        No such noise.

    Examples
    --------
    >>> x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> y = whitened_scores(x, 2)
    >>> torch.allclose(y.T @ y / 50, torch.eye(2, dtype=torch.float64))
    True
    """
    rows = table_rows(x, MINIMUM_ROWS)
    check_choice("noise", noise, NOISES)
    if not 0 < latents <= min(rows.shape[1], len(rows) - 2):
        raise DataError(
            f"{tuple(rows.shape)} rows and columns have no {latents} scores: ask for fewer factors."
        )
    if noise == "none":
        return whiten(rows)
    return whiten((rows - rows.mean(0)) @ _weights(rows, latents, noise))


def whiten(y: Float[Tensor, "*batch samples latents"]) -> Float[Tensor, "*batch samples latents"]:
    """Bring rows to mean 0 and covariance I by the triangular root of their covariance.

    Raises
    ------
    DataError
        Columns that follow from the others.

    Examples
    --------
    >>> whiten(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
    tensor([[-1.],
            [ 1.]], dtype=torch.float64)
    """
    y = y - y.mean(-2, keepdim=True)
    scale = y.square().mean(-2, keepdim=True).sqrt()
    y = y / torch.where(scale > 0, scale, 1.0)
    root, failed = torch.linalg.cholesky_ex(y.mT @ y / y.shape[-2])
    if bool(failed.any()) or float(root.diagonal(dim1=-2, dim2=-1).min()) < 1e-7:
        raise DataError(
            "The scores should be linearly independent: drop columns that follow from the others, or a factor."
        )
    return torch.linalg.solve_triangular(root, y.mT, upper=False).mT


def gaussian_frames(
    count: int, samples: int, latents: int, generator: torch.Generator
) -> Float[Tensor, "count samples latents"]:
    """Draw whitened scores from their exact null law: normal rows, centred and whitened.

    Examples
    --------
    >>> gaussian_frames(1, 40, 3, torch.Generator().manual_seed(0)).square().mean(1).round(decimals=9)
    tensor([[1., 1., 1.]], dtype=torch.float64)
    """
    return whiten(torch.randn(count, samples, latents, generator=generator, dtype=torch.float64))


def _weights(rows: Tensor, latents: int, noise: str) -> Float[Tensor, "features latents"]:
    """Return an orthonormal basis of Psi^{-1} W in units of the columns' standard deviations, times these units."""
    samples, features = rows.shape
    isotropic = noise != "diagonal" or samples <= features
    model = LinearFactorModel(features, latents, noise="isotropic" if isotropic else "diagonal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)  # any maximum, and any boundary, is a function of S
        fitted = fit(model, SufficientStatistics.from_data(rows), MaximumLikelihood(starts=1)).model
    loadings, variance, _ = fitted._gaussian_parameters()
    weights = loadings / variance.expand(features)[:, None]
    units = rows.std(0)
    left, singular, _ = torch.linalg.svd(weights * units[:, None], full_matrices=False)
    kept = singular > EMPTY * singular[0]
    if not bool(kept.any()) or not bool((units > 0).all()):
        raise DataError("The Gaussian refit has no loadings: the columns are uncorrelated or constant.")
    return left[:, kept] / units[:, None]
