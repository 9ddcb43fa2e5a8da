"""The figures of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probae import plots
from probae.identifiability.report import Report
from probae.inference import Fit
from probae.io import write_figure
from probae.plots.audit_page import HEIGHT, WIDTH


def draw(path: Path, width: float, height: float, paint: Callable[[Axes], Any]) -> Path:
    """Write one figure; no window system is asked for.

    Examples
    --------
    >>> import tempfile
    >>> draw(Path(tempfile.mkdtemp()) / "line.png", 2, 2, lambda ax: ax.plot([0, 1])).name
    'line.png'
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    paint(figure.add_subplot())
    return write_figure(figure, path)


def draw_audit(path: Path, report: Report) -> Path:
    """Write the page of an audit.

    Examples
    --------
    >>> import tempfile, probae as pa
    >>> report = pa.audit(pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x))
    >>> draw_audit(Path(tempfile.mkdtemp()) / "audit.png", report).name
    'audit.png'
    """
    return write_figure(plots.audit(report, Figure(figsize=(WIDTH, HEIGHT))), path)


def draw_fit(folder: Path, fit: Fit, x: Any, report: Report | None) -> dict[str, str]:
    """Draw loadings, the page of the audit with its rotation profile, and scores; return titles by file name."""
    features, latents = fit.model.features, fit.model.latents
    widest = max(map(len, fit.names or ("1",)))
    width, height = 0.6 * latents + 0.08 * min(widest, 40) + 2.0, 0.3 * features + 1.0
    draw(
        folder / "loadings.png",
        min(max(width, 3.6), 11.0),
        min(max(height, 2.4), 9.0),
        lambda ax: plots.loadings(fit, ax),
    )
    titles = {"loadings.png": "Loadings"}
    if report is not None:
        draw_audit(folder / "audit.png", report)
        titles["audit.png"] = "The audit on one page"
    profile = None if report is None else report.evidence.profile
    if profile is not None:
        draw(folder / "rotation.png", 6.0, 3.6, lambda ax: plots.rotation(profile, ax))
        titles["rotation.png"] = (
            "Log-likelihood along a rotation of two factors: flat where axes mean nothing"
        )
    if latents > 1:
        draw(folder / "scores.png", 5.0, 4.6, lambda ax: plots.scores(fit, x, (0, 1), ax))
        titles["scores.png"] = "Posterior means of two factors"
    return titles
