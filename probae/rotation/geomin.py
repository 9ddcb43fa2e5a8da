"""Geomin: a row is simple as soon as one of its loadings is small."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from probae.checks import check_positive
from probae.rotation.base import Criterion

__all__ = ["Geomin"]


@dataclass(frozen=True)
class Geomin(Criterion):
    r"""Geomin: the geometric mean of the squared loadings of each feature; orthogonal and oblique.

    .. math:: Q = \sum_d \Big[ \prod_k (\lambda_{dk}^2 + \epsilon) \Big]^{1/K}

    Good at finding complex structure, where features load on two factors, and rich in local minima: look at
    ``Rotation.minima``. Small epsilon favours exact zeros and makes more local minima. Common choices are .01, or
    .001 with four factors and more, for features of variance 1.

    Parameters
    ----------
    epsilon : float
        Above 0, in units of a squared loading.

    Raises
    ------
    ParameterError
        If epsilon is not positive.

    References
    ----------
    .. [1] Yates, A. (1987). Multivariate Exploratory Data Analysis. State University of New York Press.
    .. [2] Browne, M. W. (2001). An overview of analytic rotation in exploratory factor analysis. Multivariate
       Behavioral Research 36, 111-150.

    Examples
    --------
    >>> import torch
    >>> Geomin(epsilon=0.01).value(torch.tensor([[1.0, 0.0]])).square().round(decimals=6)       # 1.01 * .01
    tensor(0.0101)
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return (loadings.square() + self.epsilon).log().mean(-1).exp().sum(-1)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        raised = loadings.square() + self.epsilon
        mean = raised.log().mean(-1, keepdim=True).exp()
        return (2 / loadings.shape[-1]) * mean * loadings / raised
