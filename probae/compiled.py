"""Compile with numba, and keep the result on disk between processes where a folder can be written.

Modules that import this one are imported on first use, so that `import probae` stays light.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.extending import is_jitted

njit: Any = numba.njit  # its overloads do not know signatures that may be absent


def compile_cached(
    function: Callable[..., Any], options: dict[str, Any], signatures: list[Any] | None = None
) -> Callable[..., Any]:
    """Return the function compiled without Python's lock; options and signatures as for ``numba.njit``.

    A result on disk is taken if no file has changed that the function, or a compiled function that it calls, is in.
    """
    plain = inspect.unwrap(function)  # tests wrap every function to check its types
    options = {"nogil": True, "error_model": "numpy"} | options
    try:
        found = njit(cache=True, **options)(plain)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        # neither beside the source nor in the user's folder can a file be written: compile in each process
        return njit(signatures, **options)(plain)
    _watch_all_sources(found, plain)
    if signatures is not None:
        for signature in signatures:
            found.compile(signature)
        found.disable_compile()
    return found


def _watch_all_sources(found: Any, plain: Callable[..., Any]) -> None:
    """Let the result on disk count as old when any source has changed: numba looks at the file of ``plain`` alone."""
    index: Any = getattr(found._cache, "_cache_file", None)
    # numba has no public way; without this one it looks at one file, as ever
    if hasattr(index, "_source_stamp"):
        index._source_stamp = (index._source_stamp, _digest(plain))


def _digest(plain: Callable[..., Any]) -> str:
    """Digest of the files of a function and of all compiled functions below it."""
    seen: set[Any] = set()
    open_ = [plain]
    while open_:
        one: Any = open_.pop()
        if one not in seen:
            seen.add(one)
            named = (one.__globals__.get(name) for name in one.__code__.co_names)
            open_ += [other.py_func for other in named if is_jitted(other)]
    files = sorted({Path(one.__code__.co_filename) for one in seen})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()
