"""Tucker's congruence of matched factors, beside its conventional limits and what arbitrary axes would reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from probae.agreement import ChanceLevel, mean_cosine

__all__ = ["Congruence", "congruence"]

FAIR, EQUAL = 0.85, 0.95  # Lorenzo-Seva & ten Berge (2006)


@dataclass(frozen=True, eq=False)
class Congruence:
    """Congruence of each factor with its partner, and what it is called.

    Attributes
    ----------
    coefficients : Tensor (K,)
        Tucker's phi of column j of the reference with its partner, in [0, 1].
    order, signs : Tensor (K,)
        The partner of column j of the reference is signs[j] times column order[j] of the other.
    chance : ChanceLevel
        Mean and 95 % quantile of the mean coefficient for the reference turned by an arbitrary rotation.

    Examples
    --------
    >>> import torch
    >>> found = Congruence(torch.tensor([0.97, 0.6]), torch.arange(2), torch.ones(2), ChanceLevel(0.9, 0.99))
    >>> found.labels, round(found.mean, 3), found.above_chance
    (('equal', 'not similar'), 0.785, False)
    """

    coefficients: Float[Tensor, " latents"]
    order: Int[Tensor, " latents"]
    signs: Float[Tensor, " latents"]
    chance: ChanceLevel

    @property
    def mean(self) -> float:
        """Mean coefficient."""
        return float(self.coefficients.mean())

    @property
    def labels(self) -> tuple[str, ...]:
        """What each factor is called: "equal" from .95, "fair" from .85, else "not similar"."""
        values = self.coefficients.tolist()
        return tuple("equal" if v >= EQUAL else "fair" if v >= FAIR else "not similar" for v in values)

    @property
    def above_chance(self) -> bool:
        """Whether the mean is above what 95 % of arbitrary rotations of the reference reach; never for one factor."""
        return self.mean > self.chance.upper

    def __str__(self) -> str:
        values = ", ".join(
            f"{value:.3f} ({label})"
            for value, label in zip(self.coefficients.tolist(), self.labels, strict=True)
        )
        return (
            f"Tucker's congruence {values}; mean {self.mean:.3f}, arbitrary axes reach {self.chance.mean:.3f} on "
            f"average and {self.chance.upper:.3f} in 5 % of cases"
        )


def congruence(A: Any, B: Any) -> Congruence:
    """Match the columns of B with those of A and return Tucker's congruence of each pair.

    By convention factors are equal from .95 and fairly similar from .85. Of two factors an arbitrary rotation reaches
    .90 on average, so read the limits beside ``chance``.

    Parameters
    ----------
    A, B : shape (D, K), no zero column
        Reference, and what is compared with it.

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, or a column is zero.

    References
    ----------
    Lorenzo-Seva, U. & ten Berge, J. M. F. (2006). Tucker's congruence coefficient as a meaningful index of factor
    similarity. Methodology 2, 57-64.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> found = congruence(A, -A[:, [1, 0]] + torch.tensor([[0.0], [0.0], [0.0], [0.9]]))
    >>> found.labels, found.order.tolist(), found.signs.tolist()
    (('fair', 'equal'), [1, 0], [-1.0, -1.0])
    """
    found = mean_cosine(A, B)
    return Congruence(found.per_column, found.order, found.signs, found.chance)
