"""Rotation of loadings: what `rotate` takes, checks and gives back."""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ConvergenceWarning, DataError, ParameterError, check_count, check_positive, warn
from probae.rotation.base import Criterion, check_kind
from probae.rotation.minima import Minimum, ordering
from probae.rotation.normalization import Kaiser
from probae.rotation.orthomax import Varimax
from probae.rotation.projection import Frames, Problem
from probae.rotation.promax import Promax
from probae.rotation.result import Rotation
from probae.rotation.starts import Effort, Found, find_minima
from probae.rotation.tables import Loadings, read_loadings

__all__ = ["rotate"]

LARGEST = 1e50  # criteria are polynomials of degree up to 6
RANK = 1e-8  # relative to the largest singular value


def rotate(
    source: Any,
    criterion: Criterion | Promax = Varimax(),
    *,
    oblique: bool = False,
    normalize: Any = False,
    starts: int = 100,
    seed: int = 0,
    steps: int = 1000,
    tol: float = 1e-9,
) -> Rotation:
    r"""Rotate loadings to a simple pattern, from many starts.

    .. math:: \min_T\, Q(\Lambda), \qquad \text{orthogonal: } \Lambda = W T,\ T'T = I, \qquad
              \text{oblique: } \Lambda = W T'^{-1},\ \operatorname{diag} T'T = I

    The fit does not change, only the axes in which it is read. Gradient projection [1]_ with quasi-Newton steps runs
    from the unrotated frame and from random ones, in one batch; each start descends monotonically. The criterion
    usually has several local minima: the lowest is returned, and all that were found are in ``minima`` with how
    often.

    Parameters
    ----------
    source : array, DataFrame, Tensor (D, K), LinearFactorModel or Fit
        Loadings of uncorrelated factors. Those of a model or fit are rotated as loadings of features of variance 1,
        so that the axes do not depend on the units of x, and come back in those units; a bare matrix is rotated as it
        is. Row names of a DataFrame, and names of a fit, are kept.
    criterion : Criterion or Promax
        A value from `probae.rotation`.
    oblique : bool
        Whether the factors may correlate. Some criteria allow one kind only.
    normalize : bool, Kaiser or CuretonMulaik
        Weights of the rows during the rotation; True is `Kaiser()`.
    starts : int
        How many frames to start from; 1 is the unrotated one alone.
    seed : int
        Seed of the random frames.
    steps : int
        Most steps from a start.
    tol : float
        Largest projected gradient at the end, relative to the gradient in a random frame.

    Returns
    -------
    Rotation

    Raises
    ------
    ParameterError
        For a criterion that is none, or is not made for this kind of rotation or these sizes.
    DataError
        For loadings that are not a matrix of finite numbers, are all zero, or have dependent columns where the
        factors may correlate.
    FitError
        If the factors become collinear from every start: the criterion has no minimum.

    Warns
    -----
    ConvergenceWarning
        If the tolerance was not met.

    References
    ----------
    .. [1] Bernaards, C. A. & Jennrich, R. I. (2005). Gradient projection algorithms and software for arbitrary
       rotation criteria in factor analysis. Educational and Psychological Measurement 65, 676-696.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> rotation = pa.rotate(run, pa.rotation.Geomin(), oblique=True)
    >>> rotation.factor_correlation.round(decimals=2)
    tensor([[1.0000, 0.3300, 0.2300],
            [0.3300, 1.0000, 0.2800],
            [0.2300, 0.2800, 1.0000]], dtype=torch.float64)
    >>> rotation.minima
    (Minimum(value=..., count=100),)
    """
    read = read_loadings(source)
    effort = Effort(
        check_count("starts", starts),
        check_count("seed", seed, 0),
        check_count("steps", steps),
        check_positive("tol", tol),
    )
    if not isinstance(oblique, bool):
        raise ParameterError(f"oblique should be True or False, got {reprlib.repr(oblique)}.")
    standard = read.values / read.units.unsqueeze(1)
    if isinstance(criterion, Promax):
        _check(criterion.first, standard, False)
        _check_promax(standard, oblique)
        problem = Problem(_weights(normalize, standard) * standard, criterion.first, False)
    else:
        _check(criterion, standard, oblique)
        problem = Problem(_weights(normalize, standard) * standard, criterion, oblique)
    found = _described(problem, find_minima(problem, effort), read, normalize)
    if isinstance(criterion, Promax):
        found = _sharpened(criterion, found, read)
    if not found.converged:
        warn(
            f"The rotation has not converged in {steps} steps (projected gradient {found.gradient_norm:.1e}): "
            "allow more steps, or a larger tol.",
            ConvergenceWarning,
        )
    return found


