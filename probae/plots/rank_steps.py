"""Ranks of the draws of each chain among those of all: uniform where the chains have one law."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from probae.analysis.mixed_quantity import Quantity
from probae.analysis.mixing import Mixing
from probae.plots.chains import Lane, in_lanes, label_of, look_of

BINS = 20
FEWEST = 5  # draws expected in a bin
HEIGHT = 0.42  # of a lane, above and below its middle


def ranks(result: Mixing | Quantity, ax: Axes | None = None, *, lanes: int = 4) -> Axes:
    """Draw how the ranks of each chain are spread, for the rotation-invariant numbers that have mixed worst.

    All draws of a number are ranked together. A chain of the common law has as many draws in each part of the ranks;
    the band is where 95 % of the counts of independent draws would be, and chains that are correlated over time leave
    it more often. A chain that is high at one end of the ranks has stayed there. Heights are relative to the expected
    count, on a scale of its own for each lane.

    Parameters
    ----------
    result : Mixing or Quantity
        As `trace` takes.
    ax : Axes, optional
        Where to draw; a new figure by default.
    lanes : int
        How many numbers.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``result`` is something else, or none of its numbers varies.

    Examples
    --------
    >>> import torch, probae as pa
    >>> W = 1 + 0.1 * torch.randn(4, 50, 6, 2, generator=torch.Generator().manual_seed(0))
    >>> ax = pa.plots.ranks(pa.mixing(W))
    >>> ax.get_xlabel(), ax.get_legend().get_texts()[0].get_text()
    ('rank among all draws (%)', 'chain 0')
    """
    ax = in_lanes(result, ax, lanes, _draw, "rank among all draws (%)")
    ax.set_xlim(0.0, 100.0)
    return ax


def shares(values: np.ndarray) -> np.ndarray:
    """Count the ranks of each chain in equal parts, relative to the count expected, (chain, bins).

    Examples
    --------
    >>> shares(np.arange(20.0).reshape(2, 10)).round(6).tolist()                       # two bins of ten ranks
    [[2.0, 0.0], [0.0, 2.0]]
    """
    chains, draws = values.shape
    bins = max(2, min(BINS, draws // FEWEST))
    rank = stats.rankdata(values).reshape(chains, draws) - 0.5
    counts = [np.histogram(row, bins=bins, range=(0.0, values.size))[0] for row in rank]
    return np.stack(counts) * bins / draws


def _draw(ax: Axes, lane: Lane, place: int) -> None:
    """Draw the counts of one number as steps around a height that stands for the expected count."""
    found = shares(lane.values)
    draws, bins = lane.values.shape[1], found.shape[1]
    low, high = stats.binom.ppf((0.025, 0.975), draws, 1 / bins) * bins / draws - 1
    scale = HEIGHT / max(float(np.abs(found - 1).max()), high, -low)
    edges = np.linspace(0.0, 100.0, bins + 1)
    for chain, row in enumerate(found):
        ax.stairs(
            place + scale * (row - 1),
            edges,
            baseline=None,
            linewidth=1.3,
            label=label_of(chain, len(found)) if place == 0 else None,
            **look_of(chain),
        )
    band = "95 % of independent draws" if place == 0 else None
    ax.fill_between(
        (0.0, 100.0),
        place + scale * low,
        place + scale * high,
        color="0.88",
        linewidth=0,
        label=band,
        zorder=0,
    )
