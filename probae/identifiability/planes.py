"""The results of T1: rotation information plane by plane, what they say together, and what they could have found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probae.identifiability.data_test import DataTest, holm
from probae.identifiability.power import POWER_80, detectable
from probae.identifiability.structure import connected, describe_blocks


@dataclass(frozen=True)
class PlaneTest:
    """Rotation information in the plane of two scores.

    Attributes
    ----------
    plane : (i, j), the two latents
    statistics : T_3 and T_4, each chi2(2) if the plane is elliptical (asymptotic)
    samples : rows
    equalised : whether the noise of the two scores was equalised; the smaller statistic of both runs is kept
    """

    plane: tuple[int, int]
    statistics: tuple[float, float]
    samples: int
    equalised: bool = False
    degrees_of_freedom: int = 2
    null: str = "asymptotic"

    @property
    def degree_p_values(self) -> tuple[float, float]:
        """p-values of degree 3 (skewness) and degree 4 (tails)."""
        third, fourth = (math.exp(-t / 2) for t in self.statistics)
        return third, fourth

    @property
    def p_value(self) -> float:
        """Bonferroni over the two degrees."""
        return min(1.0, 2 * min(self.degree_p_values))

    @property
    def signal(self) -> float:
        """Effect size: noncentrality per row of the stronger degree, max(0, (T - 2) / n)."""
        return max(0.0, (max(self.statistics) - 2) / self.samples)

    def describe(self) -> str:
        """Say the result in a sentence."""
        third, fourth = self.degree_p_values
        noise = ", noise equalised" if self.equalised else ""
        return (
            f"Plane (z[{self.plane[0]}], z[{self.plane[1]}]): p = {self.p_value:.3g} "
            f"(degree 3 {third:.3g}, degree 4 {fourth:.3g}; {self.null}{noise}), signal {self.signal:.2g} per row."
        )


@dataclass(frozen=True, eq=False)
class RotationInformation:
    """Whether the data know axes: one test for each plane of two latents, and the tests over all latents.

    Attributes
    ----------
    planes : tuple of PlaneTest, in the order (0, 1), (0, 2), ..., (K-2, K-1)
    overall : tuple of DataTest, degree 3 and (up to 12 latents) degree 4 over all latents at once; empty for one
        latent and below ten rows a latent
    latents, samples : counts
    noise : float
        Largest noise variance of a direction of the scores, in units of the factors' variance.
    """

    planes: tuple[PlaneTest, ...]
    overall: tuple[DataTest, ...]
    latents: int
    samples: int
    noise: float = 0.0

    @property
    def smallest(self) -> float:
        """Smallest p-value of a plane."""
        return min((plane.p_value for plane in self.planes), default=1.0)

    @property
    def largest(self) -> float:
        """Largest p-value of a plane: that of the claim that every plane has axes (intersection-union)."""
        return max((plane.p_value for plane in self.planes), default=0.0)

    def every_plane(self, alpha: float = 0.01) -> bool:
        """Whether each plane rejects at level alpha; then so does the claim that some plane is elliptical."""
        return self.largest < alpha

    def some_plane(self, alpha: float = 0.01) -> bool:
        """Whether at least one plane rejects, at familywise level alpha."""
        return bool(self.rejected(alpha))

    def some_direction(self, alpha: float = 0.01) -> bool:
        """Whether a plane rejects, or over all latents one of the two degrees, each at alpha / 2."""
        return self.some_plane(alpha) or any(test.p_value < alpha / 2 for test in self.overall)

    def rejected(self, alpha: float = 0.01) -> tuple[tuple[int, int], ...]:
        """Return the planes that reject at familywise level alpha (Holm 1979)."""
        return tuple(sorted(holm({plane.plane: plane.p_value for plane in self.planes}, alpha)))

    def blocks(self, alpha: float = 0.01) -> tuple[tuple[int, ...], ...]:
        """Group latents joined by planes that do not reject: inside a group the data leave the rotation free."""
        axes = set(self.rejected(alpha))
        return connected(self.latents, {plane.plane for plane in self.planes} - axes)

    def group(self, alpha: float = 0.01) -> str:
        """Name the group that the data leave free, as in ``SP(2) x O(2)``."""
        return describe_blocks(self.blocks(alpha))

    @property
    def power(self) -> str:
        """What could have been found at this number of rows, in a sentence."""
        least = POWER_80 / self.samples
        return (
            f"{detectable(self.samples, self.noise).describe()} That is a signal of {least:.2g} per row (noncentrality "
            f"{POWER_80:.4g})."
        )

    def to_rows(self) -> list[dict[str, object]]:
        """Return the planes as plain numbers, ready for JSON."""
        return [
            {
                "plane": list(plane.plane),
                "p": plane.p_value,
                "p_degree_3": plane.degree_p_values[0],
                "p_degree_4": plane.degree_p_values[1],
                "signal_per_row": plane.signal,
                "equalised": plane.equalised,
            }
            for plane in self.planes
        ]

    def lines(self) -> list[str]:
        """Say the results, weakest planes first, at most six of them."""
        order = sorted(self.planes, key=lambda plane: -plane.p_value)
        shown = [plane.describe() for plane in order[:6]]
        if len(order) > 6:
            shown.append(
                f"... and {len(order) - 6} more planes with smaller p (smallest {self.smallest:.3g})."
            )
        return shown + [test.describe() for test in self.overall]

    def describe(self) -> str:
        """Say the results, one sentence a line."""
        return "\n".join(self.lines()) or "One latent: there is no rotation to test."
