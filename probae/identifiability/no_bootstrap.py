"""Why an audit that was asked for a bootstrap of the axes has none."""

from __future__ import annotations

from probae.identifiability.evidence import Evidence
from probae.identifiability.frames import MAX_LATENTS

__all__ = ["why_no_bootstrap"]


def why_no_bootstrap(evidence: Evidence) -> str:
    """Say in a sentence why the axes were not found anew in resampled rows; "" where they were.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> why_no_bootstrap(pa.audit(pa.fit(pa.FactorAnalysis(9, 3), x), x).evidence)
    'No bootstrap of the axes was run: the likelihood has no best axes, so resampled rows would have none either.'
    """
    if evidence.inference.bootstrap is not None:
        return ""
    return f"No bootstrap of the axes was run: {_cause(evidence)}"


def _cause(evidence: Evidence) -> str:
    if evidence.nonlinear:
        return "a decoder that is not linear has no axes that could be found anew."
    if evidence.factors == 1:
        return "one factor has no axes to turn."
    if evidence.segments is not None:
        return "it turns axes that the laws of the factors single out, and here the segments do."
    if evidence.zeros is not None:
        return "it turns axes that the laws of the factors single out, and here the zeros of the loadings do."
    if not evidence.structure.axes:
        return "the likelihood has no best axes, so resampled rows would have none either."
    if evidence.factors > MAX_LATENTS:
        return f"{evidence.factors} factors are too many to search (at most {MAX_LATENTS})."
    return evidence.why_no_data or "these rows have no scores to resample."
