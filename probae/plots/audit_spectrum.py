"""The spectrum of what the likelihood sees of the parameters: flat directions, the gap, the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from probae.identifiability.evidence import Evidence
from probae.identifiability.group_information import GroupInformation
from probae.identifiability.nullity import Nullity
from probae.plots.canvas import legend_above

NULL, SEEN = "#D55E00", "#0072B2"  # Okabe and Ito; diamonds without filling against filled discs
FLOOR = 1e-18  # where zeros are drawn: below the rounding of everything else


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Values in ascending order, how many of them count as zero, and how many the group that is left has."""

    values: NDArray[np.float64]
    found: int
    expected: int
    label: str
    error: float = 0.0


def spectrum(ax: Axes, evidence: Evidence) -> str:
    """Draw the spectrum of an audit on a log axis, its gap shaded; return why not where there is none."""
    one = _spectrum(evidence)
    if one is None:
        return evidence.nonlinear or (
            "There is no spectrum of all directions for Gaussian factors with segments: axes are free where two "
            f"variances are proportional over the segments, and that leaves {evidence.structure.group}."
        )
    values, place = np.maximum(np.abs(one.values), FLOOR), np.arange(1, len(one.values) + 1)
    null = place <= one.found
    style: dict[str, Any] = {
        "linestyle": "none",
        "markersize": float(np.clip(60.0 / np.sqrt(len(place)), 2.5, 7.0)),
    }
    if null.any():
        label = f"{one.found} flat; {one.expected} expected of {_free(evidence)}"
        ax.plot(
            place[null], values[null], marker="D", color=NULL, markerfacecolor="white", label=label, **style
        )
    if not null.all():
        seen = f"{len(place) - one.found} that the likelihood sees"
        label = seen if null.any() else f"none flat; {one.expected or 'none'} expected"
        ax.plot(place[~null], values[~null], marker="o", color=SEEN, label=label, **style)
        if one.error:
            ax.errorbar(place[~null], values[~null], one.error, linestyle="none", color=SEEN, elinewidth=0.9)
    ax.set_yscale("log")
    ax.set_ylim(FLOOR / 8 if null.any() else min(1e-3, values.min() / 8), 8 * values.max())
    if null.any() and not null.all():
        _mark_gap(ax, float(values[null].max()), float(values[~null].min()))
    edge = max(0.5, 0.025 * len(place))  # room for whole marks
    ax.set_xlim(1 - edge, len(place) + edge)
    ticks = MaxNLocator(integer=True).tick_values(1, len(place))
    ax.set_xticks([tick for tick in ticks if 1 <= tick <= len(place)])
    ax.set_xlabel("direction", fontsize=8.5)
    ax.set_ylabel(one.label, fontsize=8.5)
    legend_above(ax, columns=2, handle=1.0, size=8.0)
    return ""


def _free(evidence: Evidence) -> str:
    zeros = evidence.zeros
    return "the rotations that the zeros leave" if zeros is not None else evidence.structure.group


def _mark_gap(ax: Axes, low: float, high: float) -> None:
    """Shade what lies between the largest null value and the smallest other one, and say how wide it is.

    Of exact zeros, which stand at the floor, it is wider than drawn.
    """
    wide = f"{'more than ' * (low == FLOOR)}{np.log10(high / low):.0f}"
    ax.axhspan(low, high, color="0.92", linewidth=0.0, zorder=0)
    ax.text(
        0.98, np.sqrt(low * high), f"gap: {wide} decades", transform=ax.get_yaxis_transform(),
        ha="right", va="center", fontsize=8.5, color="0.25",
    )  # fmt: skip


def _spectrum(evidence: Evidence) -> Spectrum | None:
    """Return the exact spectrum of the parameters of Gaussian factors, else the information on right actions."""
    noise = evidence.uniqueness
    if evidence.zeros is not None:
        return _of_parameters(evidence.zeros.nullity)
    if evidence.gaussian and noise is not None and noise.nullity is not None and noise.nullity.spectrum:
        return _of_parameters(noise.nullity)
    found = evidence.structure.spectrum
    return None if found is None else _of_actions(found, evidence)


def _of_parameters(found: Nullity) -> Spectrum:
    label = f"singular value of {found.parameters} parameters\n(relative to the largest; exact)"
    return Spectrum(np.array(found.spectrum), found.dimension, found.rotations.dimension, label)


def _of_actions(found: GroupInformation, evidence: Evidence) -> Spectrum:
    blocks = evidence.structure.blocks
    expected = sum(len(block) * (len(block) - 1) // 2 for block in blocks)
    kind = "Monte Carlo, 1 SE" if found.error else "exact"
    label = f"information on changes of axes\n(noise-free limit; {kind})"
    return Spectrum(found.eigenvalues.numpy(), found.dimension, expected, label, found.error)
