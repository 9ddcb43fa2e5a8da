"""What a measurement was made with, and its file."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import probae as pa
from probae import io


def save(
    path: Path, settings: Any, rows: list[dict[str, Any]], *peers: str, claims: dict[str, Any] | None = None
) -> None:
    """Write rows as JSON with their settings, the versions of what made them, and what was claimed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    claimed = {} if claims is None else {"claims": claims}
    found = {"settings": asdict(settings), "versions": versions(*peers), **claimed, "rows": rows}
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
