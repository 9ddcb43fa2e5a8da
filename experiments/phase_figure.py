"""How `phase_diagram` draws: recovery against the information, over law and rows, and of the five models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

Rows = list[dict[str, Any]]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000")  # of Okabe and Ito; markers tell them apart in grey
MARKERS = ("o", "s", "^", "x")


def draw_diagram(
    recovery: Rows, models: Rows, predicted: Callable[[float, int], float], transition: float
) -> Figure:
    """Draw all data sets, those of each model, and what is predicted; axes begin at ``transition``."""
    figure = Figure(figsize=(14.0, 5.2), layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(1.15, 1.0, 1.1))
    _plot_collapse(first, recovery, predicted, transition)
    _plot_map(figure, second, recovery, transition)
    _plot_models(third, models)
    return figure


def _plot_collapse(ax: Axes, rows: Rows, predicted: Callable[[float, int], float], transition: float) -> None:
    shown = [row for row in rows if row["information"] > 0]
    most = max((row["latents"] for row in rows), key=[row["latents"] for row in rows].count)
    noises = sorted({row["noise"] for row in shown})
    for index, noise in enumerate(noises):
        some = [row for row in shown if row["noise"] == noise and row["latents"] == most]
        label = f"{most} factors, noise {noise:g}" if noise else f"{most} factors, no noise"
        _marks(ax, some, COLOURS[index % 4], MARKERS[index % 4], label)
    for index, latents in enumerate(sorted({row["latents"] for row in shown} - {most})):
        some = [row for row in shown if row["latents"] == latents]
        _marks(ax, some, "#CC79A7", ("+", "D")[index % 2], f"{latents} factors")
    grid = np.geomspace(0.03, max(row["information"] for row in shown), 40)
    ax.plot(grid, [predicted(float(at), most) for at in grid], "k-", linewidth=1.4, label="predicted")
    ax.axvline(transition, color="#666666", linewidth=1.0, linestyle="--")
    ax.axhline(0, color="#999999", linewidth=0.8)
    ax.set(xscale="log", xlabel="n (2 kappa - 2), information on the angle of a plane", xlim=(0.02, None))
    ax.set_ylabel("recovery of the axes (1 perfect, 0 chance)")
    ax.set_title("every law but the Gaussian, all rows and noises", fontsize=10)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=2, frameon=False)


def _marks(ax: Axes, rows: Rows, colour: str, marker: str, label: str) -> None:
    face = {} if marker in "x+" else {"markerfacecolor": "none"}
    x, y = [row["information"] for row in rows], [row["corrected"] for row in rows]
    ax.plot(x, y, marker, color=colour, markersize=4.5, label=label, alpha=0.8, **face)


def _plot_map(figure: Figure, ax: Axes, rows: Rows, transition: float) -> None:
    noises = sorted({row["noise"] for row in rows})
    noise = noises[min(1, len(noises) - 1)]
    most = max((row["latents"] for row in rows), key=[row["latents"] for row in rows].count)
    some = [row for row in rows if row["noise"] == noise and row["latents"] == most]
    laws = sorted({row["law"] for row in some}, key=lambda law: -_kappa_of(some, law))
    sizes = sorted({row["rows"] for row in some})
    values = np.array(
        [
            [
                np.mean([r["corrected"] for r in some if (r["law"], r["rows"]) == (law, size)])
                for size in sizes
            ]
            for law in laws
        ]
    )
    image = ax.imshow(values, cmap="cividis", vmin=-0.2, vmax=1.0, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        colour = "black" if value > 0.5 else "white"
        number = f"{value:.2f}".replace("-", "−")
        ax.text(j, i, number, ha="center", va="center", fontsize=7.5, color=colour)
        past = sizes[j] * (2 * _kappa_of(some, laws[i]) - 2) >= transition
        before = j > 0 and sizes[j - 1] * (2 * _kappa_of(some, laws[i]) - 2) >= transition
        if past and not before:  # the predicted border
            edge = [withStroke(linewidth=5.0, foreground="white")]  # seen on dark cells in grey, too
            ax.plot(
                [j - 0.5, j - 0.5],
                [i - 0.5, i + 0.5],
                color="#D55E00",
                linewidth=2.5,
                clip_on=False,
                zorder=3,
                path_effects=edge,
            )
    ax.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
    ax.set_yticks(range(len(laws)), laws, fontsize=8)
    ax.set(xlabel="rows", ylabel="law of the factors, least Gaussian first")
    ax.set_title(f"recovery, noise {noise:g} (bars: n (2 kappa - 2) passes {transition:g})", fontsize=10)
    figure.colorbar(image, ax=ax, aspect=40, extend="min").set_label("1 perfect, 0 chance")


def _kappa_of(rows: Rows, law: str) -> float:
    return next(row["kappa"] for row in rows if row["law"] == law)


def _plot_models(ax: Axes, lines: Rows) -> None:
    shapes = sorted({line["shape"] for line in lines})
    names = list(dict.fromkeys(line["model"] for line in lines))
    colours = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7")
    for index, name in enumerate(names):
        some = [line for line in lines if line["model"] == name]
        at = [shapes.index(line["shape"]) + 0.13 * (index - 2) for line in some]
        ax.plot(
            at,
            [line["corrected"] for line in some],
            "os^Dv"[index % 5],
            color=colours[index % 5],
            markersize=6.0,
            markerfacecolor="none",
            label=name,
        )
    best = [next(line["best possible"] for line in lines if line["shape"] == shape) for shape in shapes]
    ax.hlines(
        best, np.arange(len(shapes)) - 0.4, np.arange(len(shapes)) + 0.4, color="#666666", label="predicted"
    )
    ax.axhline(0, color="#999999", linewidth=0.8)
    for place in range(1, len(shapes)):
        ax.axvline(place - 0.5, color="#dddddd", linewidth=0.8)
    ax.set_xticks(range(len(shapes)), [f"{shape:g}" for shape in shapes])
    ax.set(xlabel="shape b of the factors (1 Laplace, 2 Gaussian)")
    ax.set_ylabel("recovery of the axes (1 perfect, 0 chance)")
    ax.set_title("five models of the same data, each data set", fontsize=10)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=3, frameon=False)
