"""Expectation maximisation for linear factor models with Gaussian or elliptical factors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from probae.checks import Data, DataError, NotExactError, ParameterError, check_count, check_positive
from probae.inference.acceleration import Ascent
from probae.inference.base import ExactPosterior, Loop, Method, Outcome
from probae.inference.confirmatory import fit_by_em, standard_factors
from probae.inference.elliptical import fit_elliptical
from probae.inference.factor_likelihood import FactorLikelihood
from probae.inference.gaussian import (
    assign,
    fit_diagonal,
    principal_components,
    set_canonical,
    summarize,
    usable_latents,
    warn_heywood,
)
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.models.patterns import Patterns
from probae.priors import CorrelatedGaussian, MultivariateStudentT
from probae.statistics import SufficientStatistics

LEAST_NOISE = 0.05  # of a start, as a share of the column's variance: EM would take long to leave zero
RANDOM_STARTS = 3


@dataclass(frozen=True)
class EM(Method):
    r"""Expectation maximisation, accelerated; the likelihood never falls.

    With B = M^{-1} W' Psi^{-1} the posterior-mean map and S the sample covariance, one step is

    .. math:: E = M^{-1} + B S B', \quad W \leftarrow S B' E^{-1}, \quad \Psi \leftarrow \operatorname{diag}(S - W B S)

    followed by :math:`W \leftarrow W E^{1/2}` [1]_, [2]_. Rows with missing entries enter with the entries they have,
    in groups of equal pattern. Anderson's acceleration makes few steps of many, and a step that would lower the
    likelihood is refused. Loadings come in the canonical frame, as from :class:`MaximumLikelihood`. Further starts are
    tried only when a noise variance went to its floor, a millionth of the column's variance (:class:`HeywoodWarning`).

    Factors with the law `MultivariateStudentT`, which share one random scale, are fitted too, from complete rows: the
    scale is one more latent, integrated out by quadrature, and the degrees of freedom are learnt if the law says so.

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
        """Run EM from the principal components, or from the fit of Gaussian factors where these have a t law."""
        if isinstance(model, LinearFactorModel) and isinstance(model.prior, MultivariateStudentT):
            return fit_elliptical(model, self.rows(data), seed, self.steps, self.tol)
        if not isinstance(model, LinearFactorModel) or not model.gaussian:
            raise NotExactError(
                f"EM is exact for Gaussian and MultivariateStudentT factors only, got {model!r}: use "
                "MaximumLikelihood(), StochasticEM(), VariationalEM() or SVI(encoder)."
            )
        if model.noise == "none":
            raise ParameterError('EM needs a model with noise; with noise="none" use MaximumLikelihood().')
        if isinstance(model, ConfirmatoryFactorAnalysis):
            return Outcome(ExactPosterior(model), *fit_by_em(model, data, seed, self.steps, self.tol))
        if isinstance(model.prior, CorrelatedGaussian):
            with standard_factors(model):
                return self.fit(model, data, seed)
        patterns = group(data)
        if model.noise == "diagonal":
            usable_latents(model, model.features)
        climbs: list[Climb] = []
        with Loop("EM") as loop:
            for problem in starting_points(model, patterns, seed):
                climbs.append(Climb(problem, problem.join(*model._gaussian_parameters()), self.tol))
                climbs[-1].run(loop, self.steps)
                if not climbs[-1].suspicious:
                    break
        if not climbs:
            return Outcome(ExactPosterior(model), [], False, loop.interrupted)
        best = max(climbs, key=lambda climb: climb.ascent.point.value)
        set_canonical(model, *best.problem.split(best.ascent.point.theta))
        warn_heywood(best.problem.at_floor(best.ascent.point.theta), data.names)
        ended = [climb.report(i, best) for i, climb in enumerate(climbs)] if len(climbs) > 1 else []
        return Outcome(
            ExactPosterior(model), best.history, best.ascent.converged, loop.interrupted, restarts=ended
        )


class Climb:
    """One start and the values on the way up."""

    def __init__(self, problem: FactorLikelihood, start: Tensor, tolerance: float) -> None:
        self.problem = problem
        self.ascent = Ascent(problem, start, tolerance)
        self.history = [self.ascent.point.value]

    def run(self, loop: Loop, steps: int) -> None:
        """Climb until nothing is left to gain, or the steps run out."""
        for _, point in zip(loop.steps(steps), self.ascent, strict=False):
            self.history.append(point.value)
            loop.value = point.value

    @property
    def suspicious(self) -> bool:
        """Whether the climb ended with a noise variance at its floor, where many a lower top lies."""
        return self.ascent.converged and bool(self.problem.at_floor(self.ascent.point.theta))

    def report(self, index: int, best: Climb) -> dict[str, Any]:
        """Say how far below the best, in nats per row, the climb ended."""
        below = best.history[-1] - self.history[-1]
        return {"restart": index, "shortfall": below, "converged": self.ascent.converged}


def group(data: Data | SufficientStatistics) -> Patterns:
    """Group the rows by which entries they have; complete rows come as their moments."""
    if isinstance(data, SufficientStatistics) or data.missing is None:
        return Patterns.of_statistics(summarize(data))
    return Patterns.of(data.values)


def starting_points(model: LinearFactorModel, patterns: Patterns, seed: int) -> Iterator[FactorLikelihood]:
    """Put one start after the other into the model, and give the problem; the first is mostly the only one needed."""
    moments = filled_statistics(patterns)
    variance, diagonal = moments.variances, model.noise == "diagonal"
    if not (variance > (1e-14 * moments.mean).square()).any():
        raise DataError("x needs at least one column that varies, but every column is constant.")
    initialize(model, moments)
    yield FactorLikelihood(patterns, model.latents, diagonal, variance)
    if not diagonal or int((variance > 0).sum()) < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to say, the end of the climb says
        fit_diagonal(model, moments, seed)
    model.noise_variance = torch.maximum(model.noise_variance.detach(), LEAST_NOISE * variance)
    yield FactorLikelihood(patterns, model.latents, diagonal, variance)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(RANDOM_STARTS):
        drawn = torch.randn(model.features, model.latents, generator=generator, dtype=torch.float64)
        model.loadings = drawn * (0.5 * variance / model.latents).sqrt().unsqueeze(1)
        model.noise_variance = (0.5 * variance).clamp_min(1e-3 * float(variance.mean()))
        yield FactorLikelihood(patterns, model.latents, diagonal, variance)


def initialize(model: LinearFactorModel, statistics: SufficientStatistics) -> None:
    """Start from the principal components, half of the remaining variance as noise."""
    variance = statistics.variances.numpy()
    latents = min(model.latents, model.features)
    values, vectors = principal_components(statistics, latents)
    loadings = np.zeros((model.features, model.latents))
    kept = values > 1e-12 * values.max()  # fewer rows than factors have fewer components
    loadings[:, np.flatnonzero(kept)] = vectors[:, kept] * np.sqrt(0.5 * values[kept])
    noise = np.maximum(variance - np.square(loadings).sum(1), 1e-3 * variance.mean())
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
