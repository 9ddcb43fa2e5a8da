"""An audit on one page: the verdict in words, and what it rests on in five panels."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probae.checks import ParameterError
from probae.identifiability.evidence import Evidence
from probae.identifiability.report import Report
from probae.plots.audit_curves import along_rotation, ladder
from probae.plots.audit_planes import angles, harmonics
from probae.plots.audit_spectrum import spectrum
from probae.plots.canvas import check_result, room

WIDTH, HEIGHT = 11.7, 8.3  # inches, A4 on its side
LETTER = 0.55  # width of a letter over the size of the print, of long words in capitals too
SIZE = 9.0
LINES = 7  # of reasons
TITLE = 31.0  # points of a panel's title above it: two lines of legend have room between
Box = tuple[float, float, float, float]  # left, bottom, width, height in inches of the page
HEAD: Box = (0.3, 6.55, 11.1, 1.6)
PANELS: tuple[tuple[str, Callable[[Axes, Evidence], str], Box], ...] = (
    ("Flat directions of the likelihood", spectrum, (0.95, 3.95, 4.6, 1.95)),
    ("Likelihood along a rotation", along_rotation, (6.65, 3.95, 4.75, 1.95)),
    ("Do the data know the axes?", harmonics, (0.95, 0.95, 2.6, 1.8)),
    ("Fits from other starts", ladder, (4.75, 0.95, 2.6, 1.8)),
    ("How precisely are the axes known?", angles, (8.2, 0.95, 2.5, 1.8)),
)


def audit(report: Report, figure: Figure | None = None) -> Figure:
    """Draw an audit as one page: its verdict with the first reasons, and five panels of evidence.

    The panels are the spectrum of the likelihood with its flat directions and the gap above them; the likelihood along
    the rotation of the least certain plane, beside the bounds of guides where there are any; the p-values of the
    planes; how fits from other starts agree; and the standard error of each angle. A panel without data says why.

    Parameters
    ----------
    report : Report
        As `audit` of the package gives; with ``restarts`` the fourth panel has fits to compare.
    figure : Figure, optional
        Where to draw, best of 11.7 by 8.3 inches; a new one by default.

    Returns
    -------
    Figure

    Raises
    ------
    ParameterError
        ``report`` is no Report, or ``figure`` no Figure.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> page = pa.plots.audit(pa.audit(pa.fit(pa.FactorAnalysis(9, 3), x), x))
    >>> [ax.get_title(loc="left") for ax in page.axes][1:3]
    ['Flat directions of the likelihood', 'Likelihood along a rotation']
    """
    check_result("report", report, Report, "a Report, as pa.audit gives")
    figure = _figure_or_new(figure)
    _head(_axes(figure, HEAD), report)
    for title, draw, box in PANELS:
        ax = _axes(figure, box)
        ax.tick_params(labelsize=8.5)
        why = draw(ax, report.evidence)
        ax.set_title(title, loc="left", fontsize=10.5, fontweight="bold", pad=TITLE)
        if why:
            _say(ax, why)
    return figure


def _axes(figure: Figure, box: Box) -> Axes:
    """Return Axes at a place of the page; text is wrapped to it, so no layout may move it afterwards."""
    left, bottom, width, height = box
    return figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))


def _figure_or_new(figure: Any) -> Figure:
    if figure is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(WIDTH, HEIGHT))
    if not isinstance(figure, Figure):
        raise ParameterError(f"figure should be a matplotlib Figure, got {type(figure).__name__}.")
    return figure


def _say(ax: Axes, sentence: str) -> None:
    """Write a sentence where a panel has nothing to draw."""
    letters = max(20, int(room(ax)[0] / (LETTER * SIZE)))  # a panel of words needs no labels
    ax.set_axis_off()
    lines = textwrap.fill(sentence, letters, break_on_hyphens=False)
    ax.text(
        0.0, 1.05, lines, transform=ax.transAxes, ha="left", va="top", fontsize=SIZE,
        color="0.25",
    )  # fmt: skip


def _head(ax: Axes, report: Report) -> None:
    """Write the verdict, what it means, and as many of its reasons as have room."""
    ax.set_axis_off()
    letters = int(room(ax)[0] / (LETTER * SIZE))
    meaning = f"{report.meaning[:1].upper()}{report.meaning[1:]}"
    ax.text(
        0.0, 1.0, textwrap.shorten(f"Identifiability of {report.model}, {report.evidence.rows}", letters),
        fontsize=SIZE, va="top", transform=ax.transAxes,
    )  # fmt: skip
    ax.text(
        0.0, 0.87, f"{report.verdict.name}   {report.group}", fontsize=14.0, fontweight="bold", va="top",
        transform=ax.transAxes,
    )  # fmt: skip
    ax.text(
        0.0, 0.66, "\n".join([f"{meaning}.", *_reasons(report, letters)]), fontsize=SIZE, va="top", linespacing=1.25,
        transform=ax.transAxes,
    )  # fmt: skip


def _reasons(report: Report, letters: int) -> list[str]:
    """Return the first reasons as wrapped lines, and how many more there are."""
    lines: list[str] = []
    for number, reason in enumerate(report.reasons):
        more = textwrap.wrap(reason, letters, initial_indent="• ", subsequent_indent="   ")
        left = len(report.reasons) - number
        if len(lines) + len(more) > LINES - (left > 1):
            return [*lines, f"• … and {left} more in the report"] if lines else [*more[: LINES - 1], "   …"]
        lines += more
    return lines
