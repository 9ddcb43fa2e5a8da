"""Compile with numba, and keep the result on disk between processes where a folder can be written.

Modules that import this one are imported on first use, so that `import probae` stays light.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba

njit: Any = numba.njit  # its overloads do not know signatures that may be absent


def compile_cached(
    function: Callable[..., Any], options: dict[str, Any], signatures: list[Any] | None = None
) -> Callable[..., Any]:
    """Return the function compiled without Python's lock; options and signatures as for ``numba.njit``."""
    plain = inspect.unwrap(function)  # tests wrap every function to check its types
    options = {"nogil": True, "error_model": "numpy"} | options
    try:
        return njit(signatures, cache=True, **options)(plain)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        # neither beside the source nor in the user's folder can a file be written: compile in each process
        return njit(signatures, **options)(plain)
