r"""Directions of centred and whitened rows, and the spherical harmonics that tell axes from ellipses.

Under an elliptical law y = location + B r u the direction u is uniform on the sphere and independent of the radius r.
Then for every function h of the radius, and for every degree l,

    T_l = d_l sum_ab h_a h_b P_l(u_a' u_b) / sum_a h_a^2   ->   chi2(d_l),   d_l = C(K+l-1, l) - C(K+l-3, l-2)

where P_l is the Gegenbauer polynomial of degree l and order K/2 - 1, scaled to P_l(1) = 1 (cos l t when K = 2). Its
double sum is the squared norm of the traceless part of sum_a h_a u_a^(x)l, so it costs a pass over the rows:

    sum_ab h_a h_b P_3 = ((K+2) N_3 - 3 N_1) / (K-1)
    sum_ab h_a h_b P_4 = ((K+4)(K+2) N_4 - 6 (K+2) N_2 + 3 N_0) / (K^2-1),   N_l = ||sum_a h_a u_a^(x)l||^2

Degrees 1 and 2 are used up by the location and the shape. They are those of Hettmansperger & Randles (2002, Biometrika
89:851), which leave the higher degrees calibrated under any tail: the mean and the covariance do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, FitError

__all__ = [
    "HALF_WEIGHT",
    "Sphere",
    "TylerShape",
    "fourth_degree",
    "harmonic_statistic",
    "moment_norm",
    "pair_products",
    "plane_harmonics",
    "radial_weights",
    "spherize",
    "third_degree",
    "tyler_shape",
]

Number = TypeVar("Number", float, Tensor)

HALF_WEIGHT = 2.5  # radius, in medians, where the weight of a row is half of its largest
BLOCK = 2**22  # numbers in one block of products: 32 MB
ROUGH = 1e-4  # below the sampling error of the two means for any number of rows up to 1e8
SUBSPACE = (
    "y should have columns that are linearly independent, got rows on a line or plane: "
    "drop a column that follows from the others."
)


@dataclass(frozen=True, eq=False)
class TylerShape:
    """Location and shape of a cloud of rows.

    Attributes
    ----------
    location : Tensor (K,), in the units of the rows
    root : Tensor (K, K), lower triangular; root @ root.T is the shape, scaled to trace K
    iterations : int
    """

    location: Float[Tensor, " latents"]
    root: Float[Tensor, "latents latents"]
    iterations: int

    @property
    def shape(self) -> Float[Tensor, "latents latents"]:
        """Covariance up to a factor, trace K."""
        return self.root @ self.root.T

    def describe(self) -> str:
        """Say what was found in a sentence."""
        values = torch.linalg.eigvalsh(self.shape)
        ratio = math.sqrt(float(values[-1] / values[0]))
        return f"Shape of {len(values)} axes, longest over shortest {ratio:.3g}, after {self.iterations} iterations."


@dataclass(frozen=True, eq=False)
class Sphere:
    """Rows as unit vectors (N, K) and radii (N,); a row at the centre has direction 0 and radius 0."""

    directions: Float[Tensor, "samples latents"]
    radii: Float[Tensor, " samples"]


def tyler_shape(
    y: Float[Tensor, "samples latents"], *, tolerance: float = 1e-9, steps: int = 500
) -> TylerShape:
    r"""Find the Hettmansperger-Randles median m and Tyler's shape V together.

    With V = B B', e = B^{-1} (y - m) and u = e / ||e||, the two solve mean(u) = 0 and K mean(u u') = I. Each step is
    Tyler's fixed point with an exponent, B (K mean u u')^(1 + 1/K) B', and a Weiszfeld step, a little lengthened.

    Parameters
    ----------
    y : Tensor (N, K)
    tolerance : float
        Largest remaining entry of mean(u) and of K mean(u u') - I.
    steps : int
        Iterations before giving up, or before making do with 1e-4: a median very close to a row is approached slowly.

    Returns
    -------
    TylerShape

    Raises
    ------
    DataError
        Fewer than K + 2 rows, values that are not finite, most rows in one point, or rows close to a subspace.
    FitError
        No convergence, as when a large share of the rows lies on a line or a plane through the centre.

    Notes
    -----
    Affine equivariant: A y + b gives A m + b and, up to a factor, A V A'. Neither needs a moment of y to exist.

    References
    ----------
    Tyler (1987), Ann. Statist. 15:234; Hettmansperger & Randles (2002), Biometrika 89:851.

    Examples
    --------
    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> y = torch.randn(1000, 2, generator=g, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    >>> print(tyler_shape(y).describe())                  # 3 over 1, up to chance
    Shape of 2 axes, longest over shortest 2.9..., after ... iterations.
    """
    location, root = _start(y)
    samples, latents = y.shape
    stretch = (2 * latents - 1) / (2 * latents - 2) if latents > 1 else 1.0
    for iteration in range(1, steps + 1):
        location, sphere = _held(y, location, root)
        pull, second = _balance(sphere)
        values, vectors = torch.linalg.eigh(latents * second / samples)
        off = max(float(pull.abs().max()) / samples, float((values - 1).abs().max()))
        if off < tolerance:
            return TylerShape(location, root, iteration)
        if float(values[0]) <= 1e-12:
            raise DataError(SUBSPACE)
        inverse_radii = sphere.radii[sphere.radii > 0].reciprocal().sum()
        location = location + root @ pull * stretch / inverse_radii
        if latents > 1:
            power = (vectors * values.pow(1 + 1 / latents)) @ vectors.T
            root = _root(root @ power @ root.T)
    if off < ROUGH:
        return TylerShape(location, root, steps)
    raise FitError(
        f"The shape of {samples} rows in {latents} dimensions was not found in {steps} iterations: a large share of "
        "them lies on one line or plane through the centre. Leave out rows that repeat, or give more rows."
    )


def spherize(y: Float[Tensor, "samples latents"]) -> Sphere:
    """Split rows into directions and radii after their own centring and whitening.

    The radii have the scale of a shape of trace K.

    Raises
    ------
    DataError, FitError
        As `tyler_shape`.

    Examples
    --------
    >>> import torch
    >>> y = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]], dtype=torch.float64)
    >>> spherize(y).directions.abs()
    tensor([[1., 0.],
            [1., 0.],
            [0., 1.],
            [0., 1.]], dtype=torch.float64)
    """
    found = tyler_shape(y)
    return _on_sphere(y, found.location, found.root)


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


def _start(y: Tensor) -> tuple[Tensor, Tensor]:
    """Start at the coordinates' medians and median absolute deviations, whatever their units."""
    samples, latents = y.shape
    if samples < latents + 2:
        raise DataError(f"y should have at least {latents + 2} rows for {latents} columns, got {samples}.")
    if not bool(torch.isfinite(y).all()):
        raise DataError("y should be finite, got NaN or infinity: drop those rows.")
    location = y.median(0).values
    spread = (y - location).abs().median(0).values
    spread = torch.where(spread > 0, spread, (y - location).abs().mean(0))
    if bool((spread == 0).any()):
        raise DataError(
            f"y should vary in every column, got a constant column {int((spread == 0).nonzero()[0])}."
        )
    return location, torch.diag(spread * (latents / spread.square().sum()).sqrt())


