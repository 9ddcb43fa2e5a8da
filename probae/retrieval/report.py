"""How the bits of given codes are used."""

from __future__ import annotations

from typing import Any

from probae.checks import DataError
from probae.encoders.bit_report import BitReport, report_bits
from probae.retrieval.packed import PackedCodes
from probae.retrieval.tables import check_named


def bit_report(activations: Any) -> BitReport:
    """Report on codes, or on the activations in [0, 1] that are thresholded at 1/2 to give them.

    Parameters
    ----------
    activations : table (N, K) with entries from 0 to 1, booleans, or PackedCodes

    Returns
    -------
    BitReport

    Raises
    ------
    DataError
        If an entry is outside [0, 1].

    Examples
    --------
    >>> bit_report([[0.95, 0.2], [0.99, 0.6], [0.05, 0.3], [0.02, 0.7]])
    BitReport(2 bits, 0 dead, balance 0.50 to 0.50, saturation 0.50, |correlation| up to 0.00)
    """
    table = activations.unpack() if isinstance(activations, PackedCodes) else activations
    values = check_named("activations", table)
    if bool(((values < 0) | (values > 1)).any()):
        raise DataError(
            f"activations should be from 0 to 1, got {float(values.min()):.4g} to {float(values.max()):.4g}: "
            "pass the output of the logistic units, not their input."
        )
    return report_bits(values > 0.5, values)
