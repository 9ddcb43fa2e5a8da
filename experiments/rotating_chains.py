r"""Chains of a factor model whose loadings disagree: has the sampler failed, or the question?

The likelihood of Gaussian factors is the same for W and W R, and so is that of N(0, 1) loadings a priori: the posterior
is spread evenly over all rotations. Gibbs sampling by rows of W and of scores hardly moves along them; with a move that
turns W and the scores together every draw comes in a frame of its own. What to expect:

    move off   each chain stays about the frame it fell into: R-hat of W is large, although nothing is wrong;
    move on    frames are independent draws, so R-hat of W is 1 and each mean of N draws is 0 within sd / sqrt(N): the
               root mean square of mean / sd over the entries of W is 1 / sqrt(N), the signature of a flat orbit;
    both       W W' and the noise variances, which no rotation changes, have R-hat 1, and so has W once it is aligned.

Run:     python -m experiments.rotating_chains
Answer:  The question. One run of four chains on each data set (--repeats 1), worst R-hat over all entries.
    Planted, 500 rows of 9 features, 2,000 draws a chain, move off / on: W 3.13 / 1.001, W W' 1.001 / 1.001, noise
        variances 1.010 / 1.001, W after signs and order are matched 1.62 / 1.002, W rotated 1.005 / 1.001.
    Holzinger and Swineford's nine tests, 6,000 draws: W 1.61 / 1.003, W W' 1.001 / 1.002, noise variances
        1.003 / 1.003, signs and order matched 1.03 / 1.001, W rotated 1.001 / 1.002.
    With the move on, mean / sd of raw loadings is .0158 (.0158 predicted) and .0087 (.0158; nine numbers, those of the
        mean rotation, make all of it, so it is known to a fourth at best). With it off: 1.23 and .13.
    Where raw R-hat is bad and invariants are good nothing is wrong with the chains; where raw R-hat is good it says
        nothing of the axes. Signs and order do not make one frame of chains that are turned.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.output import save, table
from probae.analysis.mixing import Mixing
from probae.errors import ConvergenceWarning

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    samples: int = 500
    """Rows of the planted data."""
    features: int = 9
    """Columns of the planted data."""
    latents: int = 3
    """Factors."""
    draws: int = 2000
    """Draws of each chain on planted data."""
    pupils_draws: int = 6_000
    """Draws of each chain on the tests of Holzinger and Swineford, whose third factor is weak; 0 leaves them out."""
    looked_at: int = 1000
    """Draws of each chain that R-hat is computed of, evenly spaced."""
    warmup: int = 500
    """Draws before, which do not count."""
    chains: int = 4
    """Chains of each run."""
    repeats: int = 3
    """Runs, each with other planted data and another start."""
    data_seed: int = 100
    """Seed of the first planted data; each further repeat adds 1."""
    seed: int = 0
    """Seed of the first chains; each further repeat adds 1."""
    output: Path = Path("results/rotating_chains")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return R-hat of every run, and where the loadings of one feature lie in one of them."""
    rows: Rows = []
    points: Rows = []
    for repeat in range(settings.repeats):
        for name, x, draws in data_of(settings, repeat):
            for move in (False, True):
                drawn = sample(x, draws, move, repeat, settings)
                rows.append({"data": name, "repeat": repeat} | judged(drawn, move))
                if repeat == 0 and name == "planted":
                    points += list(places(drawn, move))
    return {"runs": rows, "points": points}


def data_of(settings: Settings, repeat: int) -> Iterator[tuple[str, Tensor, int]]:
    """Yield each data set with its name and how many draws it gets."""
    planted = pa.datasets.linear_factors(
        settings.samples, settings.features, settings.latents, noise=0.5, seed=settings.data_seed + repeat
    )
    yield "planted", planted.x, settings.draws
    if settings.pupils_draws:
        yield "pupils", pa.datasets.holzinger_swineford().x, settings.pupils_draws


