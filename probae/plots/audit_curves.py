"""Two panels of an audit: likelihood and guides' bounds along a rotation, and how fits from other starts agree."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from probae.identifiability.evidence import Evidence
from probae.identifiability.likelihood_ratio import RotationProfile
from probae.identifiability.restarts import CLASSES, RestartLadder
from probae.plots.audit_planes import ALONE
from probae.plots.canvas import legend_above, mark_beyond
from probae.plots.profiles import rotation

BOUND, FULL = "#D55E00", "#009E73"
LEAST_ANGLE = 0.01  # degrees; fits that agree better are drawn here, with an arrow


def along_rotation(ax: Axes, evidence: Evidence) -> str:
    """Draw the likelihood along the rotation of the least certain plane, and the bounds that are known beside it."""
    guide, profile = evidence.inference.profile, evidence.profile
    if guide is not None:
        likelihood = RotationProfile(
            guide.plane,
            guide.degrees,
            guide.likelihood,
            guide.error,
            guide.samples,
            not bool(guide.error.any()),
        )
        rotation([("likelihood", likelihood)], ax)
        _bound(ax, guide.degrees, guide.mean_field, BOUND, "--", "best mean-field ELBO")
        _bound(ax, guide.degrees, guide.full, FULL, ":", "best full-covariance ELBO")
    elif profile is not None:
        rotation([("likelihood", profile)], ax)
        _closed_form(ax, evidence, profile)
    else:
        return _no_profile(evidence)
    ax.set_ylabel(ax.get_ylabel(), fontsize=8.5)
    ax.set_xlabel(ax.get_xlabel(), fontsize=8.5)
    legend_above(ax, columns=1 if guide is None else 2, handle=2.6, size=8.0)
    return ""


def _closed_form(ax: Axes, evidence: Evidence, profile: RotationProfile) -> None:
    """Add the best mean-field bound of Gaussian factors, which Hadamard's gap gives exactly."""
    gap = evidence.inference.gap
    plane = next((one for one in gap.planes if one.plane == profile.plane), None) if gap else None
    if gap is None or plane is None or not gap.exact:
        return
    used = evidence.inference.restricted
    label = "best mean-field ELBO: exact" if used else "best mean-field ELBO, not used by this fit: exact"
    _bound(ax, profile.degrees, profile.samples * plane.bound(profile.degrees), BOUND, "--", label)


def _bound(ax: Axes, degrees: Tensor, change: Tensor, colour: str, dashes: str, label: str) -> None:
    ax.plot(
        degrees.numpy(),
        change.numpy(),
        color=colour,
        linestyle=dashes,
        linewidth=1.8,
        label=label,
        zorder=2.5,
    )
    low, high = ax.get_ylim()
    values = change.numpy()
    room = 0.06 * (max(high, values.max()) - min(low, values.min()))
    ax.set_ylim(min(low, values.min() - room), max(high, values.max() + room))


def _no_profile(evidence: Evidence) -> str:
    if evidence.nonlinear:
        return "A decoder that is not linear has no loadings to turn."
    if evidence.factors == 1:
        return ALONE
    if evidence.zeros is not None:
        test = evidence.zeros.test
        return f"The zeros are not kept by a rotation. In its place: {test.describe()}." if test else (
            "The zeros are not kept by a rotation, and without data they cannot be tested against free loadings."
        )  # fmt: skip
    if evidence.segments is not None:
        return "Variances of segments are not kept by a rotation; the test of each plane stands in its place."
    if evidence.data is None:
        return evidence.why_no_data
    if evidence.gaussian:
        return "Gaussian factors without noise: rows have one covariance, whatever the rotation."
    return evidence.data.why_no_information or evidence.why_no_data


def ladder(ax: Axes, evidence: Evidence) -> str:
    """Draw how far fits from other starts differ after the best change of each class."""
    found = evidence.inference.restarts
    if found is None:
        return (
            "No loadings to compare." if evidence.nonlinear else
            "No fits from other starts were given. To compare some: audit(fit, x, restarts=refits(fit, x))."
        )  # fmt: skip
    if len(found.kept) < 2:
        return f"{found.describe()}."
    values = np.array([found.spread[name] for name in CLASSES])
    shown, places = np.maximum(values, LEAST_ANGLE), np.arange(len(CLASSES))
    agree = values <= found.tolerance
    ax.plot(shown, places, color="0.7", linewidth=1.2, zorder=1)
    for chosen, face, label in ((agree, "#0072B2", "fits agree"), (~agree, "white", "fits differ")):
        if chosen.any():
            ax.plot(
                shown[chosen], places[chosen], linestyle="none", marker="o", markersize=7.0, color="#0072B2",
                markerfacecolor=face, label=label,
            )  # fmt: skip
    _mark_ladder(ax, found, values)
    return ""


def _mark_ladder(ax: Axes, found: RestartLadder, values: NDArray[np.float64]) -> None:
    ax.axvline(found.tolerance, color="#D55E00", linewidth=1.3, linestyle="--", zorder=0.6)  # above the grid
    ax.set_xscale("log")
    ax.set_xlim(LEAST_ANGLE / 3, 200.0)
    small = [i for i, value in enumerate(values) if value < LEAST_ANGLE]
    mark_beyond(ax, small, LEAST_ANGLE, "<")
    names = [name.replace(" ", "\n") for name in CLASSES]
    ax.set_yticks(range(len(names)), names, fontsize=8.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(
        f"largest difference of loadings (degrees); dashed: limit {found.tolerance:.3g}\n"
        f"{len(found.kept)} of {len(found.shortfall)} fits within 2 nats of the best{_turned(found)}"
        "Agreement alone proves nothing.",
        fontsize=8.5,
    )
    legend_above(ax, columns=2, handle=1.0, size=8.0)


def _turned(found: RestartLadder) -> str:
    """Say how far the axes of the fits differ, beside random ones; one factor has none."""
    if not found.chance:
        return ".\n"
    return f"; axes differ by {found.turn:.1f}°,\nrandom ones by {found.chance:.0f}°. "
