"""Everything an audit looks at, gathered once: the model's structure, the data's tests, the frames, the precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probae.checks import ParameterError, check_data
from probae.identifiability.axes_bootstrap import axes_bootstrap
from probae.identifiability.data_evidence import DataEvidence, curvature, data_evidence, exact_test
from probae.identifiability.effective_information import effective_information
from probae.identifiability.frames import MAX_LATENTS, FrameComparison, adaptive_frame, model_frame
from probae.identifiability.guide import InferenceEvidence, inference_evidence
from probae.identifiability.likelihood_ratio import RotationProfile, haar_spread, rotation_profile
from probae.identifiability.noise_identification import NoiseIdentification, noise_identification
from probae.identifiability.precision import AngleError, angle_errors
from probae.identifiability.principal_frame import PrincipalFrame, principal_frame
from probae.identifiability.rank_test import RankTest, rank_test
from probae.identifiability.segments import SegmentEvidence, segment_evidence
from probae.identifiability.structure import LoadingsCheck, Structure, check_loadings, structure
from probae.identifiability.zeros import Zeros, zeros_of
from probae.inference import Fit, GibbsPosterior, ImportancePosterior, VariationalBayes
from probae.inference.base import ExactPosterior
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.segment_posterior import SegmentPosterior
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.models.marginal import Scores, solve_sources
from probae.statistics import SufficientStatistics

MAX_PLANES_LATENTS = 40
MINIMUM_ROWS = 50


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the verdict is decided from."""

    features: int
    factors: int
    samples: int
    gaussian: bool
    noise: str
    converged: bool
    inference: InferenceEvidence
    structure: Structure
    loadings: LoadingsCheck
    why_no_data: str
    data: DataEvidence | None = None
    invariance: float | None = None
    precision: tuple[AngleError, ...] = ()
    profile: RotationProfile | None = None
    model_frame: FrameComparison | None = None
    adaptive_frame: FrameComparison | None = None
    zeros: Zeros | None = None
    segments: SegmentEvidence | None = None
    uniqueness: NoiseIdentification | None = None
    principal: PrincipalFrame | None = None
    rank: RankTest | None = None
    nonlinear: str = ""
    rotation_unfinished: bool = False  # all but the rotation of the factors had converged
    incomplete: int = 0  # rows with missing entries: they serve the fit, not the audit

    @property
    def worst_error(self) -> float:
        """Standard error of the least certain plane, in degrees."""
        return max((error.degrees for error in self.precision), default=math.inf if self.factors > 1 else 0.0)

    @property
    def rows(self) -> str:
        """How many rows were looked at, in words."""
        if self.incomplete:
            return f"{self.samples:,} complete rows of {self.samples + self.incomplete:,}"
        return f"{self.samples:,} rows" if self.samples else "no rows"


def gather(fit: Fit, x: Any, seed: int, resamples: int = 0) -> Evidence:
    """Collect the evidence on a fit; without x only what needs no data, with resamples a bootstrap of the axes."""
    model = fit.model
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"audit reads linear factor models, got {type(model).__name__}.")
    if isinstance(fit.posterior, SegmentPosterior):
        return _segmented(fit, x, seed)
    rows, reason = _complete_rows(model, x)
    zeros = zeros_of(model, x, fit.names, seed) if isinstance(model, ConfirmatoryFactorAnalysis) else None
    shape = structure(model.prior, model.latents, seed) if zeros is None else zeros.structure
    checked = check_loadings(model)
    count = 0 if rows is None else len(rows)
    complete, incomplete = _sizes(model, x)
    exploratory, scores = zeros is None, None
    if rows is not None and model.latents > 1:
        scores, reason = _scores(model, rows, checked, reason)
    laws = None if model.gaussian else model.prior.coordinates(model.latents)
    precision: tuple[AngleError, ...] = () if zeros is None else zeros.precision
    own_frame = other_frame = bootstrap = None
    if scores is not None and laws is not None:
        precision = tuple(angle_errors(scores, laws, effective_information(model, seed=seed)))
        if model.latents <= MAX_LATENTS:
            own_frame = model_frame(scores, laws, seed)
            if resamples and shape.axes:
                bootstrap = axes_bootstrap(scores, laws, resamples, seed=seed)
    profile = _profile(fit, rows, precision, scores, seed) if exploratory else None
    data = _too_few(model, x, reason, seed) if rows is None else _data(fit, rows, scores, reason, seed)
    if own_frame and scores is not None and data is not None and data.shows_axes and shape.identified:
        other_frame = adaptive_frame(scores, seed)
        data = replace(data, curvature=curvature(model, scores, other_frame, seed))
    plane = None if profile is None else profile.plane
    inference = inference_evidence(
        fit, rows, samples=count, restricted=_restricted(fit), plane=plane, seed=seed
    )
    return Evidence(
        features=model.features,
        factors=model.latents,
        samples=complete,
        gaussian=model.gaussian,
        noise=model.noise,
        converged=fit.converged,
        inference=replace(inference, bootstrap=bootstrap),
        structure=shape,
        loadings=checked,
        why_no_data=reason,
        data=data,
        invariance=_invariance(model, rows) if exploratory else None,
        precision=precision,
        profile=profile,
        model_frame=own_frame,
        adaptive_frame=other_frame,
        zeros=zeros,
        uniqueness=noise_identification(model) if exploratory else None,
        principal=_principal(model, x, rows) if exploratory and model.latents > 1 else None,
        rank=rank_test(model, x, seed=seed) if exploratory and x is not None else None,
        incomplete=incomplete,
    )


