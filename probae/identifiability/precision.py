r"""How precisely the axes can be known: standard errors of the angle in each plane, in degrees.

Score j, brought to unit variance, is a source with information kappa_j (of the prior's law with the score noise
v_j = (G^{-1})_jj added). In the plane (i, j), with the covariance estimated too,

    Cramer-Rao  Var(theta) >= (kappa_i + kappa_j + 2) / (4 n (kappa_i kappa_j - 1))
    sandwich    Var(theta)  = (E psi_i^2 + E psi_j^2 - 2 E[s psi]_i E[s psi]_j) / (n (a_i + a_j)^2),
                a_i = E psi_i'(s) - E[s psi_i(s)]

(the first re-derived from Tichavsky, Koldovsky & Oja, 2006). The Cramer-Rao error trusts the model's law; the
sandwich reads the expectations off the data. Both take the noise of the scores as independent: where it is not,
`effective_information` gives the bound with everything else estimated too, and the sandwich grows in proportion. If
a_i + a_j <= 0 the fitted law has a minimum, not a maximum, at independent axes, and the error is infinite. Above about
13 degrees the circle saturates and the number means nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from probae.identifiability.contrast import ContrastMoments, contrast_moments
from probae.identifiability.effective_information import EffectiveInformation
from probae.models.marginal import Scores
from probae.priors import Prior
from probae.priors.information import information_of, spread_of

LARGEST_ERROR = 13.0  # degrees; above, the angle of a plane is not known in any useful sense


@dataclass(frozen=True)
class AngleError:
    """Standard errors of the angle in one plane, in degrees, and the rows needed for smaller ones.

    Attributes
    ----------
    plane : (int, int)
    cramer_rao : float
        The law is right, and the noise of the scores independent (asymptotic).
    sandwich : float
        The expectations are those of the data (asymptotic).
    samples : int
    effective : float, or None
        The law is right, and loadings, mean and noise variances are estimated too (asymptotic).
    effective_error : float
        Monte Carlo standard error of ``effective``, in degrees; 0 if it is exact.
    """

    plane: tuple[int, int]
    cramer_rao: float
    sandwich: float
    samples: int
    effective: float | None = None
    effective_error: float = 0.0

    @property
    def degrees(self) -> float:
        """The largest of the standard errors."""
        return max(self.cramer_rao, self.sandwich, self.effective or 0.0)

    def samples_for(self, degrees: float) -> float:
        """Rows needed for a standard error of so many degrees."""
        return self.samples * (self.degrees / degrees) ** 2


def known_to(degrees: float) -> str:
    """Say that an angle is not known well enough to mean anything, and how well it is.

    Examples
    --------
    >>> known_to(21.3), known_to(math.inf)
    ('known only to 21 degrees (13 is the most that means anything)', 'not known')
    """
    if not math.isfinite(degrees):
        return "not known"
    return f"known only to {degrees:.0f} degrees ({LARGEST_ERROR:.0f} is the most that means anything)"


def in_degrees(degrees: float, digits: int = 2) -> str:
    """Say a standard error in degrees, "not known" where it is infinite.

    Examples
    --------
    >>> in_degrees(2.345), in_degrees(math.inf)
    ('2.35', 'not known')
    """
    return f"{degrees:.{digits}f}" if math.isfinite(degrees) else "not known"


def describe_worst(errors: Sequence[AngleError]) -> str:
    """Say how well the angle of the least certain plane is known, in a sentence.

    Examples
    --------
    >>> describe_worst([AngleError((0, 1), 1.5, math.inf, 1000)])
    'worst plane (z[0], z[1]): angle not known (Cramer-Rao 1.50, sandwich not known; asymptotic)'
    """
    worst = max(errors, key=lambda error: error.degrees)
    i, j = worst.plane
    every, rows, known = "", "", "angle not known"
    if worst.effective is not None:
        spread = f" +- {worst.effective_error:.2f}" if math.isfinite(worst.effective) else ""
        every = f", with all parameters estimated {in_degrees(worst.effective)}{spread}"
    if math.isfinite(worst.degrees):
        known = f"{worst.degrees:.2f} degrees"
        rows = (
            f"; rows for 5 degrees {worst.samples_for(5.0):,.0f}, for 1 degree {worst.samples_for(1.0):,.0f}"
        )
    return (
        f"worst plane (z[{i}], z[{j}]): {known} (Cramer-Rao {in_degrees(worst.cramer_rao)}, sandwich "
        f"{in_degrees(worst.sandwich)}{every}; asymptotic){rows}"
    )


def angle_errors(
    scores: Scores, laws: list[Prior], known: EffectiveInformation | None = None
) -> list[AngleError]:
    """Return the standard error of every plane of the scores.

    With the `effective_information` of the model, the sandwich error is multiplied by what all other parameters cost
    under the right law: effective / Cramer-Rao, or 1 where correlated noise of the scores makes that smaller.
    """
    samples = len(scores.values)
    kappa = [information(law, float(v)) for law, v in zip(laws, scores.variance, strict=True)]
    moments = [
        contrast_moments(law, y, float(v))
        for law, y, v in zip(laws, scores.values.T, scores.variance, strict=True)
    ]
    errors = [
        AngleError(
            (i, j),
            cramer_rao(kappa[i], kappa[j], samples),
            sandwich(moments[i], moments[j], samples),
            samples,
        )
        for i, j in itertools.combinations(range(len(laws)), 2)
    ]
    return errors if known is None else [_with_nuisances(error, known) for error in errors]


def _with_nuisances(error: AngleError, known: EffectiveInformation) -> AngleError:
    """Add the bound with all parameters unknown, and let the sandwich error pay for them."""
    (plane,) = (one for one in known.planes if one.plane == error.plane)
    effective = plane.degrees(error.samples)
    spread = 0.5 * effective * plane.error / plane.value if plane.value > 0 else 0.0
    cost = effective / error.cramer_rao if error.cramer_rao < math.inf else 1.0
    return replace(
        error, sandwich=error.sandwich * max(cost, 1.0), effective=effective, effective_error=spread
    )


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


def sandwich(first: ContrastMoments, second: ContrastMoments, samples: int) -> float:
    """Return the sandwich standard error of an angle, in degrees; infinite where the frame is not a maximum."""
    curvature = first.alpha + second.alpha
    if curvature <= 0:
        return math.inf
    power = max(first.power + second.power - 2 * first.slope * second.slope, 0.0)
    return math.degrees(math.sqrt(power / samples) / curvature)
