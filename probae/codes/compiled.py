"""Compile a function with numba: no lock of Python's, kept on disk between processes where that is possible.

Modules that import this one are imported on first use, so that `import probae` stays light.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]  # arrays are in C order
Matrix: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]
Table: TypeAlias = NDArray[np.int64]

KINDS = {
    "float": "float64",
    "int": "int64",
    "bool": "boolean",
    "Vector": "float64[::1]",
    "Matrix": "float64[:, ::1]",
    "Singles": "float32[:, ::1]",
    "Indices": "int64[::1]",
    "Table": "int64[:, ::1]",
}
# Sums may be reordered and fused. Values are finite: input is checked, and no kernel divides by zero.
FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled for its annotations; only compiled functions can call it."""
    return _compile(function, wrapped=False)


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled for its annotations, to be called from Python."""
    return _compile(function, wrapped=True)


def _compile(function: Callable[..., Any], wrapped: bool) -> Callable[..., Any]:
    plain = inspect.unwrap(function)  # tests wrap every function to check its types
    kinds = [KINDS[parameter.annotation] for parameter in inspect.signature(plain).parameters.values()]
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
    options |= {"no_cpython_wrapper": not wrapped, "no_cfunc_wrapper": True}
    decorate = numba.njit(f"({', '.join(kinds)})", cache=True, **options)
    try:
        return decorate(plain)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        # neither beside the source nor in the user's folder can a file be written: compile in each process
        return numba.njit(f"({', '.join(kinds)})", **options)(plain)
