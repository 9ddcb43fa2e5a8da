r"""How precisely the axes can be known: standard errors of the angle in each plane, in degrees.

Score j, brought to unit variance, is a source with information kappa_j (of the prior's law with the score noise
v_j = (G^{-1})_jj added). In the plane (i, j), with the covariance estimated too,

    Cramer-Rao  Var(theta) >= (kappa_i + kappa_j + 2) / (4 n (kappa_i kappa_j - 1))
    sandwich    Var(theta)  = (E psi_i^2 + E psi_j^2 - 2 E[s psi]_i E[s psi]_j) / (n (a_i + a_j)^2),
                a_i = E psi_i'(s) - E[s psi_i(s)]

(the first re-derived from Tichavsky, Koldovsky & Oja, 2006). The Cramer-Rao error trusts the model's law; the
sandwich reads the expectations off the data. If a_i + a_j <= 0 the fitted law has a minimum, not a maximum, at
independent axes, and the error is infinite. Above about 13 degrees the circle saturates and the number means nothing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probae.models.marginal import Scores
from probae.priors import Prior
from probae.priors.information import information_of, spread_of


@dataclass(frozen=True)
class AngleError:
    """Standard errors of the angle in one plane, in degrees, and the rows needed for smaller ones."""

    plane: tuple[int, int]
    cramer_rao: float
    sandwich: float
    samples: int

    @property
    def degrees(self) -> float:
        """The larger of the two standard errors."""
        return max(self.cramer_rao, self.sandwich)

    def samples_for(self, degrees: float) -> float:
        """Rows needed for a standard error of so many degrees."""
        return self.samples * (self.degrees / degrees) ** 2


def angle_errors(scores: Scores, laws: list[Prior]) -> list[AngleError]:
    """Return the standard error of every plane of the scores."""
    samples = len(scores.values)
    kappa = [information(law, float(v)) for law, v in zip(laws, scores.variance, strict=True)]
    moments = [
        contrast_moments(law, y, float(v))
        for law, y, v in zip(laws, scores.values.T, scores.variance, strict=True)
    ]
    return [
        AngleError(
            (i, j),
            cramer_rao(kappa[i], kappa[j], samples),
            sandwich(moments[i], moments[j], samples),
            samples,
        )
        for i, j in itertools.combinations(range(len(laws)), 2)
    ]


def information(law: Prior, variance: float) -> float:
    """Return kappa of the law with noise added, on unit variance."""
    if variance <= 0:
        return information_of(law) * spread_of(law) ** 2
    return law.noisy_fisher_information(variance)


def cramer_rao(first: float, second: float, samples: int) -> float:
    """Return the Cramer-Rao standard error of an angle, in degrees; infinite for two Gaussian sources."""
    excess = first * second - 1.0
    if excess <= 1e-12:
        return math.inf
    return math.degrees(math.sqrt((first + second + 2.0) / (4.0 * samples * excess)))


@dataclass(frozen=True)
class ContrastMoments:
    """E psi^2, E[s psi] and E psi' of one score brought to unit variance."""

    power: float
    slope: float
    curvature: float


def contrast_moments(law: Prior, y: Tensor, variance: float) -> ContrastMoments:
    """Average the score function of the noisy law over the data.

    psi' is a central difference over half a bandwidth n^{-1/5} on either side: at a kink of the law that is a kernel
    estimate of the density there.
    """
    total = math.sqrt(variance + spread_of(law) ** 2)
    y = y / y.std(correction=0) * total  # scores on the scale of the law

    def psi(value: Tensor) -> Tensor:
        return total * (law.noisy_score(value, variance) if variance > 0 else law.score(value))

    half = 0.5 * len(y) ** -0.2
    with torch.no_grad():
        s, centre = y / total, psi(y)
        difference = (psi(y + half * total) - psi(y - half * total)) / (2 * half)
    return ContrastMoments(
        float(centre.square().mean()), float((s * centre).mean()), float(difference.mean())
    )


def sandwich(first: ContrastMoments, second: ContrastMoments, samples: int) -> float:
    """Return the sandwich standard error of an angle, in degrees; infinite where the frame is not a maximum."""
    curvature = first.curvature - first.slope + second.curvature - second.slope
    if curvature <= 0:
        return math.inf
    power = max(first.power + second.power - 2 * first.slope * second.slope, 0.0)
    return math.degrees(math.sqrt(power / samples) / curvature)
