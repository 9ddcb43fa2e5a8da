"""Chains of what no rotation has a part in, draw by draw."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from probae.analysis.mixed_quantity import Quantity
from probae.analysis.mixing import Mixing
from probae.plots.chains import Lane, in_lanes, label_of, look_of

POINTS = 1000  # of a chain that are drawn
HEIGHT = 0.9  # of a lane that draws fill


def trace(result: Mixing | Quantity, ax: Axes | None = None, *, lanes: int = 4) -> Axes:
    """Draw the chains of the rotation-invariant numbers that have mixed worst, one lane each.

    Each lane spans the draws of its number; chains that have mixed lie on top of each other and look alike from left
    to right. The text on the right is R-hat and the bulk effective sample size.

    Parameters
    ----------
    result : Mixing or Quantity
        As `mixing` gives: entries of W W' and noise variances; or one of its quantities, such as ``result.raw``.
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
    >>> ax = pa.plots.trace(pa.mixing(W))
    >>> ax.get_xlabel(), len(ax.get_yticks()), len(ax.lines)              # 4 lanes of 4 chains, and 3 lines between
    ('draw', 4, 19)
    """
    ax = in_lanes(result, ax, lanes, _draw, "draw")
    ax.margins(x=0.01)
    return ax


def _draw(ax: Axes, lane: Lane, place: int) -> None:
    """Draw the chains of one number around a height, scaled to fill the lane."""
    low, high = lane.values.min(), lane.values.max()
    every = max(1, lane.values.shape[1] // POINTS)
    draw = np.arange(lane.values.shape[1])[::every]
    for chain, values in enumerate(lane.values[:, ::every]):
        height = place + HEIGHT * ((values - low) / (high - low) - 0.5)
        look = look_of(chain) | {"linestyle": "-"}  # dashes of so many draws would not show
        label = label_of(chain, len(lane.values)) if place == 0 else None
        ax.plot(draw, height, linewidth=0.6, alpha=0.75, label=label, **look)
