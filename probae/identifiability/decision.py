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


def decision(verdict: Verdict, evidence: Evidence, *reasons: str, meaning: str = "") -> Decision:
    """Return a verdict with the group of the structure."""
    return Decision(verdict, evidence.structure.group, reasons, meaning)


def noise_rejected(evidence: Evidence) -> bool:
    """Whether the noise is not normal, or a column has few values."""
    data = evidence.data
    return data is not None and (
        bool(data.discrete) or (data.noise is not None and data.noise.p_value < ALPHA)
    )


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
