"""What a measurement was made with."""

from __future__ import annotations

import importlib.metadata
import platform

import probae as pa


def versions(*peers: str) -> dict[str, str]:
    """Return the versions of Python, probae, what does the arithmetic, and the peers."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", *peers)}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "probae": pa.__version__,
        **found,
    }
