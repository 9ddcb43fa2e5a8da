"""The rules of a verdict on the number of factors: loadings of too low a rank, and factors that no data support."""

from __future__ import annotations

from typing import Any

from probae.identifiability.data_test import ALPHA
from probae.identifiability.decision import Decision, Verdict, decision
from probae.identifiability.evidence import Evidence
from probae.identifiability.precision import LARGEST_ERROR


def rank_rule(evidence: Evidence) -> Decision | None:
    """Refuse a verdict on factors of which some are not there."""
    loadings, factors = evidence.loadings, evidence.factors
    if _noise_takes_a_factor(evidence):
        return None
    if loadings.rank == factors:
        return _unsupported_factor(evidence)
    reason = f"The loadings have rank {loadings.rank} for {factors} factors: {factors - loadings.rank} of them explain "
    reason += "nothing."
    if factors > evidence.features:  # overcomplete: their rank says nothing, columns alone may fail
        if not (loadings.empty or loadings.parallel):
            return None
        reason = "Columns of the overcomplete loadings are zero or point the same way, so that only their sum is seen."
    if loadings.empty:
        reason += f" Columns of zeros: {_shown(loadings.empty)}."
    if loadings.parallel:
        reason += f" Pairs that point the same way: {_shown(loadings.parallel)}."
    return decision(Verdict.RANK_DEFICIENT, evidence, reason)


def _unsupported_factor(evidence: Evidence) -> Decision | None:
    """Judge loadings whose rank is full only because an estimate of too many columns always is.

    Who claims has to show it: axes need a last factor that is seen, and where no axes are claimed anyway, that a
    factor is missing needs data that would show one.
    """
    found = evidence.rank
    if found is None or found.supported(ALPHA):
        return None
    claimed = evidence.worst_error <= LARGEST_ERROR
    if not claimed and not (evidence.gaussian and found.refuted()):
        return None
    advice = f"Fit {found.factors - 1}." if found.factors > 1 else "There may be none."
    reason = (
        f"The data do not support the last of the factors, and where one is too many no rotation has a meaning. "
        f"{found.describe()} {advice}"
    )
    meaning = "the data do not support as many factors"
    return decision(Verdict.RANK_DEFICIENT, evidence, reason, meaning=meaning)


def _noise_takes_a_factor(evidence: Evidence) -> bool:
    """Whether as many Gaussian factors as features leave the noise nothing: the loss of rank is its choice."""
    found = evidence.uniqueness
    return found is not None and not found.identified and len(found.gaussian) >= evidence.features


def _shown(members: tuple[Any, ...]) -> str:
    return ", ".join(str(member) for member in members[:6]) + (" and more" if len(members) > 6 else "")


def weak_factor(evidence: Evidence) -> tuple[str, ...]:
    """Say that the last factor is not seen in the covariance, where that is so."""
    found = evidence.rank
    return (
        ()
        if found is None or found.supported(ALPHA)
        else (f"The last factor may be none: {found.describe()}",)
    )
