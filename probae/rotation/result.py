"""What `rotate` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from probae.rotation.base import Criterion
from probae.rotation.minima import Minimum
from probae.rotation.promax import Promax
from probae.rotation.tables import aligned

__all__ = ["Rotation"]

SHOWN = 5  # local minima listed in a printout


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotated loadings with the correlations of their factors; printed as a table of standardized loadings.

    With W the loadings that were rotated, ``loadings = W @ matrix`` and
    ``loadings @ factor_correlation @ loadings.T = W @ W.T``: what the factors explain together does not change. A
    factor score z of W becomes ``inverse(matrix) z``. Columns are sorted by the variance their factors explain,
    largest first, and the largest entry of each is positive, unless the criterion gives the columns a place.

    Attributes
    ----------
    loadings : Tensor (D, K)
        Rotated loadings, the pattern of the features on the factors.
    matrix : Tensor (K, K)
        The rotation: orthogonal, or inverse(T).T with T the unit vectors of the oblique factors.
    factor_correlation : Tensor (K, K)
        Correlations of the factors, T.T @ T: the identity in orthogonal rotation.
    value : float
        The criterion at the loadings, normalised if they were.
    criterion : Criterion or Promax
    oblique : bool
    normalize : bool, Kaiser or CuretonMulaik
    values : Tensor (starts,)
        Value each start ended with; the first start is the unrotated frame.
    minima : tuple of Minimum
        Distinct local minima that starts converged to, lowest first, with counts.
    converged : bool
        Whether the slope at the loadings is below the tolerance.
    converged_starts : int
    gradient_norm : float
        Frobenius norm of the projected gradient at the loadings, as in Jennrich (2001, 2002).
    units : Tensor (D,)
        Standard deviations of the features in the model that was rotated; ones for a bare matrix.
    names : tuple of str, or None
        Feature names.

    Examples
    --------
    >>> import torch, probae as pa
    >>> W = torch.tensor([[0.7, 0.3], [0.8, 0.2], [0.3, -0.7], [0.2, -0.6]], dtype=torch.float64)
    >>> print(pa.rotate(W, pa.rotation.Quartimin(), oblique=True))
    Quartimin, oblique: value 0.00286157, 1 minimum found by 100 of 100 starts
               z[0]   z[1]  communality
    column 0    0.76  -0.07         0.58
    column 1    0.82   0.06         0.68
    column 2    0.02   0.76         0.58
    column 3   -0.03   0.63         0.40
    variance   1.25   0.99         2.24
    <BLANKLINE>
    factor correlations
          z[0]  z[1]
    z[0]  1.00  0.06
    z[1]  0.06  1.00
    """

    loadings: Float[Tensor, "features latents"]
    matrix: Float[Tensor, "latents latents"]
    factor_correlation: Float[Tensor, "latents latents"]
    value: float
    criterion: Criterion | Promax
    oblique: bool
    normalize: Any
    values: Float[Tensor, " starts"]
    minima: tuple[Minimum, ...]
    converged: bool
    converged_starts: int
    gradient_norm: float
    units: Float[Tensor, " features"]
    names: tuple[str, ...] | None

    @property
    def standardized(self) -> Float[Tensor, "features latents"]:
        """Loadings for features of variance 1, which is what the criterion saw of a model, shape (D, K).

        Examples
        --------
        >>> import probae as pa
        >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
        >>> bool((pa.rotate(run).standardized.square().sum(1) < 1).all())
        True
        """
        return self.loadings / self.units.unsqueeze(1)

    @property
    def structure(self) -> Float[Tensor, "features latents"]:
        """Covariances of the features with the factors, loadings @ factor_correlation, shape (D, K).

        Examples
        --------
        >>> import torch, probae as pa
        >>> rotation = pa.rotate(torch.eye(3))
        >>> torch.equal(rotation.structure, rotation.loadings)               # factors are uncorrelated
        True
        """
        return self.loadings @ self.factor_correlation

    @property
    def communalities(self) -> Float[Tensor, " features"]:
        """Variance of each feature that the factors explain; no rotation changes it.

        Examples
        --------
        >>> import torch, probae as pa
        >>> pa.rotate(torch.tensor([[3.0, 4.0], [1.0, 2.0]])).communalities.round(decimals=9)
        tensor([25.,  5.], dtype=torch.float64)
        """
        return (self.structure * self.loadings).sum(1)

    @property
    def variance(self) -> Float[Tensor, " latents"]:
        """Variance each factor explains, the diagonal of Phi L'L with standardized loadings L, shape (K,).

        The factors of an oblique rotation share variance; the sum is that of the standardized communalities.

        Examples
        --------
        >>> import torch, probae as pa
        >>> pa.rotate(torch.tensor([[3.0, 0.0], [0.0, 2.0]])).variance
        tensor([9., 4.], dtype=torch.float64)
        """
        shares = self.structure * self.loadings / self.units.square().unsqueeze(1)
        return shares.sum(0)

    def __repr__(self) -> str:
        features, latents = self.loadings.shape
        names = self.names or tuple(f"column {d}" for d in range(features))
        factors = [f"z[{k}]" for k in range(latents)]
        shares = self.communalities / self.units.square()
        table = zip(names, self.standardized.tolist(), shares.tolist(), strict=True)
        rows = [(name, [*line, total]) for name, line, total in table]
        title = "standardized" if bool((self.units != 1).any()) else ""
        rows.append(("variance", [*self.variance.tolist(), float(self.variance.sum())]))
        parts = [self._headline() + "\n" + aligned(title, [*factors, "communality"], rows)]
        if self.oblique and latents > 1:
            lines = list(zip(factors, self.factor_correlation.tolist(), strict=True))
            parts.append("factor correlations\n" + aligned("", factors, lines))
        return "\n\n".join(parts)

    def _headline(self) -> str:
        kind = "oblique" if self.oblique else "orthogonal"
        rule = "Kaiser()" if self.normalize is True else self.normalize
        normalized = f", {rule}" if rule else ""
        text = f"{_bare(self.criterion)}, {kind}{normalized}: value {self.value:.6g}"
        if not self.converged:
            text += " (not converged)"
        if len(self.minima) == 1:
            return f"{text}, 1 minimum found by {self.minima[0].count} of {len(self.values)} starts"
        if self.minima:
            listed = ", ".join(f"{m.value:.6g} ({m.count})" for m in self.minima[:SHOWN])
            more = ", ..." if len(self.minima) > SHOWN else ""
            text += f"\n{len(self.minima)} minima of {len(self.values)} starts (count): {listed}{more}"
        return text


def _bare(criterion: Any) -> str:
    """Write a criterion without empty brackets."""
    return repr(criterion).removesuffix("()")
