"""Loadings that come without a model: one matrix, or draws of it, with the rows they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probae.analysis.draws_source import read_source
from probae.analysis.mixing import mixing
from probae.checks import DataError, ParameterError, check_data
from probae.identifiability.given import Subject, fitted_law, given_fit
from probae.inference.identified_group import identified_group
from probae.models import LinearFactorModel
from probae.models.marginal import Scores, solve_sources
from probae.priors import Gaussian, Prior

__all__ = ["draws_subject", "loadings_subject"]

FLOOR = 1e-6  # least share of the variance of a feature that is noise
MISFIT = (
    0.05  # root mean square of correlations the loadings leave unexplained, from which units are suspected
)


def loadings_subject(loadings: Any, x: Any, prior: Prior | None = None) -> Subject:
    """Read a matrix (D, K) as the loadings of uncorrelated factors of variance 1, in the units of x.

    The noise is what they leave of the variance of each feature; a square matrix has none, and its columns take the
    length that gives the factors variance 1. Without a prior each factor gets the law that fits its scores best.

    Raises
    ------
    ParameterError
        More factors than features, or dependent ones, without a prior.
    DataError
        There are no rows, or the loadings explain more than the variance of a feature.
    """
    table = check_data(loadings)
    if x is None:
        raise DataError("An audit of bare loadings needs the rows they are about: pass x.")
    found = table.values
    features, latents = found.shape
    data = check_data(x, features=features, missing="allow")
    names = data.names if data.names is not None else table.rows
    rows = data.values[~data.values.isnan().any(1)]
    if len(rows) < 2:
        raise DataError(f"An audit of bare loadings needs complete rows of x, got {len(rows)}.")
    if latents == features:
        return _square(found, rows, prior, names)
    noise = _left_over(found, rows)
    law, note = prior, ""
    if law is None:
        law, note = _law_of(found, noise, rows)
    model = LinearFactorModel(features, latents, law)
    model.loadings, model.noise_variance, model.mean = found, noise, rows.mean(0)
    return _subject(model, f"Loadings {features} x {latents}", names, note)


def _square(found: Tensor, rows: Tensor, prior: Prior | None, names: tuple[str, ...] | None) -> Subject:
    """Read a square matrix as a mixing matrix without noise."""
    if torch.linalg.matrix_rank(found) < len(found):
        raise DataError("A square matrix of loadings is read without noise, and needs independent columns.")
    sources = solve_sources(rows, found, rows.mean(0))
    spread = sources.std(0, correction=0)
    if not bool((spread > 0).all()):
        raise DataError("x should vary in every direction that the loadings name.")
    law, note = prior, ""
    if law is None:
        law = fitted_law(sources / spread, torch.zeros(len(spread), len(spread), dtype=torch.float64))
        note = _assumed(law)
    model = LinearFactorModel(len(found), len(found), law, noise="none")
    model.loadings, model.mean = found * spread, rows.mean(0)
    return _subject(model, f"Mixing matrix {len(found)} x {len(found)}", names, note)


def _left_over(found: Tensor, rows: Tensor) -> Tensor:
    """Return the variance of each feature that the loadings leave, or say what is wrong with their units."""
    variance = rows.var(0, correction=0)
    noise = variance - found.square().sum(1)
    worst = int((noise / variance.clamp_min(1e-300)).argmin())
    if not float(noise[worst]) > FLOOR * float(variance[worst]):
        raise DataError(
            f"The loadings explain {float(found[worst].square().sum()):.4g} of column {worst}, whose variance is "
            f"{float(variance[worst]):.4g}: pass loadings of uncorrelated factors of variance 1 in the units of x "
            "(standardise x for loadings of standardised columns)."
        )
    correlation = torch.corrcoef(rows.mT) if rows.shape[1] > 1 else torch.ones(1, 1, dtype=torch.float64)
    scale = variance.sqrt().unsqueeze(1)
    raw, standard = (_misfit(correlation, loadings) for loadings in (found / scale, found))
    if raw > MISFIT and standard < 0.5 * raw and bool((found.square().sum(1) < 1).all()):
        raise DataError(
            f"The loadings fit the correlations of x (off by {standard:.3f}), not its covariances (off by {raw:.3f}): "
            "they are those of standardised columns, so pass x standardised."
        )
    return noise


def _misfit(correlation: Tensor, loadings: Tensor) -> float:
    """Return the root mean square of the correlations that the loadings leave unexplained."""
    below = (correlation - loadings @ loadings.mT).tril(-1)
    pairs = len(below) * (len(below) - 1) / 2
    return float((below.square().sum() / max(pairs, 1)).sqrt())


def _law_of(found: Tensor, noise: Tensor, rows: Tensor) -> tuple[Prior, str]:
    """Return the laws that fit the scores best, and a sentence."""
    features, latents = found.shape
    rank = int(torch.linalg.matrix_rank(found))
    if rank < latents:
        raise ParameterError(
            f"{latents} columns of {features} features and rank {rank} have no scores that could show the law of the "
            "factors: pass it as prior."
        )
    scores = Scores.of(rows, found, noise, rows.mean(0))
    law = fitted_law(scores.values, scores.covariance)
    return law, _assumed(law)


def _assumed(law: Prior) -> str:
    return (
        f"The loadings came without a law of the factors: independent ones were assumed, and {law!r} fits their scores "
        "best. Of Gaussian factors no axes would be identified (prior=priors.Gaussian())."
    )


def draws_subject(draws: Any, x: Any, prior: Prior | None = None) -> Subject:
    """Read draws of loadings (chain, draw, D, K) or (draw, D, K), bare or in a mapping by site, as draws of a model.

    They are aligned by the group that the law of the factors leaves free, and their mean is audited. Without a prior
    they are taken for draws of Gaussian factors.

    Raises
    ------
    ParameterError, DataError
        There are no loadings among them, they are not finite or too few, or there are no rows.
    """
    sites = _sites(draws)
    loadings = sites["loadings"]
    features, latents = loadings.shape[2:]
    if x is None:
        raise DataError("An audit of draws needs the rows they are about: pass x.")
    data = check_data(x, features=features, missing="allow")
    rows = data.values[~data.values.isnan().any(1)]
    if len(rows) < 2:
        raise DataError(f"An audit of draws needs complete rows of x, got {len(rows)}.")
    law = Gaussian() if prior is None else prior
    noise = sites.get("noise_variance")
    shared = noise is not None and noise.dim() == 2
    model = LinearFactorModel(features, latents, law, noise="isotropic" if shared else "diagonal")
    model.loadings = (loadings @ identified_group(model).rotations(loadings)).mean((0, 1))
    if noise is None:
        level = _left_over_of_draws(loadings, rows)
    else:
        level = noise.mean((0, 1))
    model.noise_variance = level
    model.mean = sites["mean"].mean((0, 1)) if "mean" in sites else rows.mean(0)
    found = mixing(sites)
    note = f"Chains: {found.pattern.value}; {found.meaning}"
    if prior is None:
        note += " They were taken for draws of Gaussian factors: pass another law as prior."
    chains, count = loadings.shape[:2]
    name = f"{chains} x {count} draws of loadings {features} x {latents}"
    run = given_fit(model, name, converged=found.converged, names=data.names, draws=sites)
    return Subject(run, f"{name} as {model!r}", (note,))


def _sites(draws: Any) -> dict[str, Tensor]:
    """Return float64 draws by site, with a chain axis."""
    found = dict(draws) if isinstance(draws, Mapping) else {"loadings": draws}
    try:
        sites = {
            str(name): torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value)).double()
            for name, value in found.items()
        }
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Draws should be tensors of numbers by site, got one that is none: {error}"
        ) from None
    loadings = sites.get("loadings")
    if loadings is not None and loadings.dim() == 3:
        sites = {name: value.unsqueeze(0) for name, value in sites.items()}
    return read_source(sites, "audit").draws


def _left_over_of_draws(loadings: Tensor, rows: Tensor) -> Tensor:
    variance = rows.var(0, correction=0)
    noise = variance - loadings.square().sum(3).mean((0, 1))
    return torch.maximum(noise, FLOOR * variance)


def _subject(model: LinearFactorModel, name: str, names: tuple[str, ...] | None, note: str) -> Subject:
    run = given_fit(model, name, names=names)
    return Subject(run, f"{name} as {model!r}", (note,) if note else (), laws_chosen=bool(note))
