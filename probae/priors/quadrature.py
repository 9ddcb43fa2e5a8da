r"""Integrals of a law of one coordinate: Gauss-Legendre panels, split where they have to be.

.. math:: \log f(y) = \log \int p(z)\, N(y - z; 0, v)\, dz , \qquad z = t |t|^3 .

Panels in t are halved until a panel and its two halves agree. The first ones end at 0, around y, and around a
mode of the integrand, where y - z = v psi(z), for a peak inside a wide panel could fall between its nodes.
So the mass is found at y (small v, heavy tails), at 0, or many noise deviations away from y (light tails).
The power makes abs(z)^a smooth in t at 0; a density that is smooth already loses nothing by it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from probae.priors.normal import log_normal

__all__ = ["graded_rule", "log_convolution"]

ORDER = 12  # nodes of a panel
CHUNK = 4096  # points integrated at a time, so that memory is bounded
POWER = 4  # z = sign(t) abs(t)^4
REACH = 9.0  # noise deviations beyond y and 0; what lies outside is below exp(-40) of the integral
STEPS = (-9.0, -3.0, 0.0, 3.0, 9.0)  # ends of the first panels, in noise deviations from y and from the mode
INWARD = (27.0, 81.0)  # and from y towards 0, where a second mode may lie
AGREEMENT = 1e-11  # of the integral, between a panel and its two halves
NEGLIGIBLE = -45.0  # log of a panel's share of the integral
HALVINGS = 60
BISECTIONS = 45

Function = Callable[[Tensor], Tensor]
# point, left and right end of each panel
Panels = tuple[Int[Tensor, " panels"], Float[Tensor, " panels"], Float[Tensor, " panels"]]

_nodes, _weights = np.polynomial.legendre.leggauss(ORDER)
NODES = torch.from_numpy(0.5 * (_nodes + 1))  # on [0, 1]
WEIGHTS = torch.from_numpy(0.5 * _weights)


def log_convolution(
    log_density: Function, score: Function, y: Float[Tensor, " n"], variance: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Log density of z + N(0, variance) at y, for a density of z that falls on both sides of 0.

    Accurate to about 1e-10 of the density while the noise deviation is above 1e-6 abs(y), which is what
    float64 resolves; differentiable in y, in the variance and in what `log_density` depends on (the panels
    are held fixed, the integrand is differentiated). Points are taken 4096 at a time and, under autograd,
    each chunk is computed again in the backward pass, so that memory stays bounded.

    Parameters
    ----------
    log_density, score
        log p and -d log p / dz, elementwise.
    y, variance
        Points and noise variances, float64.

    Examples
    --------
    >>> y = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> variance = torch.full_like(y, 3.0)
    >>> log_convolution(lambda z: log_normal(z, torch.ones_like(z)), lambda z: z, y, variance)
    tensor([-1.6121, -1.7371], dtype=torch.float64)
    >>> log_normal(y, 1 + variance)
    tensor([-1.6121, -1.7371], dtype=torch.float64)
    """
    finite = y.isfinite()
    chunks = list(zip(torch.where(finite, y, 0.0).split(CHUNK), variance.split(CHUNK), strict=True))
    if len(chunks) == 1:
        value = _integrate(log_density, score, *chunks[0])
    else:
        value = torch.cat([_integrate_twice(log_density, score, *chunk) for chunk in chunks])
    return torch.where(finite, value, -y.abs())  # NaN stays NaN, and the density at infinity is 0


def graded_rule(
    centres: Sequence[float], smallest: float, largest: float
) -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]:
    """Nodes and weights of an integral over the line, on panels that double in width away from each centre.

    Panels start at `smallest` next to a centre and end at least `largest` away from it.

    Examples
    --------
    >>> z, weights = graded_rule((0.0,), 1e-3, 100.0)
    >>> (weights * (-z.abs()).exp()).sum()
    tensor(2.0000, dtype=torch.float64)
    """
    doublings = int(np.ceil(np.log2(largest / smallest)))
    steps = smallest * 2.0 ** np.arange(doublings + 1)
    edges = np.unique(np.concatenate([centre + np.r_[-steps, 0.0, steps] for centre in centres]))
    left, width = torch.from_numpy(edges[:-1]), torch.from_numpy(np.diff(edges))
    return (left[:, None] + width[:, None] * NODES).flatten(), (width[:, None] * WEIGHTS).flatten()


def _integrate(log_density: Function, score: Function, y: Tensor, variance: Tensor) -> Tensor:
    with torch.no_grad():
        panels = _panels(log_density, score, y, variance)
    return _sum_by_point(_log_panels(log_density, y, variance, panels), panels[0], len(y))