def _check(criterion: Any, loadings: Tensor, oblique: bool) -> None:
    """Refuse what cannot be rotated, before any work."""
    if not isinstance(criterion, Criterion):
        raise ParameterError(
            f"criterion should be a value such as rotation.Varimax(), got {reprlib.repr(criterion)}."
        )
    check_kind(criterion, oblique)
    criterion.check(*loadings.shape)
    if not loadings.any():
        raise DataError("loadings should have a value other than zero: there is nothing to rotate.")
    largest = float(loadings.abs().max())
    if not 1 / LARGEST <= largest <= LARGEST:
        raise DataError(
            f"loadings should be of a size whose powers float64 can hold, got {largest:g}: divide them by a constant."
        )
    if oblique:
        _check_rank(loadings)


def _check_promax(loadings: Tensor, oblique: bool) -> None:
    if not oblique:
        raise ParameterError(
            "Promax should be used with correlated factors, got oblique=False: pass oblique=True."
        )
    _check_rank(loadings)


def _check_rank(loadings: Tensor) -> None:
    """Refuse correlated factors that the loadings do not determine."""
    latents, rank = loadings.shape[1], int(torch.linalg.matrix_rank(loadings, rtol=RANK))
    if rank < latents:
        raise DataError(
            f"loadings should have independent columns for an oblique rotation, got rank {rank} with {latents} "
            "columns: fit fewer latents, or rotate orthogonally."
        )


def _weights(normalize: Any, loadings: Tensor) -> Float[Tensor, "features 1"]:
    """Return the weight of each row."""
    if normalize is False:
        return torch.ones_like(loadings[:, :1])
    rule = Kaiser() if normalize is True else normalize
    if not hasattr(rule, "weights") or isinstance(rule, type):
        raise ParameterError(
            f"normalize should be True, False, Kaiser() or CuretonMulaik(), got {reprlib.repr(normalize)}."
        )
    return rule.weights(loadings).unsqueeze(1)


def _described(problem: Problem, found: Found, read: Loadings, normalize: Any) -> Rotation:
    """Return what was found, in the units of the loadings."""
    minima = [_minimum(problem, found.lowest.at(i), count, read) for i, count in enumerate(found.counts)]
    best = minima[found.best]
    rest = [m for m in minima if m is not best]
    return Rotation(
        loadings=best.loadings,
        matrix=best.matrix,
        factor_correlation=best.factor_correlation,
        value=best.value,
        criterion=problem.criterion,
        oblique=problem.oblique,
        normalize=normalize,
        values=found.values,
        minima=(best, *rest) if found.settled else (),
        converged=found.converged,
        converged_starts=found.settled,
        gradient_norm=_gradient_norm(problem, found.lowest.at(found.best)),
        units=read.units,
        names=read.names,
    )


def _minimum(problem: Problem, frame: Frames, count: int, read: Loadings) -> Minimum:
    """Return a frame as a minimum, its columns in order."""
    transform = frame.transform
    correlation, matrix = torch.eye(len(transform), dtype=torch.float64), transform
    if problem.oblique:
        correlation, matrix = (transform.mT @ transform).fill_diagonal_(1.0), torch.linalg.inv(transform).mT
    columns = _in_order(problem.criterion, matrix, correlation, read)
    return Minimum(float(frame.value), count, **columns)


def _in_order(criterion: Criterion, matrix: Tensor, correlation: Tensor, read: Loadings) -> dict[str, Tensor]:
    """Return rotated loadings, rotation and correlations with the columns in their order and with their signs."""
    order, signs = ordering(criterion, read.values @ matrix / read.units.unsqueeze(1), correlation)
    matrix = matrix[:, order] * signs
    correlation = correlation[order][:, order] * signs * signs.unsqueeze(1)
    return {"loadings": read.values @ matrix, "matrix": matrix, "factor_correlation": correlation}


def _gradient_norm(problem: Problem, frame: Frames) -> float:
    """Return the norm of the projected gradient in the space of T."""
    if not problem.oblique:
        return float(frame.slope.norm())
    square = (frame.slope * torch.linalg.solve(frame.correlation, frame.slope)).sum()
    return float(square.clamp_min(0).sqrt())


def _sharpened(criterion: Promax, first: Rotation, read: Loadings) -> Rotation:
    """Apply the second half of promax to every minimum of the first."""

    def sharpen(found: Minimum | Rotation) -> dict[str, Any]:
        matrix = found.matrix @ criterion.matrix(found.loadings / read.units.unsqueeze(1))
        inverse = torch.linalg.inv(matrix)
        return _in_order(criterion.first, matrix, (inverse @ inverse.mT).fill_diagonal_(1.0), read)

    minima = tuple(replace(m, **sharpen(m)) for m in first.minima)
    return replace(first, **sharpen(first), minima=minima, criterion=criterion, oblique=True)
