r"""The direct oblimin family, and oblimax: oblique rotation by covariances of squared loadings.

.. math:: Q = \frac14 \sum_{j \ne k} \Big[ \sum_d \lambda_{dj}^2 \lambda_{dk}^2
          - \frac{\gamma}{D} \sum_d \lambda_{dj}^2 \sum_d \lambda_{dk}^2 \Big]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from probae.rotation.base import Criterion
from probae.rotation.orthomax import check_finite

__all__ = ["Biquartimin", "Covarimin", "Oblimax", "Oblimin", "Quartimin"]


@dataclass(frozen=True)
class Oblimin(Criterion):
    r"""Direct oblimin with weight gamma: 0 is quartimin, more negative values make the factors less correlated.

    .. math:: Q = \frac14 \sum_{j \ne k} \Big[ \sum_d \lambda_{dj}^2 \lambda_{dk}^2
              - \frac{\gamma}{D} \sum_d \lambda_{dj}^2 \sum_d \lambda_{dk}^2 \Big]

    For gamma > 0 the criterion has no lower bound [2]_: loadings grow without limit as the factors become collinear.
    A local minimum is returned if a start finds one. With orthogonal factors it is `Orthomax` with the same gamma.

    Parameters
    ----------
    gamma : float

    References
    ----------
    .. [1] Jennrich, R. I. & Sampson, P. F. (1966). Rotation for simple loadings. Psychometrika 31, 313-323.
    .. [2] Jennrich, R. I. (1979). Admissible values of gamma in direct oblimin rotation. Psychometrika 44, 173-177.

    Examples
    --------
    >>> import torch
    >>> Oblimin(gamma=0.0).value(torch.ones(3, 2))                  # each row has one pair of factors, counted twice
    tensor(1.5000)
    """

    gamma: float = 0.0
    orthogonal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_finite("gamma", self.gamma)

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return oblimin_value(loadings, self.gamma)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return oblimin_gradient(loadings, self.gamma)


@dataclass(frozen=True)
class Quartimin(Criterion):
    r"""Quartimin: no feature loads on two factors. Direct oblimin with gamma = 0.

    .. math:: Q = \frac14 \sum_d \sum_{j \ne k} \lambda_{dj}^2 \lambda_{dk}^2

    References
    ----------
    .. [1] Carroll, J. B. (1953). An analytical solution for approximating simple structure in factor analysis.
       Psychometrika 18, 23-38.
    .. [2] Jennrich, R. I. & Sampson, P. F. (1966). Rotation for simple loadings. Psychometrika 31, 313-323.

    Examples
    --------
    >>> import torch
    >>> Quartimin().value(torch.eye(3))
    tensor(0.)
    """

    orthogonal: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return oblimin_value(loadings, 0.0)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return oblimin_gradient(loadings, 0.0)


@dataclass(frozen=True)
class Biquartimin(Oblimin):
    """Direct oblimin with gamma = 1/2, halfway from quartimin to covarimin; see the warning in `Oblimin`.

    Not the criterion of the same name for a general factor, which is ``Bifactor()``.

    References
    ----------
    .. [1] Carroll, J. B. (1957). Biquartimin criterion for rotation to oblique simple structure in factor analysis.
       Science 126, 1114-1115.

    Examples
    --------
    >>> import torch
    >>> Biquartimin().value(torch.ones(3, 2)) == Oblimin(gamma=0.5).value(torch.ones(3, 2))
    tensor(True)
    """

    gamma: float = 0.5


@dataclass(frozen=True)
class Covarimin(Oblimin):
    """Direct oblimin with gamma = 1: squared loadings uncorrelated over features; see the warning in `Oblimin`.

    References
    ----------
    .. [1] Kaiser, H. F. (1958). The varimax criterion for analytic rotation in factor analysis. Psychometrika 23,
       187-200.

    Examples
    --------
    >>> import torch
    >>> Covarimin().value(torch.ones(3, 2))
    tensor(0.)
    """

    gamma: float = 1.0


@dataclass(frozen=True)
class Oblimax(Criterion):
    r"""Oblimax: the kurtosis of all loadings together. Oblique only.

    .. math:: Q = -\log \sum_{dk} \lambda_{dk}^4 + 2 \log \sum_{dk} \lambda_{dk}^2

    References
    ----------
    .. [1] Saunders, D. R. (1961). The rationale for an "oblimax" method of transformation in factor analysis.
       Psychometrika 26, 317-324.

    Examples
    --------
    >>> import torch
    >>> Oblimax().value(torch.ones(2, 2)).exp().round()            # 4^2 / 4
    tensor(4.)
    """

    orthogonal: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        square = loadings.square()
        return 2 * square.sum((-2, -1)).log() - square.square().sum((-2, -1)).log()

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        square = loadings.square()
        second = square.sum((-2, -1), keepdim=True)
        fourth = square.square().sum((-2, -1), keepdim=True)
        return 4 * loadings * (1 / second - square / fourth)


def oblimin_value(
    loadings: Float[Tensor, "*batch features latents"], gamma: float
) -> Float[Tensor, "*batch"]:
    """Return the direct oblimin criterion."""
    square = loadings.square()
    return 0.25 * (square * _products(square, gamma)).sum((-2, -1))


def oblimin_gradient(
    loadings: Float[Tensor, "*batch features latents"], gamma: float
) -> Float[Tensor, "*batch features latents"]:
    """Return the gradient of the direct oblimin criterion."""
    return loadings * _products(loadings.square(), gamma)


def _products(square: Float[Tensor, "*batch features latents"], gamma: float) -> Tensor:
    """Return the squares of the other factors, less gamma times their mean over the features."""
    others = square.sum(-1, keepdim=True) - square
    return others if gamma == 0 else others - gamma * others.mean(-2, keepdim=True)
