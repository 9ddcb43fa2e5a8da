"""Compile a function with numba: no lock of Python's, kept on disk between processes where that is possible.

Modules that use `compiled` are imported on first use, so that `import probae` stays light.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba

# Sums may be reordered and fused. Values are finite: input is checked, and no kernel divides by zero.
FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}
# Letters of a signature: a number, whole number, truth value; vectors and matrices in C order in capitals.
KINDS = {
    "x": "float64",
    "i": "int64",
    "b": "boolean",
    "X": "float64[::1]",
    "I": "int64[::1]",
    "G": "float64[:, ::1]",
}


def compiled(kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that compiles a function of arguments of these kinds.

    Wrappers that check types in tests are taken off first.
    """
    signature = f"({', '.join(KINDS[kind] for kind in kinds)})"
    options = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        plain = inspect.unwrap(function)
        try:
            return numba.njit(signature, cache=True, **options)(plain)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            # neither beside the source nor in the user's folder can a file be written: compile in each process
            return numba.njit(signature, **options)(plain)

    return decorate
