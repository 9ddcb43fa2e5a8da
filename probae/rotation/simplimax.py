"""Simplimax: as many loadings as asked for are made zero, whichever they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count
from probae.rotation.base import Criterion

__all__ = ["Simplimax"]


@dataclass(frozen=True)
class Simplimax(Criterion):
    r"""Simplimax: the sum of the smallest squared loadings; made for oblique rotation, possible in both.

    .. math:: Q = \sum \text{of the } z \text{ smallest } \lambda_{dk}^2

    It is the least-squares fit to the best target with z zeros, and has very many local minima.

    Parameters
    ----------
    zeros : int, optional
        How many loadings should be zero; the number of features when absent.

    Raises
    ------
    ParameterError
        If `zeros` is no positive whole number, or if the loadings have fewer entries.

    References
    ----------
    .. [1] Kiers, H. A. L. (1994). Simplimax: oblique rotation to an optimal target with simple structure.
       Psychometrika 59, 567-579.

    Examples
    --------
    >>> import torch
    >>> Simplimax(zeros=2).value(torch.tensor([[3.0, 1.0], [2.0, 4.0]]))            # 1 + 4
    tensor(5.)
    """

    zeros: int | None = None

    def __post_init__(self) -> None:
        if self.zeros is not None:
            check_count("zeros", self.zeros)

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return (loadings.square() * self._smallest(loadings)).sum((-2, -1))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q, which has a jump where the set of smallest loadings changes."""
        return 2 * loadings * self._smallest(loadings)

    def check(self, features: int, latents: int) -> None:
        """Refuse more zeros than there are loadings."""
        if self.zeros is not None and self.zeros > features * latents:
            raise ParameterError(
                f"zeros should be at most the number of loadings, {features * latents}, got {self.zeros}."
            )

    def _smallest(self, loadings: Tensor) -> Tensor:
        """Return 1 at the smallest loadings, 0 at the others; exactly as many ones as zeros are wanted."""
        size = loadings.detach().square().flatten(-2)
        count = loadings.shape[-2] if self.zeros is None else self.zeros
        chosen = size.topk(min(count, size.shape[-1]), dim=-1, largest=False).indices
        return torch.zeros_like(size).scatter(-1, chosen, 1.0).unflatten(-1, loadings.shape[-2:])
