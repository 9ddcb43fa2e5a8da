"""Maximum likelihood and EM of confirmatory factor analysis, with or without missing entries."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from probae.checks import BoundaryWarning, Data, DataError, UnderidentifiedWarning
from probae.inference.base import Loop
from probae.inference.gaussian import warn_heywood
from probae.inference.grouped import Standardized, group_rows, standardize
from probae.inference.masked import Layout, Point, evaluate, information
from probae.inference.masked_em import masked_step
from probae.inference.masked_newton import FLAT, LOWEST, SINGULAR, minimize, scaled, starting_points
from probae.inference.profile import FLOOR
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.priors import CorrelatedGaussian, Gaussian
from probae.statistics import SufficientStatistics


def fit_confirmatory(
    model: ConfirmatoryFactorAnalysis, data: Data | SufficientStatistics, seed: int
) -> tuple[list[float], bool]:
    """Maximise the likelihood in place; return the log-likelihood per row at each step and whether it converged."""
    _check_names(model, data.names)
    rows = standardize(data)
    layout = _layout(model, rows)
    best = minimize(layout, rows.groups, starting_points(layout, rows.correlation, seed))
    _assign(model, layout, rows, best.point)
    _warn(model, layout, rows, best.point, data.names)
    constant = rows.observed * math.log(2 * math.pi)
    constant += 2 * float(sum(g.share * np.log(rows.scale[g.observed]).sum() for g in rows.groups))
    return [-0.5 * (value + constant) for value in best.history], best.converged


def _check_names(model: ConfirmatoryFactorAnalysis, names: tuple[str, ...] | None) -> None:
    """Refuse columns in another order than that of the pattern's rows."""
    wanted = model.feature_names
    if wanted is None or names is None or tuple(names) == tuple(wanted):
        return
    place = next(i for i, (a, b) in enumerate(zip(names, wanted, strict=True)) if a != b)
    raise DataError(
        f"x should have the columns of the pattern in its order, got {names[place]!r} where the pattern has "
        f"{wanted[place]!r}: pass x[list(model.feature_names)]."
    )


def _layout(model: ConfirmatoryFactorAnalysis, rows: Standardized) -> Layout:
    """Return the layout of the free parameters of the columns that vary."""
    pattern = model.pattern.numpy()[rows.varying]
    empty = np.flatnonzero(~pattern.any(axis=0))
    if len(empty):
        raise DataError(
            f"Every column that measures {model.factor_labels[empty[0]]} is constant: leave that factor out."
        )
    return Layout(pattern, tuple(model.free_correlations))


def _assign(model: ConfirmatoryFactorAnalysis, layout: Layout, rows: Standardized, point: Point) -> None:
    """Write the parameters in the units of x, each column of loadings with a positive sum."""
    loadings, correlation, noise = layout.unpack(point.theta)
    sign = np.where(loadings.sum(axis=0) < 0, -1.0, 1.0)
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest < SINGULAR:
        weight = (SINGULAR - smallest) / (1 - smallest)
        correlation = (1 - weight) * correlation + weight * np.eye(len(correlation))
    full = np.zeros((model.features, model.latents))
    full[rows.varying] = rows.scale[:, None] * loadings * sign + 0.0  # no negative zeros
    psi = np.full(model.features, FLOOR * rows.scale.min() ** 2)
    psi[rows.varying] = noise * rows.scale**2
    mean = rows.centre.copy()
    mean[rows.varying] += point.mean * rows.scale
    model.loadings = torch.as_tensor(full)
    model.noise_variance = torch.as_tensor(psi)
    model.mean = torch.as_tensor(mean)
    if layout.pairs:
        model.prior = CorrelatedGaussian(correlation * np.outer(sign, sign), learn=True)


def _warn(
    model: ConfirmatoryFactorAnalysis,
    layout: Layout,
    rows: Standardized,
    point: Point,
    names: tuple[str, ...] | None,
) -> None:
    """Say which uniquenesses and correlations stopped at a bound, and whether the likelihood has flat directions."""
    low = point.theta[layout.split[1] :] <= LOWEST + 0.01
    warn_heywood(np.flatnonzero(rows.varying)[low], names)
    values, vectors = np.linalg.eigh(layout.unpack(point.theta)[1])
    singular = values[0] < 2 * SINGULAR
    if singular:
        involved = [model.factor_labels[k] for k in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
        warnings.warn(
            f"The correlations of {', '.join(involved)} reached the boundary: one of these factors is a function of "
            "the others; merge them, or fix a correlation.",
            BoundaryWarning,
            stacklevel=2,
        )
    free = np.concatenate([np.ones(layout.split[1], dtype=bool), ~low])
    seen = information(layout, rows.groups, point)[np.ix_(free, free)]
    flat = int((np.linalg.eigvalsh(scaled(seen, seen)) < FLAT).sum())
    if flat and not singular:
        warnings.warn(
            f"The zeros leave {flat} direction{'s' if flat > 1 else ''} in which the likelihood is flat: the estimates "
            "are one of many with this likelihood (counting_rules names the rows and columns).",
            UnderidentifiedWarning,
            stacklevel=2,
        )


def fit_by_em(
    model: ConfirmatoryFactorAnalysis, data: Data | SufficientStatistics, seed: int, steps: int, tol: float
) -> tuple[list[float], bool, bool]:
    """Run EM in place; return the log-likelihood per row at each step, whether it converged, whether interrupted."""
    _check_names(model, data.names)
    rows = standardize(data)
    layout = _layout(model, rows)
    start = evaluate(layout, rows.groups, next(starting_points(layout, rows.correlation, seed)))
    assert start is not None
    _assign(model, layout, rows, start)
    step = masked_step(model, group_rows(data))
    history: list[float] = []
    converged = False
    with Loop("EM") as loop:
        for _ in loop.steps(steps):
            history.append(step())
            loop.value = history[-1]
            if len(history) > 1 and abs(history[-1] - history[-2]) < tol:
                converged = True
                break
    loadings, noise, _ = (value.numpy() for value in model._gaussian_parameters())
    varying = rows.varying
    inside = np.clip(noise[varying] / rows.scale**2, FLOOR, None)
    theta = layout.pack(loadings[varying] / rows.scale[:, None], model.factor_correlation.numpy(), inside)
    point = evaluate(layout, rows.groups, theta)
    if point is not None:
        _assign(model, layout, rows, replace(point, mean=_standard_mean(model, rows)))
        _warn(model, layout, rows, point, data.names)
    return history, converged, loop.interrupted


def _standard_mean(model: ConfirmatoryFactorAnalysis, rows: Standardized) -> np.ndarray:
    return (model.mean.detach().double().numpy() - rows.centre)[rows.varying] / rows.scale


@contextmanager
def standard_factors(model: LinearFactorModel) -> Iterator[None]:
    """Fit a model of factors with fixed correlations Phi = L L' as one of uncorrelated factors with loadings W L."""
    law = model.prior
    if not isinstance(law, CorrelatedGaussian) or isinstance(model, ConfirmatoryFactorAnalysis):
        yield
        return
    factor = law.factor.detach().double()
    model.loadings = model.loadings.detach().double() @ factor
    model.prior = Gaussian()
    try:
        yield
    finally:
        model.prior = law
        standard = model.loadings.detach().double()
        model.loadings = torch.linalg.solve_triangular(factor, standard, upper=False, left=False)
