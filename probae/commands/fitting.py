"""`probae fit`: fit one model to a table, audit it, and write the folder of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from probae.commands import runs
from probae.commands.markdown import clean
from probae.commands.names import make_method, make_model
from probae.identifiability.report import Report
from probae.inference import Fit
from probae.inference.fit import fit
from probae.io import save

INTERRUPTED = 130  # exit code, as after Ctrl-C in a shell

Say = Callable[[str], None]


def run_fit(
    data: Path,
    model: str,
    latents: int | None,
    prior: str | None,
    method: str,
    steps: int | None,
    columns: Sequence[str],
    seed: int,
    output: Path | None,
    say: Say,
    note: Say,
) -> int:
    """Fit, save, audit, draw and report; return the exit code."""
    with runs.notes(note):
        source = runs.read_input(data, columns)
        made = make_model(model, source.x.shape[1], latents, prior)
        chosen = make_method(method, made, steps)
        settings: dict[str, Any] = {
            "command": "fit", "model": model, "latents": made.latents, "prior": prior, "method": method,
            "steps": steps, "seed": seed, "data": source.described,
        }  # fmt: skip
        folder = runs.open_folder(output or default_folder(data, settings), settings)
        try:
            run = fit(made, source.x, chosen, seed=seed)
        except KeyboardInterrupt:
            runs.close_folder(folder, settings, "interrupted")
            note("interrupted before there was a fit to save.")
            return INTERRUPTED
        title = f"{model} with {made.latents} latents, fitted to {data.name}"
        if run.interrupted:
            runs.save_partial(folder, title, run, source, settings)
            runs.close_folder(folder, settings, "interrupted")
            note(f"interrupted: the fit up to step {len(run.history)} is in {folder}, marked as interrupted.")
            return INTERRUPTED
        save(run, folder)
        try:
            report, why_not = runs.try_audit(run, source.x, seed)
            sections = runs.write_sections(folder, run, source.x, report, why_not)
            runs.write_page(folder, title, settings, sections)
        except KeyboardInterrupt:
            runs.close_folder(folder, settings, "interrupted")
            note(f"interrupted: the fit is complete and saved in {folder}, its audit and report are not.")
            return INTERRUPTED
        runs.close_folder(folder, settings, "finished")
    say_fit(run, report, why_not, say)
    say(f"report: {folder / runs.REPORT}")
    return 0


def default_folder(data: Path, settings: dict[str, Any]) -> Path:
    """Name a folder after everything that decides the result, so that another run does not overwrite it.

    Examples
    --------
    >>> default_folder(Path("a/people.csv"), {"model": "fa", "latents": 3, "method": "auto", "seed": 0}).name
    'people-fa-3'
    """
    parts = [data.stem, settings["model"], str(settings["latents"]), settings.get("prior")]
    parts += [settings["method"] if settings["method"] != "auto" else None]
    parts += [f"{settings['steps']}steps" if settings.get("steps") is not None else None]
    parts += [f"seed{settings['seed']}" if settings["seed"] else None]
    return Path("results") / "-".join(filter(None, parts)).replace(":", "").replace(",", "_")


def say_fit(run: Fit, report: Report | None, why_not: str, say: Say) -> None:
    """Print how a fit ended and what its axes are worth."""
    last = f"{run.history[-1]:.4f}" if len(run.history) else "none"
    state = "converged" if run.converged else "not converged"
    say(
        clean(f"{run.model!r}: {state}, {run.method.objective_name} {last} nats per row, {run.seconds:.1f} s")
    )
    if report is None:
        say(clean(f"no verdict: {why_not}"))
        return
    say(clean(f"{report.verdict.name} {report.group}: {report.meaning}."))
    for reason in report.reasons:
        say(clean(f"  - {reason}"))
