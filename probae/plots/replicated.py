"""A statistic of x among those of simulated data sets."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from probae.analysis.predictive_result import StatisticCheck, quantiles
from probae.checks import ParameterError, check_count
from probae.plots.canvas import axes_or_new, check_result, legend_above

ALIKE = 5.0  # ratio of the widest to the narrowest interval up to which one axis shows both
# Okabe and Ito's colours; the markers differ in shape and fill as well
INSIDE, OUTSIDE, SETS = "black", "#D55E00", "#56B4E9"


def predictive(check: StatisticCheck, ax: Axes | None = None, *, largest: int = 30) -> Axes:
    """Draw where a statistic of x lies among those of simulated sets: a histogram, or an interval for each entry.

    Intervals hold 95 % of the sets. Where their widths differ by more than a factor of five, as with columns in
    different units, all are drawn in standard deviations of the simulated sets.

    Parameters
    ----------
    check : StatisticCheck
        One of a `PredictiveCheck`, such as ``check["correlation"]``.
    ax : Axes, optional
        Where to draw; a new figure by default.
    largest : int
        Entries to draw, those of x that are farthest out.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        ``check`` is no check of one statistic, or has no value for x.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> check = pa.posterior_predictive_check(run, data.x, sets=50)
    >>> pa.plots.predictive(check["skewness"]).get_xlabel()
    'skewness'
    """
    check_result("check", check, StatisticCheck, 'that of one statistic, such as check["sd"]')
    if check.worst is None:
        raise ParameterError(f"The {check.name} of x has no value, so there is nothing to draw.")
    check_count("largest", largest)
    return _histogram(check, ax) if len(check.labels) == 1 else _intervals(check, ax, largest)


def _histogram(check: StatisticCheck, ax: Axes | None) -> Axes:
    """Draw the simulated values as a histogram and the observed one as a line."""
    ax = axes_or_new(ax, 5.0, 3.2)
    ax.hist(
        check.replicated[:, 0].numpy(), bins="auto", color=SETS, edgecolor="white", label="simulated sets"
    )
    ax.axvline(
        float(check.observed[0]), color=INSIDE, linestyle="--", label=f"x (p = {float(check.p_value[0]):.3f})"
    )
    ax.set_xlabel(check.name)
    ax.set_ylabel("simulated sets")
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    legend_above(ax, columns=2)
    return ax


def _intervals(check: StatisticCheck, ax: Axes | None, largest: int) -> Axes:
    """Draw an interval for each entry, in the order they come in, and the observed values as points."""
    chosen, known = _farthest(check, largest)
    ax = axes_or_new(ax, 5.6, 1.5 + 0.22 * len(chosen))
    replicated, observed = check.replicated[:, chosen], check.observed[chosen]
    low, _, high = quantiles(replicated)
    name = check.name
    if float((high - low).amax()) > ALIKE * float((high - low).amin()):
        mean, sd = replicated.nanmean(0), _sd(replicated)
        low, high, observed = ((value - mean) / sd for value in (low, high, observed))
        name = f"{check.name}, in standard deviations from the mean of the simulated sets"
    places = torch.arange(len(chosen))
    ax.hlines(
        places.numpy(), low.numpy(), high.numpy(), color=SETS, linewidth=5, label="95 % of the simulated sets"
    )
    outside = (observed < low) | (observed > high)
    for some, style in ((~outside, _style(INSIDE, "o", False)), (outside, _style(OUTSIDE, "D", True))):
        if bool(some.any()):
            label = "x, outside" if style["marker"] == "D" else "x, inside"
            ax.plot(observed[some].numpy(), places[some].numpy(), label=label, **style)
    ax.set_yticks(places.tolist(), [check.labels[i] for i in chosen.tolist()])
    ax.set_ylim(len(chosen) - 0.5, -0.5)
    if len(chosen) < known:
        name = f"{name}\nthe {len(chosen)} of {known} entries farthest out"
    ax.set_xlabel(name)
    legend_above(ax, columns=3)
    return ax


def _farthest(check: StatisticCheck, largest: int) -> tuple[Tensor, int]:
    """Return the entries of x that are farthest out, in the order they come in, and the number that have a value."""
    distance = ((check.observed - check.replicated.nanmean(0)) / _sd(check.replicated)).abs()
    known = torch.nonzero(~distance.isnan()).flatten()
    return known[distance[known].topk(min(largest, len(known))).indices].sort().values, len(known)


def _sd(replicated: Tensor) -> Tensor:
    sd = (replicated - replicated.nanmean(0)).square().nanmean(0).sqrt()
    return torch.where(sd > 0, sd, torch.ones_like(sd))


def _style(colour: str, marker: str, filled: bool) -> dict[str, Any]:
    face = colour if filled else "white"
    return {"linestyle": "", "marker": marker, "color": colour, "markerfacecolor": face, "markersize": 5}
