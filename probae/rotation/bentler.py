"""Bentler's invariant pattern simplicity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.rotation.base import Criterion

__all__ = ["Bentler"]


@dataclass(frozen=True)
class Bentler(Criterion):
    r"""Bentler's criterion: squared loadings of different factors uncorrelated; orthogonal and oblique.

    .. math:: Q = -\tfrac14 \big( \log \det M - \log \det \operatorname{diag} M \big), \qquad
              M = (\Lambda \circ \Lambda)' (\Lambda \circ \Lambda)

    It does not change when a column is rescaled, and is infinite where the squared columns are dependent.

    References
    ----------
    .. [1] Bentler, P. M. (1977). Factor simplicity index and transformations. Psychometrika 42, 277-295.

    Examples
    --------
    >>> import torch
    >>> abs(Bentler().value(torch.eye(3, dtype=torch.float64)))
    tensor(0., dtype=torch.float64)
    """

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return -0.25 * torch.linalg.slogdet(_correlations(loadings)[0]).logabsdet

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q; NaN where Q is infinite."""
        correlations, unit, length = _correlations(loadings)
        inverse, singular = torch.linalg.inv_ex(correlations)
        slope = -loadings * (unit @ inverse - unit) / length
        return torch.where((singular > 0)[..., None, None], torch.nan, slope)


def _correlations(loadings: Float[Tensor, "*batch features latents"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosines between squared columns, the squared columns at unit length, and their lengths."""
    square = loadings.square()
    length = square.norm(dim=-2, keepdim=True)
    unit = square / length.clamp_min(torch.finfo(loadings.dtype).tiny)
    return unit.mT @ unit, unit, length
