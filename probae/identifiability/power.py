r"""How far from Gaussian the factors of a plane must be for its test T1 to find them, as kappa - 1.

T_4 of two independent scores has the noncentrality n s per n rows, with the signal of their densities f

    s = 2 (E h cos 4 phi)^2 / E h^2,     (r, phi) polar coordinates, h = h(r) as in `radial_weights`,

here by quadrature. For weakly non-Gaussian symmetric factors it is e (kappa_i + kappa_j - 2) / 16, where kappa is that
of the scores, noise included, and e = (E h r^4)^2 / (E h^2 E r^8) <= 1 what the weight h keeps of the best one.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from probae.identifiability.spherical import HALF_WEIGHT
from probae.inference.rotation_search import LawTable
from probae.priors import GeneralizedNormal, Prior, StudentT
from probae.priors.information import spread_of

POWER_80 = 15.65  # noncentrality of chi2(2) at which level .005, half of .01, has power .8
REACH, RADII, ANGLES = 60.0, 1200, 48  # of the quadrature: largest radius in standard deviations, points
FAMILIES = {  # from the strongest signal: degrees of freedom, shapes below and above 2
    "Student-t": (3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 30.0, 100.0),
    "peaked generalised normal": (0.8, 1.0, 1.25, 1.5, 1.75, 1.9),
    "flat generalised normal": (12.0, 6.0, 4.0, 3.0, 2.5, 2.2, 2.1),
}
NOISES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0, 6.0, 10.0)


@dataclass(frozen=True)
class Detectable:
    """Smallest kappa - 1 found with probability .8 at level .01, by the shape of both factors; infinite for none.

    Attributes
    ----------
    heavy, peaked, light : float
        Student-t laws; generalised normal laws of shape below 2; of shape above 2. By quadrature, exact to some 1 %.
    noise : float
        Noise variance of the scores, in units of the factors' variance.
    samples : int
    """

    heavy: float
    peaked: float
    light: float
    noise: float
    samples: int

    @property
    def kappa(self) -> float:
        """The largest of the three: every such pair of factors with kappa - 1 above it is found."""
        return max(self.heavy, self.peaked, self.light)

    def describe(self) -> str:
        """Say it in a sentence."""
        named = zip(FAMILIES, (self.heavy, self.peaked, self.light), strict=True)
        bounds = [f"{name} {value:.2g}" if math.isfinite(value) else f"{name} none" for name, value in named]
        return (
            f"At {self.samples} rows and score noise {self.noise:.2g} a plane of two equal factors is found with "
            f"probability .8 (level .01) from these kappa - 1 on: {', '.join(bounds)}."
        )


def detectable(samples: int, noise: float = 0.0) -> Detectable:
    """Find how far from Gaussian two equal factors must be for T1 to find their plane with probability .8.

    Parameters
    ----------
    samples : int
        Rows.
    noise : float
        Noise variance of both scores, for factors of variance 1; rounded up to the next of 17 levels.

    Returns
    -------
    Detectable

    Examples
    --------
    >>> print(detectable(2000).describe())
    At 2000 rows and score noise 0 a plane of two equal factors is found with probability .8 (level .01) from these \
kappa - 1 on: Student-t 0.073, peaked generalised normal 0.086, flat generalised normal 0.065.
    """
    rounded = _rounded_up(noise)
    heavy, peaked, light = (_threshold(family, rounded, POWER_80 / samples) for family in FAMILIES)
    return Detectable(heavy, peaked, light, rounded, samples)


def plane_signal(law: Prior, noise: float = 0.0) -> float:
    """Return the signal per row of the plane of two factors of one symmetric law, with noise of that variance.

    Examples
    --------
    >>> from probae import priors
    >>> round(plane_signal(priors.Laplace(), 0.3), 4), plane_signal(priors.Gaussian(), 0.3) < 1e-6
    (0.0192, True)
    """
    scale = math.sqrt(spread_of(law) ** 2 + noise)
    table = LawTable.of(law, REACH * scale, (noise, noise), points=1024 if noise > 0 else 4096)
    step = 1.0 / RADII
    place = (torch.arange(RADII, dtype=torch.float64) + 0.5) * step
    r = REACH * scale * place.square()  # midpoints, finer near zero
    weight = r * 2 * REACH * scale * place * step
    angle = (torch.arange(ANGLES, dtype=torch.float64) + 0.5) * (math.pi / 4 / ANGLES)
    variance = torch.full((ANGLES,), noise, dtype=torch.float64)
    log_density = sum(table(torch.outer(side, r), variance) for side in (angle.cos(), angle.sin()))
    density = torch.as_tensor(log_density).exp() * weight
    mass = density.sum(0) / density.sum()  # of each radius
    axes = (density * (4 * angle).cos()[:, None]).sum(0) / density.sum()
    median = r[int(torch.searchsorted(mass.cumsum(0), torch.tensor(0.5, dtype=torch.float64)))]
    fourth = (r / (HALF_WEIGHT * median)).pow(4)
    h = fourth / (1 + fourth)
    return float(2 * (h @ axes) ** 2 / (h.square() @ mass))


@functools.lru_cache(maxsize=512)
def _point(family: str, index: int, noise: float) -> tuple[float, float]:
    """Return the signal and kappa - 1 of one law of a family, the strongest first."""
    shape = FAMILIES[family][index]
    law = StudentT(shape) if family == "Student-t" else GeneralizedNormal(shape)
    return plane_signal(law, noise), law.fisher_information() - 1


def _threshold(family: str, noise: float, signal: float) -> float:
    """Read kappa - 1 off a family, on logarithmic scales; beyond its weak end both are proportional."""
    strong, far = _point(family, 0, noise)
    if signal > strong:
        return math.inf
    for index in range(1, len(FAMILIES[family])):
        weak, near = _point(family, index, noise)
        if signal >= weak:
            share = math.log(strong / signal) / math.log(strong / weak)
            return far * (near / far) ** share
        strong, far = weak, near
    return far * signal / strong


def _rounded_up(noise: float) -> float:
    return next((level for level in NOISES if noise <= level * (1 + 1e-9)), noise)
