r"""The best frame of sufficient scores for independent non-Gaussian factors, by plane rotations.

Scores y = z + N(0, V) of K factors with known laws p_j have marginal densities f_j(y; v) = (p_j * N(0, v))(y). The
frame R maximises

    C(R) = mean_n sum_j log f_j((R' y_n)_j; (R' V R)_jj)

which is the exact log-likelihood of the rotation where the score noise is isotropic, and its independent-columns
approximation elsewhere. Each sweep visits every plane and takes the best angle on a grid, so a sweep cannot be
trapped by a local optimum within a plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.linalg import givens, haar_rotation
from probae.priors import Prior

GRID = math.radians(5.0)
ROWS = 5000  # rows used to find the frame; the likelihood of all rows refines it


@dataclass(frozen=True, eq=False)
class LawTable:
    """log f(y; v) of one law on a grid of |y| and v, read by linear interpolation (every law here is symmetric)."""

    values: Float[Tensor, "variances points"]
    reach: float
    variances: tuple[float, float]

    @classmethod
    def of(cls, law: Prior, reach: float, variances: tuple[float, float], points: int = 1024) -> LawTable:
        """Tabulate a law for |y| <= reach and noise variances in the given range."""
        levels = 5 if variances[1] > variances[0] * (1 + 1e-9) else 1
        grid = reach * torch.linspace(0, 1, points, dtype=torch.float64).square()  # finer near zero
        rows = []
        for variance in torch.linspace(*variances, levels, dtype=torch.float64).tolist():
            rows.append(law.noisy_log_prob(grid, variance) if variance > 0 else law.log_prob(grid))
        return cls(torch.stack(rows), reach, variances)

    def __call__(self, y: Float[Tensor, "angles samples"], variance: Float[Tensor, "angles"]) -> Tensor:
        """Return log f(y; v), shape (angles, samples)."""
        levels, points = self.values.shape
        low, high = self.variances
        level = ((variance - low) / max(high - low, 1e-300)).clamp(0, 1) * (levels - 1)
        lower = level.floor().clamp_max(max(levels - 2, 0)).long()
        share = (level - lower).unsqueeze(-1)
        table = self.values[lower] * (1 - share) + self.values[(lower + 1).clamp_max(levels - 1)] * share
        position = (y.abs() / self.reach).clamp_max(1.0).sqrt() * (points - 1)
        left = position.floor().clamp_max(points - 2).long()
        below = table.gather(1, left)
        return below + (position - left) * (table.gather(1, left + 1) - below)


@dataclass(eq=False)
class Frame:
    """A frame of the scores during the search: rotated scores, their noise covariance, and the rotation so far."""

    scores: Float[Tensor, "samples latents"]
    covariance: Float[Tensor, "latents latents"]
    rotation: Float[Tensor, "latents latents"]

    def turn(self, rotation: Tensor) -> None:
        """Turn the frame."""
        self.scores = self.scores @ rotation
        self.covariance = rotation.T @ self.covariance @ rotation
        self.rotation = self.rotation @ rotation


@dataclass(frozen=True, eq=False)
class RotationSearch:
    """The best rotation, its contrast in nats per row, and every restart."""

    rotation: Float[Tensor, "latents latents"]
    contrast: float
    restarts: list[dict[str, Any]] = field(default_factory=list)


def tabulate(
    scores: Tensor, covariance: Float[Tensor, "latents latents"], laws: list[Prior]
) -> list[LawTable]:
    """Tabulate the laws over the range that any rotation of the scores can reach; equal laws share one table."""
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp_min(0.0)
    spread = (float(eigenvalues[0]), float(eigenvalues[-1]))
    reach = float(scores.norm(dim=1).max()) + 1e-9
    made = {name: LawTable.of(law, reach, spread) for name, law in {repr(law): law for law in laws}.items()}
    return [made[repr(law)] for law in laws]


def column_density(
    tables: list[LawTable],
    scores: Float[Tensor, "samples latents"],
    covariance: Float[Tensor, "latents latents"],
) -> Float[Tensor, "samples"]:
    """Return sum_j log f_j(y_j; V_jj) of each row, in nats."""
    columns = zip(tables, scores.T, covariance.diagonal(), strict=True)
    return torch.cat([table(y.unsqueeze(0), v.view(1)) for table, y, v in columns]).sum(0)


def search_rotation(
    scores: Float[Tensor, "samples latents"],
    covariance: Float[Tensor, "latents latents"],
    tables: list[LawTable],
    seed: int,
    restarts: int | None = None,
    sweeps: int = 12,
    rows: int = ROWS,
) -> RotationSearch:
    """Find the frame by Jacobi sweeps from the given axes and from Haar-random ones; all restarts are reported."""
    latents = scores.shape[1]
    generator = torch.Generator().manual_seed(seed)
    if len(scores) > rows:
        scores = scores[torch.randperm(len(scores), generator=generator)[:rows]]
    if restarts is None:
        restarts = 0 if latents == 1 else 4 if latents <= 8 else 1
    starts = [torch.eye(latents, dtype=torch.float64)]
    starts += [haar_rotation(latents, generator) for _ in range(restarts)]
    best, report = None, []
    for number, start in enumerate(starts):
        frame = Frame(scores @ start, start.T @ covariance @ start, start)
        contrast = _sweep(frame, tables, sweeps)
        report.append({"restart": number, "contrast": contrast})
        if best is None or contrast > best.contrast:
            best = RotationSearch(frame.rotation, contrast, report)
    assert best is not None
    return best


def _sweep(frame: Frame, tables: list[LawTable], sweeps: int) -> float:
    """Turn the frame plane by plane until no plane turns by more than a hundredth of a degree."""
    latents = frame.scores.shape[1]
    for _ in range(sweeps):
        largest = 0.0
        for i in range(latents):
            for j in range(i + 1, latents):
                angle = _best_angle(frame, (i, j), (tables[i], tables[j]))
                if angle:
                    frame.turn(givens(latents, i, j, angle))
                largest = max(largest, abs(angle))
        if largest < math.radians(0.01):
            break
    return float(column_density(tables, frame.scores, frame.covariance).mean())


def _best_angle(frame: Frame, plane: tuple[int, int], tables: tuple[LawTable, LawTable]) -> float:
    """Return the best angle in a plane, by a grid over the period and finer grids around its best point."""
    period = math.pi / 2 if tables[0] is tables[1] else math.pi  # unequal laws may need their axes exchanged
    centre, step, count = 0.0, GRID, round(period / GRID)
    offsets = torch.arange(count, dtype=torch.float64) - count // 2
    for _ in range(4):
        angles = centre + step * offsets
        value = _plane_contrast(frame, plane, tables, angles)
        value[offsets == 0] += 1e-12  # keep the frame where nothing is gained
        centre = float(angles[value.argmax()])
        offsets, step = torch.arange(-5, 6, dtype=torch.float64), step / 5
    return centre


def _plane_contrast(
    frame: Frame, plane: tuple[int, int], tables: tuple[LawTable, LawTable], angles: Float[Tensor, "angles"]
) -> Float[Tensor, "angles"]:
    i, j = plane
    cos, sin = angles.cos(), angles.sin()
    first, second = frame.scores[:, i], frame.scores[:, j]
    v = frame.covariance
    one = torch.outer(cos, first) + torch.outer(sin, second)
    two = torch.outer(cos, second) - torch.outer(sin, first)
    cross = 2 * cos * sin * v[i, j]
    one_variance = cos**2 * v[i, i] + sin**2 * v[j, j] + cross
    two_variance = sin**2 * v[i, i] + cos**2 * v[j, j] - cross
    return (tables[0](one, one_variance) + tables[1](two, two_variance)).mean(1)
