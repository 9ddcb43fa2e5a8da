"""The verdict: the order in which reasons decide it."""

from __future__ import annotations

import math

from probae.identifiability.data_test import ALPHA
from probae.identifiability.decision import (
    TAILS,
    Decision,
    Verdict,
    data_reasons,
    decision,
    noise_failure,
)
from probae.identifiability.evidence import Evidence
from probae.identifiability.guide import guide_reason, prior_reason
from probae.identifiability.planes import RotationInformation
from probae.identifiability.precision import LARGEST_ERROR, known_to
from probae.identifiability.rank_rules import rank_rule, weak_factor
from probae.identifiability.segment_rules import segments_rule
from probae.identifiability.structure import connected, describe_blocks
from probae.identifiability.zeros_rules import zeros_noise, zeros_rotation, zeros_rule


def decide(evidence: Evidence) -> Decision:
    """Apply the rules in order: the first that speaks gives the verdict."""
    for rule in (
        _not_converged,
        _nonlinear,
        rank_rule,
        segments_rule,
        _noise_identified,
        _structural,
        _guide,
        _prior,
        zeros_rule,
        _no_data,
        _rows,
        _noise_law,
        _frame,
        _curvature,
    ):
        found = rule(evidence)
        if found is not None:
            return found
    return _data_support(evidence)


def _not_converged(evidence: Evidence) -> Decision | None:
    if evidence.converged or (evidence.rotation_unfinished and _no_frame(evidence)):
        return None
    return decision(
        Verdict.NOT_CONVERGED, evidence, "The fit stopped before it converged: fit again with more steps."
    )


def _nonlinear(evidence: Evidence) -> Decision | None:
    return decision(Verdict.NO_THEOREM, evidence, evidence.nonlinear) if evidence.nonlinear else None


def _no_frame(evidence: Evidence) -> bool:
    """Whether no plane and no test over all scores shows axes, so that finishing a rotation would not help."""
    information = None if evidence.data is None else evidence.data.information
    return information is not None and bool(information.overall) and not information.some_direction(ALPHA)


def _noise_identified(evidence: Evidence) -> Decision | None:
    if evidence.zeros is not None:
        return zeros_noise(evidence, evidence.zeros)
    found = evidence.uniqueness
    if found is None or (found.identified and (found.nullity is None or found.nullity.conclusive)):
        return None
    if found.identified:
        reason = f"The covariance tells the parameters apart too weakly to count the flat directions: {found.sentence}."
        return decision(Verdict.INCONCLUSIVE, evidence, reason)
    reason = f"The uniquenesses are not identified: {found.sentence}."
    if len(found.gaussian) < evidence.factors:
        kept = evidence.factors - len(found.gaussian)
        reason += f" The columns of the {kept} factors that are not Gaussian are identified all the same."
    return decision(Verdict.PSI_NOT_IDENTIFIED, evidence, reason)


def _structural(evidence: Evidence) -> Decision | None:
    if evidence.zeros is not None:
        return zeros_rotation(evidence, evidence.zeros)
    if evidence.structure.axes:
        return None
    normal = evidence.uniqueness is not None and len(evidence.uniqueness.gaussian) == evidence.factors
    law = "Gaussian" if evidence.gaussian or normal else "spherical"
    reasons = [
        f"The factors are {law}: W and W R have the same likelihood for every orthogonal R "
        f"({evidence.structure.null_dimension} null directions)."
    ]
    if not evidence.structure.equal_scales:
        reasons.append(
            "The factors have known, unequal variances or correlations: the group is the conjugate of O(k) by the "
            "square root of their covariance."
        )
    reasons += weak_factor(evidence)
    found = evidence.inference, evidence.model_frame, evidence.worst_error
    reasons += [why for read in (guide_reason, prior_reason) if (why := read(*found, identified=False))]
    reasons += data_reasons(evidence)
    return decision(Verdict.NOT_IDENTIFIED, evidence, *reasons)


def _guide(evidence: Evidence) -> Decision | None:
    reason = guide_reason(evidence.inference, evidence.model_frame, evidence.worst_error, identified=True)
    return None if reason is None else decision(Verdict.GUIDE_DRIVEN, evidence, reason)


def _prior(evidence: Evidence) -> Decision | None:
    reason = prior_reason(evidence.inference, evidence.model_frame, evidence.worst_error, identified=True)
    return None if reason is None else decision(Verdict.PRIOR_DRIVEN, evidence, reason)


def _no_data(evidence: Evidence) -> Decision | None:
    if evidence.factors == 1:
        return decision(
            Verdict.IDENTIFIED_SP,
            evidence,
            "One factor alone has no axes to turn: its sign is free.",
            meaning="identified up to sign, as one factor is",
        )
    if evidence.data is None:
        return decision(Verdict.INCONCLUSIVE, evidence, evidence.why_no_data)
    if evidence.data.information is None:
        return decision(Verdict.INCONCLUSIVE, evidence, evidence.data.why_no_information)
    return None


