"""Where an apparent frame came from if not from the likelihood: the guide, the prior of the loadings, the start.

The evidence of the inference layer in one value, and the reasons it gives for GUIDE_DRIVEN and PRIOR_DRIVEN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from probae.identifiability.axes_bootstrap import AxesBootstrap
from probae.identifiability.frames import FrameComparison
from probae.identifiability.guide_profile import GuideProfile, guide_profile
from probae.identifiability.hadamard import MATTERS, GuideGap, guide_gap
from probae.identifiability.precision import LARGEST_ERROR
from probae.identifiability.prior_orbit import PriorOrbit, prior_orbit
from probae.identifiability.push_forward import CarriedGuide
from probae.identifiability.restarts import RestartLadder
from probae.identifiability.simple_structure import SimpleStructure, simple_structure
from probae.inference import Fit
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel

__all__ = ["LEAST_TURN", "InferenceEvidence", "guide_reason", "inference_evidence", "prior_reason"]

PROFILED = 6  # factors up to which each row's guide is optimised at every angle
LEAST_TURN = 5.0  # degrees that two frames have to differ by, whatever their standard errors


@dataclass(frozen=True, eq=False)
class InferenceEvidence:
    """What the inference layer found; None for what was not run.

    Attributes
    ----------
    restricted : bool
        Whether the fit used a guide with independent codes, or of another restricted family.
    gap : GuideGap or None
    orbit : PriorOrbit or None
    structure : SimpleStructure or None
    profile : GuideProfile or None
    carried : CarriedGuide or None
    restarts : RestartLadder or None
    bootstrap : AxesBootstrap or None
    why_no_bootstrap : str
        Why there is none although one was asked for.

    Examples
    --------
    >>> InferenceEvidence(restricted=True).to_dict()["restarts"] is None
    True
    """

    restricted: bool
    gap: GuideGap | None = None
    orbit: PriorOrbit | None = None
    structure: SimpleStructure | None = None
    profile: GuideProfile | None = None
    carried: CarriedGuide | None = None
    restarts: RestartLadder | None = None
    bootstrap: AxesBootstrap | None = None
    why_no_bootstrap: str = ""

    def lines(self) -> list[str]:
        """Say each result in a sentence; what a guide would prefer only where one was used."""
        parts = self._parts() if self.restricted else self._parts() | {"mean_field_gap": None}
        said = [part.describe() for part in parts.values() if part is not None]
        return said + ([self.why_no_bootstrap] if self.why_no_bootstrap else [])

    def to_dict(self) -> dict[str, Any]:
        """Return each result as plain values, None where it was not run."""
        parts = {name: None if part is None else part.to_dict() for name, part in self._parts().items()}
        return {"restricted_guide": self.restricted, **parts, "why_no_bootstrap": self.why_no_bootstrap}

    def _parts(self) -> dict[str, Any]:
        return {
            "mean_field_gap": self.gap,
            "profile": self.profile,
            "carried_guide": self.carried,
            "prior": self.orbit,
            "simple_structure": self.structure,
            "restarts": self.restarts,
            "bootstrap": self.bootstrap,
        }


def inference_evidence(
    fit: Fit,
    x: Any = None,
    *,
    samples: int,
    restricted: bool,
    plane: tuple[int, int] | None = None,
    seed: int = 0,
) -> InferenceEvidence:
    """Gather what costs next to nothing: Hadamard's gap, the prior's orbit, simple structure.

    Of a restricted encoder and few factors that are not Gaussian also the bounds along one plane, in seconds: for
    Gaussian ones the gap has them in closed form.

    Parameters
    ----------
    fit : Fit
        Of a linear factor model.
    x : array, DataFrame or Tensor (N, D), optional
        The rows it was fitted to, for the likelihood beside the prior.
    samples : int
        Rows of x; without any, there is no gap.
    restricted : bool
        Whether the fit's guide is of a restricted family.
    plane : (int, int), optional
        The two factors that turn along the profile of the bounds.
    seed : int

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = inference_evidence(pa.fit(pa.FactorAnalysis(9, 3), x), x, samples=len(x), restricted=False)
    >>> found.gap.artefact > 10, found.gap.turn < 1e-3, found.orbit         # principal axes are the guide's own
    (True, True, None)
    """
    model = fit.model
    if not isinstance(model, LinearFactorModel) or model.latents < 2:
        return InferenceEvidence(restricted)
    if isinstance(model, ConfirmatoryFactorAnalysis):  # its zeros say how far the axes turn
        return InferenceEvidence(restricted)
    gap = guide_gap(model, samples) if samples and not model.invertible else None
    profile = _profile(fit, x, plane, seed) if restricted else None
    return InferenceEvidence(
        restricted, gap, prior_orbit(fit, x, seed=seed), simple_structure(model), profile
    )


def _profile(fit: Fit, x: Any, plane: tuple[int, int] | None, seed: int) -> GuideProfile | None:
    """Return the bounds along a rotation beside the likelihood, where an encoder was fitted to one of them."""
    model = fit.model
    if plane is None or x is None or getattr(fit.posterior, "encoder", None) is None:
        return None
    independent = model.prior.coordinates(model.latents) is not None
    if model.gaussian or model.invertible or not independent or model.latents > PROFILED:
        return None
    return guide_profile(fit, x, plane, seed=seed)


def guide_reason(
    evidence: InferenceEvidence,
    frame: FrameComparison | None,
    worst_error: float,
    *,
    identified: bool,
) -> str | None:
    """Say how the guide made the axes, or None where it did not.

    Where the model identifies axes: the fit used a restricted guide and the exact (or paired) optimum lies further
    than max(2 standard errors, 5 degrees) away and is better beyond chance. Where it does not: the guide tells
    rotations of one likelihood apart by more than 2 nats, and the fitted axes are those it prefers, within 5 degrees or
    the angle, at most 13 degrees, at which its bound has lost 2 nats (a fit by random steps stops somewhere there).

    Parameters
    ----------
    evidence : InferenceEvidence
    frame : FrameComparison or None
        Best axes under the model's own law.
    worst_error : float
        Standard error of the least certain plane, in degrees. It counts as 13 at most, the largest that means anything:
        axes half-way between the true ones, where a guide may well put them, have an infinite one.
    identified : bool
        Whether the model's likelihood singles out axes.

    Examples
    --------
    >>> exact = FrameComparison(degrees=45.0, gain=0.02, error=0.004, law="Laplace()")
    >>> print(guide_reason(InferenceEvidence(restricted=True), exact, 1.5, identified=True))
    The method approximates the posterior, and the exact optimum lies 45 degrees from its axes (0.020 +- 0.004 nats per
    row better).
    >>> guide_reason(InferenceEvidence(restricted=False), exact, 1.5, identified=True) is None
    True
    """
    if not evidence.restricted:
        return None
    if identified:
        if frame is None or not frame.wins(_least(worst_error)):
            return None
        return (
            f"The method approximates the posterior, and the exact optimum lies {frame.degrees:.0f} degrees from its "
            f"axes ({frame.gain:.3f} +- {frame.error:.3f} nats per row better)."
        )
    gap = evidence.gap
    if gap is None or gap.artefact < MATTERS or gap.turn > _slack(gap):
        return None
    return (
        f"The axes are the guide's: one with independent codes tells rotations of the same likelihood apart by up to "
        f"{gap.artefact:.1f} nats, and the fitted axes are its best within {gap.turn:.1f} degrees."
    )


def prior_reason(
    evidence: InferenceEvidence,
    frame: FrameComparison | None,
    worst_error: float,
    *,
    identified: bool,
) -> str | None:
    """Say how the prior of the loadings made the axes, or None where it did not.

    The prior must say more of some angle than the likelihood does (and more than 2 nats), and the fitted axes be where
    it alone would put them. Where the model identifies axes, its own optimum must in addition lie further than
    max(2 standard errors, 5 degrees) away and be better beyond chance.

    Parameters
    ----------
    evidence : InferenceEvidence
    frame : FrameComparison or None
    worst_error : float
    identified : bool
        As in `guide_reason`.

    Examples
    --------
    >>> prior_reason(InferenceEvidence(restricted=False), None, 1.5, identified=False) is None
    True
    """
    orbit = evidence.orbit
    if orbit is None or orbit.invariant or not orbit.explains:
        return None
    if identified and (frame is None or not frame.wins(_least(worst_error))):
        return None
    nats = f"{orbit.range:.1f} nats" if math.isfinite(orbit.range) else "more than any number of nats"
    sd = max(plane.sd for plane in orbit.planes if plane.decides)
    return (
        f"The axes are those of the prior {orbit.prior} of the loadings, which tells rotations apart by {nats}; more "
        f"rows would not make them any better known than to {sd:.1f} degrees."
    )


def _slack(gap: GuideGap) -> float:
    """Return the angle from the guide's best at which its bound has lost 2 nats, n range sin^2(2 angle) = 2."""
    lost = math.sqrt(min(1.0, MATTERS / gap.artefact))
    return min(max(0.5 * math.degrees(math.asin(lost)), LEAST_TURN), LARGEST_ERROR)


def _least(worst_error: float) -> float:
    """Return the degrees that two frames have to differ by: two standard errors, at least 5 and at most 26."""
    return max(2 * min(worst_error, LARGEST_ERROR), LEAST_TURN)
