"""Rotation to a target, wholly or partly specified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.rotation.base import Criterion
from probae.rotation.tables import read_matrix

__all__ = ["Target"]


@dataclass(frozen=True, eq=False)
class Target(Criterion):
    r"""Distance to a target B, entry by entry; orthogonal and oblique. The columns keep the target's order and signs.

    .. math:: Q = \sum_{dk} \omega_{dk} (\lambda_{dk} - b_{dk})^2

    An entry of B that is NaN is not specified and has no weight: zeros where a loading should vanish and NaN
    elsewhere give the partially specified target of [1]_. With ``normalize=True`` the target is compared with the
    normalised loadings.

    Parameters
    ----------
    target : array, DataFrame or Tensor (D, K)
        Wanted loadings, NaN where anything will do.
    weights : array, DataFrame or Tensor (D, K), optional
        Non-negative weights omega; 1 when absent.

    Raises
    ------
    ParameterError
        If nothing is specified, an entry is infinite, or the shapes do not fit.

    References
    ----------
    .. [1] Browne, M. W. (1972). Oblique rotation to a partially specified target. British Journal of Mathematical and
       Statistical Psychology 25, 207-212.
    .. [2] Browne, M. W. (2001). An overview of analytic rotation in exploratory factor analysis. Multivariate
       Behavioral Research 36, 111-150.

    Examples
    --------
    >>> import torch
    >>> nan = float("nan")
    >>> Target([[nan, 0.0], [0.0, nan]]).value(torch.tensor([[1.0, 2.0], [0.0, 5.0]]))
    tensor(4.)
    """

    target: Any
    weights: Any = None
    placed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        target = read_matrix("target", self.target, missing=True)
        weights = torch.ones_like(target)
        if self.weights is not None:
            weights = read_matrix("weights", self.weights)
        if weights.shape != target.shape or (weights < 0).any():
            raise ParameterError(
                f"weights should be non-negative and of the shape of the target, {tuple(target.shape)}, "
                f"got shape {tuple(weights.shape)} with smallest value {float(weights.min()):g}."
            )
        weights = torch.where(target.isnan(), 0.0, weights)
        if not weights.any():
            raise ParameterError("target should specify a loading, got NaN or weight 0 everywhere.")
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "weights", weights)

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        target, weights = self._values(loadings)
        return (weights * (loadings - target).square()).sum((-2, -1))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        target, weights = self._values(loadings)
        return 2 * weights * (loadings - target)

    def check(self, features: int, latents: int) -> None:
        """Refuse loadings of another shape."""
        if tuple(self.target.shape) != (features, latents):
            raise ParameterError(
                f"target should have the shape of the loadings, {(features, latents)}, got {tuple(self.target.shape)}."
            )

    def __repr__(self) -> str:
        features, latents = self.target.shape
        return f"Target({features} x {latents}, {int((self.weights > 0).sum())} specified)"

    def _values(self, loadings: Tensor) -> tuple[Tensor, Tensor]:
        return self.target.nan_to_num().to(loadings), self.weights.to(loadings)
