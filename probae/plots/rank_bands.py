"""The ECDF of the ranks of a calibration, less the uniform one, inside or outside the band of a right posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probae.analysis.calibration import Calibration
from probae.analysis.uniform_ranks import ecdf_band
from probae.plots.canvas import axes_or_new, check_result, legend_above
from probae.plots.profiles import COLOURS, DASHES

MOST_NAMED = 8  # lines with a name and a look of their own
REST = "0.55"


def calibration(result: Calibration, ax: Axes | None = None) -> Axes:
    """Draw the ECDF of the ranks of each quantity, less the uniform one, with its simultaneous band.

    All of a line is inside the band with chance 1 - 0.01 / Q, so all Q of a right posterior with 0.99 at least. Where
    the posterior is too narrow the line is above at low ranks and below at high ones; where draws are too high it is an
    arch above, where they are too low one below. Flagged quantities, the worst first, have a name and a look of their
    own; the others are thin and grey.

    Parameters
    ----------
    result : Calibration
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``result`` is no Calibration.

    Examples
    --------
    >>> import probae as pa, torch
    >>> theta = torch.randn(100, 500, 3, generator=torch.Generator().manual_seed(0))
    >>> found = pa.Calibration.from_draws(["a", "b", "c"], theta[0], theta[1:])
    >>> ax = pa.plots.calibration(found)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['band of uniform ranks', '3 quantities, not flagged']
    """
    check_result("result", result, Calibration, "a Calibration, as simulation_based_calibration gives")
    flagged = _worst_first(result)
    named = flagged[:MOST_NAMED]
    ax = axes_or_new(ax, 6.0, 3.6 + 0.2 * len(named))
    place, half = ecdf_band(len(result.ranks), result.draws, len(result.names))
    ends = np.concatenate([[0.0], place, [1.0]])
    width = np.concatenate([[0.0], half, [0.0]])
    ax.fill_between(ends, -width, width, color="0.88", linewidth=0.0, label="band of uniform ranks", zorder=0)
    ax.axhline(0.0, color="0.3", linewidth=0.8, zorder=1)
    lines = _differences(result, place)
    rest = [k for k in range(len(result.names)) if k not in named]
    for k in rest:
        ax.plot(ends, lines[k], color=REST, linewidth=0.7, zorder=2, label=_rest_label(rest, flagged, k))
    for index, k in enumerate(named):
        ax.plot(
            ends, lines[k], color=COLOURS[index % len(COLOURS)], linestyle=DASHES[index % len(DASHES)],
            linewidth=1.6, zorder=3, label=f"{result.names[k]}, flagged",
        )  # fmt: skip
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel(f"rank of the truth among {result.draws} draws, as a part of them")
    ax.set_ylabel(f"ECDF of {len(result.ranks)} ranks\nminus the uniform one")
    legend_above(ax, handle=4.0)
    return ax


def _worst_first(result: Calibration) -> list[int]:
    """Return the flagged quantities in order of their smaller p-value."""
    smaller = np.minimum(result.chi_square.numpy(), result.ecdf.numpy())
    return [int(k) for k in np.argsort(smaller, kind="stable") if bool(result.flagged[k])]


def _differences(result: Calibration, place: np.ndarray) -> Any:
    """Return the ECDF minus the uniform one of each quantity (Q, L + 2), 0 at both ends."""
    ranks = result.ranks.numpy()
    counts = np.stack([np.bincount(column, minlength=result.draws + 1) for column in ranks.T])
    inner = counts.cumsum(1)[:, :-1] / len(ranks) - place
    return np.pad(inner, ((0, 0), (1, 1)))


def _rest_label(rest: list[int], flagged: list[int], k: int) -> str | None:
    """Name the grey lines once, at the first."""
    if k != rest[0]:
        return None
    more = sum(1 for one in rest if one in flagged)
    quiet = len(rest) - more
    parts = [f"{quiet} {'quantity' if quiet == 1 else 'quantities'}, not flagged"] if quiet else []
    parts += [f"{more} more, flagged"] if more else []
    return "; ".join(parts)
