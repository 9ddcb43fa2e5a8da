"""`probae audit`: the identifiability of a saved run, or of two models fitted to a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probae.checks import DataError, FileError, ParameterError
from probae.commands import markdown, runs
from probae.commands.fitting import INTERRUPTED, Say, say_fit
from probae.inference.fit import fit
from probae.io import load, make_folder, save, shown
from probae.models import FactorAnalysis, LinearFactorModel
from probae.priors import Laplace


def run_audit(
    subject: Path,
    data: Path | None,
    latents: int | None,
    columns: Sequence[str],
    seed: int,
    output: Path | None,
    say: Say,
    note: Say,
) -> int:
    """Audit what the path leads to: a folder is a run, a file a table; return the exit code."""
    with runs.notes(note):
        if subject.is_dir():
            if latents is not None:
                raise ParameterError("--latents belongs to a table; a run has its own.")
            return _audit_run(subject, data, columns, seed, output, say)
        if data is not None:
            raise ParameterError("--data belongs to the folder of a run; a table is its own data.")
        return _audit_table(subject, latents, columns, seed, output, say, note)


def find_data(folder: Path, data: Path | None, columns: Sequence[str]) -> runs.Input:
    """Read the rows a run was fitted to: those given, or those its settings name by path and SHA-256.

    Raises
    ------
    FileError, DataError
        If the settings name none, or the file is no longer there or has changed.
    """
    if data is not None:
        return runs.read_input(data, columns)
    recorded = runs.read_settings(folder).get("data")
    if not (isinstance(recorded, dict) and isinstance(recorded.get("path"), str)):
        raise FileError(f"{shown(folder)} does not say which data it was fitted to: pass them with --data.")
    places = [Path(recorded["path"]), Path(str(recorded.get("absolute")))]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileError(
            f"{shown(places[0])}, the data of the run, is not there any more: pass it with --data."
        )
    kept = recorded.get("columns")
    if not (isinstance(kept, list) and all(isinstance(name, str) for name in kept)):
        raise DataError(
            f"{shown(folder)} does not say which columns it was fitted to: pass --data and --columns."
        )
    return runs.read_input(path, columns or kept, digest=str(recorded.get("sha256")))


def _audit_run(
    folder: Path, data: Path | None, columns: Sequence[str], seed: int, output: Path | None, say: Say
) -> int:
    run = load(folder)
    source = find_data(folder, data, columns)
    report, why_not = runs.try_audit(run, source.x, seed)
    settings = {"command": "audit", "run": str(folder), "seed": seed, "data": source.described}
    target = folder if output is None else runs.open_folder(output, settings)
    sections = runs.write_sections(target, run, source.x, report, why_not)
    kept = runs.read_settings(folder) if output is None else settings
    runs.write_page(target, f"Audit of {folder}", kept or settings, sections)
    if output is not None:
        runs.close_folder(target, settings, "finished")
    say_fit(run, report, why_not, say)
    say(f"report: {target / runs.REPORT}")
    return 0


def _audit_table(
    table: Path,
    latents: int | None,
    columns: Sequence[str],
    seed: int,
    output: Path | None,
    say: Say,
    note: Say,
) -> int:
    """Fit Gaussian and Laplace factors and audit both: what the data say against what a model assumes."""
    source = runs.read_input(table, columns)
    if latents is None:
        raise ParameterError("Auditing a table needs --latents, the number of factors to fit.")
    features = source.x.shape[1]
    candidates = {
        "gaussian": FactorAnalysis(features, latents),
        "laplace": LinearFactorModel(features, latents, prior=Laplace()),
    }
    settings: dict[str, Any] = {
        "command": "audit",
        "latents": latents,
        "seed": seed,
        "data": source.described,
    }
    suffix = f"-seed{seed}" if seed else ""
    folder = runs.open_folder(output or Path("results") / f"{table.stem}-audit-{latents}{suffix}", settings)
    sections, summary = [], []
    for name, model in candidates.items():
        run = fit(model, source.x, seed=seed)
        save(run, make_folder(folder / name))
        if run.interrupted:
            runs.close_folder(folder, settings, "interrupted")
            note(f"interrupted: the fit with {name} factors is in {folder / name}, marked as interrupted.")
            return INTERRUPTED
        report, why_not = runs.try_audit(run, source.x, seed)
        verdict = "none" if report is None else f"{report.verdict.name} {report.group}"
        summary.append(
            [name, verdict, f"{float(run.history[-1]):.4f}", why_not if report is None else report.reasons[0]]
        )
        parts = runs.write_sections(folder / name, run, source.x, report, why_not, below=f"{name}/")
        sections += [f"# {name} factors", *parts]
        say_fit(run, report, why_not, say)
    table_of_both = markdown.table(["factors", "verdict", "log-likelihood per row", "first reason"], summary)
    runs.write_page(
        folder, f"Audit of {table.name} with {latents} factors", settings, [table_of_both, *sections]
    )
    runs.close_folder(folder, settings, "finished")
    say(f"report: {folder / runs.REPORT}")
    return 0
