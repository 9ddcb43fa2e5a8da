"""Figures and report of the demonstration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from probae import plots
from probae.commands import markdown, pages
from probae.commands.figures import draw, draw_audit
from probae.demo.results import HEADER, Result, summary
from probae.identifiability.likelihood_ratio import rotation_profile
from probae.matching import match_columns

INTRODUCTION = (
    "A linear factor model explains each row of a table by a few unseen factors. If the factors are Gaussian, every "
    "rotation of their axes explains the data equally well, so reading meaning into one set of axes is a choice. "
    "Independent non-Gaussian factors can single out axes. For each fit below, the audit says which of the two holds: "
    "for the model alone, and for the data at hand."
)


Drawing = tuple[
    str, str, float, float, Callable[[Axes], Any]
]  # file, title, width, height in inches, painter


def draw_all(folder: Path, results: Mapping[str, Result]) -> dict[str, list[tuple[str, str]]]:
    """Draw the figures; return (file, title) pairs under the name of the case they belong to."""
    tests, digits = results["tests-gaussian"], results["digits"]
    sparse, simulated = results["patches-sparse"], results["laplace-laplace"]
    flat = rotation_profile(results["laplace-gaussian"].fit, simulated.rows.x)
    peaked = rotation_profile(simulated.fit, simulated.rows.x)
    figures: dict[str, list[Drawing]] = {
        "tests-gaussian": [
            ("tests-loadings.png", "Mental tests: loadings in one of many equivalent frames", 4.6, 3.8,
             lambda ax: plots.loadings(tests.fit, ax, standardized=True)),
            ("tests-scores.png", "Mental tests: scores of two factors by school", 5.9, 4.6,
             lambda ax: plots.scores(tests.fit, tests.rows.x, (0, 1), ax, labels=tests.rows.labels)),
        ],
        "patches-sparse": [
            ("patches-dictionary.png", "Image patches: 128 atoms of a sparse code", 7.4, 6.5,
             lambda ax: plots.dictionary(sparse.fit, ax=ax)),
        ],
        "digits": [
            ("digits-components.png", "Digits: ten components, in the frame of the principal axes", 6.0, 4.6,
             lambda ax: plots.dictionary(digits.fit, ax=ax)),
            ("digits-scores.png", "Digits: scores of two components by class", 6.4, 5.2,
             lambda ax: plots.scores(digits.fit, digits.rows.x, (0, 1), ax, labels=digits.rows.labels)),
        ],
        "laplace-laplace": [
            ("rotation.png", "The same data, Gaussian and Laplace factors: log-likelihood along a rotation", 6.0, 3.9,
             lambda ax: plots.rotation([("Gaussian factors", flat), ("Laplace factors", peaked)], ax)),
            ("truth.png", "The same data: fitted loadings against the true ones", 5.2, 4.4,
             lambda ax: against_truth(ax, results["laplace-gaussian"], simulated)),
        ],
    }  # fmt: skip
    for drawn in figures.values():
        for file, _, width, height, paint in drawn:
            draw(folder / file, width, height, paint)
    found = {name: [(file, title) for file, title, *_ in drawn] for name, drawn in figures.items()}
    if simulated.report is not None:
        draw_audit(folder / "audit.png", simulated.report)
        found["laplace-laplace"].insert(
            0, ("audit.png", "The same data, Laplace factors: the audit on one page")
        )
    return found


def against_truth(ax: Axes, *results: Result) -> None:
    """Scatter fitted loadings, in the signs and the order that fit best, against the true ones."""
    for result, marker in zip(results, "os", strict=True):
        truth = (result.rows.truth or {})["loadings"]
        fitted = match_columns(truth, result.fit.model.loadings.detach()).matched
        ax.plot(
            truth.flatten(), fitted.flatten(), marker, markersize=5, alpha=0.8, label=result.case.model_name
        )
    ax.axline((0, 0), slope=1, color="0.7", linewidth=0.8, zorder=0)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel("true loading")
    ax.set_ylabel("fitted loading")
    ax.legend(loc="upper left", frameon=False)


def sections(results: Sequence[Result], figures: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """Return the report: the table of verdicts, then each case with its reasons, figures and evidence."""
    table = markdown.table(HEADER, [result.cells() for result in results])
    parts = [INTRODUCTION, "## Verdicts", markdown.escape(summary(results)), table]
    for result in results:
        parts += [f"## {markdown.escape(f'{result.case.data}: {result.case.model_name}')}"]
        parts += [f"Data: {markdown.escape(result.rows.source)}", _how(result)]
        if result.report is not None:
            parts += [pages.verdict_text(result.report)]
        if result.case.unaudited:
            parts += [f"Not audited. {markdown.escape(result.case.unaudited)}"]
        if result.as_expected is False and result.case.expected is not None:
            parts += [
                f"**This differs from what was known beforehand: {markdown.escape(result.case.expected.text)}.**"
            ]
        parts += [result.recovery, pages.warnings(result.fit)]
        parts += [markdown.picture(title, file) for file, title in figures.get(result.case.name, ())]
        parts += [markdown.block(result.report) if result.report is not None else ""]
    return [part for part in parts if part]


def how_to_load(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return how to continue in Python."""
    example = f"import probae as pa\n\nrun = pa.load({str(folder / 'laplace-laplace')!r})\nprint(run.model.loadings)"
    rows = [("command", "demo"), ("seed", settings["seed"])]
    return "\n\n".join(
        [
            "## Settings and versions",
            markdown.table(["", ""], [*rows, *settings["versions"].items()]),
            "## In Python",
            "Each fit is in the folder of its name.",
            markdown.block(example, "python"),
        ]
    )


def _how(result: Result) -> str:
    fit = result.fit
    state = "converged" if fit.converged else "not converged"
    last = f"{float(fit.history[-1]):.4f}" if len(fit.history) else "none"
    text = (
        f"{type(fit.model).__name__}({fit.model.features}, {fit.model.latents}) by {type(fit.method).__name__}: "
        f"{state}, {fit.method.objective_name} {last} nats per row, {fit.seconds:.1f} s."
    )
    return markdown.escape(text)
