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


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the compiled function; wrappers that check types in tests are taken off first."""
    plain = inspect.unwrap(function)
    options = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(plain)
    except (
        RuntimeError
    ):  # no folder can be written, neither beside the source nor the user's: compile each time
        return numba.njit(**options)(plain)
