"""What came out of the cases, as tables for the terminal and the report."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probae.agreement import mean_correlation
from probae.demo.cases import Case, Rows
from probae.identifiability.report import Report
from probae.inference import Fit
from probae.matching import match_columns

ABOUT_AXES = ("IDENTIFIED_SP", "PARTIAL", "NOT_IDENTIFIED")  # verdicts whose group says what stays free
HEADER = ("data", "model", "verdict", "what stays free", "expected", "as expected", "seconds")


@dataclass(frozen=True, eq=False)
class Result:
    """A case, its fit, its audit, and the seconds both took."""

    case: Case
    rows: Rows
    fit: Fit
    report: Report | None
    seconds: float

    @property
    def as_expected(self) -> bool | None:
        """Whether the verdict is the one that was known beforehand; None where nothing was."""
        if self.case.expected is None or self.report is None:
            return None
        return self.case.expected.holds(self.report)

    @property
    def recovery(self) -> str:
        """How close simulated factors were found, up to sign and order; empty where there is no truth."""
        truth = self.rows.truth
        if truth is None:
            return ""
        cosines = match_columns(truth["loadings"], self.fit.model.loadings.detach()).cosines
        angle = math.degrees(math.acos(min(1.0, float(cosines.abs().min()))))
        scores = mean_correlation(self.fit.posterior(self.rows.x).mean, truth["z"])
        return (
            f"Against the truth: the worst column of the loadings is {angle:.1f} degrees away; the factors correlate "
            f"{scores.value:.3f} with the true ones, where random axes would reach {scores.chance.mean:.3f}."
        )

    def cells(self) -> list[str]:
        """Return one row of the table of verdicts."""
        expected = self.case.expected.text if self.case.expected else ""
        verdict = self.report.verdict.name if self.report else "not audited"
        group = self.report.group if self.report and verdict in ABOUT_AXES else ""
        found = {None: "", True: "yes", False: "NO"}[self.as_expected]
        return [self.case.data, self.case.model_name, verdict, group, expected, found, f"{self.seconds:.1f}"]


def show(results: Sequence[Result], say: Callable[[str], None]) -> None:
    """Print the table of verdicts: drawn in a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty():
        for result in results:
            data, model, verdict, group, _, found, _ = result.cells()
            told = {"yes": ", as expected", "NO": f", but expected {result.cells()[4]}", "": ""}[found]
            say(f"{data} / {model}: {verdict}{f' {group}' if group else ''}{told}")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="Do the axes mean anything?", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in ("data", "model", "verdict", "free", "as expected"):
        table.add_column(name, no_wrap=name == "verdict")
    for result in results:
        data, model, verdict, group, _, found, _ = result.cells()
        style = {"IDENTIFIED_SP": "green", "not audited": "dim"}.get(verdict, "yellow")
        mark = Text(found, style="bold red" if found == "NO" else "")
        table.add_row(data, model, Text(verdict, style=style), group, mark)
    Console().print(table)


def summary(results: Sequence[Result]) -> str:
    """Return one sentence on the cases whose verdict was known beforehand.

    Examples
    --------
    >>> summary([])
    'All 0 verdicts that were known beforehand came out as expected.'
    """
    known = [result for result in results if result.as_expected is not None]
    wrong = [result for result in known if not result.as_expected]
    if not wrong:
        return f"All {len(known)} verdicts that were known beforehand came out as expected."
    named = "; ".join(
        f"{r.case.data} with {r.case.model_name} got {r.report.verdict.name if r.report else 'none'}, "
        f"expected {r.case.expected.text if r.case.expected else ''}"
        for r in wrong
    )
    return f"{len(wrong)} of {len(known)} verdicts that were known beforehand came out DIFFERENT: {named}."
