r"""The likelihood of an unrestricted Gaussian on rows with missing entries, its gradient and its EM step.

With :math:`G_p` the inverse of the observed block of Sigma for pattern p, zeros elsewhere, and
:math:`a_n = G_p (x_n - \mu)`, one step of EM is

.. math::

    \mu^+ = \mu + \Sigma \bar a, \qquad
    \Sigma^+ = \Sigma + \Sigma \Big[\tfrac1N \sum_n (a_n a_n' - G_p)\Big] \Sigma - (\mu^+ - \mu)(\mu^+ - \mu)'

(Orchard & Woodbury, 1972; Little & Rubin, 2019, section 11.2). The bracket is twice the gradient of the log-likelihood
in Sigma, so one pass over the patterns gives the value, the gradient and the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probae.checks import DataError
from probae.inference.acceleration import Point
from probae.models.patterns import Patterns, each_by_its_own

LOG_TWO_PI = math.log(2 * math.pi)
SINGULAR = 1e-8  # smallest eigenvalue of a correlation matrix that iterations can still tell from zero


class UnrestrictedGaussian:
    """The likelihood of a mean and a covariance LL' on grouped rows; theta holds the mean, log L_ii, and L below."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.cells = sort_into_cells(patterns)
        self.constant = -0.5 * LOG_TWO_PI * float(patterns.counts @ patterns.observed.double().sum(1))
        self.below = torch.tril_indices(patterns.features, patterns.features, -1)

    def start(self) -> Tensor:
        """Column means, uncorrelated columns: theta of zeros, since columns come in units of their own spread."""
        features = self.patterns.features
        return torch.zeros(2 * features + self.below.shape[1], dtype=torch.float64)

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the lower triangle L."""
        features = self.patterns.features
        lower = theta[features : 2 * features].exp().diag()
        lower[self.below[0], self.below[1]] = theta[2 * features :]
        return theta[:features], lower

    def join(self, mean: Tensor, lower: Tensor) -> Tensor:
        """Return theta."""
        return torch.cat([mean, lower.diagonal().log(), lower[self.below[0], self.below[1]]])

    def check_regular(self, theta: Tensor) -> None:
        """Stop where the covariance becomes singular: the density of some combination of columns has no top."""
        lower = self.split(theta)[1]
        covariance = lower @ lower.mT
        scale = covariance.diagonal().sqrt()
        if float(torch.linalg.eigvalsh(covariance / torch.outer(scale, scale))[0]) < SINGULAR:
            raise unbounded()

    def evaluate(self, theta: Tensor) -> Point:
        """Return the log-likelihood per row, its gradient, and the EM step."""
        mean, lower = self.split(theta)
        covariance, rows = lower @ lower.mT, self.patterns.rows
        value, weights, second = expect(self.cells, mean, covariance)
        seen = self.patterns.counts.sum()  # rows without a value would only slow the step down
        shift = covariance @ weights / seen
        updated = covariance + covariance @ second @ covariance / seen - torch.outer(shift, shift)
        factor, failed = torch.linalg.cholesky_ex(updated)
        if failed:
            raise unbounded()
        slope = (second @ lower).tril()
        slope.diagonal().mul_(lower.diagonal())
        slope = torch.cat([weights, slope.diagonal(), slope[self.below[0], self.below[1]]]) / rows
        return Point(theta, (value + self.constant) / rows, slope, self.join(mean + shift, factor))

    def bounded(self, start: Tensor, step: Tensor) -> Tensor:
        """Keep log L_ii from changing by more than one."""
        features = self.patterns.features
        largest = float(step[features : 2 * features].abs().max())
        return start + step / max(largest, 1.0)

    def slope(self, point: Point) -> float:
        """Return the largest derivative; columns have unit spread."""
        return float(point.gradient.abs().max())

    def leap(self, point: Point) -> Point | None:
        """No shortcut."""
        return None


@dataclass(frozen=True, eq=False)
class Cell:
    r"""Groups of rows that are worked on through their missing entries m, or through the observed ones o.

    With P the inverse of Sigma, G = P - P_{:m} P_{mm}^{-1} P_{m:} and |Sigma_oo| = |Sigma| |P_mm|, so a few missing
    entries cost little. `columns` (groups, k) lists m where `absent`, else o.
    """

    patterns: Patterns
    columns: Tensor
    absent: bool

    def collect(self, sums: Sums, mean: Tensor, covariance: Tensor, precision: Tensor) -> None:
        """Add what the groups contribute."""
        part, columns = self.patterns, self.columns
        source = precision if self.absent else covariance
        factor, failed = torch.linalg.cholesky_ex(source[columns.unsqueeze(2), columns.unsqueeze(1)])
        inverse = torch.cholesky_inverse(factor) if columns.shape[1] else factor
        mask, weight = part.observed.double(), part.counts.sqrt()
        rows = torch.cat([part.roots, (part.means - mean) * mask * weight.unsqueeze(1)])
        a = self._solve(rows, inverse, precision)
        sums.failed |= bool(failed.any())
        sums.energy += 2 * float(part.counts @ factor.diagonal(dim1=1, dim2=2).log().sum(1)) + float(
            (a * rows).sum()
        )
        sums.weights += a[len(part.roots) :].mT @ weight
        sums.second += a.mT @ a
        if self.absent:
            sums.through_precision += float(part.counts.sum())
            sums.inside += self._embed(inverse)
        else:
            sums.second -= self._embed(inverse)

    def _solve(self, rows: Tensor, inverse: Tensor, precision: Tensor) -> Tensor:
        """Return G_p x for each row."""
        part, columns = self.patterns, self.columns
        start = rows @ precision if self.absent else rows
        roots = each_by_its_own(inverse, start[: len(part.roots)].gather(1, columns[part.owner]), part.owner)
        means = (inverse @ start[len(part.roots) :].gather(1, columns).unsqueeze(-1)).squeeze(-1)
        owner = torch.cat([part.owner, torch.arange(len(columns))])
        placed = torch.zeros_like(rows).scatter_(1, columns[owner], torch.cat([roots, means]))
        return (start - placed @ precision) * part.observed[owner] if self.absent else placed

    def _embed(self, blocks: Tensor) -> Tensor:
        """Add up blocks (groups, k, k) times their counts, each at its columns of a D x D matrix."""
        features = self.patterns.features
        places = (self.columns.unsqueeze(2) * features + self.columns.unsqueeze(1)).flatten()
        weighted = (blocks * self.patterns.counts.view(-1, 1, 1)).flatten()
        whole = torch.zeros(features * features, dtype=torch.float64).index_add_(0, places, weighted)
        return whole.view(features, features)


class Sums:
    """Running sums: energy without constants, a_n, a_n a_n' - G_p, and what is still to be multiplied by P."""

    def __init__(self, features: int) -> None:
        self.energy = 0.0
        self.failed = False
        self.through_precision = 0.0
        self.weights = torch.zeros(features, dtype=torch.float64)
        self.second = torch.zeros(features, features, dtype=torch.float64)
        self.inside = torch.zeros(features, features, dtype=torch.float64)


