"""Expectation maximisation for Gaussian linear factor models, missing values integrated out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from probae.checks import Data, NotExactError, ParameterError, check_count, check_positive
from probae.inference.acceleration import Ascent
from probae.inference.base import ExactPosterior, Loop, Method, Outcome
from probae.inference.confirmatory import fit_by_em, standard_factors
from probae.inference.factor_likelihood import FactorLikelihood
from probae.inference.gaussian import (
    assign,
    principal_components,
    summarize,
    usable_latents,
    warn_heywood,
)
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.models.patterns import Patterns
from probae.priors import CorrelatedGaussian
from probae.statistics import SufficientStatistics


@dataclass(frozen=True)
class EM(Method):
    r"""Expectation maximisation, accelerated; the likelihood never falls.

    With B = M^{-1} W' Psi^{-1} the posterior-mean map and S the sample covariance, one step is

    .. math:: E = M^{-1} + B S B', \quad W \leftarrow S B' E^{-1}, \quad \Psi \leftarrow \operatorname{diag}(S - W B S)

    followed by :math:`W \leftarrow W E^{1/2}` [1]_, [2]_. Rows with missing entries enter with the entries they have,
    in groups of equal pattern. Anderson's acceleration makes few steps of many, and a step that would lower the
    likelihood is refused. Loadings come in the canonical frame, as from :class:`MaximumLikelihood`.

    Parameters
    ----------
    steps : int
        Most steps to take.
    tol : float
        Stop when less than this many nats per row can still be gained, as the accelerated steps estimate it, and the
        gradient has vanished.

    References
    ----------
    .. [1] Rubin, D. B. & Thayer, D. T. (1982). EM algorithms for ML factor analysis. Psychometrika 47, 69-76.
    .. [2] Liu, C., Rubin, D. B. & Wu, Y. N. (1998). Parameter expansion to accelerate EM. Biometrika 85, 755-770.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x, pa.EM())
    >>> bool((run.history.diff() > -1e-10).all()), len(run.history) < 30
    (True, True)
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
        patterns = group(data)
        start = filled_statistics(patterns)
        initialize(model, start)
        if model.noise == "diagonal":
            usable_latents(model, model.features)
        problem = FactorLikelihood(patterns, model.latents, model.noise == "diagonal", start.variances)
        history: list[float] = []
        ascent: Ascent | None = None
        with Loop("EM") as loop:
            ascent = Ascent(problem, problem.join(*model._gaussian_parameters()), self.tol)
            history.append(ascent.point.value)
            for _, point in zip(loop.steps(self.steps), ascent, strict=False):
                history.append(point.value)
                loop.value = point.value
        if ascent is not None:
            set_canonical(model, *problem.split(ascent.point.theta))
            warn_heywood(problem.at_floor(ascent.point.theta), data.names)
        return Outcome(
            ExactPosterior(model), history, ascent is not None and ascent.converged, loop.interrupted
        )


def group(data: Data | SufficientStatistics) -> Patterns:
    """Group the rows by which entries they have; complete rows come as their moments."""
    if isinstance(data, SufficientStatistics) or data.missing is None:
        return Patterns.of_statistics(summarize(data))
    return Patterns.of(data.values)


def initialize(model: LinearFactorModel, statistics: SufficientStatistics) -> None:
    """Start from the principal components, half of the remaining variance as noise."""
    variance = statistics.variances.numpy()
    latents = min(model.latents, model.features)
    values, vectors = principal_components(statistics, latents)
    noise = np.maximum(variance - np.square(vectors) @ (0.5 * values), 1e-3 * variance.mean())
    loadings = np.zeros((model.features, model.latents))
    loadings[:, : len(values)] = vectors * np.sqrt(0.5 * np.maximum(values, 0.0))
    assign(model, loadings, noise if model.noise == "diagonal" else noise.mean(), statistics.mean)


def filled_statistics(patterns: Patterns) -> SufficientStatistics:
    """Return moments with each missing entry at its column mean, with the column's variance kept: a start only."""
    weight = patterns.counts.unsqueeze(1)
    seen = (patterns.observed * weight).sum(0)
    mean = (patterns.means * weight).sum(0) / seen
    centred = (patterns.means - mean) * patterns.observed * weight.sqrt()
    root = torch.cat([patterns.roots, centred]) * (patterns.rows / seen).sqrt()
    if len(root) < patterns.features:
        return SufficientStatistics(patterns.rows, mean, root=root)
    return SufficientStatistics(patterns.rows, mean, root.T @ root)


def set_canonical(model: LinearFactorModel, loadings: Tensor, noise: Tensor, mean: Tensor) -> None:
    """Write parameters into the model in the frame with W' Psi^{-1} W diagonal, largest first."""
    frame = torch.linalg.svd(torch.linalg.qr(loadings / noise.sqrt().unsqueeze(1), mode="r")[1])[2].mT
    assign(model, (loadings @ frame).numpy(), noise if model.noise == "diagonal" else noise[0], mean)
