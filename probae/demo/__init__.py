"""`probae demo`: fit, audit and draw data that come with the package, nothing of it chosen to please."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from probae.commands import markdown, runs
from probae.demo.cases import CASES, Case
from probae.demo.results import Result, show, summary
from probae.identifiability.report import audit
from probae.inference.fit import fit
from probae.io import make_folder, save, write_json, write_text
from probae.storage.fits import versions


def run_demo(output: Path, seed: int, say: Callable[[str], None], note: Callable[[str], None]) -> int:
    """Run every case, print the verdicts and write the report; return the exit code.

    A verdict that differs from what was known beforehand is said plainly, here and in the report; the exit code
    stays 0, because the demonstration did its work.
    """
    settings: dict[str, Any] = {"command": "demo", "seed": seed}
    folder = runs.open_folder(output, settings)
    start = time.perf_counter()
    results = {}
    try:
        with one_thread(), runs.notes(lambda _: None):  # the report holds the warnings, each beside its fit
            for number, case in enumerate(CASES, 1):
                note(f"{number}/{len(CASES)}  {case.data}: {case.model_name}")
                results[case.name] = run_case(case, folder, seed)
            write_report(folder, results, settings)
    except KeyboardInterrupt:
        runs.close_folder(folder, settings, "interrupted")
        raise
    runs.close_folder(folder, settings, "finished")
    show(list(results.values()), say)
    say(summary(list(results.values())))
    say(
        f"wrote {folder / runs.REPORT}, its figures and {len(results)} fits in {time.perf_counter() - start:.0f} s"
    )
    return 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: matrices as small as these gain nothing from more, and the bits stay the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def run_case(case: Case, folder: Path, seed: int) -> Result:
    """Fit, save and audit one case."""
    start = time.perf_counter()
    rows = case.rows(seed)
    run = fit(case.model(), rows.x, case.method, seed=seed)
    save(run, make_folder(folder / case.name))
    if run.interrupted:
        raise KeyboardInterrupt
    report = None if case.unaudited else audit(run, rows.x, seed=seed)
    if report is not None:
        write_json(report.to_dict(), folder / case.name / "audit.json")
    return Result(case, rows, run, report, time.perf_counter() - start)


def write_report(folder: Path, results: Mapping[str, Result], settings: Mapping[str, Any]) -> Path:
    """Draw the figures and write the report."""
    from probae.demo import page  # matplotlib is slow to import, and not needed before

    figures = page.draw_all(folder, results)
    parts = ["# What the axes of a factor model are worth", *page.sections(list(results.values()), figures)]
    parts.append(page.how_to_load(folder, {**settings, "versions": versions()}))
    return write_text(markdown.clean("\n\n".join(parts)) + "\n", folder / runs.REPORT)
