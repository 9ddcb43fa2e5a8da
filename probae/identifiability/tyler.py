"""Location and shape of a cloud of rows by their directions alone, which needs no moments.

Median and scatter of Hettmansperger & Randles (2002, Biometrika 89:851): with m and V = B B' found, the directions u of
B^{-1} (y - m) have mean 0 and second moment I / K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, FitError

__all__ = ["Sphere", "TylerShape", "spherize", "tyler_shape"]

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
