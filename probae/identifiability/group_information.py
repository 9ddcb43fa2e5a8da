"""The score information on every change of the axes, and the Lie algebra of those that leave a model as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

__all__ = ["GroupInformation", "connected"]

GAP = 1e4  # least ratio of the smallest other eigenvalue to the largest null one
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class GroupInformation:
    """Information on every change of the factors' axes, and the Lie algebra of those that change nothing.

    Attributes
    ----------
    eigenvalues : Tensor (K^2,)
        Of the normalised information, ascending. Noisy values may be a little below 0: they are unbiased estimates.
    algebra : Tensor (m, K, K)
        Basis of the null space: W e^{tB} has the likelihood of W for each of these B and their combinations.
    draws : int
        Draws of the law of z, or rows times draws of their posteriors; 0 where the values are exact.
    error : float
        Monte Carlo standard error of the eigenvalues that are not null, 0 where they are exact. The null space itself
        is exact in any case: its scores are zero draw by draw.
    noisy : bool
        Whether x with its noise was conditioned on, or z itself (the noise-free limit).
    smoothed : float
        Variance of the normal noise added to laws whose own information is infinite, over theirs; else 0.

    Examples
    --------
    >>> import probae as pa
    >>> found = pa.gl_information(pa.FactorAnalysis(9, 3))
    >>> found.dimension, found.blocks, round(found.smallest_other, 9)
    (3, ((0, 1, 2),), 1.0)
    """

    eigenvalues: Float[Tensor, " squares"]
    algebra: Float[Tensor, "dimension latents latents"]
    draws: int = 0
    error: float = 0.0
    noisy: bool = False
    smoothed: float = 0.0

    @property
    def latents(self) -> int:
        """Number of factors."""
        return self.algebra.shape[-1]

    @property
    def dimension(self) -> int:
        """Dimension of the group that changes nothing."""
        return len(self.algebra)

    @property
    def largest_null(self) -> float:
        """Largest eigenvalue counted as zero."""
        return float(self.eigenvalues[: self.dimension].abs().max()) if self.dimension else 0.0

    @property
    def smallest_other(self) -> float:
        """Smallest eigenvalue counted as information; 1 where every direction is null."""
        return float(self.eigenvalues[self.dimension]) if self.dimension < len(self.eigenvalues) else 1.0

    @property
    def conclusive(self) -> bool:
        """Whether nulls and others are four decades apart."""
        return self.smallest_other > GAP * max(self.largest_null, ROUNDING)

    @property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Factors that the algebra mixes among each other; a block of one mixes with no other."""
        mixing = (self.algebra.abs() > 1e-6).any(0)
        edges = {(min(i, j), max(i, j)) for i, j in mixing.nonzero().tolist() if i != j}
        return connected(self.latents, edges)

    def describe(self) -> str:
        """Say the result in a sentence."""
        where = "rows with their noise" if self.noisy else "noise-free limit"
        kind = f"Monte Carlo, error {self.error:.1g}" if self.draws else "exact"
        clear = "" if self.conclusive else "; the gap between them is not clear-cut"
        noise = (
            f"; noise of {self.smoothed:g} of its variance added to make it finite" if self.smoothed else ""
        )
        return (
            f"gl({self.latents}) information, {where}: {self.dimension} null directions, smallest other "
            f"{self.smallest_other:.3g} ({kind}{noise}){clear}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "dimension": self.dimension,
            "eigenvalues": self.eigenvalues.tolist(),
            "algebra": self.algebra.tolist(),
            "smallest_other": self.smallest_other,
            "conclusive": self.conclusive,
            "noisy": self.noisy,
            "exact": self.draws == 0,
            "error": self.error,
            "smoothed": self.smoothed,
        }


def connected(count: int, edges: set[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Return the connected components of a graph on 0..count-1, in order of their first member."""
    label = list(range(count))
    for i, j in sorted(edges):
        old, new = max(label[i], label[j]), min(label[i], label[j])
        label = [new if value == old else value for value in label]
    return tuple(tuple(i for i in range(count) if label[i] == name) for name in sorted(set(label)))
