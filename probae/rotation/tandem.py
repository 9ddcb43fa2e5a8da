r"""Comrey's tandem criteria: correlated features should load on the same factors, others should not.

Both need the sum over all pairs of features of :math:`r_{cd}^2 \sum_k \lambda_{ck}^2 \lambda_{dk}^2` with
:math:`r = \Lambda\Lambda'`. It is the squared length of the moments :math:`C_{ijk} = \sum_d \lambda_{di}
\lambda_{dj} \lambda_{dk}^2`, so no D x D matrix is formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.rotation.base import Criterion

__all__ = ["TandemI", "TandemII"]


@dataclass(frozen=True)
class TandemI(Criterion):
    r"""Comrey's first tandem criterion: correlated features load on the same factor. Orthogonal only.

    .. math:: Q = -\sum_{cd} r_{cd}^2 \sum_k \lambda_{ck}^2 \lambda_{dk}^2, \qquad r = \Lambda \Lambda'

    Used to see how many factors there are: unimportant ones come out small.

    References
    ----------
    .. [1] Comrey, A. L. (1967). Tandem criteria for analytic rotation in factor analysis. Psychometrika 32, 143-154.

    Examples
    --------
    >>> import torch
    >>> TandemI().value(torch.eye(2))
    tensor(-2.)
    """

    oblique: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return -_moments(loadings)[1].square().sum((-2, -1))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return -_moments_gradient(loadings)


@dataclass(frozen=True)
class TandemII(Criterion):
    r"""Comrey's second tandem criterion: uncorrelated features do not load on the same factor. Orthogonal only.

    .. math:: Q = \sum_{cd} (1 - r_{cd}^2) \sum_k \lambda_{ck}^2 \lambda_{dk}^2, \qquad r = \Lambda \Lambda'

    For features of variance 1, and after `TandemI` has said how many factors to keep.

    References
    ----------
    .. [1] Comrey, A. L. (1967). Tandem criteria for analytic rotation in factor analysis. Psychometrika 32, 143-154.

    Examples
    --------
    >>> import torch
    >>> TandemII().value(torch.eye(2))
    tensor(0.)
    """

    oblique: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        together = loadings.square().sum(-2).square().sum(-1)
        return together - _moments(loadings)[1].square().sum((-2, -1))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        together = loadings.square().sum(-2, keepdim=True)
        return 4 * loadings * together - _moments_gradient(loadings)


def _moments(loadings: Float[Tensor, "*batch features latents"]) -> tuple[Tensor, Tensor]:
    """Return the products of pairs of loadings (*batch, D, K K), and their moments C (*batch, K K, K)."""
    pairs = (loadings.unsqueeze(-1) * loadings.unsqueeze(-2)).flatten(-2)
    return pairs, pairs.mT @ loadings.square()


def _moments_gradient(loadings: Float[Tensor, "*batch features latents"]) -> Tensor:
    """Return the gradient of the sum of squares of C."""
    pairs, moments = _moments(loadings)
    latents = loadings.shape[-1]
    through_pairs = (loadings.square() @ moments.mT).unflatten(-1, (latents, latents))
    return 4 * (torch.einsum("...dij,...dj->...di", through_pairs, loadings) + loadings * (pairs @ moments))
