"""What an audit says of each plane of two factors: whether the data know its axes, and how precisely."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from probae.identifiability.data_test import ALPHA, holm
from probae.identifiability.decision import noise_rejected, rows_depend
from probae.identifiability.evidence import Evidence
from probae.identifiability.precision import LARGEST_ERROR, AngleError
from probae.plots.canvas import SMALLEST_LABEL, legend_above, mark_beyond, room

ALONE = "One factor alone has no axes to turn."
SMALLEST_P = 1e-12  # what is smaller is drawn here, with an arrow
LARGEST_ANGLE = 90.0  # degrees; axes that are known no better are drawn here, with an arrow
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
LEGEND = 8.0  # points
NAMED = 12  # rows up to which each has its name
COLOURS = {"Cramer-Rao": "#000000", "sandwich": "#D55E00", "effective": "#0072B2"}
MARKERS = {"Cramer-Rao": "|", "sandwich": "o", "effective": "s"}


@dataclass(frozen=True)
class Row:
    """One p-value: its name, whether it rejects at the level of its family, and the marker of that family."""

    name: str
    p: float
    rejects: bool
    marker: str = "o"


def harmonics(ax: Axes, evidence: Evidence) -> str:
    """Draw the p-value of each plane, largest on top, and of all factors; return why not where there is none."""
    rows = _rows(evidence)
    if isinstance(rows, str):
        return rows
    places = _places(rows)
    size = 5.5 if len(rows) <= NAMED else 3.5
    for marker, what in (("o", "plane of two"), ("D", "all factors")):
        for rejects in (True, False):
            chosen = [i for i, row in enumerate(rows) if (row.marker, row.rejects) == (marker, rejects)]
            if chosen:
                shown = [max(rows[i].p, SMALLEST_P) for i in chosen]
                ax.plot(
                    shown, places[chosen], linestyle="none", marker=marker, markersize=size, color="#0072B2",
                    markerfacecolor="#0072B2" if rejects else "white", label=f"{what}{', rejects' if rejects else ''}",
                )  # fmt: skip
    ax.axvline(ALPHA, color="#D55E00", linewidth=1.3, linestyle="--", zorder=0.6)  # above the grid
    ax.set_xscale("log")
    least = min((max(row.p, SMALLEST_P) for row in rows), default=ALPHA)
    low = np.log10(min(least, ALPHA))
    ax.set_xlim(10 ** (1.1 * low - 0.1), 2.0)
    mark_beyond(ax, places[[row.p < SMALLEST_P for row in rows]].tolist(), SMALLEST_P, "<")
    _name(ax, [row.name for row in rows], places, sum(row.marker == "o" for row in rows))
    segments = evidence.segments is not None
    kind = "segments' variances; permuted labels" if segments else "harmonics of the scores; asymptotic"
    ax.set_xlabel(
        f"p-value ({kind})\ndashed: level {ALPHA:g}, by Holm over the planes{_doubt(evidence)}", fontsize=8.5
    )
    legend_above(ax, columns=2, handle=1.0, size=LEGEND)
    return ""


def angles(ax: Axes, evidence: Evidence) -> str:
    """Draw the standard errors of each plane's angle, largest on top, and the rows for 5 and 1 degrees."""
    if not evidence.precision:
        return _no_angles(evidence)
    errors = sorted(evidence.precision, key=lambda error: -error.degrees)
    drawn: list[tuple[str, list[float]]] = [
        ("sandwich", [error.sandwich for error in errors]),
        ("Cramer-Rao", [error.cramer_rao for error in errors]),
    ]
    if any(error.effective is not None for error in errors):
        drawn.insert(1, ("effective", [math.nan if e.effective is None else e.effective for e in errors]))
    places = np.arange(len(errors), dtype=np.float64)
    size = 5.5 if len(errors) <= NAMED else 3.5
    for name, values in drawn:
        bar = name == "Cramer-Rao"
        ax.plot(
            np.minimum(values, LARGEST_ANGLE), places, linestyle="none", marker=MARKERS[name],
            markersize=2 * size if bar else size, markeredgewidth=1.8 if bar else 1.0, color=COLOURS[name],
            markerfacecolor="white" if name == "sandwich" else COLOURS[name], label=_named(name), zorder=3,
        )  # fmt: skip
    _error_bars(ax, errors)
    ax.set_xscale("log")
    known = [v for _, values in drawn for v in values if v > 0]
    ax.set_xlim(
        min([*known, LARGEST_ERROR]) / 1.5, 1.6 * max(min(max(known), LARGEST_ANGLE), 2 * LARGEST_ERROR)
    )
    mark_beyond(ax, places[[error.degrees > LARGEST_ANGLE for error in errors]].tolist(), LARGEST_ANGLE, ">")
    ax.axvline(LARGEST_ERROR, color="#D55E00", linewidth=1.3, linestyle="--", zorder=0.6)  # above the grid
    low, high = ax.get_xlim()
    ticks = [tick for tick in TICKS if low < tick < high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    _name(ax, [_plane(error.plane) for error in errors], places, len(errors))
    _print_rows(ax, errors)
    legend_above(ax, columns=2, handle=1.0, size=LEGEND)
    return ""


def _doubt(evidence: Evidence) -> str:
    """Return a line that says which check failed without which small p-values prove nothing."""
    failed = (
        "noise not Gaussian"
        if noise_rejected(evidence)
        else "dependent rows"
        if rows_depend(evidence)
        else ""
    )
    return f"\n{failed}: small p-values prove nothing" if failed else ""


def _rows(evidence: Evidence) -> list[Row] | str:
    """Return the p-values of an audit, or why it has none."""
    if evidence.factors == 1 and not evidence.nonlinear:
        return ALONE
    if evidence.segments is not None:
        overall = evidence.segments.overall
        all_at_once = [] if overall is None else [Row("all", overall.p_value, overall.p_value < ALPHA, "D")]
        tests = {test.plane: test.p_value for test in evidence.segments.tests}
        return _planes(tests) + all_at_once or evidence.segments.why_no_tests
    if evidence.data is None:
        return evidence.why_no_data
    found = evidence.data.information
    if found is None:
        return evidence.data.why_no_information or "The tests were not run."
    return _planes({test.plane: test.p_value for test in found.planes}) + [
        Row(f"all, degree {3 + i}", test.p_value, test.p_value < ALPHA / 2, "D")
        for i, test in enumerate(found.overall)
    ]


def _planes(p_values: dict[tuple[int, int], float]) -> list[Row]:
    rejected = holm(p_values, ALPHA)
    ordered = sorted(p_values.items(), key=lambda one: -one[1])
    return [Row(_plane(plane), p, plane in rejected) for plane, p in ordered]


def _no_angles(evidence: Evidence) -> str:
    if evidence.nonlinear:
        return "A decoder that is not linear has no axes whose angle could have an error."
    if evidence.factors == 1:
        return ALONE
    group = evidence.structure.group
    if not evidence.structure.identified and all(len(block) > 1 for block in evidence.structure.blocks):
        return f"The likelihood is the same along {group}: no number of rows makes an angle known."
    if evidence.segments is not None:
        return evidence.segments.why_no_tests
    if evidence.zeros is not None:
        return f"The zeros leave {group}: without rows, or with axes that turn, no angle has an error."
    if evidence.data is not None and evidence.data.why_no_information:
        return evidence.data.why_no_information
    return evidence.why_no_data or "The factors depend on each other: their angles have no closed form."


def _plane(plane: tuple[int, int]) -> str:
    return f"z[{plane[0]}], z[{plane[1]}]"


def _named(name: str) -> str:
    return "all estimated" if name == "effective" else name


def _error_bars(ax: Axes, errors: list[AngleError]) -> None:
    """Draw 1.96 Monte Carlo standard errors of the effective bound."""
    shown = [(i, e) for i, e in enumerate(errors) if e.effective is not None and e.effective < LARGEST_ANGLE]
    shown = [(i, e) for i, e in shown if e.effective_error > 0]
    if shown:
        ax.errorbar(
            [e.effective or 0.0 for _, e in shown], [i for i, _ in shown],
            xerr=[1.96 * e.effective_error for _, e in shown],
            linestyle="none", color=COLOURS["effective"], elinewidth=1.0, zorder=2,
        )  # fmt: skip


def _print_rows(ax: Axes, errors: list[AngleError]) -> None:
    """Write the rows for 5 and for 1 degree beside each plane, or those of the worst alone below the plot."""
    label = f"standard error (degrees, asymptotic); dashed: limit {LARGEST_ERROR:g}"
    if len(errors) > NAMED:
        worst = errors[0]
        label += (
            f"\nworst: {_plane(worst.plane)}; rows needed\n"
            f"for 5°: {_count(worst.samples_for(5.0))}; for 1°: {_count(worst.samples_for(1.0))}"
        )
        ax.set_xlabel(label, fontsize=8.5)
        return
    ax.set_xlabel(label, fontsize=8.5)
    beside = ax.get_yaxis_transform()
    size = min(8.0, max(SMALLEST_LABEL, 0.9 * room(ax)[1] / len(errors)))
    for i, error in enumerate(errors):
        text = f"{_count(error.samples_for(5.0))}\n{_count(error.samples_for(1.0))}" if len(errors) <= 6 else (
            f"{_count(error.samples_for(5.0))}; {_count(error.samples_for(1.0))}"
        )  # fmt: skip
        ax.text(1.02, i, text, transform=beside, ha="left", va="center", fontsize=size)
    ax.text(
        1.02, 1.02, "rows for 5°\nand for 1°" if len(errors) <= 6 else "rows for 5°; 1°",
        transform=ax.transAxes, ha="left", va="bottom", fontsize=8.0,
    )  # fmt: skip


def _count(value: float) -> str:
    if not math.isfinite(value):
        return "no number"
    return f"{value:,.0f}" if value < 1e6 else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")


def _places(rows: list[Row]) -> NDArray[np.float64]:
    """Return the heights of p-values: planes one below the other, the tests over all factors well apart from many."""
    planes = sum(row.marker == "o" for row in rows)
    step = max(1.0, planes / 10)
    return np.array([i if i < planes else planes - 1 + step * (i - planes + 1) for i in range(len(rows))])


def _name(ax: Axes, names: list[str], places: NDArray[np.float64], planes: int) -> None:
    """Name the rows, first on top; of many planes only say how many there are."""
    shown = list(range(len(names))) if len(names) <= NAMED else list(range(planes, len(names)))
    spacing = room(ax)[1] / (places[-1] + 1.0)
    if len(names) > NAMED:
        ax.set_ylabel(f"{planes} planes", fontsize=8.5)
        ax.yaxis.set_label_coords(-0.04, 0.6)  # beside the planes, above the names of other rows
        spacing *= max(1.0, planes / 10)
    size = float(np.clip(0.9 * spacing, SMALLEST_LABEL, 8.5))
    ax.set_yticks(places[shown], [names[i] for i in shown], fontsize=size)
    ax.tick_params(axis="y", length=0)
    margin = 0.02 * places[-1] + 0.6
    ax.set_ylim(places[-1] + margin, -margin)
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
