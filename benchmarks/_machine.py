"""What a measurement was made with, and its file."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import probae as pa
from probae import io


def save(path: Path, settings: Any, rows: list[dict[str, Any]], *peers: str, **more: Any) -> None:
    """Write rows as JSON with their settings, the versions of what made them, and what else is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"settings": asdict(settings), "versions": versions(*peers), **more, "rows": rows}
    io.write_json(found, path)


def versions(*peers: str) -> dict[str, str]:
    """Return the versions of Python, probae, what does the arithmetic, and the peers."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", *peers)}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "probae": pa.__version__,
        **found,
    }
