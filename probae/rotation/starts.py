"""Many starts of one rotation: where each ends, and which ends are the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import FitError
from probae.linalg import haar_rotation
from probae.rotation.minima import group
from probae.rotation.projection import Frames, Problem, collapsed, descend, joined, size

COARSE = (
    1e-6  # slope at which it is clear which minimum a start leads to; one of each is then followed to the end
)
KICK = 0.02  # radians or so: leaves a saddle point, not a valley
LEAPS = (0.1, 0.7)  # lengths of the kicks that look for lower minima nearby
ROUNDS = 5  # of such kicks, while they find something
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
    ends = _followed(problem, problem.frames(transforms), unit, effort)
    settled = ~collapsed(problem, ends) & (size(ends.slope) <= max(COARSE, effort.tol) * unit[0])
    usable = torch.nonzero(settled if bool(settled.any()) else ~collapsed(problem, ends)).flatten()
    if len(usable) == 0:
        raise FitError(
            f"{problem.criterion!r} has no minimum here: from every start the factors became collinear; "
            "use Quartimin(), Geomin() or CrawfordFerguson()."
        )
    members, lowest = _grouped(problem, ends.at(usable), unit)
    members = [usable[torch.tensor(starts)].tolist() for starts in members]
    lowest = _kicked(problem, lowest, unit, effort, generator)
    if len(members[0]) == 1 and effort.starts > 1:  # the lowest was met once: there may be lower ones
        lowest, members = _explored(problem, lowest, members, unit, effort, generator)
    lowest, members = _merged(problem, _exact(problem, lowest), members, unit)
    best = _choice(lowest.value, members, unit[1])
    reached = bool(size(lowest.slope)[best] <= effort.tol * unit[0])
    return Found(ends.value, int(settled.sum()), lowest, [len(starts) for starts in members], best, reached)


def _units(problem: Problem, transforms: Tensor) -> tuple[float, float]:
    """Return the size of the gradient and of the criterion in random frames, against which both are measured."""
    frames = problem.frames(transforms)
    gradient = size(problem.criterion.gradient(frames.loadings)) * problem.unrotated.square().sum().sqrt()
    finite = gradient.isfinite() & frames.value.isfinite()
    if not bool(finite.any()):
        raise FitError(f"{problem.criterion!r} is not finite for these loadings: use another criterion.")
    return float(gradient[finite].max()), float(frames.value[finite].abs().max())


def _followed(problem: Problem, frames: Frames, unit: tuple[float, float], effort: Effort) -> Frames:
    """Descend from all frames, in blocks that fit into memory."""
    block = max(1, BLOCK // problem.unrotated.numel())
    parts = torch.arange(len(frames.value)).split(block)
    return joined([descend(problem, frames.at(part), unit, effort.tol, effort.steps) for part in parts])


def _grouped(problem: Problem, ends: Frames, unit: tuple[float, float]) -> tuple[list[list[int]], Frames]:
    """Return the groups of frames that are the same, lowest first, and the lowest frame of each."""
    groups = group(problem.criterion, ends.loadings, ends.value, unit[1])
    return groups, ends.at(torch.tensor([same[0] for same in groups]))


def _merged(
    problem: Problem, frames: Frames, members: list[list[int]], unit: tuple[float, float]
) -> tuple[Frames, list[list[int]]]:
    """Put frames that are the same together, with their starts; sorted by value."""
    groups, lowest = _grouped(problem, frames, unit)
    return lowest, [[start for i in same for start in members[i]] for same in groups]


def _kicked(
    problem: Problem, frames: Frames, unit: tuple[float, float], effort: Effort, generator: torch.Generator
) -> Frames:
    """Push each frame a little and let it descend again: it comes back to a minimum, not to a saddle point."""
    again = _followed(problem, _pushed(problem, frames, (KICK, KICK), generator), unit, effort)
    escaped = ~collapsed(problem, again) & (again.value < frames.value - TIED * unit[1])
    better = torch.nonzero(escaped).flatten()
    frames.put(better, again.at(better))
    return frames


def _pushed(
    problem: Problem, frames: Frames, lengths: tuple[float, float], generator: torch.Generator
) -> Frames:
    """Return the frames after random steps of random lengths."""
    push = problem.tangent(torch.randn(frames.slope.shape, generator=generator, dtype=torch.float64))
    length = torch.empty(len(push), 1, 1, dtype=torch.float64).uniform_(*lengths, generator=generator)
    return problem.moved(
        frames, length * push / size(push).clamp_min(torch.finfo(push.dtype).tiny)[:, None, None]
    )


def _explored(
    problem: Problem,
    lowest: Frames,
    members: list[list[int]],
    unit: tuple[float, float],
    effort: Effort,
    generator: torch.Generator,
) -> tuple[Frames, list[list[int]]]:
    """Look for lower minima around the lowest ones, as long as there are any; no start is counted for them."""
    for _ in range(ROUNDS):
        floor = float(lowest.value.min())
        around = lowest.at(lowest.value.argsort()[: max(1, effort.starts // 10)].repeat(10))
        ends = _followed(problem, _pushed(problem, around, LEAPS, generator), unit, effort)
        settled = ~collapsed(problem, ends) & (size(ends.slope) <= effort.tol * unit[0])
        lower = torch.nonzero(settled & (ends.value < floor - TIED * unit[1])).flatten()
        if len(lower) == 0:
            break
        _, found = _grouped(problem, ends.at(lower), unit)
        lowest, members = joined([found, lowest]), [[] for _ in found.value] + members
    return lowest, members


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
