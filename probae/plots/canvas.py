"""Where a figure is drawn: the caller's Axes, or a new one, and how much room it has."""

from __future__ import annotations

from matplotlib.axes import Axes

from probae.checks import ParameterError

POINTS = 72.0  # in an inch


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
