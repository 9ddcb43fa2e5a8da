r"""The orthomax family: the variance of the squared loadings in the columns.

.. math:: Q = -\tfrac14 \Big[ \sum_{dk} \lambda_{dk}^4
          - \frac{\gamma}{D} \sum_k \Big( \sum_d \lambda_{dk}^2 \Big)^2 \Big]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.rotation.base import Criterion

__all__ = ["Orthomax", "Quartimax", "Varimax"]


@dataclass(frozen=True)
class Orthomax(Criterion):
    r"""Orthomax with weight gamma: 0 is quartimax, 1 varimax, K / 2 equamax.

    .. math:: Q = -\tfrac14 \Big[ \sum_{dk} \lambda_{dk}^4
              - \frac{\gamma}{D} \sum_k \Big( \sum_d \lambda_{dk}^2 \Big)^2 \Big]

    For orthogonal rotation, in which it differs from `CrawfordFerguson` with kappa = gamma / D by a constant.

    Parameters
    ----------
    gamma : float
        Weight of the columns.

    References
    ----------
    .. [1] Harman, H. H. (1976). Modern Factor Analysis, 3rd ed., chapter 13.

    Examples
    --------
    >>> import torch
    >>> Orthomax(gamma=1.0).value(torch.eye(2)) == Varimax().value(torch.eye(2))
    tensor(True)
    """

    gamma: float = 1.0
    oblique: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_finite("gamma", self.gamma)

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return orthomax_value(loadings, self.gamma)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return orthomax_gradient(loadings, self.gamma)


@dataclass(frozen=True)
class Varimax(Criterion):
    r"""Varimax: each factor has some large loadings and otherwise small ones. Orthogonal only.

    .. math:: Q = -\tfrac14 \sum_{dk} \Big( \lambda_{dk}^2 - \tfrac1D \sum_c \lambda_{ck}^2 \Big)^2

    With ``normalize=True`` this is what most programs call varimax.

    References
    ----------
    .. [1] Kaiser, H. F. (1958). The varimax criterion for analytic rotation in factor analysis. Psychometrika 23,
       187-200.

    Examples
    --------
    >>> import torch
    >>> Varimax().value(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor(-0.2500)
    """

    oblique: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return orthomax_value(loadings, 1.0)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return orthomax_gradient(loadings, 1.0)


@dataclass(frozen=True)
class Quartimax(Criterion):
    r"""Quartimax: each feature loads on few factors, a general factor is welcome. Orthogonal only.

    .. math:: Q = -\tfrac14 \sum_{dk} \lambda_{dk}^4

    Its oblique counterpart is `Quartimin`.

    References
    ----------
    .. [1] Neuhaus, J. O. & Wrigley, C. (1954). The quartimax method. British Journal of Statistical Psychology 7,
       81-91.

    Examples
    --------
    >>> import torch
    >>> Quartimax().value(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor(-0.5000)
    """

    oblique: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return orthomax_value(loadings, 0.0)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return orthomax_gradient(loadings, 0.0)


def orthomax_value(
    loadings: Float[Tensor, "*batch features latents"], gamma: float
) -> Float[Tensor, "*batch"]:
    """Return the orthomax criterion, summed about the column means where that loses no digits."""
    square = loadings.square()
    mean = square.mean(-2, keepdim=True)
    spread = (square - mean).square().sum((-2, -1))
    return -0.25 * (spread + (1 - gamma) * loadings.shape[-2] * mean.square().sum((-2, -1)))


def orthomax_gradient(
    loadings: Float[Tensor, "*batch features latents"], gamma: float
) -> Float[Tensor, "*batch features latents"]:
    """Return the gradient of the orthomax criterion."""
    square = loadings.square()
    return -loadings * (square - gamma * square.mean(-2, keepdim=True))


def check_finite(name: str, value: float) -> None:
    """Refuse a weight that is no finite number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) < float("inf"):
        raise ParameterError(f"{name} should be a finite number, got {value!r}.")
