r"""Does a rotation learnt on some rows fit other rows better than chance (T3)?

The whitened scores of a Gaussian refit (`gaussian_scores`) are split in halves, each whitened again by itself. The
first half chooses the frame R under the model's laws, the second compares

    C(R) = mean_n sum_j log f_j((y_n R)_j)      with      C(R H_b),   H_b Haar on O(K), b = 1, ..., B.

For Gaussian rows the second half is uniform on its frames given the first, so all these are exchangeable and
p = (1 + #{C(R H_b) >= C(R)}) / (B + 1) is exact; for elliptical rows it is asymptotic. It speaks of the rotation as a
whole: one plane alone cannot reach a p-value below about (angle error) / 45 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from probae.checks import DataError, ParameterError, check_count
from probae.identifiability.data_test import monte_carlo_p, table_rows
from probae.identifiability.gaussian_scores import whiten, whitened_scores
from probae.inference.rotation_search import column_density, search_rotation, tabulate
from probae.linalg import haar_rotation
from probae.priors import Laplace, Prior

MINIMUM_ROWS = 60
ROWS = 20_000  # rows used at most, chosen at random


@dataclass(frozen=True)
class HeldOutRotation:
    """Whether the rotation learnt on half of the rows fits the other half better than Haar rotations.

    Attributes
    ----------
    p_value : float
    gain : float
        Nats per held-out row over the mean of the Haar rotations.
    error : float
        Its standard error, rows and rotations together.
    rotations, samples, latents : int
        Haar rotations, held-out rows, scores.
    """

    p_value: float
    gain: float
    error: float
    rotations: int
    samples: int
    latents: int

    def describe(self) -> str:
        """Say the result in a sentence."""
        return (
            f"Rotation learnt on other rows (T3): p = {self.p_value:.3g} against {self.rotations} Haar rotations "
            f"(Monte Carlo, exact for Gaussian rows), {self.gain:+.4f} +- {self.error:.4f} nats per row on "
            f"{self.samples} held-out rows."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "p": self.p_value,
            "gain_nats_per_row": self.gain,
            "error": self.error,
            "rotations": self.rotations,
            "held_out_rows": self.samples,
        }


def held_out_rotation(
    x: Any,
    latents: int,
    laws: Sequence[Prior] | None = None,
    noise: str = "diagonal",
    *,
    score_noise: float = 0.0,
    rotations: int = 999,
    seed: int = 0,
) -> HeldOutRotation:
    """Test on held-out rows the rotation that laws of the factors choose (T3).

    Parameters
    ----------
    x : array, DataFrame or Tensor (N, D)
        Complete rows, independent of each other.
    latents : int
        Factors K, at least 2.
    laws : sequence of K Prior, optional
        Laws of the factors, each symmetric and of one coordinate; Laplace by default.
    noise : str
        Shape of the noise of the Gaussian refit; "none" takes x itself.
    score_noise : float
        Noise variance of the scores, in units of the factors' variance, under which the laws are compared. It moves
        the power, not the level.
    rotations : int
        Haar rotations B.
    seed : int
        Seed of the halves, the search and the rotations.

    Returns
    -------
    HeldOutRotation

    Raises
    ------
    DataError
        Fewer than 60 rows or 4 K + 4, one latent, values that are not finite, or columns that follow from the others.
    ParameterError
        Laws of another number, noise below 0 or of no such shape, or fewer than 2 rotations.

    Examples
    --------
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> held_out_rotation(priors.Laplace().sample(600, 3).double(), 3, noise="none", rotations=99).p_value
    0.01
    """
    rows = table_rows(x, max(MINIMUM_ROWS, 4 * latents + 4))
    if latents < 2:
        raise DataError("A rotation needs at least two factors.")
    chosen: list[Prior] = [Laplace()] * latents if laws is None else list(laws)
    if len(chosen) != latents:
        raise ParameterError(f"laws should hold one law for each of {latents} factors, got {len(chosen)}.")
    if not 0 <= score_noise < math.inf:
        raise ParameterError(f"score_noise should be a finite number of 0 or more, got {score_noise!r}.")
    check_count("rotations", rotations, minimum=2)
    generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
    y = whitened_scores(rows, latents, noise)
    latents = y.shape[1]
    order = torch.randperm(len(y), generator=generator)[:ROWS]
    first, second = (whiten(y[half]) * math.sqrt(1 + score_noise) for half in order.chunk(2))
    covariance = score_noise * torch.eye(latents, dtype=torch.float64)
    tables = tabulate(torch.cat([first, second]), covariance, chosen[:latents])
    rotation = search_rotation(first, covariance, tables, seed).rotation
    own = column_density(tables, second @ rotation, covariance)
    total, means = torch.zeros_like(own), []
    for turn in haar_rotation(latents, generator, count=rotations):
        value = column_density(tables, second @ rotation @ turn, covariance)
        total += value
        means.append(float(value.mean()))
    gain = own - total / rotations
    turns = torch.tensor(means, dtype=torch.float64)
    error = math.hypot(float(gain.std()) / math.sqrt(len(gain)), float(turns.std()) / math.sqrt(rotations))
    p = monte_carlo_p(torch.cat([own.mean()[None], turns]))
    return HeldOutRotation(p, float(gain.mean()), error, rotations, len(second), latents)