def _data(fit: Fit, rows: Tensor, scores: Scores | None, reason: str, seed: int) -> DataEvidence:
    """Run the tests on the rows; where none ran because columns are constant, say so."""
    data = data_evidence(fit.model, rows, scores, reason, fit.names, seed)
    return data if data.information is not None else _without_constant(data, rows, fit.names)


def _invariance(model: LinearFactorModel, rows: Tensor | None) -> float | None:
    """Return how far random rotations change the likelihood of Gaussian factors with noise, as a share of it."""
    return None if rows is None or not model.gaussian or model.noise == "none" else haar_spread(model, rows)


def _segmented(fit: Fit, x: Any, seed: int) -> Evidence:
    """Collect the evidence on Gaussian factors with known segments: nothing else singles out their axes."""
    model = fit.model
    found, shape, samples = segment_evidence(fit, x, seed)
    return Evidence(
        features=model.features,
        factors=model.latents,
        samples=samples,
        gaussian=True,
        noise=model.noise,
        converged=fit.converged,
        inference=InferenceEvidence(restricted=False),
        structure=shape,
        loadings=check_loadings(model),
        why_no_data=found.why_no_tests,
        precision=found.precision,
        segments=found,
    )


def _principal(model: LinearFactorModel, x: Any, rows: Tensor | None) -> PrincipalFrame | None:
    """Return the conventional axes of Gaussian factors, with errors where the number of rows is known."""
    if not model.gaussian or model.latents > MAX_PLANES_LATENTS:
        return None
    count = x.count if isinstance(x, SufficientStatistics) else None if rows is None else len(rows)
    return principal_frame(model, count)


def _restricted(fit: Fit) -> bool:
    """Whether the posterior was approximated in a family that cannot hold the exact one, correlations included."""
    sampled = isinstance(fit.posterior, DrawsPosterior | GibbsPosterior)
    if isinstance(fit.posterior, ExactPosterior | ImportancePosterior) or sampled:
        return isinstance(fit.method, VariationalBayes)  # its draws are of a restricted law of the parameters
    encoder = getattr(fit.posterior, "encoder", None)
    return encoder is None or encoder.warning is not None


def _complete_rows(model: LinearFactorModel, x: Any) -> tuple[Tensor | None, str]:
    if x is None:
        return None, "No data were given: pass x to test what the data support."
    if isinstance(x, SufficientStatistics):
        return None, "The tests need the rows of x, and only their moments were given."
    values = check_data(x, features=model.features, missing="allow").values
    rows = values[~values.isnan().any(1)]
    needed = max(MINIMUM_ROWS, model.features + 10)
    if len(rows) < needed:
        return None, f"Only {len(rows)} complete rows: the tests need at least {needed}."
    return rows, ""


def _without_constant(data: DataEvidence, rows: Tensor, names: tuple[str, ...] | None) -> DataEvidence:
    """Say which columns are constant, where that is why no test ran; they are not counted among those of few values."""
    constant = (rows == rows[0]).all(0).nonzero().flatten().tolist()
    if not constant:
        return data
    found = [str(i) if names is None else names[i] for i in constant]
    said = f"Column {found[0]} of x is" if len(found) == 1 else f"Columns {', '.join(found[:6])} of x are"
    why = f"{said} constant, which leaves the tests no noise there: drop what is constant and fit again."
    return replace(
        data, discrete=tuple(name for name in data.discrete if name not in found), why_no_information=why
    )


def _sizes(model: LinearFactorModel, x: Any) -> tuple[int, int]:
    """Return how many rows are complete and how many are not."""
    if x is None:
        return 0, 0
    if isinstance(x, SufficientStatistics):
        return x.count, 0
    holes = check_data(x, features=model.features, missing="allow").values.isnan().any(1)
    return int((~holes).sum()), int(holes.sum())


def _scores(
    model: LinearFactorModel, rows: Tensor, checked: LoadingsCheck, reason: str
) -> tuple[Scores | None, str]:
    """Return the sufficient scores, or why there are none."""
    if model.latents > MAX_PLANES_LATENTS:
        return (
            None,
            f"{model.latents} factors have too many planes to test one by one (at most {MAX_PLANES_LATENTS}).",
        )
    if not checked.separable:
        return None, (
            f"{model.latents} factors of {model.features} features have no scores that x determines: "
            "the loadings may be identifiable, the factors are not separable, and the data layer cannot run."
        )
    if model.invertible:
        sources = solve_sources(rows, model.loadings.detach(), model.mean.detach())
        nothing = torch.zeros(model.latents, model.latents, dtype=torch.float64)
        return Scores(sources, nothing, torch.zeros(len(rows), dtype=torch.float64)), reason
    return model.sufficient_scores(rows), reason


def _too_few(model: LinearFactorModel, x: Any, reason: str, seed: int) -> DataEvidence | None:
    """Return the one test that holds for fewer rows than features, where only the number of rows forbids the others."""
    if x is None or isinstance(x, SufficientStatistics) or model.latents < 2:
        return None
    values = check_data(x, features=model.features, missing="allow").values
    found = exact_test(model, values[~values.isnan().any(1)], seed)
    return None if found is None else DataEvidence(None, (), None, None, reason, gaussian=found)


def _profile(
    fit: Fit, rows: Tensor | None, precision: tuple[AngleError, ...], scores: Scores | None, seed: int
) -> RotationProfile | None:
    """Return the likelihood along the rotation of the least certain plane."""
    if rows is None or fit.model.latents < 2 or (scores is None and not fit.model.gaussian):
        return None
    if fit.model.gaussian and fit.model.noise == "none":
        return None
    plane = max(precision, key=lambda error: error.degrees).plane if precision else (0, 1)
    return rotation_profile(fit, rows, plane, seed=seed)
