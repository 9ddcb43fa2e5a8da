"""Aligned loadings with their intervals."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from probae.analysis.alignment import Alignment
from probae.plots.canvas import axes_or_new, check_result, legend_above, name_rows
from probae.plots.intervals import bars
from probae.plots.subject import factor_name

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
SPREAD = 0.7  # of the height of a feature that its factors share


def forest(alignment: Alignment, ax: Axes | None = None) -> Axes:
    """Draw posterior means of aligned loadings with 50 % (thick) and 90 % (thin) intervals, by feature.

    The factors of a feature stand one below the other, each with a marker of its own. Draws as a sampler gives them
    may be turned each in its own way: only aligned ones have such intervals, and `Alignment.caution`, below the
    plot, says what their axes may be read as.

    Parameters
    ----------
    alignment : Alignment
        As `align` gives.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``alignment`` is something else.

    Examples
    --------
    >>> import torch, probae as pa
    >>> W = 1 + 0.1 * torch.randn(4, 50, 6, 2, generator=torch.Generator().manual_seed(0))
    >>> ax = pa.plots.forest(pa.align(W, pa.SignedPermutations()))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['z[0]', 'z[1]']
    """
    check_result("alignment", alignment, Alignment, "an Alignment, as pa.align gives")
    draws = alignment.loadings.flatten(0, 1).double().numpy(force=True)
    _, features, latents = draws.shape
    ax = axes_or_new(ax, 5.6, float(np.clip(1.4 + features * (0.12 + 0.11 * latents), 2.6, 11.0)))
    ax.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    for k in range(latents):
        offset = SPREAD * ((k + 0.5) / latents - 0.5)
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        bars(
            ax,
            draws[:, :, k],
            np.arange(features) + offset,
            colour=colour,
            marker=marker,
            label=factor_name(k),
        )
    for row in range(1, features):
        ax.axhline(row - 0.5, color="0.9", linewidth=0.8, zorder=0)
    ax.set_ylim(features - 0.4, -0.6)  # the first feature on top
    names = alignment.names or tuple(str(d) for d in range(features))
    name_rows(ax, names, "" if alignment.names else "feature", "features")
    caution = f"\n{alignment.caution}" if alignment.caution else ""
    ax.set_xlabel(f"loading (units of x): mean, 50 % and 90 % intervals{caution}", fontsize=9.0)
    legend_above(ax, columns=6)
    return ax
