"""Compile a kernel of the codes for the kinds of arrays that its annotations name, when its module is imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probae.compiled import compile_cached

Vector: TypeAlias = NDArray[np.float64]  # arrays are in C order
Matrix: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]
Table: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.float64] | NDArray[np.float32]  # compiled for both

KINDS = {
    "Codes": "{}[:, ::1]",
    "float": "float64",
    "int": "int64",
    "bool": "boolean",
    "Vector": "float64[::1]",
    "Matrix": "float64[:, ::1]",
    "Singles": "float32[:, ::1]",
    "Indices": "int64[::1]",
    "Table": "int64[:, ::1]",
}
DTYPES = ("float64", "float32")
# Sums may be reordered and fused. Values are finite: input is checked, and no kernel divides by zero.
FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled for its annotations; only compiled functions can call it."""
    return _compile(function, wrapped=False)


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled for its annotations, to be called from Python."""
    return _compile(function, wrapped=True)


def _compile(function: Callable[..., Any], wrapped: bool) -> Callable[..., Any]:
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    kinds = ", ".join(KINDS[parameter.annotation] for parameter in parameters)
    options = {"fastmath": FAST, "no_cpython_wrapper": not wrapped, "no_cfunc_wrapper": True}
    signatures = dict.fromkeys(f"({kinds.format(dtype)})" for dtype in DTYPES)
    return compile_cached(function, options, list(signatures))
