"""Exact maximum likelihood of Gaussian linear models from their mean, covariance and count."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probae.checks import Data, DataError, HeywoodWarning, UnderidentifiedWarning
from probae.inference import profile
from probae.inference.eigenpairs import (
    DENSE_LIMIT,
    Correlation,
    DenseCorrelation,
    WideCorrelation,
    leading_eigenpairs,
)
from probae.models import LinearFactorModel
from probae.statistics import SufficientStatistics

QUICK = 8  # evaluations that a likelihood with one clear maximum takes
SMALLEST = 1e-14  # isotropic noise, relative to the mean variance, that float64 still tells from none


def summarize(data: Data | SufficientStatistics) -> SufficientStatistics:
    """Return the sufficient statistics of complete rows."""
    if isinstance(data, SufficientStatistics):
        return data
    if data.missing is not None:
        raise DataError(
            "MaximumLikelihood needs complete rows, but x has missing values: use EM(), which integrates them out."
        )
    return SufficientStatistics.from_data(data.values).named(data.names)


def fit_isotropic(
    model: LinearFactorModel, statistics: SufficientStatistics, seed: int
) -> tuple[list[float], bool]:
    """Set the closed-form PPCA maximum."""
    features, latents = model.features, model.latents
    if latents >= features:
        _warn_count(features, latents, "sigma^2 cannot be told apart from the last component")
        latents = features - 1
    values, vectors = principal_components(statistics, max(latents, 1))
    values, vectors = values[:latents], vectors[:, :latents]
    total = float(statistics.variances.sum())
    noise = (total - values.sum()) / (features - latents)
    floor = SMALLEST * total / features
    if noise < floor:
        warnings.warn(
            f"The data lie in {latents} dimensions to the last digit: "
            f"noise_variance was held at {floor:.3g}.",
            HeywoodWarning,
            stacklevel=2,
        )
        noise = floor
    loadings = vectors * np.sqrt(np.maximum(values - noise, 0.0))
    if latents < model.latents:
        loadings = np.pad(loadings, ((0, 0), (0, model.latents - latents)))
    assign(model, loadings, noise, statistics.mean)
    return [mean_log_likelihood(model, statistics)], True


def fit_diagonal(
    model: LinearFactorModel,
    statistics: SufficientStatistics,
    seed: int,
    starts: int | None = None,
    restarts: list[dict[str, Any]] | None = None,
) -> tuple[list[float], bool]:
    """Maximise the FA likelihood on the correlation matrix and undo the standardisation; note each start."""
    variance = statistics.variances.numpy()
    varying = variance > profile.FLOOR**2 * max(variance.max(), np.finfo(float).tiny)
    if varying.sum() < 2:
        raise DataError("Factor analysis needs at least two columns that vary; all others are constant.")
    scale = np.sqrt(variance[varying])
    correlation = _correlation(statistics, varying, scale)
    latents = usable_latents(model, int(varying.sum()))
    (best, history, converged), tried = _best_start(correlation, latents, seed, statistics.count, starts)
    if restarts is not None and len(tried) > 1:
        restarts += [
            {"restart": i, "shortfall": 0.5 * (value - best.value), "converged": reached}
            for i, (value, reached) in enumerate(tried)
        ]
    loadings = np.zeros((model.features, model.latents))
    loadings[np.ix_(varying, np.arange(latents))] = scale[:, None] * best.loadings()
    noise = np.full(model.features, profile.FLOOR * scale.min() ** 2)
    noise[varying] = np.exp(best.theta) * scale**2
    assign(model, loadings, noise, statistics.mean)
    warn_heywood(np.flatnonzero(varying)[best.theta <= math.log(profile.FLOOR * 1.01)], statistics.names)
    if varying.sum() < model.features:
        return [mean_log_likelihood(model, statistics)], converged
    constant = len(scale) * math.log(2 * math.pi) + 2 * np.log(scale).sum()
    return [-0.5 * (value + constant) for value in history], converged


def fit_noiseless(
    model: LinearFactorModel, statistics: SufficientStatistics, seed: int
) -> tuple[list[float], bool]:
    """Set the loadings to U L^{1/2}, so that W W' is the sample covariance."""
    values, vectors = np.linalg.eigh(statistics.covariance.numpy())
    if values[0] <= 1e-12 * values[-1]:
        raise DataError('The covariance of x is singular: with noise="none" first drop collinear columns.')
    assign(model, vectors[:, ::-1] * np.sqrt(values[::-1]), None, statistics.mean)
    log_det = float(np.log(values).sum())
    return [-0.5 * (model.features * (math.log(2 * math.pi) + 1.0) + log_det)], True


def assign(model: LinearFactorModel, loadings: np.ndarray, noise: Any, mean: Tensor) -> None:
    """Write parameters into the model, the sign of each column fixed by its largest entry."""
    sign = np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(loadings.shape[1])])
    model.loadings = torch.as_tensor(loadings * np.where(sign == 0, 1.0, sign))
    model.mean = mean.double().clone()
    if noise is not None:
        model.noise_variance = torch.as_tensor(noise, dtype=torch.float64)


