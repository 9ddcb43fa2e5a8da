"""The rules of a verdict on Gaussian factors with known segments."""

from __future__ import annotations

from probae.identifiability.data_test import ALPHA, holm
from probae.identifiability.decision import Decision, Verdict, decision
from probae.identifiability.evidence import Evidence
from probae.identifiability.precision import LARGEST_ERROR, known_to
from probae.identifiability.segments import SegmentEvidence
from probae.identifiability.structure import connected, describe_blocks

CONTRADICTED = {
    "means": "The segments have means of their own, and the model has one: to it, means that differ are variances. "
    "Subtract from each row the mean of its segment, and fit again.",
    "noise": "The noise differs between the segments, and the model has one: to it, noise that changes is a variance "
    "of the factors nearest to it.",
    "axes": "No axes make the factors uncorrelated in every segment: more changes than their variances.",
}


def segments_rule(evidence: Evidence) -> Decision | None:
    """Give the verdict where Gaussian factors have known segments with variances of their own."""
    found = evidence.segments
    if found is None or evidence.factors == 1 or found.segments == 1:
        return None
    if not found.tests:
        return decision(Verdict.INCONCLUSIVE, evidence, found.why_no_tests)
    if found.rows is not None and found.rows.dependent:
        reason = (
            f"{found.rows.why}: the tests and the standard errors count rows as independent. "
            f"{'Pass each row once' if found.rows.repeated else 'Thin the rows'}."
        )
        return Decision(Verdict.INCONCLUSIVE, evidence.structure.group, (reason, *_contradictions(found)))
    if contradictions := _contradictions(found):
        return Decision(Verdict.MISSPECIFIED_FRAME, evidence.structure.group, contradictions)
    largest = max(test.p_value for test in found.tests)
    if found.overall is not None and found.overall.p_value >= ALPHA:
        return _no_segments(evidence, found)
    if largest >= ALPHA:
        return _some_segments(evidence, found)
    if evidence.worst_error > LARGEST_ERROR:
        reason = (
            f"The variances of the segments tell the axes apart, but the angle of the worst plane is "
            f"{known_to(evidence.worst_error)}."
        )
        return decision(Verdict.MODEL_ONLY, evidence, reason)
    reason = (
        f"The variances of the {found.segments} segments tell the axes of every plane apart (largest p = "
        f"{largest:.2g}), and the worst plane is known to {evidence.worst_error:.1f} degrees."
    )
    meaning = "identified up to sign and order by the variances of the segments"
    return decision(Verdict.IDENTIFIED_SP, evidence, reason, meaning=meaning)


def _contradictions(found: SegmentEvidence) -> tuple[str, ...]:
    """Say what the rows contradict of the model of segments (Bonferroni over the checks)."""
    gate = ALPHA / max(len(found.checks), 1)
    return tuple(
        f"{CONTRADICTED[name]} {test.describe()}"
        for name, test in found.checks.items()
        if test.p_value < gate
    )


def _some_segments(evidence: Evidence, found: SegmentEvidence) -> Decision:
    """Give the verdict when the variances of some plane may be proportional: which axes are separated, if any."""
    rejected = holm({test.plane: test.p_value for test in found.tests}, ALPHA)
    if not rejected:
        return _no_segments(evidence, found)
    weakest = max(found.tests, key=lambda test: test.p_value)
    i, j = weakest.plane
    why = (
        f"The variances of z[{i}] and z[{j}] may be proportional over the {found.segments} segments (p = "
        f"{weakest.p_value:.2g}): any rotation of the two fits as well."
    )
    blocks = connected(evidence.factors, {test.plane for test in found.tests} - rejected)
    group, meaning = describe_blocks(blocks), ""
    if len(blocks) == 1:
        reason = "The segments tell some planes apart, but no axis from all the others."
        meaning = "the data know something of the axes, but tell none from all the others"
    else:
        reason = f"The segments tell the axes apart only up to {group} (level {ALPHA:g}, Holm over planes)."
    return Decision(Verdict.PARTIAL, group, (reason, why), meaning)


def _no_segments(evidence: Evidence, found: SegmentEvidence) -> Decision:
    """Give the verdict when all variances may be proportional."""
    tests = found.tests if found.overall is None else (found.overall,)
    p = max(test.p_value for test in tests)
    why = (
        f"The variances of the factors may be proportional over the {found.segments} segments (p = {p:.2g}): any "
        "rotation fits as well."
    )
    meaning = "the segments do not tell the axes apart"
    return Decision(Verdict.MODEL_ONLY, describe_blocks((tuple(range(evidence.factors)),)), (why,), meaning)
