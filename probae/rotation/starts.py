"""Many starts of one rotation: where each ends, and which ends are the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import FitError
from probae.linalg import haar_rotation
from probae.rotation.minima import group
from probae.rotation.projection import Frames, Problem, collapsed, descend, joined, size

COARSE = (
    1e-6  # slope at which it is clear which minimum a start leads to; one of each is then followed to the end
)
KICK = 0.02  # radians or so: leaves a saddle point, not a valley
TIED = 1e-9  # relative to the size of the criterion
PROBES = 8  # random frames that tell the size of the criterion
BLOCK = 2**21  # loadings rotated at a time, which bounds memory


@dataclass(frozen=True)
class Effort:
    """How many starts, from which seed, how many steps from each, and the slope to reach."""

    starts: int
    seed: int
    steps: int
    tol: float


@dataclass(frozen=True, eq=False)
class Found:
    """The values all starts ended with, and the distinct minima, lowest first."""

    values: Float[Tensor, " starts"]
    settled: int  # starts that converged
    lowest: Frames  # one frame of each minimum
    counts: list[int]
    best: int
    converged: bool


def find_minima(problem: Problem, effort: Effort) -> Found:
    """Follow all starts, group them, and follow the lowest of each group to the end.

    Raises
    ------
    FitError
        If the factors become collinear from every start.
    """
    latents = problem.unrotated.shape[1]
    generator = torch.Generator().manual_seed(effort.seed)
    random = haar_rotation(latents, generator, PROBES + effort.starts - 1)
    unit = _units(problem, random[:PROBES])
    transforms = torch.cat([torch.eye(latents, dtype=torch.float64).unsqueeze(0), random[PROBES:]])
    ends, settled = _from_all(problem, transforms, unit, effort)
    usable = torch.nonzero(settled if bool(settled.any()) else ~collapsed(problem, ends)).flatten()
    if len(usable) == 0:
        raise FitError(
            f"{problem.criterion!r} has no minimum here: from every start the factors became collinear; "
            "use Quartimin(), Geomin() or CrawfordFerguson()."
        )
    members, lowest = _grouped(problem, ends.at(usable), unit)
    lowest, done = descend(problem, lowest, unit, effort.tol, effort.steps)
    lowest, done = _kicked(problem, lowest, done, unit, effort, generator)
    lowest = _exact(problem, lowest)
    merged = group(problem.criterion, lowest.loadings, lowest.value, unit[1])
    members = [[start for i in g for start in usable[members[i]].tolist()] for g in merged]
    firsts = torch.tensor([g[0] for g in merged])
    lowest, done = lowest.at(firsts), done[firsts]
    best = _choice(lowest.value, members, unit[1])
    counts = [len(starts) for starts in members]
    return Found(ends.value, int(settled.sum()), lowest, counts, best, bool(done[best]))


def _units(problem: Problem, transforms: Tensor) -> tuple[float, float]:
    """Return the size of the gradient and of the criterion in random frames, against which both are measured."""
    frames = problem.frames(transforms)
    gradient = size(problem.criterion.gradient(frames.loadings)) * problem.unrotated.square().sum().sqrt()
    finite = gradient.isfinite() & frames.value.isfinite()
    if not bool(finite.any()):
        raise FitError(f"{problem.criterion!r} is not finite for these loadings: use another criterion.")
    return float(gradient[finite].max()), float(frames.value[finite].abs().max())


def _from_all(
    problem: Problem, transforms: Tensor, unit: tuple[float, float], effort: Effort
) -> tuple[Frames, Bool[Tensor, " starts"]]:
    """Descend from all starts, in blocks that fit into memory."""
    block = max(1, BLOCK // problem.unrotated.numel())
    tol = max(COARSE, effort.tol)
    parts = [
        descend(problem, problem.frames(part), unit, tol, effort.steps) for part in transforms.split(block)
    ]
    return joined([frames for frames, _ in parts]), torch.cat([settled for _, settled in parts])


def _grouped(problem: Problem, ends: Frames, unit: tuple[float, float]) -> tuple[list[list[int]], Frames]:
    """Return the groups of starts by where they ended, and the lowest frame of each."""
    groups = group(problem.criterion, ends.loadings, ends.value, unit[1])
    return groups, ends.at(torch.tensor([members[0] for members in groups]))


def _kicked(
    problem: Problem,
    frames: Frames,
    done: Tensor,
    unit: tuple[float, float],
    effort: Effort,
    generator: torch.Generator,
) -> tuple[Frames, Tensor]:
    """Push each frame a little and let it descend again: it comes back to a minimum, not to a saddle point."""
    push = problem.tangent(torch.randn(frames.slope.shape, generator=generator, dtype=torch.float64))
    push = KICK * push / size(push).clamp_min(torch.finfo(push.dtype).tiny)[:, None, None]
    again, settled = descend(problem, problem.moved(frames, push), unit, effort.tol, effort.steps)
    lower = ~collapsed(problem, again) & (again.value < frames.value - TIED * unit[1])
    escaped = torch.nonzero(lower).flatten()
    frames.put(escaped, again.at(escaped))
    done[escaped] = settled[escaped]
    return frames, done


def _exact(problem: Problem, frames: Frames) -> Frames:
    """Clear the rounding that many steps have left in the frames."""
    transform = frames.transform
    if problem.oblique:
        return problem.frames(transform / transform.norm(dim=-2, keepdim=True))
    left, _, right = torch.linalg.svd(transform)
    return problem.frames(left @ right)


def _choice(values: Tensor, members: list[list[int]], value_unit: float) -> int:
    """Return the lowest; among equally low ones that of the unrotated start, else the one found most often."""
    tied = torch.nonzero(values <= values.min() + TIED * value_unit).flatten().tolist()
    return max(tied, key=lambda i: (0 in members[i], len(members[i])))
