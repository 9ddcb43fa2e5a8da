"""Whether the fitted axes are the ones the data prefer: under the model's law, and under a law fitted to the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.rotation_search import LawTable, column_density, search_rotation, tabulate
from probae.matching import match_columns, rotation_angle
from probae.models.marginal import Scores
from probae.priors import GeneralizedNormal, Laplace, Prior, StudentT

MAX_LATENTS = 12  # beyond, the search over frames costs more than the rest of the audit


@dataclass(frozen=True)
class FrameComparison:
    """A better frame than the fitted one: how far away, and what it gains on rows it was not chosen on.

    Attributes
    ----------
    degrees : float
        Geodesic angle between the frames after matching signs and order.
    gain : float
        Nats per held-out row.
    error : float
        Standard error of the gain.
    law : str
        The law of the factors under which the frame was found.
    rotation : Tensor (K, K), optional
        Its axes as columns, in the coordinates of the scores.
    """

    degrees: float
    gain: float
    error: float
    law: str
    rotation: Float[Tensor, "k k"] | None = field(default=None, compare=False, repr=False)

    def wins(self, degrees: float) -> bool:
        """Whether the other frame is further than ``degrees`` away and better beyond chance (one-sided .01)."""
        return self.degrees > degrees and self.gain > 2.33 * self.error


def model_frame(scores: Scores, laws: list[Prior], seed: int) -> FrameComparison:
    """Compare the fitted axes with the best axes under the model's own laws, on the same rows."""
    tables = tabulate(scores.values, scores.covariance, laws)
    rotation = search_rotation(scores.values, scores.covariance, tables, seed).rotation
    return _compare(scores.values, scores.covariance, tables, tables, rotation, repr(laws[0]))


def adaptive_frame(scores: Scores, seed: int) -> FrameComparison:
    """Compare the fitted axes with those of the best common law among heavy- and light-tailed ones.

    Half of the rows choose the law and the frame; the other half compare it with the fitted axes under the best law
    for them, chosen on the first half too.
    """
    values, covariance = scores.values, scores.covariance
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    first, second = (values[rows] for rows in order.chunk(2))
    laws = candidate_laws()
    tables = [tabulate(values, covariance, [law] * values.shape[1]) for law in laws]
    searches = [search_rotation(first, covariance, table, seed, restarts=1) for table in tables]
    found = max(range(len(laws)), key=lambda index: searches[index].contrast)
    here = max(tables, key=lambda table: float(column_density(table, first, covariance).mean()))
    return _compare(second, covariance, here, tables[found], searches[found].rotation, repr(laws[found]))


def candidate_laws() -> list[Prior]:
    """Return the laws an adaptive frame may use: heavy tails, light tails, nearly uniform."""
    return [StudentT(4.0), Laplace(), GeneralizedNormal(1.5), GeneralizedNormal(3.0), GeneralizedNormal(8.0)]


def _compare(
    values: Tensor,
    covariance: Tensor,
    here: list[LawTable],
    there: list[LawTable],
    rotation: Tensor,
    law: str,
) -> FrameComparison:
    """Measure what turned axes gain over the given ones, per row."""
    turned = column_density(there, values @ rotation, rotation.T @ covariance @ rotation)
    gain = turned - column_density(here, values, covariance)
    error = float(gain.std() / math.sqrt(len(gain)))
    return FrameComparison(axes_angle(rotation), float(gain.mean()), error, law, rotation)


def axes_angle(rotation: Float[Tensor, "k k"]) -> float:
    """Return the angle of a rotation in degrees, up to signs and order of the axes.

    Examples
    --------
    >>> from probae.linalg import givens
    >>> round(axes_angle(givens(3, 0, 2, math.radians(70.0))), 9)         # 20 degrees short of an exchange of axes
    20.0
    """
    identity = torch.eye(len(rotation), dtype=torch.float64)
    matched = match_columns(identity, rotation).matched
    if torch.linalg.det(matched) < 0:
        matched = matched.clone()
        matched[:, 0] *= -1
    return float(rotation_angle(matched))
