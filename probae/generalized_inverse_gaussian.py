r"""Exact draws of the generalised inverse Gaussian law, for many parameters at once.

.. math:: p(g) \propto g^{\lambda - 1} \exp(-(a g + b / g) / 2), \quad g > 0

The logarithm of g, less its mode, has the log-concave density exp(phi) with
phi(y) = -alpha (cosh y - 1) - lambda (e^y - y - 1), alpha = sqrt(lambda^2 + a b) - lambda; it is drawn by rejection
from a constant between -s' and t' with exponential tails, of which the same share is kept whatever the parameters.

References
----------
.. [1] Devroye, L. (2014). Random variate generation for the generalized inverse Gaussian distribution. Statistics
   and Computing 24, 239-246.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from probae.checks import ParameterError


def draw_generalized_inverse_gaussian(order: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""Draw g of density proportional to g^{order - 1} exp(-(a g + b / g) / 2), from torch's global generator.

    Parameters
    ----------
    order, a, b : Tensor
        Of shapes that broadcast; a and b above 0, order any number.

    Raises
    ------
    ParameterError
        Numbers without such a law, for which no draw would ever be accepted.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> g = draw_generalized_inverse_gaussian(*torch.tensor([-0.5, 4.0, 4.0]).double()[:, None].expand(3, 50_000))
    >>> abs(g.mean().item() - 1.0) < 0.02                   # order -1/2: the inverse Gaussian of mean sqrt(b / a)
    True
    """
    order, a, b = torch.broadcast_tensors(order.double(), a.double(), b.double())
    size, omega = order.abs(), a.sqrt() * b.sqrt()
    if not bool((order.isfinite() & (omega > 0) & omega.isfinite()).all()):
        raise ParameterError(
            "A generalised inverse Gaussian law needs a finite order and a and b above 0, with a product that is a "
            "number: a scale of the prior may be far from that of the data."
        )
    alpha = omega * (omega / (torch.hypot(omega, size) + size))
    log = torch.asinh(size / omega) + _draw_centred(size.reshape(-1), alpha.reshape(-1)).reshape(order.shape)
    return (0.5 * (b.log() - a.log()) + torch.where(order < 0, -log, log)).exp()


class _Hat(NamedTuple):
    """The curve above exp(phi): 1 between -below and above, exponential tails outside."""

    below: Tensor
    above: Tensor
    rate_below: Tensor
    rate_above: Tensor
    start_below: Tensor
    start_above: Tensor


def _phi(y: Tensor, order: Tensor, alpha: Tensor) -> Tensor:
    """The log density less its maximum, exact near 0 as well."""
    return -2.0 * alpha * torch.sinh(0.5 * y).square() - order * (torch.expm1(y) - y)


def _slope(y: Tensor, order: Tensor, alpha: Tensor) -> Tensor:
    return -alpha * torch.sinh(y) - order * torch.expm1(y)


def _hat(order: Tensor, alpha: Tensor) -> _Hat:
    """Touch phi where it has fallen by about 1 on each side (Devroye, 2014, section 4)."""
    one = torch.ones_like(order)
    right, left = -_phi(one, order, alpha), -_phi(-one, order, alpha)
    t = torch.where(right > 2.0, (2.0 / (alpha + order)).sqrt(), one)
    t = torch.where(right < 0.5, (4.0 / (alpha + 2.0 * order)).log(), t)
    s = torch.where(left > 2.0, (4.0 / (alpha * torch.cosh(one) + order)).sqrt(), one)
    far = torch.log1p(1.0 / alpha + (1.0 / alpha.square() + 2.0 / alpha).sqrt())
    s = torch.where(left < 0.5, torch.minimum(1.0 / order, far), s)
    rate_above, rate_below = -_slope(t, order, alpha), _slope(-s, order, alpha)
    start_above, start_below = t + _phi(t, order, alpha) / rate_above, s + _phi(-s, order, alpha) / rate_below
    return _Hat(s, t, rate_below, rate_above, start_below, start_above)


def _propose(hat: _Hat) -> tuple[Tensor, Tensor]:
    """Draw from the hat; return y and the log of the hat there."""
    middle, right, left = hat.start_above + hat.start_below, 1.0 / hat.rate_above, 1.0 / hat.rate_below
    which = torch.rand_like(middle) * (middle + right + left)
    place, tail = torch.rand_like(middle), -torch.rand_like(middle).log()
    y = hat.start_above + right * tail
    y = torch.where(which < middle + left, -hat.start_below - left * tail, y)
    y = torch.where(which < middle, middle * place - hat.start_below, y)
    outside = torch.where(y > hat.start_above, hat.rate_above * (hat.start_above - y), torch.zeros_like(y))
    return y, torch.where(y < -hat.start_below, hat.rate_below * (y + hat.start_below), outside)


def _draw_centred(order: Tensor, alpha: Tensor) -> Tensor:
    """Draw y of density proportional to exp(phi(y)); those refused are drawn again."""
    y = torch.empty_like(order)
    open_ = torch.arange(len(order))
    hat = _hat(order, alpha)
    while len(open_):
        proposed, height = _propose(hat)
        kept = torch.rand_like(proposed).log() + height <= _phi(proposed, order[open_], alpha[open_])
        y[open_[kept]] = proposed[kept]
        open_, hat = open_[~kept], _Hat(*(part[~kept] for part in hat))
    return y
