"""The scree: eigenvalues against those of data without factors, and where each rule stops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probae.checks import ParameterError
from probae.factors.eigenvalue_rules import Kaiser
from probae.factors.number_table import NumberOfFactors
from probae.factors.parallel_analysis import ParallelAnalysis
from probae.factors.rule import Judgement
from probae.plots.canvas import axes_or_new, check_result

EIGENVALUES, RANDOM = (
    "#0072B2",
    "#D55E00",
)  # Okabe and Ito; one is drawn with markers, the other shaded and dashed
FEWEST_SHOWN = 12  # eigenvalues, where there are so many
BEYOND = 4  # eigenvalues shown after the largest answer
MOST_SHOWN = 60


def scree(result: NumberOfFactors, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of the correlations, the band of parallel analysis, and how many rules name each number.

    The band reaches from the median to the percentile of eigenvalues of data without factors; eigenvalues above it
    count as factors. The dotted line is Kaiser's, at 1. Above the plot stands
    how many rules give each answer, the most in bold.

    Parameters
    ----------
    result : NumberOfFactors
        As `number_of_factors` gives, with `Kaiser` or component `ParallelAnalysis` among its rules.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``result`` is something else, or none of its rules looked at these eigenvalues.

    Examples
    --------
    >>> import probae as pa
    >>> result = pa.number_of_factors(pa.datasets.holzinger_swineford().x)
    >>> ax = pa.plots.scree(result)
    >>> ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('factor', ['eigenvalues of 9 columns, 301 rows', 'without factors: median to 95 %', '1 (Kaiser)'])
    """
    check_result("result", result, NumberOfFactors, "a NumberOfFactors, as number_of_factors gives")
    band = _band(result)
    values = _eigenvalues(result, band)
    shown = _shown(result, len(values))
    ax = axes_or_new(ax, 6.4, 4.4)
    if band is not None:
        _draw_band(ax, band, shown)
    ax.axhline(1.0, color="0.35", linewidth=1.0, linestyle=":", label="1 (Kaiser)", zorder=1)
    ax.plot(
        np.arange(1, shown + 1),
        values[:shown],
        color=EIGENVALUES,
        linewidth=1.6,
        marker="o",
        markersize=5.0,
        label=f"eigenvalues of {result.features} columns, {result.samples} rows",
        zorder=3,
    )
    ax.set_xlim(-0.5, shown + 0.5)
    ax.set_ylim(0.0, 1.08 * max(float(np.max(line.get_ydata())) for line in ax.lines))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("factor")
    ax.set_ylabel("eigenvalue of the correlations")
    _mark_answers(ax, result, shown)
    _legend(ax)
    return ax


def _band(result: NumberOfFactors) -> Judgement | None:
    """Return the component parallel analysis of the result, Gaussian before permuted."""
    found = [
        one
        for one in result.judgements
        if isinstance(one.rule, ParallelAnalysis) and not one.rule.common and one.threshold is not None
    ]
    return min(found, key=lambda one: one.rule.permute, default=None)  # type: ignore[attr-defined]


def _eigenvalues(result: NumberOfFactors, band: Judgement | None) -> np.ndarray:
    for one in result.judgements:
        if isinstance(one.rule, Kaiser):
            return one.values.numpy()
    if band is None:
        raise ParameterError(
            "result should hold the eigenvalues, but none of its rules looked at them: ask Kaiser() or "
            "ParallelAnalysis() as well."
        )
    return band.values.numpy()


def _shown(result: NumberOfFactors, available: int) -> int:
    """Return how many eigenvalues are drawn: all answers and a few more, the tail of many columns not."""
    last = 0 if result.range is None else result.range[1]
    return min(available, max(FEWEST_SHOWN, min(last + BEYOND, MOST_SHOWN)))


def _draw_band(ax: Axes, band: Judgement, shown: int) -> None:
    assert band.threshold is not None
    assert band.typical is not None
    last = min(shown, len(band.counts))
    factor = band.counts[:last].numpy()
    low, high = band.typical[:last].numpy(), band.threshold[:last].numpy()
    level = band.rule.level  # type: ignore[attr-defined]
    label = f"without factors: median to {100 * level:g} %"
    ax.fill_between(factor, low, high, color=RANDOM, alpha=0.30, linewidth=0.0, label=label, zorder=2)
    for edge in (low, high):
        ax.plot(factor, edge, color=RANDOM, linewidth=1.2, linestyle="--", zorder=2)


def _mark_answers(ax: Axes, result: NumberOfFactors, shown: int) -> None:
    """Write above the plot how many rules name each number, with a thin line down to it."""
    across = ax.get_xaxis_transform()  # x in factors, y in parts of the height
    agreement = result.agreement
    most = max((len(names) for names in agreement.values()), default=0)
    for k, names in agreement.items():
        if k > shown:
            continue
        bold = "bold" if len(names) == most else "normal"
        ax.axvline(k, color="0.80", linewidth=0.8 + 1.6 * (len(names) == most), zorder=0)
        ax.text(
            k, 1.01, str(len(names)), transform=across, ha="center", va="bottom", fontsize=9.0, weight=bold
        )
    if agreement:
        beyond = [k for k in agreement if k > shown]
        note = f"; beyond: {_listed(beyond)}" if beyond else ""
        ax.set_title(f"number of rules with this answer{note}", fontsize=9.0, loc="left", pad=18.0)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(k) for k in numbers)


def _legend(ax: Axes) -> None:
    """Put the legend below the plot, eigenvalues first, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(
        range(len(labels)), key=lambda i: (not labels[i].startswith("eigen"), "Kaiser" in labels[i])
    )
    ax.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(0.0, -0.16),
        borderaxespad=0.0,
        frameon=False,
        fontsize=9.0,
        handlelength=3.0,
    )
