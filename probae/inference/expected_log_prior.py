r"""The expected log prior of a code that is Gaussian, with its derivatives.

    value = E log p(z),  slope = -d value / d m,  curvature = -2 d value / d s^2,   z ~ N(m, s^2)

For Laplace E|z| is the mean of a folded normal, m (2 Phi(m/s) - 1) + 2 s phi(m/s), so all three are exact; other laws
take Gauss-Hermite quadrature, by slope = E psi(z) and curvature = E psi(z) (z - m) / s^2 (Bonnet and Price).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError
from probae.priors import Gaussian, Laplace, Prior, Scaled

NODES = 64
RATE = math.sqrt(2)  # of the Laplace law of unit variance

_nodes, _weights = np.polynomial.hermite_e.hermegauss(NODES)
_kept = _weights > 1e-18 * _weights.max()
GAUSS = torch.from_numpy(_nodes[_kept]), torch.from_numpy(_weights[_kept] / _weights[_kept].sum())


class Expected(NamedTuple):
    """Expected log density of each code, and its derivatives.

    Attributes
    ----------
    value, slope, curvature : Tensor (N, K)
    """

    value: Float[Tensor, "samples latents"]
    slope: Float[Tensor, "samples latents"]
    curvature: Float[Tensor, "samples latents"]


def expected_log_prior(prior: Prior, mean: Tensor, sd: Tensor) -> Expected:
    """Return E log p(z_k) of each code under N(mean, sd^2), in nats, with slope and curvature.

    Raises
    ------
    NotExactError
        For a joint law whose coordinates are not independent.

    Examples
    --------
    >>> import torch
    >>> zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    >>> found = expected_log_prior(Laplace(), zero, one)
    >>> round(found.value.item(), 6), round(math.log(RATE / 2) - RATE * math.sqrt(2 / math.pi), 6)
    (-1.474953, -1.474953)
    """
    laws = prior.coordinates(mean.shape[-1])
    if laws is None:
        raise NotExactError(
            f"E log p(z) has no closed form for {prior!r}, whose coordinates are not independent: use "
            "VariationalPosterior(model) or GibbsPosterior(model)."
        )
    if prior.event_dim == 0:
        return _of_law(prior, mean, sd)
    columns = [_of_law(law, mean[:, [k]], sd[:, [k]]) for k, law in enumerate(laws)]
    return Expected(*(torch.cat(parts, 1) for parts in zip(*columns, strict=True)))


def _of_law(law: Prior, mean: Tensor, sd: Tensor) -> Expected:
    if isinstance(law, Scaled):
        scale = law.sd.to(mean)
        value, slope, curvature = _of_law(law.law, mean / scale, sd / scale)
        return Expected(value - scale.log(), slope / scale, curvature / scale.square())
    if isinstance(law, Laplace):
        return _of_laplace(mean, sd)
    if isinstance(law, Gaussian):
        value = -0.5 * (mean.square() + sd.square() + math.log(2 * math.pi))
        return Expected(value, mean, torch.ones_like(mean))
    nodes, weights = GAUSS
    z = mean.unsqueeze(-1) + sd.unsqueeze(-1) * nodes
    score = law.score(z) * weights
    return Expected(law.log_prob(z) @ weights, score.sum(-1), (score @ nodes) / sd)


def _of_laplace(mean: Tensor, sd: Tensor) -> Expected:
    ratio = mean / sd
    density = (-0.5 * ratio.square()).exp() / math.sqrt(2 * math.pi)
    lean = torch.special.erf(ratio / math.sqrt(2))  # 2 Phi - 1
    folded = mean * lean + 2 * sd * density
    return Expected(math.log(RATE / 2) - RATE * folded, RATE * lean, 2 * RATE * density / sd)
