"""Where a figure is drawn: the caller's Axes, or a new one; what may be drawn there, and what stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.transforms import offset_copy

from probae.checks import ParameterError

POINTS = 72.0  # in an inch
SMALLEST_LABEL, LARGEST_LABEL = 5.5, 10.0  # points; a label without room for the smallest is left out


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """Return ``ax``, or the Axes of a new pyplot figure of this size in inches.

    Only here is pyplot imported: whoever passes an Axes never meets it, nor the window system it may open.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=(width, height), layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise ParameterError(
            f"ax should be a matplotlib Axes, got {type(ax).__name__}: pass one, as in axes[0]."
        )
    return ax


def room(ax: Axes) -> tuple[float, float]:
    """Return the width and the height of an Axes in points."""
    box, dpi = ax.get_window_extent(), ax.figure.dpi
    return box.width * POINTS / dpi, box.height * POINTS / dpi


def check_result(name: str, value: Any, kind: type, what: str) -> None:
    """Refuse what is no result of this kind.

    Raises
    ------
    ParameterError
        With what the argument should be, and what came.
    """
    if not isinstance(value, kind):
        raise ParameterError(f"{name} should be {what}, got {type(value).__name__}.")


def legend_above(ax: Axes, columns: int = 1, handle: float = 2.0, size: float = 9.0) -> Legend:
    """Put the legend above the plot, where it hides nothing, its lines so many letters long."""
    return ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.01),
        borderaxespad=0.0,
        frameon=False,
        fontsize=size,
        ncols=columns,
        handlelength=handle,
    )


def mark_beyond(ax: Axes, places: Sequence[float], at: float, marker: str) -> None:
    """Put an arrowhead, "<" or ">", beside points that stand at ``at`` because their value is beyond the axis."""
    if len(places):
        aside = offset_copy(
            ax.transData, ax.get_figure(root=True), x=8.0 if marker == ">" else -8.0, units="points"
        )
        ax.plot(
            [at] * len(places), places, linestyle="none", marker=marker, markersize=4.0, color="0.35", transform=aside,
            clip_on=False,
        )  # fmt: skip


def name_rows(ax: Axes, names: tuple[str, ...], heading: str, what: str) -> None:
    """Name rows 0, 1 and so on under a heading where there is room for the print; else say how many there are."""
    size = min(LARGEST_LABEL, 0.9 * room(ax)[1] / len(names))
    if size >= SMALLEST_LABEL:
        ax.set_yticks(range(len(names)), names, fontsize=size)
        ax.set_ylabel(heading)
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(names)} {what}")
    ax.tick_params(axis="y", length=0)