def _integrate_twice(log_density: Function, score: Function, y: Tensor, variance: Tensor) -> Tensor:
    """As `_integrate`, keeping nothing for the backward pass but y and the variance."""
    return checkpoint(
        _integrate, log_density, score, y, variance, use_reentrant=False, preserve_rng_state=False
    )


def _log_panels(
    log_density: Function, y: Tensor, variance: Tensor, panels: Panels
) -> Float[Tensor, " panels"]:
    """Log of the Gauss-Legendre sum over each panel."""
    point, left, right = panels
    width = right - left
    t = left[:, None] + width[:, None] * NODES.to(y)
    z = t * t.abs() ** (POWER - 1)
    log_measure = WEIGHTS.to(y).log() + (POWER * t.abs() ** (POWER - 1)).log()
    log_noise = log_normal(y[point, None] - z, variance[point, None])
    return torch.logsumexp(log_density(z) + log_noise + log_measure, -1) + width.log()


def _panels(log_density: Function, score: Function, y: Tensor, variance: Tensor) -> Panels:
    """Halve panels until a panel and its halves agree to `AGREEMENT` of the integral."""
    active = _first_panels(score, y, variance)
    coarse = _log_panels(log_density, y, variance, active)
    settled, log_total = [], torch.full_like(y, -torch.inf)
    for _ in range(HALVINGS):
        point, left, right = active
        middle = 0.5 * (left + right)
        halves = torch.cat([point, point]), torch.cat([left, middle]), torch.cat([middle, right])
        fine = _log_panels(log_density, y, variance, halves)
        both = torch.logaddexp(*fine.chunk(2))
        total = torch.logaddexp(log_total, _sum_by_point(both, point, len(y)))[point]
        error = ((coarse - total).exp() - (both - total).exp()).abs()
        good = ~(error > AGREEMENT)  # a NaN of the density is settled too: halving does not mend it
        kept = good & ~(both - total < NEGLIGIBLE)
        settled.append((point[kept], left[kept], right[kept]))
        log_total = torch.logaddexp(log_total, _sum_by_point(both[good], point[good], len(y)))
        again = ~good.repeat(2)
        active, coarse = (halves[0][again], halves[1][again], halves[2][again]), fine[again]
        if len(coarse) == 0:
            break
    settled.append(active)
    point, left, right = (torch.cat(parts) for parts in zip(*settled, strict=True))
    return point, left, right


def _first_panels(score: Function, y: Tensor, variance: Tensor) -> Panels:
    """Panels between 0, a mode of the integrand and some noise deviations around y."""
    sd = variance.sqrt()
    low, high = y.clamp(max=0) - REACH * sd, y.clamp(min=0) + REACH * sd
    mode = _mode(score, y, variance)
    mode = torch.where((mode - y).abs() < sd, y, mode)  # panels that coincide cost nothing
    inward = torch.where(y < 0, 1.0, -1.0) * sd
    inner = [centre + step * sd for centre in (y, mode) for step in STEPS]
    inner += [torch.zeros_like(y), *(y + step * inward for step in INWARD)]
    edges = torch.stack([low, high, *(edge.clamp(low, high) for edge in inner)], -1).sort(-1).values
    edges = edges.sign() * edges.abs() ** (1 / POWER)
    left, right = edges[:, :-1].flatten(), edges[:, 1:].flatten()
    point = torch.arange(len(y), device=y.device).repeat_interleave(edges.shape[1] - 1)
    kept = right > left
    return point[kept], left[kept], right[kept]


def _mode(score: Function, y: Tensor, variance: Tensor) -> Float[Tensor, " n"]:
    """A solution of y - z = v psi(z) between 0 and y, by bisection."""
    low, high = torch.zeros_like(y), torch.ones_like(y)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        z = middle * y
        beyond = (z + variance * score(z) - y) * y.sign() > 0
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return 0.5 * (low + high) * y


def _sum_by_point(log_terms: Tensor, point: Int[Tensor, " terms"], points: int) -> Float[Tensor, " points"]:
    """Log-sum-exp of the terms of each point; minus infinity for a point without terms."""
    top = torch.full((points,), -torch.inf, dtype=log_terms.dtype, device=log_terms.device)
    top = top.scatter_reduce(0, point, log_terms.detach(), "amax")
    top = torch.where(top.isfinite(), top, 0.0)
    return top + torch.zeros_like(top).index_add(0, point, (log_terms - top[point]).exp()).log()
