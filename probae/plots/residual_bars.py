"""The posterior of what the factors leave of the covariance."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from probae.analysis.covariance_residual import CovarianceResidual
from probae.checks import check_count
from probae.plots.canvas import axes_or_new, check_result, legend_above, name_rows
from probae.plots.intervals import bars

INSIDE, OUTSIDE = "#0072B2", "#D55E00"


def residuals(result: CovarianceResidual, ax: Axes | None = None, *, pairs: int = 25) -> Axes:
    r"""Draw the residual correlations of the pairs that the factors explain worst, with 50 % and 90 % intervals.

    The band is 2 / sqrt(n) on both sides of 0: about what sampling alone gives the correlations of unrelated
    features, so residuals of a good model lie in it. Pairs whose mean lies outside have another colour and a filled
    triangle.

    Parameters
    ----------
    result : CovarianceResidual
        As `covariance_residual` gives.
    ax : Axes, optional
        Where to draw; a new figure by default.
    pairs : int
        How many pairs, those of largest mean.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``result`` is something else.

    Examples
    --------
    >>> import torch, probae as pa
    >>> from probae.analysis.covariance_residual import CovarianceResidual
    >>> noise = 0.01 * torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> names = ("a", "b", "c")
    >>> found = CovarianceResidual(noise, torch.tensor([[0, 1], [0, 2], [1, 2]]), names, samples=100)
    >>> ax = pa.plots.residuals(found)
    >>> sorted(label.get_text() for label in ax.get_yticklabels())
    ['a, b', 'a, c', 'b, c']
    """
    check_result(
        "result", result, CovarianceResidual, "a CovarianceResidual, as pa.covariance_residual gives"
    )
    order = result.mean.abs().argsort(descending=True)[: check_count("pairs", pairs)]
    draws = result.draws[..., order].flatten(0, 1).double().numpy(force=True)
    edge = 2 * result.sampling_error
    ax = axes_or_new(ax, 6.0, float(np.clip(1.3 + 0.22 * len(order), 2.4, 11.0)))
    label = f"2 / sqrt(n), {result.samples} rows"
    ax.axvspan(-edge, edge, color="0.9", linewidth=0.0, label=label, zorder=0)
    ax.axvline(0.0, color="0.6", linewidth=0.8, zorder=1)
    outside = np.abs(draws.mean(0)) > edge
    heights = np.arange(len(order), dtype=float)
    for chosen, colour, marker, kind in (
        (~outside, INSIDE, "o", "mean inside"),
        (outside, OUTSIDE, "^", "mean outside"),
    ):
        if chosen.any():
            bars(ax, draws[:, chosen], heights[chosen], colour=colour, marker=marker, label=kind)
    ax.set_ylim(len(order) - 0.4, -0.6)  # the worst pair on top
    name_rows(ax, tuple(result.labels[i] for i in order.tolist()), "pair of features", "pairs")
    part = (
        f"\nthe {len(order)} largest of {len(result.pairs)} pairs" if len(order) < len(result.pairs) else ""
    )
    ax.set_xlabel(f"residual correlation: mean, 50 % and 90 % intervals{part}")
    legend_above(ax, columns=3)
    return ax
