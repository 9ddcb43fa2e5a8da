r"""How far the axes move when the rows are drawn again, beside the error that theory gives.

Rows of scores are drawn with replacement, brought back to the covariance of all, and the frame is found anew. The
rotation R* between the two frames, signs and order matched, has the angle (log R*)_ij in the plane (i, j); its standard
deviation should be the sandwich error. Far above: the optimum is not the local one that the sandwich trusts, or the
angle wraps round (26 degrees are uniform on +-45). Resamples repeat the accidents of the rows: Gaussian rows under a
Laplace law have axes that stay within 5 degrees or so (1,000 rows), and other rows would put them anywhere. So this is
a check of the error, and never evidence that there are axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count
from probae.identifiability.frames import MAX_LATENTS, nearest_axes
from probae.identifiability.precision import AngleError, angle_errors, in_degrees
from probae.inference.rotation_search import search_rotation, tabulate
from probae.matching import plane_angles
from probae.models.marginal import Scores
from probae.priors import Prior

__all__ = ["AxesBootstrap", "PlaneBootstrap", "axes_bootstrap"]

ROWS = 5000  # rows of a resample at most: angles of more are scaled by the root of the counts
MARGIN = 1.3  # whitening a resample may put a score further out than any was


@dataclass(frozen=True)
class PlaneBootstrap:
    """Standard deviation of an angle over resamples, with its Monte Carlo error, and the sandwich error; degrees."""

    plane: tuple[int, int]
    degrees: float
    error: float
    sandwich: float

    @property
    def ratio(self) -> float:
        """Bootstrap over sandwich: near 1 where the theory holds."""
        return self.degrees / self.sandwich


@dataclass(frozen=True)
class AxesBootstrap:
    """Stability of the axes, plane by plane.

    Attributes
    ----------
    planes : tuple of PlaneBootstrap
    count : int
        Resamples.
    samples : int
        Rows that the errors hold for.

    Examples
    --------
    >>> found = AxesBootstrap((PlaneBootstrap((0, 1), 1.5, 0.15, 1.25),), count=50, samples=1000)
    >>> found.worst.ratio
    1.2
    """

    planes: tuple[PlaneBootstrap, ...]
    count: int
    samples: int

    @property
    def worst(self) -> PlaneBootstrap:
        """The plane whose angle moves most."""
        return max(self.planes, key=lambda plane: plane.degrees)

    def describe(self) -> str:
        """Say the worst plane in a sentence."""
        worst = self.worst
        i, j = worst.plane
        return (
            f"axes over {self.count} resamples: worst plane (z[{i}], z[{j}]) moves by {worst.degrees:.2f} +- "
            f"{worst.error:.2f} degrees (Monte Carlo), sandwich {in_degrees(worst.sandwich)} (asymptotic)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "resamples": self.count,
            "samples": self.samples,
            "planes": [
                {
                    "plane": list(p.plane),
                    "degrees": p.degrees,
                    "error": p.error,
                    "sandwich_degrees": p.sandwich if math.isfinite(p.sandwich) else None,
                }
                for p in self.planes
            ],
        }


def axes_bootstrap(scores: Scores, laws: list[Prior], count: int = 50, *, seed: int = 0) -> AxesBootstrap:
    """Draw rows again, find the frame anew, and compare how it moves with the sandwich error.

    Parameters
    ----------
    scores : Scores
        Sufficient scores at the fitted axes.
    laws : list of Prior
        Laws of the factors.
    count : int
        Resamples.
    seed : int

    Returns
    -------
    AxesBootstrap

    Raises
    ------
    ParameterError
        One factor, or more than 12.

    Notes
    -----
    Only the frame is found anew: not the subspace, the noise, or a shape of the law that was learnt. Beyond 5,000 rows
    resamples have 5,000, and angles are multiplied by sqrt(5000 / N).

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(1000, 8, 2, noise=0.1, seed=0).x
    >>> run = pa.fit(pa.LinearFactorModel(8, 2, pa.priors.Laplace()), x)
    >>> found = axes_bootstrap(run.model.sufficient_scores(x), [pa.priors.Laplace()] * 2, count=20)
    >>> 0.4 < found.worst.ratio < 2.5
    True
    """
    values, covariance = scores.values, scores.covariance
    samples, latents = values.shape
    if not 2 <= latents <= MAX_LATENTS:
        raise ParameterError(
            f"axes_bootstrap needs between 2 and {MAX_LATENTS} factors to turn, got {latents}."
        )
    check_count("count", count, minimum=2)
    tables = tabulate(MARGIN * values, covariance, laws)
    generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
    drawn = min(samples, ROWS)
    home = search_rotation(values, covariance, tables, seed, restarts=0).rotation
    values, covariance = values @ home, home.T @ covariance @ home
    root = _symmetric_root(values)
    angles = []
    for _ in range(count):
        rows = values[torch.randint(samples, (drawn,), generator=generator)]
        rows = (rows - rows.mean(0)) @ torch.linalg.solve(_symmetric_root(rows), root)
        found = search_rotation(rows, covariance, tables, seed, restarts=0).rotation
        angles.append(plane_angles(nearest_axes(found)))
    spread = torch.stack(angles).square().mean(0).sqrt() * math.sqrt(drawn / samples)
    errors = angle_errors(Scores(values, covariance, scores.remainder), laws)
    return AxesBootstrap(tuple(_plane(error, spread, count) for error in errors), count, samples)


def _plane(error: AngleError, spread: Tensor, count: int) -> PlaneBootstrap:
    degrees = float(spread[error.plane])
    return PlaneBootstrap(error.plane, degrees, degrees / math.sqrt(2 * count), error.sandwich)


def _symmetric_root(values: Tensor) -> Float[Tensor, "latents latents"]:
    """Return the symmetric root of the covariance."""
    levels, vectors = torch.linalg.eigh(torch.cov(values.T))
    return (vectors * levels.clamp_min(0).sqrt()) @ vectors.T
