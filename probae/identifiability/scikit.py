"""Fitted FactorAnalysis, PCA and FastICA of scikit-learn, read as the linear factor models that they are."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probae.checks import DataError, ParameterError, check_data
from probae.identifiability.given import Subject, fitted_law, given_fit
from probae.models import FactorAnalysis, IndependentComponents, LinearFactorModel, ProbabilisticPCA
from probae.priors import Gaussian

__all__ = ["sklearn_subject"]

QUIET = 1e-12  # noise variance, relative to the largest of x, that is rounding
KINDS = ("FactorAnalysis", "PCA", "FastICA")


def sklearn_subject(estimator: Any, x: Any) -> Subject | None:
    """Read a fitted estimator; None for anything that is not one of the three. scikit-learn is never imported.

    Raises
    ------
    ParameterError
        It is not fitted, or leaves no noise where its model has some.
    DataError
        FastICA without the rows it was fitted to.
    """
    module = sys.modules.get("sklearn.decomposition")
    kind = next((name for name in KINDS if _is(estimator, getattr(module, name, None))), None)
    if kind is None:
        return None
    if not hasattr(estimator, "components_"):
        raise ParameterError(f"This {kind} of scikit-learn is not fitted: call fit(x) first, then audit it.")
    read = {"FactorAnalysis": _factor_analysis, "PCA": _pca, "FastICA": _fast_ica}[kind]
    return read(estimator, x)


def _is(estimator: Any, kind: Any) -> bool:
    return kind is not None and isinstance(estimator, kind)


def _factor_analysis(estimator: Any, x: Any) -> Subject:
    """X = mean + W z + noise, z ~ N(0, I), diagonal noise; a rotation it applied is a convention."""
    model = FactorAnalysis(estimator.components_.shape[1], estimator.components_.shape[0])
    _set(model, estimator.components_.T, estimator.mean_, estimator.noise_variance_)
    notes: tuple[str, ...] = ()
    if getattr(estimator, "rotation", None):
        notes = (
            f"Its axes are those of {estimator.rotation}, a convention that any other criterion replaces.",
        )
    converged = estimator.n_iter_ < estimator.max_iter
    return _subject(estimator, model, converged, notes)


def _pca(estimator: Any, x: Any) -> Subject:
    """Probabilistic PCA of its components; with all of them a Gaussian model without noise."""
    components, variances = estimator.components_, estimator.explained_variance_
    latents, features = components.shape
    noise = float(estimator.noise_variance_)
    notes = (
        "Principal axes are a convention: the axes of the plane or space in which the variances are largest.",
    )
    if latents == features:
        model: LinearFactorModel = LinearFactorModel(features, features, Gaussian(), noise="none")
        _set(model, components.T * np.sqrt(variances), estimator.mean_)
        return _subject(estimator, model, True, notes)
    if not noise > QUIET * float(variances[0]):
        raise ParameterError(
            f"This PCA of scikit-learn leaves no variance outside its {latents} components, and probabilistic PCA has "
            "noise: fit PCA with fewer components, on more rows than columns."
        )
    model = ProbabilisticPCA(features, latents)
    _set(model, components.T * np.sqrt(np.maximum(variances - noise, 0.0)), estimator.mean_, noise)
    return _subject(estimator, model, True, notes)


def _fast_ica(estimator: Any, x: Any) -> Subject:
    """Independent components of unit variance, noise outside their span alone; their laws are fitted to the sources."""
    if x is None:
        raise DataError("An audit of FastICA needs the rows it was fitted to: its sources carry their laws.")
    latents, features = estimator.components_.shape
    names = _names(estimator)
    rows = check_data(x, features=features, names=names, minimum_rows=2).values
    mean, mixing = _tensor(getattr(estimator, "mean_", np.zeros(features))), _tensor(estimator.mixing_)
    sources = (rows - mean) @ _tensor(estimator.components_).mT
    mean = mean + mixing @ sources.mean(0)
    spread = sources.std(0, correction=0)
    if not bool((spread > 0).all()):
        raise DataError("A source of this FastICA does not vary over x: pass the rows that it was fitted to.")
    law = fitted_law((sources - sources.mean(0)) / spread, torch.zeros(latents, latents, dtype=torch.float64))
    model = IndependentComponents(features, latents, law)
    loadings = mixing * spread
    if latents == features:
        _set(model, loadings, mean)
    else:
        basis = torch.linalg.qr(loadings).Q
        outside = (rows - mean) - ((rows - mean) @ basis) @ basis.mT
        noise = float(outside.square().sum() / (len(rows) * (features - latents)))
        if not noise > QUIET * float(rows.var(0).max()):
            raise DataError(
                f"x lies in the {latents} dimensions of the sources: audit the rows in these dimensions."
            )
        _set(model, loadings, mean, noise)
    notes = [
        f"FastICA assumes no law of its sources: {law!r} fits them best. That they are not Gaussian is its assumption, "
        "which the data layer tests."
    ]
    converged = estimator.n_iter_ < estimator.max_iter
    if not converged:
        notes.append(f"Its rotation had not settled after {estimator.n_iter_} steps.")
    return _subject(estimator, model, converged, tuple(notes), independent=True)


def _set(model: LinearFactorModel, loadings: Any, mean: Any, noise: Any = None) -> None:
    """Write parameters in float64, with the noise at its shape."""
    model.loadings = _tensor(loadings)
    model.mean = _tensor(mean)
    if noise is not None:
        model.noise_variance = _tensor(noise).reshape(model.noise_variance.shape)


def _tensor(values: Any) -> Tensor:
    """Return a float64 copy of an array, a tensor or a number."""
    return torch.as_tensor(
        values if isinstance(values, Tensor) else np.asarray(values), dtype=torch.float64
    ).clone()


def _names(estimator: Any) -> tuple[str, ...] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else tuple(str(name) for name in names)


def _subject(
    estimator: Any,
    model: LinearFactorModel,
    converged: bool,
    notes: tuple[str, ...],
    independent: bool = False,
) -> Subject:
    source = f"scikit-learn's {type(estimator).__name__}"
    run = given_fit(model, source, converged=bool(converged), names=_names(estimator))
    unfinished = independent and not converged
    return Subject(
        run, f"{source} as {model!r}", notes, rotation_unfinished=unfinished, laws_chosen=independent
    )
