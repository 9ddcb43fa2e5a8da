r"""The rows of x as a sweep sees them: a root T of their scatter, T'T = X'X, of no more rows than features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probae.statistics import SufficientStatistics


class Rows(NamedTuple):
    """Rows N(0, W W' + Psi), ``count`` of them, through T (r, D), r <= count, and the diagonal of T'T."""

    root: Float[Tensor, "*chains rank features"]
    squares: Float[Tensor, "*chains features"]
    count: int  # type: ignore[assignment]  # rows, where a tuple counts its entries


class Centred(NamedTuple):
    """Rows of x about their own mean, and that mean; ``count`` is that of the rows of x."""

    root: Float[Tensor, "*chains rank features"]
    squares: Float[Tensor, "*chains features"]
    mean: Float[Tensor, "*chains features"]
    count: int  # type: ignore[assignment]  # rows, where a tuple counts its entries

    def about_their_mean(self) -> Rows:
        """The n - 1 contrasts of the rows: all that a flat mean leaves."""
        return Rows(self.root, self.squares, self.count - 1)

    def about(self, mean: Float[Tensor, "*chains features"]) -> Rows:
        """The n rows about a known mean: the contrasts, and sqrt(n) times what the means differ by."""
        last = self.count**0.5 * (self.mean - mean)
        root = self.root.expand(*last.shape[:-1], *self.root.shape[-2:])
        return Rows(torch.cat([root, last[..., None, :]], -2), self.squares + last.square(), self.count)


def centred(statistics: SufficientStatistics) -> Centred:
    """Take the rows from their count, mean and scatter."""
    if statistics.root is not None:
        return Centred(
            contrasts(statistics.root),
            statistics.variances * statistics.count,
            statistics.mean,
            statistics.count,
        )
    rank = min(statistics.count - 1, statistics.features)
    root = root_of(statistics.scatter)[-rank:]
    return Centred(root, statistics.scatter.diagonal(), statistics.mean, statistics.count)


def root_of(
    scatter: Float[Tensor, "*chains features features"],
) -> Float[Tensor, "*chains features features"]:
    """Return T with T'T = scatter, its rows in order of size; a singular scatter has one too."""
    values, axes = torch.linalg.eigh(scatter)
    return values.clamp_min(0.0).sqrt()[..., None] * axes.mT


def contrasts(rows: Float[Tensor, "*chains rows features"]) -> Float[Tensor, "*chains contrasts features"]:
    """Return orthonormal contrasts of the rows (Helmert), one fewer, with the scatter of the rows about their mean."""
    before = torch.arange(1.0, rows.shape[-2], dtype=rows.dtype)[:, None]
    return (rows.cumsum(-2)[..., :-1, :] - before * rows[..., 1:, :]) / (before * (before + 1)).sqrt()
