r"""Gaussian factors with known segments: the variances change between them, and that singles out axes.

.. math:: z_n \sim N(0, \operatorname{diag}(v_{u(n)})), \qquad x_n = \mu + W z_n + \varepsilon_n

Within one segment any rotation fits as well. Two segments in which the ratio of two variances differs leave none: the
linear case of identification by an auxiliary variable u (Khemakhem et al., 2020).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from probae.checks import Data, DataError, NotExactError, check_count
from probae.inference.base import Loop, Method, Outcome
from probae.inference.gaussian import fit_diagonal, fit_isotropic, warn_heywood
from probae.inference.joint_diagonalization import SegmentMoments, diagonalize, starting_frames
from probae.inference.segment_labels import Segments
from probae.inference.segment_noise import SegmentLikelihood, SegmentParameters, maximize, start_from
from probae.inference.segment_posterior import SegmentPosterior
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Gaussian
from probae.statistics import SufficientStatistics

FRAMES = 4  # starts without noise
LOG_TWO_PI_E = 1.0 + math.log(2 * math.pi)


@dataclass(frozen=True)
class SegmentedLikelihood(Method):
    r"""Maximum likelihood of Gaussian factors whose variances differ between known segments of the rows.

    Nothing but the segments singles out the axes: of each pair of factors, the ratio of the two variances has to change
    between segments. The model keeps unit-variance Gaussian factors; its loadings are scaled so that the variances
    v average 1 over the rows, and v itself is in ``fit.posterior.variances``.

    - No noise: joint diagonalisation of the covariances of the segments (Pham, 2001) by a relative quasi-Newton method
      from several starts.
    - With noise: L-BFGS on the exact likelihood of the segments' means and covariances.

    Parameters
    ----------
    segments : sequence of int or str
        The segment of each row, such as a session, a condition or a stretch of time.
    steps : int
        Most steps from each start.

    Raises
    ------
    DataError
        For labels that are neither whole numbers nor text, another number of them than rows, and, without noise, a
        segment with fewer rows than features + 1.

    References
    ----------
    .. [1] Pham, D. T. (2001). Joint approximate diagonalization of positive definite Hermitian matrices. SIAM Journal
       on Matrix Analysis and Applications 22, 1136-1152.

    Examples
    --------
    >>> import probae as pa, torch
    >>> labels = ["calm", "busy"] * 500
    >>> spread = torch.tensor([[1.0, 3.0], [2.0, 0.5]], dtype=torch.float64).repeat(500, 1)
    >>> z = spread * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> mixing = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    >>> run = pa.fit(pa.LinearFactorModel(2, 2, noise="none"), z @ mixing.T, pa.SegmentedLikelihood(labels))
    >>> pa.amari_distance(mixing, run.model.loadings) < 0.03
    True
    """

    segments: Any
    steps: int = 2000
    objective_name: ClassVar[str] = "log-likelihood"

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        object.__setattr__(self, "segments", Segments.of(self.segments))

    @local_parameters
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Fit loadings, noise, mean and the variances of each segment."""
        data = self.rows(data)
        if not isinstance(model, LinearFactorModel) or not isinstance(model.prior, Gaussian):
            raise NotExactError(
                f"SegmentedLikelihood is for independent Gaussian factors, got {model!r}: use LinearFactorModel("
                "features, latents), or another method."
            )
        if data.missing is not None:
            raise DataError(
                "SegmentedLikelihood needs complete rows, but x has missing values: fill them in first."
            )
        levels = self.segments.distinct()
        place = levels.positions(self.segments, len(data.values))
        moments = moments_of(data.values, place, len(levels))
        solve = self._without_noise if model.noise == "none" else self._with_noise
        with Loop("segments") as loop:
            parts, history, converged, restarts = solve(model, data, moments, levels, seed, loop)
        variances = _standardize(model, parts, moments.shares)
        posterior = SegmentPosterior(model, variances, levels)
        return Outcome(posterior, history, converged, loop.interrupted, restarts=restarts)

    def _without_noise(
        self,
        model: LinearFactorModel,
        data: Data,
        moments: SegmentMoments,
        levels: Segments,
        seed: int,
        loop: Loop,
    ) -> tuple[SegmentParameters, list[float], bool, list[dict[str, Any]]]:
        features = model.features
        _check_segments(data.values, moments, levels)
        starts = starting_frames(moments, FRAMES, seed)
        found = [diagonalize(moments, start, self.steps, loop) for start in starts]
        best = max(found, key=lambda one: one.history[-1])
        own = moments.mapped(best.unmixing)
        loadings = torch.linalg.inv(best.unmixing)
        variances = own.about(best.centre).diagonal(dim1=1, dim2=2)
        nothing = torch.zeros(features, dtype=torch.float64)
        parts = SegmentParameters(loadings, nothing, loadings @ best.centre, variances)
        history = [value - 0.5 * features * LOG_TWO_PI_E for value in best.history]
        return parts, history, best.converged, _report([(one.history, one.converged) for one in found])

    def _with_noise(
        self,
        model: LinearFactorModel,
        data: Data,
        moments: SegmentMoments,
        levels: Segments,
        seed: int,
        loop: Loop,
    ) -> tuple[SegmentParameters, list[float], bool, list[dict[str, Any]]]:
        statistics = SufficientStatistics.from_data(data.values).named(data.names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to say, the end of the fit says
            (fit_diagonal if model.noise == "diagonal" else fit_isotropic)(model, statistics, seed)
        loadings, noise, mean = model._gaussian_parameters()
        problem = SegmentLikelihood(moments, model.latents, model.noise == "diagonal")
        pooled = SegmentParameters(loadings, noise, mean, torch.ones(len(levels), model.latents).double())
        starts = start_from(pooled, problem, seed)
        found = [maximize(problem, start, self.steps, loop) for start in starts]
        theta, history, converged = max(found, key=lambda one: one[1][-1])
        if problem.diagonal:
            at_floor = theta[problem.sizes[0] :][: model.features] <= problem.floor + 0.01
            warn_heywood(at_floor.nonzero().flatten().tolist(), data.names)
        return problem.split(theta), history, converged, _report([one[1:] for one in found])


def moments_of(x: Tensor, place: Tensor, count: int) -> SegmentMoments:
    """Return share, mean and covariance of the rows in each of so many segments."""
    found = [SufficientStatistics.from_data(x[place == level]) for level in range(count)]
    return SegmentMoments(
        torch.tensor([one.count / len(x) for one in found], dtype=torch.float64),
        torch.stack([one.mean for one in found]),
        torch.stack([one.covariance for one in found]),
    )


def _check_segments(x: Tensor, moments: SegmentMoments, levels: Segments) -> None:
    """Refuse a segment in which some combination of the columns does not vary: its likelihood has no bound."""
    features = x.shape[1]
    for name, share, covariance in zip(levels.shown(), moments.shares, moments.covariances, strict=True):
        rows = round(float(share) * len(x))
        if rows <= features:
            raise DataError(
                f"Segment {name!r} has {rows} rows, but without noise each segment needs at least {features + 1}: "
                "merge segments, or use a model with noise."
            )
        values = torch.linalg.eigvalsh(covariance)
        if values[0] <= 1e-12 * values[-1]:
            raise DataError(
                f"The covariance of x in segment {name!r} is singular: without noise first drop collinear or "
                "constant columns, or use a model with noise."
            )


def _standardize(model: LinearFactorModel, parts: SegmentParameters, shares: Tensor) -> Tensor:
    """Write parameters into the model with average variance 1, the strongest factor first; return the variances."""
    size = (shares @ parts.variances).sqrt()
    loadings, variances = parts.loadings * size, parts.variances / size.square()
    scale = parts.noise.sqrt() if model.noise != "none" else torch.ones(model.features, dtype=torch.float64)
    order = (loadings / scale.unsqueeze(1)).square().sum(0).argsort(descending=True)
    loadings = loadings[:, order]
    sign = loadings.gather(0, loadings.abs().argmax(0, keepdim=True)).sign()
    model.loadings = loadings * torch.where(sign == 0, 1.0, sign)
    model.mean = parts.mean.clone()
    if model.noise != "none":
        model.noise_variance = parts.noise.clone() if model.noise == "diagonal" else parts.noise[0].clone()
    return variances[:, order].contiguous()


def _report(found: list[tuple[list[float], bool]]) -> list[dict[str, Any]]:
    """Say how far below the best, in nats per row, each start ended."""
    best = max(history[-1] for history, _ in found)
    return [
        {"restart": i, "shortfall": best - history[-1], "converged": converged}
        for i, (history, converged) in enumerate(found)
    ]
