"""What trace and rank plots share: one lane for each number, one look for each chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from probae.analysis.mixed_quantity import Quantity
from probae.analysis.mixing import Mixing
from probae.checks import ParameterError, check_count
from probae.plots.canvas import axes_or_new, legend_above

# Okabe and Ito's colours, from dark to light, with dashes of their own: the first five tell apart in a grey copy
COLOURS = ("#000000", "#0072B2", "#D55E00", "#CC79A7", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (1, 2, 4, 2)))
REST = "0.6"  # of further chains, which no look would tell from those


@dataclass(frozen=True, eq=False)
class Lane:
    """One number: its draws (chain, draw), what it is, and how it has mixed."""

    values: NDArray[np.float64]
    label: str
    note: str


def look_of(chain: int) -> dict[str, Any]:
    """Return the colour and the dashes of a chain."""
    if chain < len(COLOURS):
        return {"color": COLOURS[chain], "linestyle": DASHES[chain], "zorder": 2.0}
    return {"color": REST, "linestyle": "-", "zorder": 1.5}


def label_of(chain: int, chains: int) -> str | None:
    """Return the name of a chain in the legend; those that look alike share the one of the first of them."""
    first, last = len(COLOURS), chains - 1
    if chain < first or chain == first == last:
        return f"chain {chain}"
    return f"chains {first} to {last}" if chain == first else None


def in_lanes(
    result: Mixing | Quantity, ax: Axes | None, lanes: int, draw: Callable[[Axes, Lane, int], None], what: str
) -> Axes:
    """Draw the numbers that have mixed worst, each about a height of its own: 0, -1 and so on."""
    chosen = lanes_of(result, lanes)
    ax = axes_or_new(ax, 7.0, 1.0 + 1.1 * len(chosen))
    for place, lane in enumerate(chosen):
        draw(ax, lane, -place)
    ax.set_xlabel(what)
    name_lanes(ax, chosen)
    name_chains(ax)
    return ax


def lanes_of(result: Mixing | Quantity, most: int) -> list[Lane]:
    """Return the numbers with the largest R-hat, of the invariants or of one quantity."""
    if isinstance(result, Mixing):
        quantities = list(result.invariants)
    elif isinstance(result, Quantity):
        quantities = [result]
    else:
        raise ParameterError(
            "result should be a Mixing, as pa.mixing gives, or one of its quantities, such as mixing.raw, got "
            f"{type(result).__name__}."
        )
    check_count("lanes", most)
    found = [
        (float(one.r_hat[i]), number, i)
        for number, one in enumerate(quantities)
        for i in range(len(one.labels))
        if not bool(one.r_hat[i].isnan())
    ]
    if not found:
        raise ParameterError("result should hold a number that varies, but none of its draws differ.")
    found.sort(key=lambda entry: -entry[0])
    return [_lane(quantities[number], i) for _, number, i in found[:most]]


def _lane(quantity: Quantity, i: int) -> Lane:
    note = f"R-hat {float(quantity.r_hat[i]):.3f}\nbulk ESS {float(quantity.bulk[i]):.0f}"
    return Lane(
        quantity.draws[..., i].double().numpy(force=True), f"{quantity.name}\n{quantity.labels[i]}", note
    )


def name_lanes(ax: Axes, lanes: list[Lane]) -> None:
    """Label lanes on the left, and say on the right how each has mixed; the first stands on top."""
    ax.set_yticks([-i for i in range(len(lanes))], [lane.label for lane in lanes], fontsize=8.5)
    ax.set_ylim(-len(lanes) + 0.45, 0.55)
    ax.tick_params(axis="y", length=0)
    for i, lane in enumerate(lanes):
        ax.text(1.01, -i, lane.note, transform=ax.get_yaxis_transform(), ha="left", va="center", fontsize=8.0)
        if i:
            ax.axhline(0.5 - i, color="0.85", linewidth=0.8, zorder=0)


def name_chains(ax: Axes) -> None:
    """Put the legend of the chains above the plot, where it hides nothing, in lines thick enough to see."""
    entries = len(ax.get_legend_handles_labels()[1])
    legend = legend_above(ax, columns=4 if entries <= 4 else 3, handle=2.6)
    for handle in legend.get_lines():
        handle.set_linewidth(max(1.4, handle.get_linewidth()))
        handle.set_alpha(1.0)
