r"""Is the transpose of W close to its inverse because W is sparse and nearly orthonormal?

A deconvolution network undoes h = W x by a W' h. For x in the row space of an m x d matrix W with singular values s,
that loses the share rms (1 - a s^2) of x. With independent rows of length one, whose entries have random signs, the
expected means of s^2 and s^4 over the row space do not depend on how many entries are zero, and the best a leaves

    sqrt(1 - m / (n (1 + (m - 1) / d))),   n = min(m, d),   in the limit sqrt(1 - 1 / (1 + min(r, 1 / r))),   r = m / d.

So the shape should count, not the sparsity. Two controls: orthonormal rows, whose transpose is the inverse, and weights
without negative signs, whose rows point the same way: the cosine between two of them is about c = 2 density / pi, and
1 / d becomes c^2 + (1 - c^2) / d. There sparsity should help, because it lowers c.

Run:     python -m experiments.transpose_inverse
Answer:  Sparsity is not the reason. In brackets what was predicted, 400 columns, 20 matrices each.
    Random signs, share of x that the best multiple of the transpose loses, all entries / one in ten not zero:
        .298 / .297 (.298) with a tenth as many rows as columns, .447 / .447 (.445) with a quarter, .576 / .577 (.576)
        with half, .707 / .707 (.707) with as many, .446 / .447 (.447) with four times as many. The limit of large
        matrices is within 1.2 % of each.
    Orthonormal rows: 2e-15 or less (0) at every shape up to square.
    No negative weights: .970 (.970) dense and .445 (.451) sparse with a tenth as many rows as columns, .997 (.997) and
        .847 (.850) with as many. Sparsity helps such weights, and still leaves them behind random signs.
    So a transpose is a fair inverse for few rows in many dimensions, which are nearly orthonormal by themselves, and
        for rows that were made orthonormal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures import KEY
from experiments.output import save, table
from probae.linalg import haar_rotation

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    features: int = 400
    """Columns d of W."""
    ratios: tuple[float, ...] = (0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
    """Rows of W over columns, r."""
    densities: tuple[float, ...] = (1.0, 0.1)
    """Shares of entries that are not zero."""
    repeats: int = 20
    """Matrices of each kind."""
    seed: int = 0
    """Seed of the first matrix; each further repeat adds 1."""
    output: Path = Path("results/transpose_inverse")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    return {"errors": list(errors(settings))}


def errors(settings: Settings) -> Iterator[dict[str, Any]]:
    """Relative error of the best multiple of the transpose, one row for each kind of W and ratio."""
    kinds = [
        (signs, density)
        for signs in ("random signs", "no negative weights")
        for density in settings.densities
    ]
    for signs, density in [*kinds, ("orthonormal rows", 1.0)]:
        for ratio in settings.ratios:
            rows, features = max(1, round(ratio * settings.features)), settings.features
            if signs == "orthonormal rows" and rows > features:
                continue
            square = torch.tensor(
                [error_of(weights(signs, density, rows, features, seed)) ** 2 for seed in seeds(settings)]
            )
            error = float(square.mean().sqrt())
            spread = float(square.std() / math.sqrt(len(square))) if len(square) > 1 else 0.0
            yield {
                "rows": signs,
                "density": density,
                "m": rows,
                "ratio": rows / features,
                "error": error,
                "standard error": spread / (2 * error) if error > 0 else 0.0,
                "predicted": predicted(signs, density, rows, features),
                "limit": limit(rows / features) if signs == "random signs" else None,
            }


def weights(signs: str, density: float, rows: int, features: int, seed: int) -> Tensor:
    """Return W with rows of length one."""
    generator = torch.Generator().manual_seed(seed)
    if signs == "orthonormal rows":
        return haar_rotation(features, generator)[:rows]
    values = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    kept = torch.rand(rows, features, generator=generator, dtype=torch.float64) < density
    values = values.abs() if signs == "no negative weights" else values
    values = torch.where(kept, values, 0.0)
    length = values.norm(dim=1, keepdim=True)
    return values / torch.where(length > 0, length, 1.0)


def error_of(w: Tensor) -> float:
    """Return the relative error of a W'W on the row space of W, for the best a: rms |1 - a s^2|."""
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    square = torch.linalg.eigvalsh(gram)
    best = square.sum() / square.square().sum()
    return float((1 - best * square).square().mean().sqrt())


def predicted(signs: str, density: float, rows: float, features: float) -> float:
    """Return the error from the exact means of s^2 and s^4."""
    if signs == "orthonormal rows":
        return 0.0
    cosine = 2 * density / math.pi if signs == "no negative weights" else 0.0
    overlap = cosine**2 + (1 - cosine**2) / features
    return math.sqrt(1 - rows / (min(rows, features) * (1 + (rows - 1) * overlap)))


def limit(ratio: float) -> float:
    """Return the error of large random W, from the law of Marchenko and Pastur."""
    return math.sqrt(1 - 1 / (1 + min(ratio, 1 / ratio)))


def seeds(settings: Settings) -> range:
    """Return the seed of every repeat."""
    return range(settings.seed, settings.seed + settings.repeats)


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    ("random signs", 1.0): {
        "color": "#0072B2",
        "linestyle": "-",
        "marker": "o",
        "markerfacecolor": "none",
        "markersize": 9,
    },
    ("random signs", 0.1): {"color": "#D55E00", "linestyle": "--", "marker": "x"},
    ("no negative weights", 1.0): {"color": "#000000", "linestyle": "-.", "marker": "s"},
    ("no negative weights", 0.1): {"color": "#CC79A7", "linestyle": ":", "marker": "^"},
    ("orthonormal rows", 1.0): {"color": "#009E73", "linestyle": "-", "marker": "D"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the error of the transpose against the shape of W."""
    figure = Figure(figsize=(7.4, 5.2), layout="constrained")
    ax = figure.subplots()
    for (kind, density), group in groupby(rows["errors"], lambda row: (row["rows"], row["density"])):
        some = list(group)
        style = STYLES.get((kind, density), {"color": "#666666", "linestyle": ":", "marker": "v"})
        label = kind if kind == "orthonormal rows" else f"{kind}, {100 * density:g} % of the entries not zero"
        ratios, features = [row["ratio"] for row in some], some[0]["m"] / some[0]["ratio"]
        marks = {"markersize": 5.5} | style | {"linestyle": "", "label": label}
        bars = [2 * row["standard error"] for row in some]
        ax.errorbar(ratios, [row["error"] for row in some], yerr=bars, elinewidth=1, **marks)
        curve = torch.logspace(math.log10(ratios[0]), math.log10(ratios[-1]), 200).tolist()
        heights = [predicted(kind, density, ratio * features, features) for ratio in curve]
        ax.plot(curve, heights, color=style["color"], linestyle=style["linestyle"], linewidth=1.4)
    ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="rows of W / columns of W")
    ax.set_ylabel("share of x lost by the transpose (root mean square)")
    ticks = [0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 4]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_title(
        "a W' in place of the inverse of W: the shape counts, sparsity only without negative weights",
        fontsize=10,
    )
    figure.suptitle(KEY, fontsize=9)
    figure.legend(
        *ax.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2, frameon=False
    )
    return figure


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
