"""How much better one model predicts than others."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from probae.analysis.compare import Comparison
from probae.plots.canvas import axes_or_new, check_result


def comparison(found: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the difference of each model from the best with two standard errors, best first.

    Parameters
    ----------
    found : Comparison
        The result of `compare`.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        ``found`` is no Comparison.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = pa.compare({f"{k} factors": pa.k_fold(pa.ProbabilisticPCA(9, k), x, folds=3) for k in (1, 2)})
    >>> [text.get_text() for text in pa.plots.comparison(found).get_yticklabels()]
    ['2 factors', '1 factors']
    """
    check_result("found", found, Comparison, "the result of compare")
    ax = axes_or_new(ax, 5.6, 1.6 + 0.35 * len(found.names))
    places = np.arange(len(found.names))
    ax.axvline(0.0, color="0.6", linewidth=0.8, linestyle=":")
    ax.errorbar(
        found.difference.numpy(),
        places,
        xerr=2 * found.difference_error.numpy(),
        linestyle="",
        marker="o",
        color="black",
        elinewidth=1.2,
        capsize=3,
    )
    ax.set_yticks(places, found.names)
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.set_xlabel(f"log predictive density less that of {found.names[0]}\n(nats, with 2 standard errors)")
    return ax
