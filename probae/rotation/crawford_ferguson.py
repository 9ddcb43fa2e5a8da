r"""The Crawford-Ferguson family: complexity of the rows against complexity of the columns.

.. math:: Q = \frac{1 - \kappa}4 \sum_d \sum_{j \ne k} \lambda_{dj}^2 \lambda_{dk}^2
          + \frac\kappa4 \sum_k \sum_{c \ne d} \lambda_{ck}^2 \lambda_{dk}^2
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.rotation.base import Criterion
from probae.rotation.orthomax import check_finite

__all__ = ["CrawfordFerguson", "Equamax", "Parsimax"]


@dataclass(frozen=True)
class CrawfordFerguson(Criterion):
    r"""Crawford-Ferguson with weight kappa on the columns; orthogonal and oblique.

    .. math:: Q = \frac{1 - \kappa}4 \sum_d \sum_{j \ne k} \lambda_{dj}^2 \lambda_{dk}^2
              + \frac\kappa4 \sum_k \sum_{c \ne d} \lambda_{ck}^2 \lambda_{dk}^2

    kappa = 0 is quartimin, 1 / D the oblique form of varimax, K / (2 D) equamax, (K - 1) / (D + K - 2) parsimax,
    1 factor parsimony. Q is a sum of squares for 0 <= kappa <= 1, so oblique rotation always has a minimum.

    Parameters
    ----------
    kappa : float
        Between 0 and 1.

    Raises
    ------
    ParameterError
        If kappa is outside.

    References
    ----------
    .. [1] Crawford, C. B. & Ferguson, G. A. (1970). A general rotation criterion and its use in orthogonal
       rotation. Psychometrika 35, 321-332.

    Examples
    --------
    >>> import torch
    >>> CrawfordFerguson(kappa=0.5).value(torch.ones(3, 2))            # 3 rows with 2 pairs, 2 columns with 6
    tensor(2.2500)
    """

    kappa: float = 0.0

    def __post_init__(self) -> None:
        check_finite("kappa", self.kappa)
        if not 0 <= self.kappa <= 1:
            raise ParameterError(f"kappa should be between 0 and 1, got {self.kappa!r}.")

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return complexity(loadings, self.kappa)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return complexity_gradient(loadings, self.kappa)


@dataclass(frozen=True)
class Equamax(Criterion):
    """Equamax: the factors explain about as much each; Crawford-Ferguson with kappa = K / (2 D).

    References
    ----------
    .. [1] Saunders, D. R. (1962). Trans-varimax: some properties of the ratiomax and equamax criteria for blind
       orthogonal rotation. American Psychologist 17, 395.

    Examples
    --------
    >>> import torch
    >>> Equamax().value(torch.ones(3, 2)) == CrawfordFerguson(kappa=2 / 6).value(torch.ones(3, 2))
    tensor(True)
    """

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return complexity(loadings, equamax_weight(*loadings.shape[-2:]))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return complexity_gradient(loadings, equamax_weight(*loadings.shape[-2:]))


@dataclass(frozen=True)
class Parsimax(Criterion):
    """Parsimax: rows and columns count alike; Crawford-Ferguson with kappa = (K - 1) / (D + K - 2).

    References
    ----------
    .. [1] Crawford, C. B. & Ferguson, G. A. (1970). A general rotation criterion and its use in orthogonal
       rotation. Psychometrika 35, 321-332.

    Examples
    --------
    >>> import torch
    >>> Parsimax().value(torch.ones(3, 2)) == CrawfordFerguson(kappa=1 / 3).value(torch.ones(3, 2))
    tensor(True)
    """

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return complexity(loadings, parsimax_weight(*loadings.shape[-2:]))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return complexity_gradient(loadings, parsimax_weight(*loadings.shape[-2:]))


def equamax_weight(features: int, latents: int) -> float:
    """Return kappa of equamax, at most 1."""
    return min(latents / (2 * features), 1.0)


def parsimax_weight(features: int, latents: int) -> float:
    """Return kappa of parsimax; 0 for one loading, which has no complexity."""
    return (latents - 1) / max(features + latents - 2, 1)


def complexity(loadings: Float[Tensor, "*batch features latents"], kappa: float) -> Float[Tensor, "*batch"]:
    """Return the Crawford-Ferguson criterion; no term of it is negative."""
    square = loadings.square()
    rows, columns = _others(square)
    return 0.25 * (square * ((1 - kappa) * rows + kappa * columns)).sum((-2, -1))


def complexity_gradient(
    loadings: Float[Tensor, "*batch features latents"], kappa: float
) -> Float[Tensor, "*batch features latents"]:
    """Return the gradient of the Crawford-Ferguson criterion."""
    rows, columns = _others(loadings.square())
    return loadings * ((1 - kappa) * rows + kappa * columns)


def _others(square: Float[Tensor, "*batch features latents"]) -> tuple[Tensor, Tensor]:
    """Return, for each entry, the sum of the others in its row and of the others in its column."""
    return square.sum(-1, keepdim=True) - square, square.sum(-2, keepdim=True) - square