def _rows(evidence: Evidence) -> Decision | None:
    rows = evidence.data.rows if evidence.data else None
    if rows is None or not rows.dependent:
        return None
    cause, advice = (
        ("copies alone make", "Pass each row once.")
        if rows.repeated
        else ("serial dependence alone makes", "Thin the rows or model the dependence.")
    )
    reason = (
        f"{rows.why}: the tests count rows as independent, and {cause} Gaussian sources look non-Gaussian. "
        f"{advice}"
    )
    return decision(Verdict.INCONCLUSIVE, evidence, reason)


def _noise_law(evidence: Evidence) -> Decision | None:
    cause = noise_failure(evidence)
    if not cause:
        return None
    reason = f"Noise: {cause}; non-Gaussian noise can look like non-Gaussian factors, so no rotation verdict is given."
    return decision(Verdict.MISSPECIFIED_FRAME, evidence, reason)


def _frame(evidence: Evidence) -> Decision | None:
    other, data = evidence.adaptive_frame, evidence.data
    if other is None or data is None or data.information is None or not data.information.some_plane(ALPHA):
        return None
    error = evidence.worst_error if math.isfinite(evidence.worst_error) else 0.0
    if not other.wins(max(3 * min(error, LARGEST_ERROR), 5.0)):
        return None
    reason = (
        f"Factors of the law {other.law} fit better on axes {other.degrees:.0f} degrees away "
        f"({other.gain:.3f} +- {other.error:.3f} nats per held-out row): the assumed law points at the wrong axes."
    )
    signs = data.curvature
    more = [signs.describe()] if signs is not None and signs.reversed else []
    return decision(Verdict.MISSPECIFIED_FRAME, evidence, reason, *more)


def _curvature(evidence: Evidence) -> Decision | None:
    """Give no verdict on axes that the data show where the assumed law has no clear maximum at them."""
    data = evidence.data
    if data is None or data.curvature is None or not data.against_the_law:
        return None
    i, j = data.against_the_law[0]
    reason = (
        f"The data show axes in the plane of z[{i}] and z[{j}], but the assumed law has no clear maximum there, so "
        f"that what it fits is not what the data know: choose a law of the factors' shape. {data.curvature.describe()}"
    )
    meaning = "the data show axes that the assumed law does not see"
    return decision(Verdict.INCONCLUSIVE, evidence, reason, meaning=meaning)


def _data_support(evidence: Evidence) -> Decision:
    """Give the verdict of a model that identifies some axes, on data that passed the checks."""
    data = evidence.data
    assert data is not None
    assert data.information is not None
    information, structure = data.information, evidence.structure
    apart = [plane for plane in information.planes if not _together(plane.plane, structure.blocks)]
    largest = max(plane.p_value for plane in apart)
    if largest >= ALPHA:
        return _some_support(evidence, information)
    if not structure.identified:
        reason = (
            f"Every axis that the model tells apart is supported by the data (largest p = {largest:.2g})."
        )
        return decision(Verdict.PARTIAL, evidence, reason)
    if evidence.worst_error > LARGEST_ERROR:
        known = known_to(evidence.worst_error)
        reason = f"The data show rotation information, but the angle of the worst plane is {known}."
        return decision(Verdict.MODEL_ONLY, evidence, reason, *weak_factor(evidence))
    reason = (
        f"Every plane shows rotation information (largest p = {largest:.2g}), the noise and the rows pass their "
        f"checks, and the worst plane is known to {evidence.worst_error:.1f} degrees."
    )
    meaning = f"identified up to {structure.free}, by the model and by the data"
    return decision(Verdict.IDENTIFIED_SP, evidence, reason, meaning=meaning)


def _some_support(evidence: Evidence, information: RotationInformation) -> Decision:
    """Give the verdict when some plane does not reject: which axes are separated, if any."""
    if not information.some_plane(ALPHA):
        reason = (
            f"The model identifies the axes, the data do not: no plane shows rotation information "
            f"(smallest p = {information.smallest:.2g}). {information.power}"
        )
        tails = [TAILS] if evidence.data is not None and evidence.data.tails_without_axes else []
        return decision(Verdict.MODEL_ONLY, evidence, reason, *tails)
    free = {plane.plane for plane in information.planes} - set(information.rejected(ALPHA))
    free |= {plane.plane for plane in information.planes if _together(plane.plane, evidence.structure.blocks)}
    blocks = connected(evidence.factors, free)
    group, meaning = describe_blocks(blocks), ""
    if len(blocks) == 1:
        reason = "Some planes show rotation information, but no axis is separated from all the others."
        meaning = "the data know something of the axes, but tell none from all the others"
    else:
        reason = f"The data support the axes only up to {group} (level {ALPHA:g}, Holm over planes)."
    return Decision(Verdict.PARTIAL, group, (reason, information.power), meaning)


def _together(plane: tuple[int, int], blocks: tuple[tuple[int, ...], ...]) -> bool:
    return any(plane[0] in block and plane[1] in block for block in blocks)
