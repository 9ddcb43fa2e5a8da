r"""Unconstrained coordinates of loadings, noise and mean, and the gauge that takes the rotation out of them.

    W = L Q,   rows of L at the pivots lower-triangular,   Q orthogonal

Any rows can be pivots; with rows far from linear dependence the posterior of L is close to normal, so they are chosen
by a pivoted QR decomposition of first loadings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.linalg import haar_rotation

__all__ = ["Coordinates"]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where the parameters stand in the vector theta that is sampled.

    Attributes
    ----------
    features, latents : int
    gauge : bool
        Whether L takes the place of W.
    isotropic : bool
        Whether one noise variance serves all features.
    sampled_mean : bool
        Whether the mean is among the coordinates.
    order : tuple of int
        The features in the order of theta, pivots first.

    Examples
    --------
    >>> import torch
    >>> place = Coordinates.gauged(torch.tensor([[1.0, 0.0], [0.5, 0.5], [3.0, 4.0]]).double(), isotropic=True)
    >>> place.order[0], place.size                                # the longest row; three of L, two free, one noise
    (2, 6)
    """

    features: int
    latents: int
    gauge: bool
    isotropic: bool
    sampled_mean: bool
    order: tuple[int, ...]

    @classmethod
    def raw(cls, features: int, latents: int, *, isotropic: bool, sampled_mean: bool = False) -> Self:
        """Coordinates in which the loadings are W itself."""
        return cls(features, latents, False, isotropic, sampled_mean, tuple(range(features)))

    @classmethod
    def gauged(
        cls, loadings: Float[Tensor, "features latents"], *, isotropic: bool, sampled_mean: bool = False
    ) -> Self:
        """Coordinates in which the loadings are L, with pivots that suit the given loadings."""
        order = scipy.linalg.qr(loadings.numpy().T, mode="r", pivoting=True)[1]
        features, latents = loadings.shape
        return cls(features, latents, True, isotropic, sampled_mean, tuple(order.tolist()))

    @property
    def columns(self) -> int:
        """Columns of L that are not zero."""
        return min(self.features, self.latents) if self.gauge else self.latents

    @cached_property
    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every coordinate of the loadings, rows in the order of theta."""
        kept = np.ones((self.features, self.columns), dtype=bool)
        rows, columns = np.nonzero(np.tril(kept) if self.gauge else kept)
        return rows.astype(np.int64), columns.astype(np.int64)

    @cached_property
    def logarithmic(self) -> NDArray[np.bool_]:
        """Which coordinates of the loadings are logarithms: diagonal entries of L but for the K-th."""
        rows, columns = self.entries
        return (rows == columns) & (rows + 1 < self.latents) & self.gauge

    @property
    def variances(self) -> int:
        """Number of noise variances."""
        return 1 if self.isotropic else self.features

    @property
    def size(self) -> int:
        """Length of theta."""
        return len(self.entries[0]) + self.variances + self.features * self.sampled_mean

    def pack(
        self, loadings: Float[Tensor, "features latents"], noise: Tensor, mean: Tensor | None = None
    ) -> NDArray[np.float64]:
        """Return theta; loadings W are put into the gauge, whatever their rotation."""
        order = list(self.order)
        W = loadings.numpy()[order]
        if self.gauge:
            rotation = np.linalg.qr(W[: self.columns].T)[0]
            W = W @ rotation
            diagonal = W[np.arange(self.columns), np.arange(self.columns)]
            W = W * np.where(diagonal < 0, -1.0, 1.0)
        theta = W[self.entries]
        smallest = np.finfo(float).tiny  # a row of zeros has no logarithm
        theta[self.logarithmic] = np.log(np.maximum(theta[self.logarithmic], smallest))
        variances = noise.expand(self.variances).numpy()
        parts = [theta, np.log(variances if self.isotropic else variances[order])]
        if self.sampled_mean:
            assert mean is not None
            parts.append(mean.numpy()[order])
        return np.concatenate(parts)

    def unpack(self, theta: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return loadings (..., D, K), noise (..., D) or (...,), and the mean (..., D) of every theta (..., size)."""
        first, last = len(self.entries[0]), len(self.entries[0]) + self.variances
        back = np.argsort(self.order)
        values = theta[..., :first].copy()
        values[..., self.logarithmic] = np.exp(values[..., self.logarithmic])
        loadings = np.zeros((*theta.shape[:-1], self.features, self.latents))
        loadings[(..., *self.entries)] = values
        noise = np.exp(theta[..., first:last])
        noise = noise[..., 0] if self.isotropic else noise[..., back]
        mean = torch.from_numpy(theta[..., last:][..., back]) if self.sampled_mean else None
        return torch.from_numpy(loadings[..., back, :]), torch.from_numpy(np.ascontiguousarray(noise)), mean

    def turned(
        self, loadings: Float[Tensor, "*draws features latents"], generator: torch.Generator
    ) -> Float[Tensor, "*draws features latents"]:
        """Return W = L Q with a fresh uniform Q for every draw: the gauge is undone."""
        if not self.gauge:
            return loadings
        flat = loadings.flatten(0, -3)
        return (flat @ haar_rotation(self.latents, generator, len(flat))).reshape(loadings.shape)