def _held(y: Tensor, location: Tensor, root: Tensor) -> tuple[Tensor, Sphere]:
    """Move the location onto a row next to it, if the other rows do not pull it away from there.

    The median of few rows is often one of them, and steps alone come close to it too slowly.
    """
    sphere = _on_sphere(y, location, root)
    nearest = int(sphere.radii.argmin())
    if 0 < float(sphere.radii[nearest]) < float(sphere.radii.median()) / len(y):
        there = _on_sphere(y, y[nearest], root)
        if float(there.directions.sum(0).norm()) <= int((there.radii == 0).sum()):
            return y[nearest], there
    return location, sphere


def _balance(sphere: Sphere) -> tuple[Tensor, Tensor]:
    """Return sum(u) and sum(u u'), which a solution makes 0 and N I / K.

    Rows at the centre pull back against the others, each by at most 1 (Vardi & Zhang 2000): they count as rows of the
    mean direction that does so. That keeps both sums continuous where the centre meets a row.
    """
    u = sphere.directions
    samples, latents = u.shape
    pull, second = u.sum(0), u.T @ u
    centred = int((sphere.radii == 0).sum())
    if 2 * centred > samples:
        raise DataError(f"y should have rows that differ, got {centred} of {samples} in one point.")
    if centred:
        back = -pull / max(centred, float(pull.norm()))
        spread = (1 - back @ back) / latents * torch.eye(latents).to(u)
        pull, second = pull + centred * back, second + centred * (torch.outer(back, back) + spread)
    return pull, second


def _root(shape: Tensor) -> Tensor:
    scale = shape.diagonal().sqrt()
    root, failed = torch.linalg.cholesky_ex(shape / scale / scale[:, None])
    if int(failed) or float(root.diagonal().min()) < 1e-7:
        raise DataError(SUBSPACE)
    root = root * scale[:, None]
    return root * (len(shape) / root.square().sum()).sqrt()


def _on_sphere(y: Tensor, location: Tensor, root: Tensor) -> Sphere:
    whitened = torch.linalg.solve_triangular(root, (y - location).T, upper=False).T
    radii = whitened.norm(dim=1)
    # closer to the centre than rounding can tell, a row has no direction
    radii = torch.where(radii > 1e-14 * radii.max(), radii, 0.0)
    safe = torch.where(radii > 0, radii, 1.0)
    return Sphere(whitened / safe[:, None] * (radii > 0)[:, None], radii)
