"""What a rotation criterion is: a function of the loadings to be made small, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError

__all__ = ["Criterion"]


@dataclass(frozen=True)
class Criterion:
    r"""A function Q of the loadings :math:`\Lambda` (D, K), small where their pattern is simple.

    A subclass gives `value` and `gradient`, both for any number of loading matrices at once and both made of
    differentiable torch operations, so that ``torch.func`` can differentiate the condition for a minimum. A new
    criterion is one such class; `rotate` takes it like those that are here.

    Attributes
    ----------
    orthogonal, oblique : bool
        Whether the criterion may be used in that kind of rotation. One that is smallest when all factors
        collapse into one is not `oblique`.
    placed : bool
        Whether the columns have an order and signs of their own, as in rotation to a target.
    leading : int
        How many of the first columns keep their place, whatever variance they explain.

    Examples
    --------
    A criterion of one's own: the sum of the absolute loadings, smoothed.

    >>> import torch, probae as pa
    >>> class Smooth(Criterion):
    ...     def value(self, loadings):
    ...         return (loadings.square() + 1e-4).sqrt().sum((-2, -1))
    ...     def gradient(self, loadings):
    ...         return loadings / (loadings.square() + 1e-4).sqrt()
    >>> W = torch.tensor([[0.6, 0.6], [0.5, 0.5], [0.7, -0.7], [0.4, -0.4]], dtype=torch.float64)
    >>> bool(pa.rotate(W, Smooth()).loadings.abs().min(1).values.max() < 1e-9)             # one zero in each row
    True
    """

    orthogonal: ClassVar[bool] = True
    oblique: ClassVar[bool] = True
    placed: ClassVar[bool] = False
    leading: ClassVar[int] = 0

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        raise NotImplementedError

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return dQ / dLoadings of each loading matrix."""
        raise NotImplementedError

    def check(self, features: int, latents: int) -> None:
        """Refuse a size of the loadings that the criterion is not made for."""


def check_kind(criterion: Criterion, oblique: bool) -> None:
    """Refuse a criterion in a kind of rotation in which it has no minimum, or is not what its name says."""
    name = type(criterion).__name__
    if oblique and not criterion.oblique:
        raise ParameterError(
            f"{name} should be used with orthogonal factors, got oblique=True: with correlated factors it is "
            "smallest when they coincide; use CrawfordFerguson, Quartimin or Geomin instead."
        )
    if not oblique and not criterion.orthogonal:
        raise ParameterError(
            f"{name} should be used with correlated factors, got oblique=False: pass oblique=True, or use "
            "Varimax, Orthomax or another orthogonal criterion."
        )


def check_at_least(criterion: Criterion, latents: int, least: int, why: str) -> None:
    """Refuse fewer factors than a criterion needs."""
    if latents < least:
        raise ParameterError(
            f"{type(criterion).__name__} should have at least {least} factors to rotate, got {latents}: {why}."
        )
