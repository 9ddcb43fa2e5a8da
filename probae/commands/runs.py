"""One run, one folder: settings, fit, audit, figures, report."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from probae.checks import DataError, FileError, ParameterError, ProbaeWarning
from probae.commands import markdown, pages
from probae.identifiability.report import Report, audit
from probae.inference import Fit
from probae.io import make_folder, read_bytes, read_table, save, shown, write_json, write_text
from probae.storage.fits import versions

SETTINGS, REPORT = "settings.json", "report.md"
MAX_SETTINGS = 1_000_000  # bytes


@dataclass(frozen=True, eq=False)
class Input:
    """A table with where it came from: `described` goes into the settings."""

    x: xarray.DataArray
    described: dict[str, Any]


def read_input(path: Path, columns: Sequence[str], digest: str | None = None) -> Input:
    """Read a table, note its SHA-256, and say so if a column merely counts the rows.

    Raises
    ------
    DataError
        If a digest is given and the file has another.
    """
    found = hashlib.sha256(read_bytes(path, follow=True)).hexdigest()
    if digest is not None and found != digest:
        raise DataError(f"{shown(path)} is not the file the run was fitted to: it has changed since.")
    x = read_table(path, columns or None)
    counting = [j for j in range(x.shape[1]) if len(x) > 2 and (np.diff(x.values[:, j]) == 1).all()]
    for j in counting:
        name = repr(str(x.features.values[j])) if "features" in x.coords else str(j + 1)
        warnings.warn(
            f"Column {name} counts the rows: leave it out with --columns.", ProbaeWarning, stacklevel=2
        )
    described = {
        "path": str(path),
        "absolute": str(path.absolute()),
        "sha256": found,
        "columns": list(columns),
        "shape": list(x.shape),
    }
    return Input(x, described)


def open_folder(path: Path, settings: dict[str, Any]) -> Path:
    """Make the folder of a run and write its settings.

    Raises
    ------
    FileError
        If it exists and holds something other than an earlier run.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / SETTINGS).is_file():
        raise FileError(f"{shown(path)} holds files that are not an earlier run's: choose another --output.")
    make_folder(path)
    for stale in (REPORT, "audit.json"):  # of an earlier run: this one may be stopped before it has its own
        with suppress(OSError):
            (path / stale).unlink()
    write_json(settings | {"status": "running", "versions": versions()}, path / SETTINGS)
    return path


def close_folder(folder: Path, settings: dict[str, Any], status: str) -> None:
    """Write the settings again, with how the run ended."""
    write_json(settings | {"status": status, "versions": versions()}, folder / SETTINGS)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run; an empty mapping if it has none."""
    if not (folder / SETTINGS).is_file():
        return {}
    try:
        settings = json.loads(read_bytes(folder / SETTINGS, MAX_SETTINGS))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise FileError(f"{shown(folder / SETTINGS)} is not what probae writes.")
    return settings


def try_audit(fit: Fit, x: Any, seed: int) -> tuple[Report | None, str]:
    """Audit a fit; where the model or the data cannot be audited, say why."""
    try:
        return audit(fit, x, seed=seed), ""
    except (ParameterError, DataError) as error:
        return None, str(error)


def write_sections(
    folder: Path, fit: Fit, x: Any, report: Report | None, why_not: str, below: str = ""
) -> list[str]:
    """Draw the figures of a fit, write its audit, and return what a report says of it.

    ``below`` leads from the report to the folder, where that is another one.
    """
    from probae.commands.figures import draw_fit  # matplotlib is slow to import, and not needed before

    titles = draw_fit(folder, fit, x, report)
    if report is not None:
        write_json(report.to_dict(), folder / "audit.json")
    return [
        pages.verdict(report, why_not),
        pages.numbers(fit, len(x)),
        pages.loadings(fit),
        pages.figures(titles, below),
        pages.evidence(report),
    ]


def write_page(folder: Path, title: str, settings: dict[str, Any], sections: Sequence[str]) -> Path:
    """Write the report of a run."""
    known = settings | {"versions": versions()}
    parts = [f"# {markdown.escape(title)}", *filter(None, sections), pages.provenance(known, folder)]
    return write_text("\n\n".join(parts) + "\n", folder / REPORT)


def save_partial(folder: Path, title: str, fit: Fit, source: Input, settings: dict[str, Any]) -> None:
    """Save a fit that Ctrl-C ended early, marked as such."""
    save(fit, folder)
    why = "the fit was interrupted; what is saved is its last complete step."
    write_page(folder, title, settings, [pages.verdict(None, why), pages.numbers(fit, len(source.x))])


@contextmanager
def notes(say: Any) -> Iterator[None]:
    """Pass each warning of this package on as one line of text, once; keep those of other packages quiet."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            texts = [str(w.message) for w in caught if issubclass(w.category, ProbaeWarning)]
            for text in dict.fromkeys(texts):
                say(f"note: {markdown.clean(text)}")
