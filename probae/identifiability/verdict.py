"""The verdict: a closed vocabulary, and the order in which reasons decide it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from probae.identifiability.data_tests import RotationInformation
from probae.identifiability.evidence import Evidence
from probae.identifiability.segments import SegmentEvidence
from probae.identifiability.structure import connected, describe_blocks
from probae.identifiability.zeros import Zeros, ZerosTest

ALPHA = 0.01  # level of every gate
LARGEST_ERROR = 13.0  # degrees; above, the angle of a plane is not known in any useful sense


class Verdict(Enum):
    """What can be said of the axes of a fitted model."""

    IDENTIFIED_SP = "identified up to sign and order, by the model and by the data"
    PARTIAL = "some axes identified, others only as a subspace"
    NOT_IDENTIFIED = "the model's likelihood is the same for every rotation of the axes"
    MODEL_ONLY = "the model picks axes, the data do not support them"
    MISSPECIFIED_FRAME = "the data contradict the model in a way that moves the axes"
    GUIDE_DRIVEN = "the axes come from the inference method, not from the model"
    PRIOR_DRIVEN = "the axes come from the prior of the loadings, not from the data"
    PSI_NOT_IDENTIFIED = "the noise variances are not identified, hence nor the loadings"
    RANK_DEFICIENT = "the loadings have fewer independent columns than factors"
    NOT_CONVERGED = "the fit had not converged"
    NO_THEOREM = "no identifiability theorem applies to this model"
    INCONCLUSIVE = "the tests could not be run, or their assumptions fail"


@dataclass(frozen=True)
class Decision:
    """A verdict with the group it allows and its reasons, the deciding one first; what it means, if not as usual."""

    verdict: Verdict
    group: str
    reasons: tuple[str, ...]
    meaning: str = ""


def decide(evidence: Evidence) -> Decision:
    """Apply the rules in order: the first that speaks gives the verdict."""
    for rule in (
        _not_converged,
        _rank,
        _segments,
        _noise_identified,
        _structural,
        _guide,
        _zeros,
        _no_data,
        _rows,
        _noise_law,
        _frame,
    ):
        decision = rule(evidence)
        if decision is not None:
            return decision
    return _data_support(evidence)


def _not_converged(evidence: Evidence) -> Decision | None:
    if evidence.converged:
        return None
    return _decision(
        Verdict.NOT_CONVERGED, evidence, "The fit stopped before it converged: fit again with more steps."
    )


def _rank(evidence: Evidence) -> Decision | None:
    loadings, factors = evidence.loadings, evidence.factors
    if loadings.rank == factors or factors > evidence.features:  # overcomplete: no rank to ask for
        return None
    empty = factors - loadings.rank
    reason = f"The loadings have rank {loadings.rank} for {factors} factors: {empty} of them explain nothing."
    return _decision(Verdict.RANK_DEFICIENT, evidence, reason)


def _segments(evidence: Evidence) -> Decision | None:
    """Give the verdict where Gaussian factors have known segments with variances of their own."""
    found = evidence.segments
    if found is None or evidence.factors == 1 or found.segments == 1:
        return None
    if not found.tests:
        return _decision(Verdict.INCONCLUSIVE, evidence, found.why_no_tests)
    if found.rows is not None and found.rows.p_value < ALPHA:
        reason = (
            f"Dependent rows (p = {found.rows.p_value:.2g}): the tests and the standard errors count rows as "
            "independent. Thin the rows."
        )
        return _decision(Verdict.INCONCLUSIVE, evidence, reason)
    largest = max(test.p_value for test in found.tests)
    if largest >= ALPHA:
        return _some_segments(evidence, found)
    if evidence.worst_error > LARGEST_ERROR:
        reason = (
            f"The variances of the segments tell the axes apart, but the worst plane is known only to "
            f"{evidence.worst_error:.0f} degrees ({LARGEST_ERROR:.0f} is the most that means anything)."
        )
        return _decision(Verdict.MODEL_ONLY, evidence, reason)
    reason = (
        f"The variances of the {found.segments} segments tell the axes of every plane apart (largest p = "
        f"{largest:.2g}), and the worst plane is known to {evidence.worst_error:.1f} degrees."
    )
    meaning = "identified up to sign and order by the variances of the segments"
    return Decision(Verdict.IDENTIFIED_SP, evidence.structure.group, (reason,), meaning)


def _some_segments(evidence: Evidence, found: SegmentEvidence) -> Decision:
    """Give the verdict when the variances of some plane may be proportional: which axes are separated, if any."""
    ordered = sorted(found.tests, key=lambda test: test.p_value)
    rejected: set[tuple[int, int]] = set()
    for step, test in enumerate(ordered):  # Holm
        if test.p_value * (len(ordered) - step) >= ALPHA:
            break
        rejected.add(test.plane)
    weakest = ordered[-1]
    i, j = weakest.plane
    why = (
        f"The variances of z[{i}] and z[{j}] may be proportional over the {found.segments} segments (p = "
        f"{weakest.p_value:.2g}): any rotation of the two fits as well."
    )
    if not rejected:
        meaning = "the segments do not tell the axes apart"
        return Decision(
            Verdict.MODEL_ONLY, describe_blocks((tuple(range(evidence.factors)),)), (why,), meaning
        )
    blocks = connected(evidence.factors, {test.plane for test in found.tests} - rejected)
    group = describe_blocks(blocks)
    if len(blocks) == 1:
        reason = "The segments tell some planes apart, but no axis from all the others."
    else:
        reason = f"The segments tell the axes apart only up to {group} (level {ALPHA:g}, Holm over planes)."
    return Decision(Verdict.PARTIAL, group, (reason, why))


def _noise_identified(evidence: Evidence) -> Decision | None:
    if evidence.zeros is not None:
        return _zeros_noise(evidence, evidence.zeros)
    if not evidence.gaussian or evidence.noise != "diagonal" or evidence.loadings.degrees_of_freedom >= 0:
        return None
    reason = (
        f"{evidence.factors} Gaussian factors of {evidence.features} features leave "
        f"{evidence.loadings.degrees_of_freedom:g} degrees of freedom (Ledermann): the uniquenesses are not identified."
    )
    return _decision(Verdict.PSI_NOT_IDENTIFIED, evidence, reason)


def _zeros_noise(evidence: Evidence, zeros: Zeros) -> Decision | None:
    """Give the verdict where the covariance does not tell the noise variances of a confirmatory model."""
    found = zeros.nullity
    if not found.conclusive:
        reason = (
            f"The covariance tells the parameters apart too weakly to count the flat directions (singular values "
            f"{found.largest_null:.1e} and {found.smallest_other:.1e}): the model is close to one not identified."
        )
        return _decision(Verdict.INCONCLUSIVE, evidence, reason)
    if not found.beyond_rotations:
        return None
    rows = ", ".join(zeros.features[i] for i in found.features[:6])
    reason = (
        f"The covariance leaves {found.beyond_rotations} flat direction(s) beyond rotations, along which the noise of "
        f"{rows} changes: free fewer loadings or correlations, or measure a factor by more features."
    )
    return _decision(Verdict.PSI_NOT_IDENTIFIED, evidence, reason)


def _structural(evidence: Evidence) -> Decision | None:
    if evidence.zeros is not None:
        return _zeros_rotation(evidence, evidence.zeros)
    if evidence.structure.identified or any(len(block) == 1 for block in evidence.structure.blocks):
        return None
    law = "Gaussian" if evidence.gaussian else "spherical"
    reasons = [
        f"The factors are {law}: W and W R have the same likelihood for every orthogonal R "
        f"({evidence.structure.null_dimension} null directions)."
    ]
    if not evidence.structure.equal_scales:
        reasons.append(
            "The factors have known, unequal variances or correlations: the group is the conjugate of O(k) by the "
            "square root of their covariance."
        )
    if evidence.restricted_guide:
        reasons.append(
            "The encoder has a restricted covariance, so the axes that the fit shows are the guide's choice."
        )
    if _data_would_identify(evidence):
        reasons.append(
            "The data carry rotation information (directions of the scores are not uniform): "
            "a model with non-Gaussian factors would be identified from them."
        )
    return Decision(Verdict.NOT_IDENTIFIED, evidence.structure.group, tuple(reasons))


def _data_would_identify(evidence: Evidence) -> bool:
    information = None if evidence.data is None else evidence.data.information
    if information is None or _noise_rejected(evidence):
        return False
    overall = min(
        (test.p_value for test in information.overall), default=1.0
    )  # the planes of FA are arbitrary
    return information.some_plane(ALPHA) or overall < ALPHA / 2


def _zeros_rotation(evidence: Evidence, zeros: Zeros) -> Decision | None:
    """Give the verdict where the fixed zeros leave a rotation of the factors."""
    turned = zeros.nullity.rotations
    if not turned.dimension:
        return None
    free = ", ".join(name for k, name in enumerate(zeros.factors) if k not in turned.fixed)
    kind = "oblique rotations" if turned.oblique else "rotations"
    reason = (
        f"The zeros of the loadings leave a {turned.dimension}-dimensional group of {kind} with the same likelihood, "
        f"which changes the columns of {free}."
    )
    reasons = [reason]
    if turned.fixed:
        kept = ", ".join(zeros.factors[k] for k in turned.fixed)
        reasons.append(
            f"The columns of {kept} are the same under all of them: identified, if the zeros hold."
        )
    if _data_would_identify(evidence):
        reasons.append(
            "The data carry rotation information (directions of the scores are not uniform): "
            "a model with non-Gaussian factors would be identified from them."
        )
    verdict = Verdict.PARTIAL if turned.fixed else Verdict.NOT_IDENTIFIED
    meaning = "" if turned.fixed else "the likelihood is the same for rotations that the zeros allow"
    return Decision(verdict, evidence.structure.group, tuple(reasons), meaning)


def _zeros(evidence: Evidence) -> Decision | None:
    """Give the verdict where the zeros leave no rotation: they are an assumption that data can refute, not prove."""
    zeros = evidence.zeros
    if zeros is None or evidence.factors == 1:
        return None
    group, test = evidence.structure.group, zeros.test
    assumed = "The zeros of the loadings identify the axes up to sign, if they hold."
    if test is None:
        why = evidence.why_no_data or "These data allow no test of them."
        return Decision(Verdict.INCONCLUSIVE, group, (assumed, why))
    if test.degrees_of_freedom == 0:
        reason = (
            f"The zeros of the loadings choose axes, but {test.against} have the same likelihood: no data can refute "
            "the choice, which is a convention."
        )
        meaning = "the zeros choose the axes, and no data could contradict them"
        return Decision(Verdict.MODEL_ONLY, group, (reason,), meaning)
    rows = evidence.data.rows if evidence.data else None
    if rows is not None and rows.p_value < ALPHA:
        reason = (
            f"Dependent rows (p = {rows.p_value:.2g}): the test of the zeros and the standard errors count rows as "
            f"independent. {_first_capital(test.describe())}."
        )
        return Decision(Verdict.INCONCLUSIVE, group, (reason, assumed))
    return _zeros_tested(evidence, test)


def _zeros_tested(evidence: Evidence, test: ZerosTest) -> Decision:
    """Give the verdict on zeros that the data could have refuted."""
    group, result = evidence.structure.group, f"{_first_capital(test.describe())}."
    reasons = [result]
    if _noise_rejected(evidence):
        reasons.append("The rows are not normal, so the size of the test is not the stated one.")
    if test.p_value < ALPHA:
        reasons.insert(
            0, "The data refute the zeros, so the axes rest on a wrong assumption: free some of them."
        )
        meaning = "the data refute the zeros that the axes rest on"
        return Decision(Verdict.MISSPECIFIED_FRAME, group, tuple(reasons), meaning)
    if evidence.worst_error > LARGEST_ERROR:
        reason = (
            f"The zeros identify the axes, but the worst plane is known only to {evidence.worst_error:.0f} degrees "
            f"({LARGEST_ERROR:.0f} is the most that means anything)."
        )
        return Decision(Verdict.MODEL_ONLY, group, (reason, *reasons))
    reason = (
        f"The zeros of the loadings identify the axes up to sign: an assumption that these data could have refuted and "
        f"do not. The worst plane is known to {evidence.worst_error:.1f} degrees."
    )
    meaning = "identified up to sign by the zeros of the loadings, which the data do not refute"
    return Decision(Verdict.IDENTIFIED_SP, group, (reason, *reasons), meaning)


def _first_capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _guide(evidence: Evidence) -> Decision | None:
    other = evidence.model_frame
    if not evidence.restricted_guide or other is None or not other.wins(max(2 * evidence.worst_error, 5.0)):
        return None
    reason = (
        f"The method approximates the posterior, and the exact optimum lies {other.degrees:.0f} degrees from its axes "
        f"({other.gain:.3f} +- {other.error:.3f} nats per row better)."
    )
    return _decision(Verdict.GUIDE_DRIVEN, evidence, reason)


def _no_data(evidence: Evidence) -> Decision | None:
    if evidence.factors == 1:
        return _decision(
            Verdict.IDENTIFIED_SP, evidence, "One factor alone has no axes to turn: its sign is free."
        )
    if evidence.data is None:
        return _decision(Verdict.INCONCLUSIVE, evidence, evidence.why_no_data)
    if evidence.data.information is None:
        return _decision(Verdict.INCONCLUSIVE, evidence, evidence.data.why_no_information)
    return None


def _rows(evidence: Evidence) -> Decision | None:
    rows = evidence.data.rows if evidence.data else None
    if rows is None or rows.p_value >= ALPHA:
        return None
    reason = (
        f"Dependent rows (p = {rows.p_value:.2g}): the tests count rows as independent, and serial dependence "
        "alone makes Gaussian sources look non-Gaussian. Thin the rows or model the dependence."
    )
    return _decision(Verdict.INCONCLUSIVE, evidence, reason)


def _noise_rejected(evidence: Evidence) -> bool:
    data = evidence.data
    return data is not None and (
        bool(data.discrete) or (data.noise is not None and data.noise.p_value < ALPHA)
    )


def _noise_law(evidence: Evidence) -> Decision | None:
    if not _noise_rejected(evidence):
        return None
    data = evidence.data
    assert data is not None
    if data.discrete:
        columns = ", ".join(data.discrete[:6])
        cause = f"columns {columns} take few values or pile up at an end, so their noise cannot be Gaussian"
    else:
        assert data.noise is not None
        cause = f"the part of x that the factors do not reach is not Gaussian (p = {data.noise.p_value:.2g})"
    reason = f"Noise: {cause}; non-Gaussian noise can look like non-Gaussian factors, so no rotation verdict is given."
    return _decision(Verdict.MISSPECIFIED_FRAME, evidence, reason)


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
    return _decision(Verdict.MISSPECIFIED_FRAME, evidence, reason)


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
        return _decision(Verdict.PARTIAL, evidence, reason)
    if evidence.worst_error > LARGEST_ERROR:
        reason = (
            f"The data show rotation information, but the worst plane is known only to {evidence.worst_error:.0f} "
            f"degrees ({LARGEST_ERROR:.0f} is the most that means anything)."
        )
        return _decision(Verdict.MODEL_ONLY, evidence, reason)
    reason = (
        f"Every plane shows rotation information (largest p = {largest:.2g}), the noise and the rows pass their "
        f"checks, and the worst plane is known to {evidence.worst_error:.1f} degrees."
    )
    return _decision(Verdict.IDENTIFIED_SP, evidence, reason)


def _some_support(evidence: Evidence, information: RotationInformation) -> Decision:
    """Give the verdict when some plane does not reject: which axes are separated, if any."""
    if not information.some_plane(ALPHA):
        reason = (
            f"The model identifies the axes, the data do not: no plane shows rotation information "
            f"(smallest p = {information.smallest:.2g}). {information.power}"
        )
        return _decision(Verdict.MODEL_ONLY, evidence, reason)
    free = {plane.plane for plane in information.planes} - set(information.rejected(ALPHA))
    free |= {plane.plane for plane in information.planes if _together(plane.plane, evidence.structure.blocks)}
    blocks = connected(evidence.factors, free)
    group = describe_blocks(blocks)
    if len(blocks) == 1:
        reason = "Some planes show rotation information, but no axis is separated from all the others."
    else:
        reason = f"The data support the axes only up to {group} (level {ALPHA:g}, Holm over planes)."
    return Decision(Verdict.PARTIAL, group, (reason, information.power))


def _together(plane: tuple[int, int], blocks: tuple[tuple[int, ...], ...]) -> bool:
    return any(plane[0] in block and plane[1] in block for block in blocks)


def _decision(verdict: Verdict, evidence: Evidence, reason: str) -> Decision:
    return Decision(verdict, evidence.structure.group, (reason,))
