"""The log-likelihood along a rotation of two factors: flat where the axes mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from probae.checks import ParameterError
from probae.identifiability.likelihood_ratio import RotationProfile
from probae.plots.canvas import axes_or_new, legend_above
from probae.plots.subject import factor_name

# Okabe and Ito's colours without the pale ones; each line has its own dashes and marker, for a grey copy.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND = 1.96  # standard errors on each side: 95 % of a normal error
LEAST_SPAN = 2.0  # nats; rounding on a flat profile must not look like a mountain range

Profiles = RotationProfile | Sequence[tuple[str, RotationProfile]]


def rotation(profile: Profiles, ax: Axes | None = None) -> Axes:
    """Draw the change of the log-likelihood along a rotation in one plane, in nats, against degrees.

    Gaussian factors give a flat line: the data prefer no axes. The legend, above the plot, says which values
    are exact and which have a Monte Carlo error, shaded at 1.96 standard errors. The vertical axis spans at
    least two nats, so that rounding looks as small as it is.

    Parameters
    ----------
    profile : RotationProfile, or sequence of (str, RotationProfile)
        One profile, or several with their labels.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``profile`` is neither, or an empty sequence.

    Examples
    --------
    >>> import probae as pa
    >>> from probae.identifiability.likelihood_ratio import rotation_profile
    >>> x = pa.datasets.holzinger_swineford().x
    >>> ax = pa.plots.rotation(rotation_profile(pa.fit(pa.FactorAnalysis(9, 3), x), x))
    >>> ax.get_legend().get_texts()[0].get_text()
    'exact'
    >>> bool(abs(ax.lines[0].get_ydata()).max() < 1e-9)
    True
    """
    labelled = _check(profile)
    ax = axes_or_new(ax, 6.0, 3.4 + 0.2 * len(labelled))
    planes, rows = {one.plane for _, one in labelled}, {one.samples for _, one in labelled}
    for index, (label, one) in enumerate(labelled):
        _draw(ax, one, index, describe(label, one, with_plane=len(planes) > 1, with_rows=len(rows) > 1))
    ax.set_xlabel(f"rotation of {plane_name(*planes) if len(planes) == 1 else 'two factors'} (degrees)")
    ax.set_ylabel(f"change in log-likelihood\n(nats{f' over {rows.pop():,} rows' if len(rows) == 1 else ''})")
    _widen(ax)
    legend_above(ax, handle=4.0)
    return ax


def plane_name(plane: tuple[int, int]) -> str:
    """Return the two factors of a plane in words.

    Examples
    --------
    >>> plane_name((0, 2))
    'z[0] and z[2]'
    """
    return " and ".join(factor_name(index) for index in plane)


def describe(label: str, profile: RotationProfile, with_plane: bool, with_rows: bool) -> str:
    """Return a legend entry: the label, what differs between the lines, and how exact the values are."""
    different = [plane_name(profile.plane)] * with_plane + [f"{profile.samples:,} rows"] * with_rows
    before = ", ".join([label] * bool(label) + different)
    how = "exact" if profile.exact else "Monte Carlo, 95 % shaded"
    return f"{before}: {how}" if before else how


def _widen(ax: Axes) -> None:
    """Give the vertical axis at least two nats, and the horizontal one round angles."""
    ax.margins(x=0.02)
    low, high = ax.get_ylim()
    if high - low < LEAST_SPAN:
        ax.set_ylim(0.5 * (low + high - LEAST_SPAN), 0.5 * (low + high + LEAST_SPAN))
    low, high = ax.get_xlim()
    if high - low > 90:
        ax.xaxis.set_major_locator(MultipleLocator(30 if high - low < 200 else 60))


def _draw(ax: Axes, profile: RotationProfile, index: int, entry: str) -> None:
    """Draw one line with its band; markers of several lines stand apart, so that equal lines show through."""
    degrees, change, error = (
        values.double().numpy(force=True) for values in (profile.degrees, profile.change, profile.error)
    )
    step = max(1, len(degrees) // 9)
    colour = COLOURS[index % len(COLOURS)]
    ax.plot(
        degrees,
        change,
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        linewidth=1.6,
        marker=MARKERS[index % len(MARKERS)],
        markersize=5.0,
        markevery=(index % step, step),
        label=entry,
    )
    if not profile.exact:
        low, high, known = change - BAND * error, change + BAND * error, np.isfinite(change)
        ax.fill_between(degrees, low, high, where=known, color=colour, alpha=0.25, linewidth=0)


def _check(profile: Any) -> list[tuple[str, RotationProfile]]:
    """Return profiles with labels, or say what ``profile`` should be."""
    if isinstance(profile, RotationProfile):
        return [("", profile)]
    problem = "profile should be a RotationProfile, as rotation_profile gives, or a list of (label, profile)"
    if isinstance(profile, str) or not isinstance(profile, Sequence):
        raise ParameterError(f"{problem}, got {type(profile).__name__}.")
    if len(profile) == 0:
        raise ParameterError(f"{problem}, got an empty one.")
    for item in profile:
        pair = isinstance(item, tuple) and len(item) == 2
        if not (pair and isinstance(item[0], str) and isinstance(item[1], RotationProfile)):
            raise ParameterError(f"{problem}, got a list with {type(item).__name__} {item!r}.")
    return list(profile)
