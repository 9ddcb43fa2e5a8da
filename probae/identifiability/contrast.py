r"""What an assumed law makes of a score: E psi^2, E[s psi] and E psi' over the data, whatever law the data have.

The last is a density where the law has a kink. With m = |s|, its density f, and a line for f on [0, h],

.. math:: E\,\psi'(s) = E[\psi'(m); m > h] + \psi(h) f(h) - \int_0^h \psi(m) f'(m)\,dm

which is sqrt2 f(0) = 2 sqrt2 p(0) for the Laplace law, and finite for every law that peaks at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probae.identifiability.density_at_zero import boundary_line
from probae.priors import Prior
from probae.priors.information import SMOOTHING, spread_of

__all__ = ["ContrastMoments", "contrast_moments"]

LITTLE_NOISE = (
    1e-3  # noise variance, relative, below which the law itself is used: psi is then all but a jump
)
STEP = 0.1  # of the standard deviation of the noise, for differences of a smooth psi
NEAR, FAR = 1e-6, 1e-3  # where the slope of psi tells a kink from a bend
POINTS = 4001  # of the grid on which psi of a noisy law is read
ROWS = 2 * POINTS  # from which the grid is cheaper than the rows


@dataclass(frozen=True)
class ContrastMoments:
    """E psi^2, E[s psi] and E psi' of one score brought to unit variance."""

    power: float
    slope: float
    curvature: float

    @property
    def alpha(self) -> float:
        """What one score adds to the curvature in each of its planes: E psi' - E[s psi], positive at a maximum."""
        return self.curvature - self.slope


def contrast_moments(law: Prior, y: Tensor, variance: float) -> ContrastMoments:
    """Average the score function of the noisy law over the data.

    A law without finite information is smoothed with Gaussian noise, and so are the data.

    Examples
    --------
    >>> import torch
    >>> from probae import priors
    >>> normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> abs(contrast_moments(priors.Laplace(), normal, 0.0).alpha) < 0.1       # flat for Gaussian scores
    True
    """
    spread = spread_of(law)
    if not math.isfinite(law.fisher_information()) and variance < SMOOTHING * spread**2:
        extra = SMOOTHING * spread**2 - variance
        noise = torch.randn(len(y), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        y, variance = y + math.sqrt(extra) * noise, variance + extra
    total = math.sqrt(variance + spread**2)
    y = y.double() / y.std(correction=0) * total  # scores on the scale of the law
    with torch.no_grad():
        if variance > LITTLE_NOISE * spread**2:
            psi, slope = _noisy(law, y, variance)
        else:
            psi, slope = law.score(y), _noise_free_slope(law, y)
    s, psi = y / total, total * psi
    return ContrastMoments(
        float(psi.square().mean()), float((s * psi).mean()), total**2 * float(slope.mean())
    )


def _noisy(law: Prior, y: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Return psi and psi' of a law with noise, at the rows or read off a grid."""
    step = STEP * math.sqrt(variance)

    def both(points: Tensor) -> tuple[Tensor, Tensor]:
        ahead, behind = law.noisy_score(points + step, variance), law.noisy_score(points - step, variance)
        return law.noisy_score(points, variance), (ahead - behind) / (2 * step)

    if len(y) < ROWS:
        return both(y)
    reach = float(y.abs().max()) + 1e-9
    corners = torch.linspace(-1, 1, POINTS, dtype=torch.float64)
    psi, slope = both(
        reach * corners * corners.abs()
    )  # finer near zero, where psi of a little noise is steep
    place = (y.sign() * (y.abs() / reach).sqrt() + 1) / 2 * (POINTS - 1)
    left = place.floor().clamp(0, POINTS - 2).long()
    share = place - left
    return (
        psi[left] * (1 - share) + psi[left + 1] * share,
        slope[left] * (1 - share) + slope[left + 1] * share,
    )


def _noise_free_slope(law: Prior, y: Tensor) -> Tensor:
    """Return terms whose mean is E psi'(y): psi' itself, or a line for the density next to a kink at zero."""
    near, far = (
        float(law.score(torch.tensor([at], dtype=torch.float64))) / at
        for at in (NEAR * spread_of(law), FAR * spread_of(law))
    )
    if near <= 1.5 * far:  # psi bends smoothly through zero
        return _slope(law, y)
    line = boundary_line(y)
    h = torch.tensor([line.bandwidth], dtype=torch.float64)
    rise = law.log_prob(0 * h) - law.log_prob(h)  # the integral of psi from 0 to h
    inside = law.score(h) * (line.value + line.slope * h) - line.slope * rise
    sizes = y.abs()
    return torch.where(sizes > h, _slope(law, sizes.clamp_min(float(h))), 0.0) + inside


def _slope(law: Prior, y: Tensor) -> Tensor:
    """Return psi' by a central difference, short of the scale of the law and long of rounding."""
    step = 1e-4 * spread_of(law)
    return (law.score(y + step) - law.score(y - step)) / (2 * step)