def set_canonical(model: LinearFactorModel, loadings: Tensor, noise: Tensor, mean: Tensor) -> None:
    """Write parameters into the model in the frame with W' Psi^{-1} W diagonal, largest first."""
    frame = torch.linalg.svd(torch.linalg.qr(loadings / noise.sqrt().unsqueeze(1), mode="r")[1])[2].mT
    assign(model, (loadings @ frame).numpy(), noise if model.noise == "diagonal" else noise[0], mean)


def mean_log_likelihood(model: LinearFactorModel, statistics: SufficientStatistics) -> float:
    """Return the log-likelihood per row in nats."""
    return float(model.collapsed(statistics)) / statistics.count


def principal_components(statistics: SufficientStatistics, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues of the covariance and their vectors (D, count), through the rows where fewer."""
    if statistics.root is None:
        return leading_eigenpairs(statistics.covariance.numpy(), count)
    size = np.full(statistics.features, math.sqrt(statistics.count))
    return WideCorrelation(statistics.root.numpy(), size).leading(np.ones(statistics.features), count)


def _correlation(statistics: SufficientStatistics, varying: np.ndarray, scale: np.ndarray) -> Correlation:
    if statistics.root is not None and len(scale) > len(statistics.root):
        root = statistics.root.numpy()
        size = scale * math.sqrt(statistics.count)
        return WideCorrelation(root if varying.all() else root[:, varying], size)
    covariance = statistics.covariance.numpy()
    covariance = covariance if varying.all() else covariance[np.ix_(varying, varying)]
    return DenseCorrelation(covariance / np.outer(scale, scale))


def _best_start(
    correlation: Correlation, latents: int, seed: int, count: int, starts: int | None
) -> tuple[tuple[profile.Profile, list[float], bool], list[tuple[float, bool]]]:
    """Minimise from the first start, and from others if that answer is suspicious.

    Suspicious is an answer on the floor, one that took long, as where factors are too many, or one that does not fit,
    as where they are too few: the likelihood may then have several maxima. A few more starts and Heywood cases are
    tried; if all of these end at one point off the floor, or higher, that is the maximum. Else random starts follow.
    """
    best: tuple[profile.Profile, list[float], bool] | None = None
    tried: list[tuple[float, bool]] = []
    usual = profile.starting_points(correlation, latents, seed)
    ladder = itertools.chain(
        ((0, theta) for theta in usual),
        ((1, theta) for theta in profile.heywood_points(correlation, latents)),
        ((2, theta) for theta in profile.random_points(correlation, seed)),
    )
    first: list[float] = []
    for kind, theta in itertools.islice(ladder, starts):
        if kind == 2 and best is not None and not _on_floor(best[0]) and max(first) < best[0].value + 2e-8:
            break
        answer = profile.minimize(correlation, latents, theta)
        tried.append((answer[0].value, answer[2]))
        first += [answer[0].value] if kind == 0 else []
        if best is None or answer[0].value < best[0].value - 1e-12:
            best = answer
        if len(tried) == 1 and not _suspicious(correlation, latents, answer, count):
            break
    assert best is not None
    return best, tried


def _suspicious(
    correlation: Correlation, latents: int, answer: tuple[profile.Profile, list[float], bool], count: int
) -> bool:
    point, history, converged = answer
    if not converged or _on_floor(point) or len(history) > QUICK:
        return True
    if not isinstance(correlation, DenseCorrelation) or correlation.features > DENSE_LIMIT:
        return False
    features = correlation.features
    sign, log_det = np.linalg.slogdet(correlation.matrix)
    degrees = max((features - latents) ** 2 - (features + latents), 0) / 2
    excess = (
        count * (point.value - features - log_det) - degrees
    )  # of the likelihood-ratio statistic over its mean
    return bool(sign <= 0 or excess > 4 * math.sqrt(2 * degrees))


def _on_floor(point: profile.Profile) -> bool:
    return bool(point.theta.min() <= math.log(profile.FLOOR) + 1e-6)


def usable_latents(model: LinearFactorModel, features: int) -> int:
    """Return how many factors so many features can carry; warn beyond the Ledermann bound."""
    bound = (2 * features + 1 - math.sqrt(8 * features + 1)) / 2
    if model.latents > bound:
        _warn_count(
            features,
            model.latents,
            f"the uniquenesses are identified for at most {int(bound)} (Ledermann bound)",
        )
    return min(model.latents, features - 1)


def _warn_count(features: int, latents: int, consequence: str) -> None:
    warnings.warn(
        f"{latents} factors are too many for {features} features: {consequence}.",
        UnderidentifiedWarning,
        stacklevel=2,
    )


def warn_heywood(columns: Iterable[int], names: tuple[str, ...] | None) -> None:
    """Name the variables whose uniqueness reached its floor."""
    labels = [names[i] if names else f"column {i}" for i in columns]
    if labels:
        warnings.warn(
            f"Heywood case: the uniqueness of {', '.join(labels)} reached its floor, {profile.FLOOR:g} of the "
            "variance; try fewer factors.",
            HeywoodWarning,
            stacklevel=2,
        )
