"""Intervals of draws as bars: thick for 50 %, thin for 90 %, a marker at the mean."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

INNER, OUTER = 0.5, 0.9


def bars(
    ax: Axes,
    draws: NDArray[np.float64],
    heights: NDArray[np.float64],
    *,
    colour: str,
    marker: str,
    label: str | None = None,
) -> None:
    """Draw the intervals of each column of ``draws`` (draws, rows) at its height."""
    for level, width in ((OUTER, 1.1), (INNER, 3.2)):
        lower, upper = np.quantile(draws, (0.5 - level / 2, 0.5 + level / 2), axis=0)
        ax.hlines(heights, lower, upper, color=colour, linewidth=width, zorder=2)
    ax.plot(
        draws.mean(0),
        heights,
        color=colour,
        marker=marker,
        markersize=5.0,
        markerfacecolor="white",
        linestyle="none",
        label=label,
        zorder=3,
    )
