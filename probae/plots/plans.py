"""The rows that a target angle needs, against the signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probae.checks import ParameterError
from probae.identifiability.planner import AnglePlan
from probae.plots.canvas import axes_or_new, legend_above
from probae.plots.profiles import COLOURS, DASHES, MARKERS

GAP = 5.0  # decibels between the least noise and the place of none


def plan(plan: AnglePlan | Sequence[AnglePlan], ax: Axes | None = None) -> Axes:
    """Draw the rows that each target angle needs against the signal-to-noise ratio of a feature.

    One line for each plan and target. Rows without noise stand at the right end, on a place of their own; targets that
    no number of rows reaches are left out, and so are laws without noise that have no bound (Uniform).

    Parameters
    ----------
    plan : AnglePlan, or a sequence of them
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``plan`` is neither, or nothing in it can be drawn.

    Examples
    --------
    >>> import probae as pa
    >>> ax = pa.plots.plan(pa.plan_angles(pa.priors.Laplace(), features=6))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['Laplace(), 6 features: 5 degrees', 'Laplace(), 6 features: 1 degree']
    """
    plans = _check(plan)
    lines = [
        (index, place, f"{one.label}: {target:g} degree{'' if target == 1 else 's'}", _points(one, place))
        for index, one in enumerate(plans)
        for place, target in enumerate(one.targets)
    ]
    lines = [line for line in lines if line[3]]
    if not lines:
        raise ParameterError("No number of rows reaches a target: there is nothing to draw.")
    ax = axes_or_new(ax, 6.4, 3.6 + 0.2 * len(lines))
    finite = [x for *_, points in lines for x, _ in points if math.isfinite(x)]
    end = (max(finite) if finite else 0.0) + GAP
    for index, place, label, points in lines:
        x, y = np.array([(min(x, end), y) for x, y in points]).T
        ax.plot(
            x,
            y,
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[place % len(DASHES)],
            marker=MARKERS[(index * 2 + place) % len(MARKERS)],
            markersize=5.0,
            markerfacecolor="white" if place % 2 else None,
            linewidth=1.5,
            label=label,
        )
    ax.set_yscale("log")
    ax.set_xlabel("signal-to-noise ratio of a feature (dB)")
    ax.set_ylabel("rows needed (Cramer-Rao)")
    if any(not math.isfinite(x) for *_, points in lines for x, _ in points):
        _mark_no_noise(ax, finite, end)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    legend_above(ax, handle=4.0)
    return ax


def _points(one: AnglePlan, place: int) -> list[tuple[float, float]]:
    """Return (decibels, rows) in order of the noise, without what is infinite or zero rows."""
    points = [(row.decibels, row.samples_for[place]) for row in one.rows]
    return sorted((x, n) for x, n in points if 0 < n < math.inf)


def _mark_no_noise(ax: Axes, finite: list[float], end: float) -> None:
    """Label the place of no noise on the horizontal axis."""
    low, _ = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= end - GAP + 0.1] if finite else []
    ax.set_xticks([*ticks, end], [*(f"{tick:g}".replace("-", "−") for tick in ticks), "none"])
    if finite:
        ax.axvline(end - 0.5 * GAP, color="#999999", linewidth=0.8, linestyle=(0, (2, 2)))
    ax.set_xlabel("signal-to-noise ratio of a feature (dB); none: no noise")


def _check(plan: Any) -> list[AnglePlan]:
    plans = [plan] if isinstance(plan, AnglePlan) else plan
    if isinstance(plans, str) or not isinstance(plans, Sequence):
        raise ParameterError(
            f"plan should be an AnglePlan, as plan_angles gives, or a list of them, got {type(plan).__name__}."
        )
    if not plans or not all(isinstance(one, AnglePlan) for one in plans):
        raise ParameterError("plan should hold AnglePlans, as plan_angles gives, at least one.")
    return list(plans)
