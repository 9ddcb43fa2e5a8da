r"""Does the assumed law have a maximum or a minimum at independent axes (T6)?

With psi the score of the assumed law and s a score of unit variance, the assumed log-likelihood of the plane (i, j)
has at independent scores the second derivative

    -n (alpha_i + alpha_j),      alpha_i = E psi_i'(s_i) - E s_i psi_i(s_i),

so independent axes are a maximum only if alpha_i + alpha_j > 0. Below 0 the fit turns away from them, by up to 45
degrees; at 0 it does not see them, whatever the data know. At the fitted frame the sum is never negative, a maximum
being what was looked for: read it at the frame of a law that was fitted too (`adaptive_frame`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.checks import DataError
from probae.identifiability.contrast import ContrastMoments, contrast_moments
from probae.models.marginal import Scores
from probae.priors import Prior
from probae.priors.information import spread_of

GROUPS = 20  # of rows, left out in turn for the standard errors
CLEAR = 3.0  # standard errors from 0 that make a sign
MINIMUM_ROWS = 200

POINTS = 2001  # of the grid on which the score of a noisy law is read
MARGIN = 1.2  # of its reach, for groups of rows of less spread

Moments = Callable[[Prior, Tensor, float], ContrastMoments]


@dataclass(frozen=True)
class PlaneCurvature:
    """alpha_i + alpha_j of one plane and its standard error."""

    plane: tuple[int, int]
    value: float
    error: float

    @property
    def sign(self) -> int:
        """1 for a maximum, -1 for a minimum, 0 where the sum is within three standard errors of 0."""
        return 0 if abs(self.value) <= CLEAR * self.error else int(math.copysign(1, self.value))


@dataclass(frozen=True)
class CurvatureSigns:
    """The sign of the assumed likelihood's curvature in each plane of independent scores.

    Attributes
    ----------
    alphas, errors : tuple of float
        alpha of each score, and its standard error.
    planes : tuple of PlaneCurvature
    law : str
        The assumed laws, each once.
    """

    alphas: tuple[float, ...]
    errors: tuple[float, ...]
    planes: tuple[PlaneCurvature, ...]
    law: str

    @property
    def reversed(self) -> tuple[tuple[int, int], ...]:
        """Planes in which the assumed law has a minimum at these axes."""
        return tuple(plane.plane for plane in self.planes if plane.sign < 0)

    @property
    def unclear(self) -> tuple[tuple[int, int], ...]:
        """Planes in which the sign is not clear: the assumed law hardly sees these axes."""
        return tuple(plane.plane for plane in self.planes if plane.sign == 0)

    @property
    def worst(self) -> PlaneCurvature:
        """The plane with the lowest sum, in standard errors."""
        return min(self.planes, key=lambda plane: plane.value / max(plane.error, 1e-300))

    def describe(self) -> str:
        """Say the result in a sentence."""
        i, j = self.worst.plane
        alphas = ", ".join(f"{a:+.2f} +- {e:.2f}" for a, e in zip(self.alphas, self.errors, strict=True))
        said = (
            f"Curvature of {self.law} at these axes (T6): alpha = {alphas} (jackknife errors); lowest sum "
            f"{self.worst.value:+.2f} +- {self.worst.error:.2f} in plane (z[{i}], z[{j}])"
        )
        if self.reversed:
            return (
                f"{said}: a minimum. The data determine the rotation, but the assumed law turns away from it, as "
                "heavy-tailed laws do from light-tailed factors."
            )
        if self.unclear:
            return f"{said}: no clear sign, the assumed law hardly sees these axes."
        return f"{said}: a maximum in every plane."

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "law": self.law,
            "alphas": list(self.alphas),
            "errors": list(self.errors),
            "planes": [
                {"plane": list(plane.plane), "sum": plane.value, "error": plane.error, "sign": plane.sign}
                for plane in self.planes
            ],
        }


def curvature_signs(
    scores: Scores,
    laws: Sequence[Prior],
    rotation: Float[Tensor, "latents latents"] | None = None,
    *,
    moments: Moments = contrast_moments,
    seed: int = 0,
) -> CurvatureSigns:
    """Find the sign of the curvature of assumed laws at the axes of scores, or at turned ones (T6).

    Parameters
    ----------
    scores : Scores
        Sufficient scores and the covariance of their noise.
    laws : sequence of K Prior
        Assumed laws of the factors, each of one coordinate; their noisy versions are compared.
    rotation : Tensor (K, K), optional
        Columns are the axes to look at, in the coordinates of the scores; those of the scores by default.
    moments : callable
        E psi^2, E[s psi] and E psi' of a law, a column of scores and its noise variance.
    seed : int
        Seed of the groups of rows that are left out in turn.

    Returns
    -------
    CurvatureSigns

    Raises
    ------
    DataError
        Fewer than 200 rows, one score, or a law for fewer scores than there are.

    Examples
    --------
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> def scores(prior):
    ...     y = prior.sample(1000, 2).double()
    ...     return Scores(y, torch.zeros(2, 2, dtype=torch.float64), torch.zeros(1000, dtype=torch.float64))
    >>> assumed = [priors.StudentT(4.0)] * 2
    >>> [curvature_signs(scores(law), assumed).worst.sign for law in (priors.StudentT(4.0), priors.Uniform())]
    [1, -1]
    """
    values, covariance = scores.values, scores.covariance
    if len(values) < MINIMUM_ROWS or values.shape[1] < 2 or len(laws) != values.shape[1]:
        raise DataError(
            f"The sign of curvature needs {MINIMUM_ROWS} rows, two scores and a law for each, got shape "
            f"{tuple(values.shape)} and {len(laws)} laws."
        )
    if rotation is not None:
        values, covariance = values @ rotation, rotation.T @ covariance @ rotation
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    found = [
        _alpha(law, column[order], float(variance), moments)
        for law, column, variance in zip(laws, values.T, covariance.diagonal(), strict=True)
    ]
    names = ", ".join(dict.fromkeys(map(repr, laws)))
    return signs_of([a for a, _ in found], [e for _, e in found], names)


def signs_of(alphas: Sequence[float], errors: Sequence[float], law: str) -> CurvatureSigns:
    """Combine alphas of independent scores, however they were found, plane by plane.

    Examples
    --------
    >>> signs_of([1.0, -0.4, -0.4], [0.05, 0.05, 0.05], "Laplace()").reversed
    ((1, 2),)
    """
    planes = tuple(
        PlaneCurvature((i, j), alphas[i] + alphas[j], math.hypot(errors[i], errors[j]))
        for i, j in itertools.combinations(range(len(alphas)), 2)
    )
    return CurvatureSigns(tuple(alphas), tuple(errors), planes, law)


def _alpha(law: Prior, column: Tensor, variance: float, moments: Moments) -> tuple[float, float]:
    """Return alpha of a column in random order, and its jackknife error over groups of rows."""
    law = _Read(law, column, variance) if variance > 0 else law
    whole = moments(law, column, variance).alpha
    groups = column.chunk(GROUPS)
    left = torch.tensor(
        [moments(law, torch.cat(groups[:g] + groups[g + 1 :]), variance).alpha for g in range(len(groups))],
        dtype=torch.float64,
    )
    count = len(groups)
    return whole, math.sqrt((count - 1) / count * float((left - left.mean()).square().sum()))


class _Read(Prior):
    """A law whose noisy score is read off a grid: it is asked for over a hundred times, and an integral elsewhere."""

    def __init__(self, law: Prior, column: Tensor, variance: float) -> None:
        super().__init__()
        self.law, self.kinks, self.variance = law, law.kinks, variance
        total = math.sqrt(variance + spread_of(law) ** 2)
        self.reach = MARGIN * total * float(column.abs().max() / column.std(correction=0)) + total
        with torch.no_grad():
            grid = torch.linspace(-self.reach, self.reach, POINTS, dtype=torch.float64)
            self.table = law.noisy_score(grid, variance)

    def noisy_score(self, y: Tensor, variance: float | Tensor) -> Tensor:
        if float(variance) != self.variance:  # of data smoothed further
            return self.law.noisy_score(y, variance)
        place = ((y / self.reach + 1) / 2 * (POINTS - 1)).clamp(0, POINTS - 1)
        left = place.floor().clamp_max(POINTS - 2).long()
        return self.table[left] + (place - left) * (self.table[left + 1] - self.table[left])

    def log_prob(self, z: Tensor) -> Tensor:
        return self.law.log_prob(z)

    def score(self, z: Tensor) -> Tensor:
        return self.law.score(z)

    def distribution(self, latents: int, like: Tensor | None = None) -> TorchDistribution:
        return self.law.distribution(latents, like)

    def fisher_information(self) -> float:
        return self.law.fisher_information()
