r"""Are the scores Gaussian (T2)? An exact test at any number of rows and features.

The statistics of the whitened scores Y of a Gaussian refit (`gaussian_scores`) do not depend on the frame:

    skewness    b_1 = ||mean y^(x)3||^2
    directions  T_4 of `spherical`, the fourth degree of the directions: axes
    radius      b_2 = mean ||y||^4: tails, whether or not they have axes

(beyond 12 latents b_1 = ||mean ||y||^2 y||^2, T_4 = ||mean ||y||^2 y y'||^2). Cube roots of the first two and
|b_2 - its mean| are standardised by all replicates and the observation together, and the largest of the three is the
statistic: exchangeable under the null, so p = (1 + #{T_b >= T}) / (B + 1) is exact (Dwass, 1957; Barnard, 1963).

The null is Gaussian, so elliptical factors, which have no axes, are rejected too: read it beside T1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count
from probae.identifiability.data_test import DataTest, monte_carlo_p
from probae.identifiability.gaussian_scores import gaussian_frames, whitened_scores
from probae.identifiability.spherical import fourth_degree, pair_products, radial_weights

NAMES = ("Skewness", "Directions", "Radius")
LARGEST_DEGREE_4 = 12  # latents up to which all fourth moments are looked at: their cost is N K^4
NUMBERS = 3e7  # random numbers that the replicates may take together
BLOCK = 2**16  # numbers in one block of replicates
FEWEST, MOST = 199, 999  # replicates chosen by the cost of one
TINY = 1e-100  # squared radius of a row at the mean: it has no direction, and weight 0
POWER = 0.8416  # normal deviate of a power of .8


@dataclass(frozen=True)
class GaussianTest:
    """Whether whitened scores are Gaussian: an exact p-value, and that of each of its three parts.

    Attributes
    ----------
    p_value : float
        Of the largest of the parts; exact for any rows and features, on complete rows.
    parts : tuple of DataTest
        Skewness, directions, radius, each exact by itself; without directions for one latent.
    detectable : float
        Excess kurtosis which, shared by all scores, is found through the radius with probability .8 at level .01.
    replicates, samples, latents : int
    """

    p_value: float
    parts: tuple[DataTest, ...]
    detectable: float
    replicates: int
    samples: int
    latents: int

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the p-value, as an estimate of what endless replicates would give."""
        return math.sqrt(self.p_value * (1 - self.p_value) / (self.replicates + 1))

    @property
    def power(self) -> str:
        """What could have been found at this number of rows, in a sentence."""
        return (
            f"At {self.samples} rows {self.latents} scores of excess kurtosis {self.detectable:.2g} or more each are "
            "told from Gaussian ones with probability .8 (level .01)."
        )

    def describe(self) -> str:
        """Say the result in a sentence, with the power where it does not reject."""
        parts = ", ".join(f"{part.name.lower()} {part.p_value:.3g}" for part in self.parts)
        said = (
            f"Scores Gaussian (T2): p = {self.p_value:.3g} ({parts}; exact, {self.replicates} replicates, Monte Carlo "
            f"error {self.error:.1g})."
        )
        return said if self.p_value < 0.01 else f"{said} {self.power}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "p": self.p_value,
            "error": self.error,
            "replicates": self.replicates,
            "latents": self.latents,
            **{f"p_{part.name.lower()}": part.p_value for part in self.parts},
            "detectable_excess_kurtosis": self.detectable,
        }


def gaussian_test(
    x: Any,
    latents: int,
    noise: str = "diagonal",
    *,
    replicates: int | None = None,
    seed: int = 0,
) -> GaussianTest:
    r"""Test exactly that rows are Gaussian, on their whitened factor scores (T2).

    Parameters
    ----------
    x : array, DataFrame or Tensor (N, D)
        Complete rows, independent of each other.
    latents : int
        Factors K of the Gaussian refit, which is a function of mean and covariance alone.
    noise : str
        Shape of its noise; "none" tests x itself.
    replicates : int, optional
        Monte Carlo replicates B; by default 999, fewer (at least 199) where N K is above 30,000. Time B N K^4.
    seed : int
        Seed of the replicates.

    Returns
    -------
    GaussianTest

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or columns that follow from the others.
    ParameterError
        No such noise, or fewer than 2 replicates.

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 5, generator=g, dtype=torch.float64)
    >>> gaussian_test(x, 2, replicates=199).p_value > 0.01
    True
    >>> heavy = x / torch.rand(200, 1, generator=g, dtype=torch.float64)        # one scale for all columns of a row
    >>> gaussian_test(heavy, 2, replicates=199).p_value                         # the least that 199 can give
    0.005
    """
    y = whitened_scores(x, latents, noise)
    samples, columns = y.shape
    if replicates is None:
        replicates = int(min(max(NUMBERS / y.numel(), FEWEST), MOST))
    check_count("replicates", replicates, minimum=2)
    generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
    size = max(1, BLOCK // y.numel())
    blocks = [min(size, replicates - done) for done in range(0, replicates, size)]
    null_law = [_statistics(gaussian_frames(count, samples, columns, generator)) for count in blocks]
    values = torch.cat([_statistics(y[None]), *null_law])
    shaped = torch.cat([values[:, :-1].clamp_min(0).pow(1 / 3), values[:, -1:]], 1)
    deviates = (shaped - shaped.mean(0)) / shaped.std(0)
    deviates[:, -1] = deviates[:, -1].abs()
    largest = deviates.max(1).values
    null = f"exact, Monte Carlo of {replicates}"
    names = NAMES if columns > 1 else (NAMES[0], NAMES[2])
    parts = tuple(
        DataTest(name, float(values[0, index]), None, monte_carlo_p(deviates[:, index]), null)
        for index, name in enumerate(names)
    )
    critical = float(largest[1:].quantile(0.99))
    detectable = (critical + POWER) * float(values[1:, -1].std()) / columns
    return GaussianTest(monte_carlo_p(largest), parts, detectable, replicates, samples, columns)


def _statistics(y: Float[Tensor, "count samples latents"]) -> Float[Tensor, "count parts"]:
    samples, latents = y.shape[1:]
    square = y.square().sum(2)
    radius = square.square().mean(1)
    if latents > LARGEST_DEGREE_4:
        third = torch.einsum("cn,cnk->ck", square, y) / samples
        fourth = (y * square[..., None]).mT @ y / samples
        return torch.stack([third.square().sum(1), fourth.square().sum((1, 2)), radius], 1)
    pairs = pair_products(y)
    skewness = (pairs.mT @ y).square().sum((1, 2)) / samples**2
    if latents == 1:
        return torch.stack([skewness, radius], 1)
    h = radial_weights(square.sqrt())
    square = square.clamp_min(TINY)
    second = torch.einsum("cn,cnm->cm", h / square, pairs).square().sum(1)
    fourth = ((pairs * (h / square.square())[..., None]).mT @ pairs).square().sum((1, 2))
    directions = fourth_degree(h.sum(1).square(), second, fourth, latents) / h.square().sum(1)
    return torch.stack([skewness, directions, radius], 1)
