r"""Search by binary codes: what do candidates from a short code save, and when are addresses quicker than counting?

A code is on which side of random directions a Gaussian latent of 32 dimensions lies: near latents have near codes. The
short code is the first 28 bits of the long one of 256. Queries are rows with some noise on their latents.

Two stages stand beside the exhaustive search of the long code, for shares of the rows; `recall` is the share of the
exhaustive answer that two stages find too. Then balls of addresses in codes of 20 bits stand beside counting every
row, which tests the constant COST (64) of probae.retrieval.hamming. Both sides of a ratio run in turn, on the same
queries and one thread; a ratio is taken within each turn, and its median is reported. Time is that of the thread.

Run:     python -m benchmarks.retrieval        (about two minutes)
Claim:   see CLAIMS; `rows` in results/benchmarks/retrieval.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import probae as pa
from benchmarks._machine import save
from probae.retrieval.hamming import COST, ball_size

CLAIMS = {"two stages": 1.0}  # time over that of the exhaustive search, at most, from 50,000 rows on


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    rows: tuple[int, ...] = (50_000, 100_000, 1_000_000)
    """Rows of the index."""
    short: int = 28
    """Bits of the short code."""
    long: int = 256
    """Bits of the long code."""
    address: int = 20
    """Bits of the code whose balls are looked up."""
    shares: tuple[float, ...] = (0.1, 0.05, 0.01)
    """Candidates, as a share of the rows."""
    latents: int = 32
    """Dimensions of what the codes describe."""
    noise: float = 0.1
    """Standard deviation of what differs between a query and its row, in each latent."""
    neighbours: int = 10
    """Rows asked for."""
    queries: int = 10
    """Queries in a turn."""
    repeats: int = 7
    """Turns."""
    seed: int = 0
    """Seed of rows, directions and queries."""
    output: Path = Path("results/benchmarks/retrieval.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each comparison."""
    torch.set_num_threads(1)
    found = []
    for count in settings.rows:
        rows, queries = codes(count, settings)
        for row in (*two_stages(rows, queries, settings), *balls(rows, queries, settings)):
            found.append({"rows": count} | row)
            print(line(found[-1]), flush=True)
    return found


def codes(count: int, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the long codes of the rows and of the queries."""
    generator = torch.Generator().manual_seed(settings.seed)
    directions = torch.randn(settings.latents, settings.long, generator=generator)
    z = torch.randn(count, settings.latents, generator=generator)
    asked = z[: settings.queries]
    asked = asked + settings.noise * torch.randn(asked.shape, generator=generator)
    return z @ directions > 0, asked @ directions > 0


def two_stages(rows: torch.Tensor, queries: torch.Tensor, settings: Settings) -> list[dict[str, Any]]:
    """Time both searches in turn, for every share."""
    short, long = pa.pack(queries[:, : settings.short]), pa.pack(queries)
    exhaustive, first = pa.HammingIndex(rows), pa.pack(rows[:, : settings.short])
    exact = exhaustive.nearest(long, settings.neighbours)
    found = []
    for share in settings.shares:
        index = pa.TwoStageIndex(first, exhaustive.codes, share)
        answer = index.nearest(short, long, settings.neighbours)
        hits = [np.isin(a, b).mean() for a, b in zip(answer.rows.numpy(), exact.rows.numpy(), strict=True)]
        turns = in_turn(
            lambda index=index: index.nearest(short, long, settings.neighbours),
            lambda: exhaustive.nearest(long, settings.neighbours),
            settings,
        )
        found.append({"what": "two stages", "share": share, "recall": float(np.mean(hits))} | turns)
    return found


def balls(rows: torch.Tensor, queries: torch.Tensor, settings: Settings) -> list[dict[str, Any]]:
    """Time balls of addresses beside counting, with the radii at which the index would take either."""
    bits = settings.address
    index, asked = pa.HammingIndex(rows[:, :bits]), pa.pack(queries[:, :bits])
    found = []
    for radius in range(len(index._shells)):
        turns = in_turn(
            lambda radius=radius: [index._ball(word, radius) for word in asked.words[:, 0]],
            lambda radius=radius: [index._counted(words, radius) for words in asked.words],
            settings,
        )
        size = ball_size(bits, radius)
        found.append({"what": "ball", "radius": radius, "addresses": size, "cost": COST * size} | turns)
    return found


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], settings: Settings) -> dict[str, Any]:
    """Return milliseconds a query of both, and the ratio of each turn."""
    ours(), theirs()
    turns = [(timed(ours), timed(theirs)) for _ in range(settings.repeats)]
    ratios = [mine / other for mine, other in turns]
    return {
        "ratio": float(np.median(ratios)),
        "smallest": min(ratios),
        "largest": max(ratios),
        "milliseconds": [
            1e3 * float(np.median(each)) / settings.queries for each in zip(*turns, strict=True)
        ],
    }


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds of the thread in a call."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    what = (
        f"two stages, share {row['share']:.2f}, recall {row['recall']:.3f}"
        if row["what"] == "two stages"
        else f"ball of radius {row['radius']}, {row['addresses']} addresses"
    )
    mine, other = row["milliseconds"]
    return (
        f"{row['rows']:9,d} rows, {what}: {row['ratio']:.3f} of all rows "
        f"({row['smallest']:.3f} .. {row['largest']:.3f}); {mine:.3f} and {other:.3f} ms a query"
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings), claims=CLAIMS)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
