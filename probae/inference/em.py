"""Expectation maximisation for Gaussian linear factor models, missing values integrated out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from probae.checks import Data, NotExactError, ParameterError, check_count, check_positive
from probae.inference import profile
from probae.inference.base import ExactPosterior, Loop, Method, Outcome
from probae.inference.confirmatory import fit_by_em, standard_factors
from probae.inference.gaussian import (
    SMALLEST,
    assign,
    mean_log_likelihood,
    summarize,
    usable_latents,
    warn_heywood,
)
from probae.linalg import LowRankCovariance
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.models.marginal import gaussian_log_density, gaussian_posterior
from probae.priors import CorrelatedGaussian
from probae.statistics import SufficientStatistics


@dataclass(frozen=True)
class EM(Method):
    r"""Expectation maximisation; the likelihood never falls.

    With B = M^{-1} W' Psi^{-1} the posterior-mean map and S the sample covariance, one step is

    .. math:: E = M^{-1} + B S B', \quad W \leftarrow S B' E^{-1}, \quad \Psi \leftarrow \operatorname{diag}(S - W B S)

    (Rubin & Thayer, 1982). Rows with missing entries enter with the entries they have.

    Parameters
    ----------
    steps : int
        Most steps to take.
    tol : float
        Stop when a step gains less than this many nats per row.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x, pa.EM())
    >>> bool((run.history.diff() > -1e-10).all())
    True
    """

    steps: int = 5000
    tol: float = 1e-10
    objective_name: ClassVar[str] = "log-likelihood"
    accepts_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_positive("tol", self.tol)

    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Run EM from the principal components."""
        if not isinstance(model, LinearFactorModel) or not model.gaussian:
            raise NotExactError(
                f"EM is exact for Gaussian factors only, got {model!r}: use MaximumLikelihood() or SVI(encoder)."
            )
        if model.noise == "none":
            raise ParameterError('EM needs a model with noise; with noise="none" use MaximumLikelihood().')
        if isinstance(model, ConfirmatoryFactorAnalysis):
            return Outcome(ExactPosterior(model), *fit_by_em(model, data, seed, self.steps, self.tol))
        if isinstance(model.prior, CorrelatedGaussian):
            with standard_factors(model):
                return self.fit(model, data, seed)
        history: list[float] = []
        converged = False
        complete = isinstance(data, SufficientStatistics) or data.missing is None
        if isinstance(data, SufficientStatistics) or data.missing is None:
            start = summarize(data)
            step = _complete_step(model, start)
        else:
            start = filled_statistics(data)
            step = _incomplete_step(model, data)
        initialize(model, start)
        if model.noise == "diagonal":
            usable_latents(model, model.features)
        with Loop("EM") as loop:
            for _ in loop.steps(self.steps):
                history.append(step())
                loop.value = history[-1]
                if len(history) > 1 and abs(history[-1] - history[-2]) < self.tol:
                    converged = True
                    break
        if complete:
            history.append(mean_log_likelihood(model, start))
        variance = start.covariance.diagonal()
        low = model.noise_variance.detach().expand(model.features) <= 1.01 * profile.FLOOR * variance
        if model.noise == "diagonal":
            warn_heywood(torch.nonzero(low).flatten().tolist(), data.names)
        return Outcome(ExactPosterior(model), history, converged, loop.interrupted)


def initialize(model: LinearFactorModel, statistics: SufficientStatistics) -> None:
    """Start from the principal components, half of the remaining variance as noise."""
    covariance = statistics.covariance.numpy()
    latents = min(model.latents, model.features)
    values, vectors = profile.leading_eigenpairs(covariance, latents)
    noise = np.maximum(
        covariance.diagonal() - np.square(vectors) @ (0.5 * values), 1e-3 * covariance.diagonal().mean()
    )
    loadings = np.zeros((model.features, model.latents))
    loadings[:, :latents] = vectors * np.sqrt(0.5 * np.maximum(values, 0.0))
    assign(model, loadings, noise if model.noise == "diagonal" else noise.mean(), statistics.mean)


def bounded(noise: Tensor, variance: Tensor) -> Tensor:
    """Keep noise variances above their floor, relative to the variance of each feature (or of all)."""
    if noise.ndim == 0:
        return noise.clamp_min(SMALLEST * float(variance.mean()))
    return torch.maximum(noise, profile.FLOOR * variance.clamp_min(1e-6 * float(variance.mean())))


def filled_statistics(data: Data) -> SufficientStatistics:
    """Return moments with each missing entry at its column mean, with the column's variance kept: a start only."""
    observed = ~data.values.isnan()
    mean = data.values.nanmean(0)
    centred = (data.values - mean).nan_to_num()
    shared = observed.double().T @ observed.double()
    scatter = centred.T @ centred * (len(centred) / shared.clamp_min(1.0))
    values, vectors = torch.linalg.eigh(scatter)
    return SufficientStatistics(len(centred), mean, (vectors * values.clamp_min(0.0)) @ vectors.T, data.names)


def _complete_step(model: LinearFactorModel, statistics: SufficientStatistics) -> Callable[[], float]:
    """Return one EM step on the moments; it returns the log-likelihood per row before the step."""
    covariance = statistics.covariance
    total = covariance.diagonal()
    constant = model.features * math.log(2 * math.pi)

    def step() -> float:
        loadings, noise, _ = model._gaussian_parameters()
        factored = LowRankCovariance.factor(loadings, noise)
        cross = factored.posterior_map @ covariance  # B S, (K, D)
        moment = factored.posterior_covariance + cross @ factored.posterior_map.T
        updated = torch.linalg.solve(moment, cross).T
        residual = total - (updated * cross.T).sum(1)
        model.loadings = updated
        model.noise_variance = bounded(residual if model.noise == "diagonal" else residual.mean(), total)
        return -0.5 * float(constant + factored.log_det + factored.trace(covariance))

    return step


def _incomplete_step(model: LinearFactorModel, data: Data) -> Callable[[], float]:
    """Return one EM step on rows with missing entries; it returns the log-likelihood per row before the step."""
    observed = (~data.values.isnan()).double()
    filled = data.values.nan_to_num()
    counts = observed.sum(0)
    variance = filled_statistics(data).covariance.diagonal()

    def step() -> float:
        loadings, noise, mean = model._gaussian_parameters()
        value = float(gaussian_log_density(data.values, loadings, noise, mean).mean())
        location, scale_tril = gaussian_posterior(data.values, loadings, noise, mean)
        first = torch.cat([location, torch.ones(len(location), 1, dtype=torch.float64)], 1)
        second = first.unsqueeze(2) * first.unsqueeze(1)
        second[:, :-1, :-1] += scale_tril @ scale_tril.mT
        moment = (observed.T @ second.flatten(1)).unflatten(1, second.shape[1:])  # (D, K + 1, K + 1)
        cross = (filled * observed).T @ first
        updated = torch.linalg.solve(moment, cross)
        power = (filled.square() * observed).sum(0) - (updated * cross).sum(1)
        model.loadings, model.mean = updated[:, :-1], updated[:, -1]
        residual = power / counts if model.noise == "diagonal" else power.sum() / counts.sum()
        model.noise_variance = bounded(residual, variance)
        return value

    return step
