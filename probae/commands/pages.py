"""Parts of a run's report, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probae.commands import markdown
from probae.identifiability.report import Report
from probae.inference import Fit

MOST_ROWS = 60  # of a table of loadings; a longer one is only in the file of weights


def verdict(report: Report | None, why_not: str = "") -> str:
    """Return the verdict, or why there is none, under a heading."""
    text = f"None: {markdown.escape(why_not)}" if report is None else verdict_text(report)
    return f"## Verdict\n\n{text}"


def verdict_text(report: Report) -> str:
    """Return the verdict with its meaning and its reasons."""
    said = f"**{report.verdict.name}**, {report.group}: {report.meaning}."
    return f"{said}\n\n{markdown.bullets(report.reasons)}"


def warnings(fit: Fit) -> str:
    """Return the warnings of a fit as a list, or nothing."""
    return f"Warnings:\n\n{markdown.bullets(fit.warnings)}" if fit.warnings else ""


def numbers(fit: Fit, samples: int) -> str:
    """Return how the fit went, as a table."""
    model = fit.model
    last = float(fit.history[-1]) if len(fit.history) else None
    rows: list[tuple[str, object]] = [
        ("model", repr(model)),
        ("method", type(fit.method).__name__),
        ("rows", samples),
        ("features", model.features),
        ("latents", model.latents),
        (f"{fit.method.objective_name} per row (nats)", markdown.number(last)),
        ("ended", "interrupted" if fit.interrupted else "converged" if fit.converged else "not converged"),
        ("steps", len(fit.history)),
        ("seconds", f"{fit.seconds:.2f}"),
        ("seed", fit.seed),
    ]
    return "\n\n".join(filter(None, ["## The fit", markdown.table(["", ""], rows), warnings(fit)]))


def loadings(fit: Fit) -> str:
    """Return loadings and noise variances as a table, if it is not too long to read."""
    model, shown = fit.model, fit.model.latents <= 12
    if model.features > MOST_ROWS or not shown:
        return (
            f"## Loadings\n\nA table of {model.features} by {model.latents} is in the weights and the figure."
        )
    names = fit.names or tuple(f"{d + 1}" for d in range(model.features))
    noise = [None] * model.features
    if model.noise != "none":
        noise = model.noise_variance.detach().expand(model.features).tolist()
    columns = zip(names, model.loadings.detach().tolist(), model.communalities.tolist(), noise, strict=True)
    rows = [[name, *map(markdown.number, (*row, common, own))] for name, row, common, own in columns]
    header = ["feature", *(f"z[{k}]" for k in range(model.latents)), "communality", "noise variance"]
    return f"## Loadings\n\nIn units of the feature per standard deviation of z.\n\n{markdown.table(header, rows)}"


def figures(titles: Mapping[str, str], below: str = "") -> str:
    """Return the figures, each from a file beside the page."""
    return "\n\n".join(
        ["## Figures", *(markdown.picture(title, below + file) for file, title in titles.items())]
    )


def evidence(report: Report | None) -> str:
    """Return the whole audit."""
    return "" if report is None else f"## Evidence\n\n{markdown.block(report)}"


def provenance(settings: Mapping[str, Any], folder: Path) -> str:
    """Return settings and versions, and how to load the run."""
    data = settings.get("data") or {}
    chosen = [
        (key, value)
        for key, value in settings.items()
        if key not in ("data", "versions") and value is not None
    ]
    rows = [*chosen, *((f"data {key}", value) for key, value in data.items() if key != "absolute")]
    how = [
        "import probae as pa",
        *(["from probae.io import read_table"] if data else []),
        "",
        f"run = pa.load({str(folder)!r})",
        *([f"x = read_table({data['path']!r}{_columns(data)})", "print(pa.audit(run, x))"] if data else []),
    ]
    return "\n\n".join(
        [
            "## Settings",
            markdown.table(["setting", "value"], rows),
            "## Versions",
            markdown.table(["package", "version"], settings["versions"].items()),
            "## In Python",
            markdown.block("\n".join(how), "python"),
        ]
    )


def _columns(data: Mapping[str, Any]) -> str:
    return f", columns={list(data['columns'])!r}" if data.get("columns") else ""
