"""Weights of the rows during rotation, so that features with small communalities are heard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["CuretonMulaik", "Kaiser", "Normalization"]


class Normalization(Protocol):
    """Says by how much each row is multiplied before rotation, and divided after it."""

    def weights(self, loadings: Float[Tensor, "features latents"]) -> Float[Tensor, " features"]:
        """Return a positive weight for each feature."""
        ...


@dataclass(frozen=True)
class Kaiser:
    r"""Kaiser's normalisation: rows of length one, :math:`w_d = 1 / h_d` with :math:`h_d^2` the communality.

    A row of zeros keeps weight 1.

    References
    ----------
    .. [1] Kaiser, H. F. (1958). The varimax criterion for analytic rotation in factor analysis. Psychometrika 23,
       187-200.

    Examples
    --------
    >>> import torch
    >>> Kaiser().weights(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([0.2000, 1.0000])
    """

    def weights(self, loadings: Float[Tensor, "features latents"]) -> Float[Tensor, " features"]:
        """Return one over the length of each row."""
        length = loadings.norm(dim=1)
        return torch.where(length > 0, 1 / length, 1.0)


@dataclass(frozen=True)
class CuretonMulaik:
    r"""Cureton and Mulaik's weights: rows of length one, times a weight that is small for complex features.

    With :math:`a_d` the size of the cosine between row d and the first principal axis of the normalised loadings,

    .. math:: w_d = \frac1{h_d} \Big[ \cos^2\Big( \frac\pi2 \cdot
              \frac{\arccos K^{-1/2} - \arccos a_d}{\arccos K^{-1/2} - \delta_d} \Big) + .001 \Big], \qquad
              \delta_d = \begin{cases} \pi/2 & a_d < K^{-1/2} \\ 0 & \text{else} \end{cases}

    A feature at the angle of a pure one, :math:`a_d = K^{-1/2}`, counts most.

    References
    ----------
    .. [1] Cureton, E. E. & Mulaik, S. A. (1975). The weighted varimax rotation and the promax rotation. Psychometrika
       40, 183-195.

    Examples
    --------
    >>> import torch
    >>> W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])                 # the third is as complex as can be
    >>> CuretonMulaik().weights(W)
    tensor([1.0010, 1.0010, 0.0012])
    """

    def weights(self, loadings: Float[Tensor, "features latents"]) -> Float[Tensor, " features"]:
        """Return the weight of each row."""
        kaiser = Kaiser().weights(loadings)
        unit = loadings * kaiser.unsqueeze(1)
        cosine = torch.linalg.svd(unit, full_matrices=False).Vh[0]
        first = (unit @ cosine).abs().clamp(0.0, 1.0)
        middle = math.acos(loadings.shape[1] ** -0.5)
        far = torch.where(first < loadings.shape[1] ** -0.5, math.pi / 2, 0.0)
        span = middle - far
        span = torch.where(span == 0, torch.inf, span)  # one factor: every row counts alike
        part = (middle - first.acos()) / span
        return kaiser * ((math.pi / 2 * part).cos().square() + 1e-3)
