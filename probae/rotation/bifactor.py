"""Bifactor rotation: a general factor beside factors of groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.rotation.base import Criterion, check_at_least
from probae.rotation.oblimin import Quartimin

__all__ = ["Bifactor"]


@dataclass(frozen=True)
class Bifactor(Criterion):
    """Jennrich-Bentler bifactor rotation: a criterion of all columns but the first; orthogonal and oblique.

    The first factor is free to load on everything, the others should be simple. Orthogonal rotation is the usual
    one. In the oblique one the group factors may correlate with the general factor too.

    Parameters
    ----------
    groups : Criterion
        Criterion of the group factors: `Quartimin()` [1]_ unless another is given; `Geomin()` is in [2]_. It applies
        to the columns after the first, whatever the kind of rotation.

    Raises
    ------
    ParameterError
        With fewer than three factors, or a criterion of groups that is none.

    References
    ----------
    .. [1] Jennrich, R. I. & Bentler, P. M. (2011). Exploratory bi-factor analysis. Psychometrika 76, 537-549.
    .. [2] Jennrich, R. I. & Bentler, P. M. (2012). Exploratory bi-factor analysis: the oblique case. Psychometrika 77,
       442-454.

    Examples
    --------
    >>> import torch
    >>> general = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.5], [1.0, 0.0, 0.5]])
    >>> Bifactor().value(general)
    tensor(0.)
    """

    groups: Criterion = Quartimin()
    leading: ClassVar[int] = 1

    def __post_init__(self) -> None:
        groups = self.groups
        if not isinstance(groups, Criterion) or groups.leading or groups.placed or not groups.oblique:
            raise ParameterError(
                f"groups should be a criterion such as Quartimin() or Geomin(), got {groups!r}."
            )

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return self.groups.value(loadings[..., 1:])

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q, zero for the general factor."""
        slope = self.groups.gradient(loadings[..., 1:])
        return torch.cat([torch.zeros_like(loadings[..., :1]), slope], -1)

    def check(self, features: int, latents: int) -> None:
        """Refuse fewer than a general factor and two groups."""
        check_at_least(self, latents, 3, "a general one and two of groups, or every rotation is as good")
        self.groups.check(features, latents - 1)