def sample(x: Tensor, draws: int, move: bool, repeat: int, settings: Settings) -> dict[str, Tensor]:
    """Return an even choice of the draws of a Gibbs sampler with or without the orthogonal move."""
    method = pa.Gibbs(draws=draws, warmup=settings.warmup, chains=settings.chains, rotate=move)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it warns of is measured here
        run = pa.fit(pa.FactorAnalysis(x.shape[1], settings.latents), x, method, seed=settings.seed + repeat)
    assert run.draws is not None
    every = max(1, draws // settings.looked_at)
    return {name: run.draws[name][:, ::every] for name in ("loadings", "noise_variance")}


def judged(drawn: dict[str, Tensor], move: bool) -> dict[str, Any]:
    """Return R-hat of raw, invariant and aligned quantities, and mean over sd of raw loadings with its prediction."""
    found: Mixing = pa.mixing(drawn)
    assert found.noise is not None
    W = drawn["loadings"].flatten(0, 1)
    ratio = (W.mean(0) / W.std(0)).square().mean().sqrt()
    return {
        "move": "on" if move else "off",
        "W": found.raw.worst_r_hat,
        "W W'": found.covariance.worst_r_hat,
        "noise": found.noise.worst_r_hat,
        "W permuted": found.permuted.worst_r_hat,
        "W rotated": found.rotated.worst_r_hat,
        "mean / sd": float(ratio),
        "predicted": len(W) ** -0.5 if move else None,
        "pattern": found.pattern.value,
    }


def places(drawn: dict[str, Tensor], move: bool) -> Iterator[dict[str, Any]]:
    """Yield the loadings of the first feature on the first two factors, as drawn and aligned."""
    W = drawn["loadings"]
    aligned = pa.align(W, pa.OrthogonalProcrustes()).loadings
    every = max(1, W.shape[1] // 100)
    for kind, values in (("as drawn", W), ("aligned", aligned)):
        for chain, some in enumerate(values[:, ::every, 0, :2].tolist()):
            for first, second in some:
                yield {
                    "move": "on" if move else "off",
                    "kind": kind,
                    "chain": chain,
                    "first": first,
                    "second": second,
                }


COLOURS = ("#000000", "#0072B2", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "^", "x")
QUANTITIES = ("W", "W permuted", "W rotated", "W W'", "noise")
PANELS = (
    ("off", "as drawn", "move off, as drawn"),
    ("on", "as drawn", "move on, as drawn"),
    ("on", "aligned", "move on, aligned"),
)


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw where the loadings of a feature lie, and R-hat of every quantity in every run."""
    figure = Figure(figsize=(8.6, 6.6), layout="constrained")
    axes = figure.subplot_mosaic([["a", "b", "c"], ["d", "d", "d"]], height_ratios=(1.0, 0.95))
    reach = 1.08 * max(abs(row[side]) for row in rows["points"] for side in ("first", "second"))
    chains = sorted({row["chain"] for row in rows["points"]})
    for key, (move, kind, title) in zip("abc", PANELS, strict=True):
        for chain in chains:
            some = [r for r in rows["points"] if (r["move"], r["kind"], r["chain"]) == (move, kind, chain)]
            axes[key].plot(
                [r["first"] for r in some],
                [r["second"] for r in some],
                linestyle="",
                marker=MARKERS[chain % len(MARKERS)],
                markersize=3.5,
                markerfacecolor="none",
                color=COLOURS[chain % len(COLOURS)],
                label=f"chain {chain}",
            )
        axes[key].set(xlim=(-reach, reach), ylim=(-reach, reach), title=title, xlabel="loading on z[0]")
        axes[key].set_aspect("equal")
    axes["a"].set_ylabel("loading on z[1], first feature")
    figure.legend(
        *axes["a"].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9
    )
    _r_hats(axes["d"], rows["runs"])
    return figure


def _r_hats(ax: Any, runs: Rows) -> None:
    """Draw R-hat of each quantity, one mark for each run."""
    looks = {
        ("planted", "off"): ("o", "#D55E00", "none"),
        ("planted", "on"): ("o", "#0072B2", "#0072B2"),
        ("pupils", "off"): ("^", "#D55E00", "none"),
        ("pupils", "on"): ("^", "#0072B2", "#0072B2"),
    }
    for place, ((data, move), (marker, colour, face)) in enumerate(looks.items()):
        some = [row for row in runs if (row["data"], row["move"]) == (data, move)]
        if not some:
            continue
        ax.plot(
            [at + 0.15 * (place - 1.5) for at in range(len(QUANTITIES)) for _ in some],
            [row[quantity] - 1 for quantity in QUANTITIES for row in some],
            linestyle="",
            marker=marker,
            color=colour,
            markerfacecolor=face,
            markersize=6,
            label=f"{data}, move {move}",
        )
    ax.axhline(0.01, color="0.4", linewidth=1.0, linestyle="--", label="1.01, the usual limit")
    ax.set_yscale("log")
    ticks = [0.001, 0.01, 0.1, 1.0]
    ax.set_yticks(ticks, [f"{1 + tick:g}" for tick in ticks])
    ax.minorticks_off()
    names = ["W as drawn", "W, signs and\norder matched", "W, rotated", "W W'", "noise variances"]
    ax.set_xticks(range(len(names)), names)
    ax.set_ylabel("worst R-hat")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(f"runs\n{table(rows['runs'])}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
