"""What every experiment leaves behind: settings with their seeds, rows, versions and the figure."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import probae
from probae import io

PACKAGES = ("torch", "pyro-ppl", "numpy", "scipy", "scikit-learn")


def save(
    folder: Path, settings: Any, rows: dict[str, list[dict[str, Any]]], figure: Figure | None = None
) -> None:
    """Write ``settings.json`` (with versions), ``rows.json`` and ``figure.png`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    io.write_json(
        {"settings": dataclasses.asdict(settings), "versions": versions()}, folder / "settings.json"
    )
    io.write_json(rows, folder / "rows.json")
    if figure is not None:
        io.write_figure(figure, folder / "figure.png")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages the numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "probae": probae.__version__, **found}


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of equal keys as aligned text."""
    cells = [list(rows[0])] + [[_shown(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
