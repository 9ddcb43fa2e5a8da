"""What an audit decides: a closed vocabulary, and the questions several rules share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from probae.identifiability.data_test import ALPHA
from probae.identifiability.evidence import Evidence

WOULD_IDENTIFY = (
    "The data carry rotation information (directions of the scores are not uniform): a model with non-Gaussian factors "
    "would be identified from them."
)

TAILS = (
    "The scores are not Gaussian (T2), yet no direction of theirs stands out (T1): tails without axes, as of "
    "elliptical data, or axes too weak for the test."
)


class Verdict(Enum):
    """What can be said of the axes of a fitted model."""

    IDENTIFIED_SP = "identified up to sign and, among factors of one law, order, by the model and by the data"
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


def decision(verdict: Verdict, evidence: Evidence, *reasons: str, meaning: str = "") -> Decision:
    """Return a verdict with the group of the structure."""
    return Decision(verdict, evidence.structure.group, reasons, meaning)


def noise_rejected(evidence: Evidence) -> bool:
    """Whether the noise is not normal, or a column has few values."""
    data = evidence.data
    return data is not None and (
        bool(data.discrete) or (data.noise is not None and data.noise.p_value < ALPHA)
    )


def noise_failure(evidence: Evidence) -> str:
    """Say in what way the noise fails its check; "" where it does not."""
    data = evidence.data
    if data is None or not noise_rejected(evidence):
        return ""
    if data.discrete:
        if len(data.discrete) == 1:
            return f"column {data.discrete[0]} takes few values or piles up at an end"
        more = " and more" if len(data.discrete) > 6 else ""
        return f"columns {', '.join(data.discrete[:6])}{more} take few values or pile up at an end"
    assert data.noise is not None
    return f"the part of x that the factors do not reach is not Gaussian (p = {data.noise.p_value:.2g})"


def rows_depend(evidence: Evidence) -> bool:
    """Whether rows follow from others or copy them, which alone makes Gaussian factors look as if they had axes."""
    rows = None if evidence.data is None else evidence.data.rows
    return rows is not None and rows.dependent


def data_would_identify(evidence: Evidence) -> bool:
    """Whether the scores carry rotation information that a model of non-Gaussian factors could use."""
    information = None if evidence.data is None else evidence.data.information
    if information is None or noise_rejected(evidence) or rows_depend(evidence):
        return False
    return information.some_direction(ALPHA)  # the planes of FA alone are arbitrary


def data_reasons(evidence: Evidence) -> list[str]:
    """Say what the data add where the model's likelihood leaves a rotation: the axes of another model, or why not."""
    data, reasons = evidence.data, []
    if data is None:
        return []
    if data.information is None and data.why_no_information:
        return [data.why_no_information]
    repeated = data.rows is not None and data.rows.repeated  # copies of a row look like values that pile up
    if data.rows is not None and data.rows.dependent:
        reasons.append(f"{data.rows.why}: the tests of axes do not hold for them.")
        if not repeated:
            reasons.append(
                "Factors whose serial dependence differs could be told apart by a model of it, which this one is not."
            )
    if noise_rejected(evidence) and not repeated:
        reasons.append(
            f"The noise fails its check (T0): {noise_failure(evidence)}. Such noise can make Gaussian factors look "
            "non-Gaussian, so these data cannot tell whether the factors have axes."
        )
    if reasons:
        return reasons
    return [WOULD_IDENTIFY] if data_would_identify(evidence) else [TAILS] if data.tails_without_axes else []
