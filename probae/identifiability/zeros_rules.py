"""The rules of a verdict on fixed zeros of the loadings: an assumption that data can refute, not prove."""

from __future__ import annotations

from probae.identifiability.data_test import ALPHA
from probae.identifiability.decision import (
    Decision,
    Verdict,
    data_reasons,
    decision,
    noise_rejected,
)
from probae.identifiability.evidence import Evidence
from probae.identifiability.precision import LARGEST_ERROR, known_to
from probae.identifiability.zeros import Zeros, ZerosTest


def zeros_noise(evidence: Evidence, zeros: Zeros) -> Decision | None:
    """Give the verdict where the covariance does not tell the noise variances of a confirmatory model."""
    found = zeros.nullity
    if not found.conclusive:
        reason = (
            f"The covariance tells the parameters apart too weakly to count the flat directions (singular values "
            f"{found.largest_null:.1e} and {found.smallest_other:.1e}): the model is close to one not identified."
        )
        return decision(Verdict.INCONCLUSIVE, evidence, reason)
    if not found.beyond_rotations:
        return None
    rows = ", ".join(zeros.features[i] for i in found.features[:6])
    reason = (
        f"The covariance leaves {found.beyond_rotations} flat direction(s) beyond rotations, along which the noise of "
        f"{rows} changes: free fewer loadings or correlations, or measure a factor by more features."
    )
    return decision(Verdict.PSI_NOT_IDENTIFIED, evidence, reason)


def zeros_rotation(evidence: Evidence, zeros: Zeros) -> Decision | None:
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
    reasons += data_reasons(evidence)
    verdict = Verdict.PARTIAL if turned.fixed else Verdict.NOT_IDENTIFIED
    meaning = "" if turned.fixed else "the likelihood is the same for rotations that the zeros allow"
    return decision(verdict, evidence, *reasons, meaning=meaning)


def zeros_rule(evidence: Evidence) -> Decision | None:
    """Give the verdict where the zeros leave no rotation: they are an assumption that data can refute, not prove."""
    zeros = evidence.zeros
    if zeros is None or evidence.factors == 1:
        return None
    test = zeros.test
    assumed = "The zeros of the loadings identify the axes up to sign, if they hold."
    if test is None:
        why = evidence.why_no_data or "These data allow no test of them."
        return decision(Verdict.INCONCLUSIVE, evidence, assumed, why)
    if test.degrees_of_freedom == 0:
        reason = (
            f"The zeros of the loadings choose axes, but {test.against} have the same likelihood: no data can refute "
            "the choice, which is a convention."
        )
        meaning = "the zeros choose the axes, and no data could contradict them"
        return decision(Verdict.MODEL_ONLY, evidence, reason, meaning=meaning)
    rows = evidence.data.rows if evidence.data else None
    if rows is not None and rows.dependent:
        reason = (
            f"{rows.why}: the test of the zeros and the standard errors count rows as "
            f"independent. {_first_capital(test.describe())}."
        )
        return decision(Verdict.INCONCLUSIVE, evidence, reason, assumed)
    return _zeros_tested(evidence, test)


def _zeros_tested(evidence: Evidence, test: ZerosTest) -> Decision:
    """Give the verdict on zeros that the data could have refuted."""
    reasons = [f"{_first_capital(test.describe())}."]
    if noise_rejected(evidence):
        reasons.append("The rows are not normal, so the size of the test is not the stated one.")
    if test.p_value < ALPHA:
        reasons.insert(
            0, "The data refute the zeros, so the axes rest on a wrong assumption: free some of them."
        )
        meaning = "the data refute the zeros that the axes rest on"
        return decision(Verdict.MISSPECIFIED_FRAME, evidence, *reasons, meaning=meaning)
    if evidence.worst_error > LARGEST_ERROR:
        reason = f"The zeros identify the axes, but the angle of the worst plane is {known_to(evidence.worst_error)}."
        return decision(Verdict.MODEL_ONLY, evidence, reason, *reasons)
    reason = (
        f"The zeros of the loadings identify the axes up to sign: an assumption that these data could have refuted and "
        f"do not. The worst plane is known to {evidence.worst_error:.1f} degrees."
    )
    meaning = "identified up to sign by the zeros of the loadings, which the data do not refute"
    return decision(Verdict.IDENTIFIED_SP, evidence, reason, *reasons, meaning=meaning)


def _first_capital(text: str) -> str:
    return text[:1].upper() + text[1:]
