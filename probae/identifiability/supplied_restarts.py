"""Fits from other starts that an audit was given: compared, and entered into its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from probae.checks import ParameterError
from probae.identifiability.evidence import Evidence
from probae.identifiability.nonlinear import linear_fit
from probae.identifiability.precision import LARGEST_ERROR
from probae.identifiability.restarts import restart_ladder
from probae.inference import Fit
from probae.statistics import SufficientStatistics

__all__ = ["with_restarts"]


def with_restarts(evidence: Evidence, restarts: Any, x: Any, seed: int) -> Evidence:
    """Return the evidence with the ladder of these fits; without any, as it is.

    Fits agree when they do so within a degree, or within two standard errors of the least certain plane where that is
    more and the plane is known at all (to 13 degrees).

    Raises
    ------
    ParameterError
        No list of fits of linear models of the audited size, or no rows to compare them on.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x)
    >>> report = pa.audit(run, x, restarts=pa.refits(run, x, count=2))
    >>> report.evidence.inference.restarts.explained_by           # principal axes, wherever it starts
    'identity'
    """
    if restarts is None:
        return evidence
    what = "restarts should be a list of fits of the audited model, as refits(fit, x) gives"
    if not isinstance(restarts, Sequence) or not all(isinstance(one, Fit) for one in restarts):
        raise ParameterError(f"{what}, got {restarts!r:.80}.")
    if x is None or isinstance(x, SufficientStatistics):
        raise ParameterError("restarts are compared by their likelihood: pass the rows of x with them.")
    for one in restarts:
        if (one.model.features, one.model.latents) != (evidence.features, evidence.factors):
            raise ParameterError(
                f"{what}: it has {evidence.features} features and {evidence.factors} latents, a restart "
                f"{one.model.features} and {one.model.latents}."
            )
    error = evidence.worst_error
    tolerance = max(1.0, 2 * error) if error <= LARGEST_ERROR else 1.0
    ladder = restart_ladder([linear_fit(one) for one in restarts], x, tolerance=tolerance, seed=seed)
    return replace(evidence, inference=replace(evidence.inference, restarts=ladder))