def sort_into_cells(patterns: Patterns) -> list[Cell]:
    """Bring together the groups that miss equally many entries."""
    missing = (~patterns.observed).sum(1)
    found = []
    for count in missing.unique().tolist():
        absent = 2 * count <= patterns.features
        size = count if absent else patterns.features - count
        for part in patterns.select(missing == count).blocks(max(size * size, patterns.features)):
            listed = ~part.observed if absent else part.observed
            found.append(Cell(part, torch.nonzero(listed)[:, 1].view(len(listed), size), absent))
    return found


def expect(cells: list[Cell], mean: Tensor, covariance: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the log-likelihood without its constant, the sum of a_n, and the sum of a_n a_n' - G_p."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    precision = torch.cholesky_inverse(lower)
    sums = Sums(len(mean))
    for cell in cells:
        cell.collect(sums, mean, covariance, precision)
    second = sums.second - sums.through_precision * precision + precision @ sums.inside @ precision
    energy = sums.energy + 2 * sums.through_precision * float(lower.diagonal().log().sum())
    value = -math.inf if failed or sums.failed else -0.5 * energy
    return value, sums.weights, second


def unbounded() -> DataError:
    """Say why there is no maximum."""
    return DataError(
        "The likelihood of an unrestricted covariance has no maximum here: columns are collinear where they are "
        "observed together, or too many for the rows. Leave columns out, or give more rows."
    )
