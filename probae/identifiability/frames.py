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
from probae.priors import Gaussian, GeneralizedNormal, Independent, Laplace, Prior, StudentT

MAX_LATENTS = 12  # beyond, the search over frames costs more than the rest of the audit
SAME = 1.0  # degrees between frames that are one to start from
ROUNDS = 8  # of laws and axes in turn


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
    """Compare the fitted axes with those of the best laws, one for each axis, among heavy- and light-tailed ones.

    Half of the rows choose the laws and the frame; the other half compare it with the fitted axes under the best laws
    for them, chosen on the first half too. The search starts from the fitted axes and from the best axes of each common
    law; in turn each axis takes its best law and the axes turn under these, until no law changes: the mean density
    never falls. An axis may be Gaussian: else axes that chance shows the better of two wrong laws would win on Gaussian
    factors. Those that are have no axes among them, and stand as close to the fitted ones as they can.
    """
    values, covariance = scores.values, scores.covariance
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    first, second = (values[rows] for rows in order.chunk(2))
    tables = law_tables(values, covariance, [*candidate_laws(), Gaussian()])
    here = best_laws(tables, first, covariance)
    found = max(
        (
            _alternate(tables, first, covariance, start, seed)
            for start in _starts(tables, first, covariance, seed)
        ),
        key=lambda frame: frame.contrast,
    )
    own, there = [tables[index] for index in here], [tables[index] for index in found.laws]
    free = [axis for axis, index in enumerate(found.laws) if index == len(tables) - 1]
    rotation = _settled(found.rotation, free)
    return _compare(second, covariance, own, there, rotation, repr(law_of(found.laws)))


def _settled(rotation: Float[Tensor, "k k"], free: list[int]) -> Float[Tensor, "k k"]:
    """Turn these columns within their span to the unit vectors that it comes closest to."""
    if len(free) < 2:
        return rotation
    span = rotation[:, free]
    closest = span.square().sum(1).topk(len(free)).indices
    left, _, right = torch.linalg.svd(span[closest].T)
    settled = rotation.clone()
    settled[:, free] = span @ (left @ right)
    return settled


@dataclass(frozen=True, eq=False)
class _Frame:
    """Axes, the candidate law of each, and their mean log density."""

    rotation: Float[Tensor, "k k"]
    laws: list[int]
    contrast: float


def _starts(tables: list[LawTable], rows: Tensor, covariance: Tensor, seed: int) -> list[Tensor]:
    """Return the given axes and the best ones of each common law, those that differ by a degree or more."""
    latents = rows.shape[1]
    starts = [torch.eye(latents, dtype=torch.float64)]
    for table in tables[:-1]:  # all axes are alike to Gaussian factors
        found = search_rotation(rows, covariance, [table] * latents, seed, restarts=1).rotation
        if min(axes_angle(start.T @ found) for start in starts) > SAME:
            starts.append(found)
    return starts


def _alternate(
    tables: list[LawTable], rows: Tensor, covariance: Tensor, rotation: Tensor, seed: int
) -> _Frame:
    """Choose the laws of given axes, turn the axes under them, and again while a law changes."""
    laws: list[int] = []
    contrast = -math.inf
    for _ in range(ROUNDS):
        turned, noise = rows @ rotation, rotation.T @ covariance @ rotation
        chosen = best_laws(tables, turned, noise)
        if chosen == laws:
            break
        laws = chosen
        search = search_rotation(turned, noise, [tables[index] for index in laws], seed, restarts=0)
        rotation, contrast = rotation @ search.rotation, search.contrast
    return _Frame(rotation, laws, contrast)


def law_tables(
    values: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"], laws: list[Prior]
) -> list[LawTable]:
    """Tabulate each law over the range of the scores."""
    return [tabulate(values, covariance, [law])[0] for law in laws]


def best_laws(
    tables: list[LawTable], values: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"]
) -> list[int]:
    """Return for each column the law of the highest mean density."""
    columns = zip(values.T, covariance.diagonal(), strict=True)
    density = [[float(table(y.unsqueeze(0), v.view(1)).mean()) for table in tables] for y, v in columns]
    return [max(range(len(tables)), key=found.__getitem__) for found in density]


def law_of(laws: list[int]) -> Prior:
    """Return the law of factors with these candidate laws; the number after the last is Gaussian."""
    chosen = [[*candidate_laws(), Gaussian()][index] for index in laws]
    return chosen[0] if len(set(laws)) == 1 else Independent(chosen)


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
    return float(rotation_angle(nearest_axes(rotation)))


def nearest_axes(rotation: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    """Return the rotation to the same axes, in the order and with the signs of those they are closest to.

    Examples
    --------
    >>> from probae.linalg import givens
    >>> nearest_axes(givens(2, 0, 1, math.radians(90.0))).round(decimals=9) + 0.0
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    matched = match_columns(torch.eye(len(rotation), dtype=torch.float64), rotation).matched
    if torch.linalg.det(matched) < 0:  # half a turn away in every sense: turn back the column furthest off
        matched = matched.clone()
        matched[:, int(matched.diagonal().argmin())] *= -1
    return matched
