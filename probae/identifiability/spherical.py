r"""Spherical harmonics of the directions of centred and whitened rows, which tell axes from ellipses.

Under an elliptical law y = location + B r u the direction u is uniform on the sphere and independent of the radius r.
Then for every function h of the radius, and for every degree l,

    T_l = d_l sum_ab h_a h_b P_l(u_a' u_b) / sum_a h_a^2   ->   chi2(d_l),   d_l = C(K+l-1, l) - C(K+l-3, l-2)

where P_l is the Gegenbauer polynomial of degree l and order K/2 - 1, scaled to P_l(1) = 1 (cos l t when K = 2). Its
double sum is the squared norm of the traceless part of sum_a h_a u_a^(x)l, so it costs a pass over the rows:

    sum_ab h_a h_b P_3 = ((K+2) N_3 - 3 N_1) / (K-1)
    sum_ab h_a h_b P_4 = ((K+4)(K+2) N_4 - 6 (K+2) N_2 + 3 N_0) / (K^2-1),   N_l = ||sum_a h_a u_a^(x)l||^2

Degrees 1 and 2 are used up by the location and the shape (`tyler`), which leave the higher degrees calibrated under any
tail: the mean and the covariance do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.identifiability.tyler import Sphere

__all__ = [
    "HALF_WEIGHT",
    "fourth_degree",
    "harmonic_statistic",
    "moment_norm",
    "pair_products",
    "plane_harmonics",
    "radial_weights",
    "third_degree",
]

Number = TypeVar("Number", float, Tensor)

HALF_WEIGHT = 2.5  # radius, in medians, where the weight of a row is half of its largest
BLOCK = 2**22  # numbers in one block of products: 32 MB


def radial_weights(radii: Float[Tensor, "*batch samples"]) -> Float[Tensor, "*batch samples"]:
    """Weigh rows by h(r) = s^4 / (c^4 + s^4), s = r / median(r), c = 2.5.

    Bounded, so that no tail can break the chi-square limit, and small at the centre, where the direction of a noisy row
    means little. For two Laplace factors whose scores have noise variance .3 its noncentrality at degree 4 is .99 of
    the largest that any weight of the radius reaches; that of h = 1 is .30 (without noise .80 and .67).

    Examples
    --------
    >>> import torch
    >>> radial_weights(torch.tensor([0.0, 1.0, 2.5], dtype=torch.float64))
    tensor([0.0000, 0.0250, 0.5000], dtype=torch.float64)
    """
    fourth = (radii / (HALF_WEIGHT * radii.median(-1, keepdim=True).values)).pow(4)
    return torch.where(fourth.isinf(), 1.0, fourth / (1 + fourth))


def plane_harmonics(sphere: Sphere, degree: int) -> Float[Tensor, "samples 2"]:
    """Return h(r) (cos l phi, sin l phi) of directions in a plane; turning the plane by a turns each row by l a.

    Examples
    --------
    >>> import torch
    >>> sphere = Sphere(torch.tensor([[0.0, 1.0]], dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    >>> (plane_harmonics(sphere, 4) / radial_weights(sphere.radii)).round(decimals=6)     # 4 times 90 degrees
    tensor([[1., -0.]], dtype=torch.float64)
    """
    angle = degree * torch.atan2(sphere.directions[:, 1], sphere.directions[:, 0])
    return radial_weights(sphere.radii).unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)


def harmonic_statistic(sphere: Sphere, degree: int) -> tuple[float, int]:
    """Return T_l and its degrees of freedom d_l, for degree 3 or 4 and K >= 2; time N K^l, memory linear in N.

    Examples
    --------
    >>> import torch
    >>> from probae.identifiability.tyler import spherize
    >>> y = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> statistic, freedom = harmonic_statistic(spherize(y), 4)
    >>> freedom, 0 < statistic < 22                       # 22 is the upper 1 % point of chi2(9)
    (9, True)
    """
    u, h = sphere.directions, radial_weights(sphere.radii)
    k = u.shape[1]
    norm = {order: moment_norm(u, order, h) for order in range(degree % 2, degree + 1, 2)}
    double_sum = (
        third_degree(norm[1], norm[3], k) if degree == 3 else fourth_degree(norm[0], norm[2], norm[4], k)
    )
    freedom = math.comb(k + degree - 1, degree) - math.comb(k + degree - 3, degree - 2)
    return freedom * double_sum / float(h.square().sum()), freedom


def third_degree(first: float, third: float, latents: int) -> float:
    """Return sum_ab h_a h_b P_3 from N_1 and N_3.

    Examples
    --------
    >>> third_degree(1.0, 1.0, 3)                         # one row of weight 1: P_3(1)
    1.0
    """
    return ((latents + 2) * third - 3 * first) / (latents - 1)


def fourth_degree(zeroth: Number, second: Number, fourth: Number, latents: int) -> Number:
    """Return sum_ab h_a h_b P_4 from N_0, N_2 and N_4, numbers or tensors.

    Examples
    --------
    >>> fourth_degree(1.0, 1.0, 1.0, 3)                   # one row of weight 1: P_4(1)
    1.0
    """
    return ((latents + 4) * (latents + 2) * fourth - 6 * (latents + 2) * second + 3 * zeroth) / (
        latents * latents - 1
    )


def moment_norm(
    u: Float[Tensor, "samples latents"], order: int, weights: Float[Tensor, " samples"] | None = None
) -> float:
    """Return N_l = ||sum_a h_a u_a^(x)l||^2 for l = 0 to 4, in blocks of rows.

    Examples
    --------
    >>> import torch
    >>> u = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> [moment_norm(u, order) for order in range(5)]     # sum over both pairs of (u_a' u_b)^l
    [4.0, 2.0, 2.0, 2.0, 2.0]
    """
    h = u.new_ones(len(u)) if weights is None else weights
    if order == 0:
        return float(h.sum().square())
    width = u.shape[1] ** 2 if order > 2 else u.shape[1]
    total: Tensor | float = 0.0
    for rows in _blocks(len(u), width):
        one = u[rows] * h[rows, None]
        left = {1: u.new_ones(len(one), 1), 2: u[rows]}.get(order)
        left = pair_products(u[rows]) if left is None else left
        right = pair_products(u[rows]) * h[rows, None] if order == 4 else one
        total = total + left.T @ right
    assert isinstance(total, Tensor)
    return float(total.square().sum())


def pair_products(u: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch pairs"]:
    """Return the products u_i u_j, i <= j, scaled so that inner products are those of the full matrices u u'.

    Examples
    --------
    >>> pair_products(torch.tensor([1.0, 2.0])).square().sum()      # ||u||^4
    tensor(25.)
    """
    i, j = torch.triu_indices(u.shape[-1], u.shape[-1])
    return u[..., i] * u[..., j] * (2.0 - (i == j).to(u.dtype)).sqrt()


def _blocks(samples: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK // width)
    return (slice(first, first + step) for first in range(0, samples, step))
