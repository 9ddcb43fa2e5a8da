"""The evidence of an audit as plain numbers and text, ready for JSON."""

from __future__ import annotations

import math
from typing import Any

from probae.identifiability.evidence import Evidence


def evidence_dict(evidence: Evidence) -> dict[str, Any]:
    """Return each layer of the evidence as plain values, None where it was not run or is not finite."""
    return _finite(
        {
            "structure": _structure(evidence),
            "data": None if evidence.data is None else evidence.data.to_dict(),
            "zeros": _zeros(evidence),
            "segments": None if evidence.segments is None else evidence.segments.to_dict(),
            "likelihood_ratio": _profile(evidence),
            "precision": _precision(evidence),
            "frames": _frames(evidence),
            "inference": evidence.inference.to_dict(),
        }
    )


def _structure(evidence: Evidence) -> dict[str, Any]:
    return {
        "group": evidence.structure.group,
        "null_dimension": evidence.structure.null_dimension,
        "information": evidence.structure.information,
        "exact": evidence.structure.exact,
        "modes": evidence.structure.modes,
        "gl_information": None
        if evidence.structure.spectrum is None
        else evidence.structure.spectrum.to_dict(),
        "noise_identified": None if evidence.uniqueness is None else evidence.uniqueness.to_dict(),
        "rank": evidence.loadings.rank,
        "rank_test": None if evidence.rank is None else evidence.rank.to_dict(),
        "degrees_of_freedom": evidence.loadings.degrees_of_freedom,
        "condition": evidence.loadings.condition,
        "empty_columns": list(evidence.loadings.empty),
        "parallel_columns": [list(pair) for pair in evidence.loadings.parallel],
        "heywood": list(evidence.loadings.heywood),
        "haar_spread": evidence.invariance,
        "principal_frame": None if evidence.principal is None else evidence.principal.to_dict(),
    }


def _profile(evidence: Evidence) -> dict[str, Any] | None:
    profile = evidence.profile
    if profile is None:
        return None
    return {
        "plane": list(profile.plane),
        "range_nats": profile.range,
        "error_nats": float(profile.error.max()),
        "exact": profile.exact,
        "samples": profile.samples,
    }


def _precision(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            "plane": list(error.plane),
            "cramer_rao_degrees": error.cramer_rao,
            "sandwich_degrees": error.sandwich,
            "effective_degrees": error.effective,
            "effective_error": error.effective_error,
            "samples_for_5_degrees": error.samples_for(5.0),
            "samples_for_1_degree": error.samples_for(1.0),
        }
        for error in evidence.precision
    ]


def _frames(evidence: Evidence) -> dict[str, Any]:
    return {
        name: None
        if frame is None
        else {
            "degrees": frame.degrees,
            "gain_nats_per_row": frame.gain,
            "error": frame.error,
            "law": frame.law,
        }
        for name, frame in (("model", evidence.model_frame), ("adaptive", evidence.adaptive_frame))
    }


def _zeros(evidence: Evidence) -> dict[str, Any] | None:
    """Return what is known of fixed zeros as plain values."""
    zeros = evidence.zeros
    if zeros is None:
        return None
    found, test = zeros.nullity, zeros.test
    return {
        "fixed": zeros.fixed,
        "parameters": found.parameters,
        "flat_directions": found.dimension,
        "rotations": found.rotations.dimension,
        "identified_factors": list(found.rotations.fixed),
        "conclusive": found.conclusive,
        "test": None
        if test is None
        else {
            "statistic": test.statistic,
            "degrees_of_freedom": test.degrees_of_freedom,
            "p": test.p_value,
            "against": test.against,
        },
    }


def _finite(value: Any) -> Any:
    """Return plain values with None for every number that is not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
