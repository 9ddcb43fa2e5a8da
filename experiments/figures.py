"""How experiments draw: measurements as marks with bars, predictions as lines, legends where they hide nothing."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

KEY = "marks are measured (bars: two standard errors), lines are predicted"


def draw(
    ax: Axes,
    rows: list[dict[str, Any]],
    columns: tuple[str, str, str, str],
    style: dict[str, Any],
    label: str,
) -> None:
    """Draw rows; ``columns`` are x, measured, its standard error, predicted; ``style`` has a colour and a dash."""
    x, measured, errors, predicted = ([row[column] for row in rows] for column in columns)
    marks = {"markersize": 5.5} | style | {"linestyle": "", "label": label}
    ax.errorbar(x, measured, yerr=[2 * error for error in errors], elinewidth=1, **marks)
    ax.plot(x, predicted, color=style["color"], linestyle=style["linestyle"], linewidth=1.4)


def legend_below(ax: Axes) -> None:
    """Put the legend below the plot."""
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.14), frameon=False, handletextpad=0.5)


def logarithmic(ax: Axes, x: list[float], y: list[float]) -> None:
    """Make both axes logarithmic, with ticks at these numbers and nowhere else."""
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(x, [f"{tick:,}" for tick in x])
    ax.set_yticks(y, [f"{tick:g}" for tick in y])
    ax.minorticks_off()
    ax.margins(x=0.08)
