"""Whether the fitted axes are the ones the data prefer: under the model's law, and under a law fitted to the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.rotation_search import LawTable, search_rotation
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
    """

    degrees: float
    gain: float
    error: float
    law: str

    def wins(self, degrees: float) -> bool:
        """Whether the other frame is further than ``degrees`` away and better beyond chance (one-sided .01)."""
        return self.degrees > degrees and self.gain > 2.33 * self.error


def model_frame(scores: Scores, laws: list[Prior], seed: int) -> FrameComparison:
    """Compare the fitted axes with the best axes under the model's own laws, on the same rows."""
    search = search_rotation(scores.values, scores.covariance, laws, seed)
    identity = torch.eye(len(laws), dtype=torch.float64)
    gain, error = _gain(scores, laws, identity, laws, search.rotation)
    return FrameComparison(_distance(search.rotation), gain, error, repr(laws[0]))


def adaptive_frame(scores: Scores, seed: int) -> FrameComparison:
    """Compare the fitted axes with those of the best common law among heavy- and light-tailed ones.

    Half of the rows choose the law and the frame; the other half compare it with the fitted axes under the best law
    for them, chosen on the first half too.
    """
    order = torch.randperm(len(scores.values), generator=torch.Generator().manual_seed(seed))
    first, second = (
        Scores(scores.values[rows], scores.covariance, scores.remainder[rows]) for rows in order.chunk(2)
    )
    latents = scores.values.shape[1]
    identity = torch.eye(latents, dtype=torch.float64)
    found = []
    for law in candidate_laws():
        search = search_rotation(first.values, first.covariance, [law] * latents, seed, restarts=1)
        found.append((search.contrast, law, search.rotation))
    _, law, rotation = max(found, key=lambda item: item[0])
    values = [
        (float(contrast(first, [other] * latents, identity).mean()), other) for other in candidate_laws()
    ]
    _, here = max(values, key=lambda item: item[0])
    gain, error = _gain(second, [here] * latents, identity, [law] * latents, rotation)
    return FrameComparison(_distance(rotation), gain, error, repr(law))


def candidate_laws() -> list[Prior]:
    """Return the laws an adaptive frame may use: heavy tails, light tails, nearly uniform."""
    return [StudentT(4.0), Laplace(), GeneralizedNormal(1.5), GeneralizedNormal(3.0), GeneralizedNormal(8.0)]


def contrast(scores: Scores, laws: list[Prior], rotation: Float[Tensor, "k k"]) -> Float[Tensor, "samples"]:
    """Return sum_j log f_j of the turned scores, per row in nats."""
    values = scores.values @ rotation
    variances = (rotation.T @ scores.covariance @ rotation).diagonal()
    reach = float(values.abs().max()) + 1e-9
    tables = [LawTable.of(law, reach, (float(v), float(v))) for law, v in zip(laws, variances, strict=True)]
    parts = [
        table(y.unsqueeze(0), v.view(1))[0] for table, y, v in zip(tables, values.T, variances, strict=True)
    ]
    return torch.stack(parts).sum(0)


def _gain(
    scores: Scores, here: list[Prior], frame: Tensor, there: list[Prior], other: Tensor
) -> tuple[float, float]:
    difference = contrast(scores, there, other) - contrast(scores, here, frame)
    return float(difference.mean()), float(difference.std() / math.sqrt(len(difference)))


def _distance(rotation: Float[Tensor, "k k"]) -> float:
    """Return the angle of a rotation in degrees, up to signs and order of the axes."""
    identity = torch.eye(len(rotation), dtype=torch.float64)
    matched = match_columns(identity, rotation).matched
    if torch.linalg.det(matched) < 0:
        matched = matched.clone()
        matched[:, 0] *= -1
    return float(rotation_angle(matched))
