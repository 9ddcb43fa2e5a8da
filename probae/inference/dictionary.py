r"""Dictionary learning: the atoms of unit norm and the codes that minimise the mean energy of the rows.

.. math:: \min_{A, z} \frac1N \sum_n \tfrac12 \|x_n - A z_n\|^2 + \lambda \|z_n\|_1

Codes of a batch of rows given the atoms, then the atoms given moments of the codes in which old batches fade.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from probae.codes import lasso
from probae.inference.atoms import relocate, seed_atoms, update_atoms
from probae.inference.base import Loop

CODE_GAP, LAST_GAP = 1e-3, 1e-6  # relative duality gap of the codes while learning, and of the last ones
ROUNDS = 1000  # of the solver of the codes
RECENT = 5.0  # moments fade as (1 - 1/t)^RECENT: step t hears the last t / 6 steps or so
KEPT = 2**26  # codes to start from at the next visit to a row are kept while they are fewer numbers than this
PASSES_PER_JUDGEMENT = 8  # the last codes are of as many rows as keep them a small part of the work
MOVING = 0.7  # share of the steps in which atoms may be placed anew


@dataclass
class Dictionary:
    """What was learned.

    Attributes
    ----------
    atoms : Tensor (D, K)
        Of unit norm.
    history : list of float
        Minus the energy per row of each batch, then of all rows at the end.
    relocated : list of dict
        Step, and the number of atoms that were placed anew in it.
    turn : float
        How far one more step on all rows would move an atom, at most: a chord of the unit sphere.
    unused : int
        Atoms that no row uses at the end.
    interrupted : bool
    """

    atoms: Float[Tensor, "features latents"]
    history: list[float]
    relocated: list[dict[str, int]]
    turn: float
    unused: int
    interrupted: bool


def learn_dictionary(
    x: Float[Tensor, "samples features"],
    latents: int,
    penalty: float,
    *,
    steps: int,
    batch: int | None,
    tol: float,
    seed: int,
) -> Dictionary:
    """Learn atoms for centred rows; ``batch=None`` takes all rows at every step, and nothing fades.

    When a pass over the rows has placed no atom anew and moved none by half of ``tol`` (of a chord), the codes become
    exact, and when it happens again learning stops. The last codes are certified: of all rows, or of an eighth as many
    as were learned from if that is less.
    """
    generator = torch.Generator().manual_seed(seed)
    learner = Learner(x, seed_atoms(x, latents, generator), penalty, generator)
    size = len(x) if batch is None else min(batch, len(x))
    before = learner.atoms.clone()
    with Loop("dictionary") as loop:
        batches = learner.batches(size)
        for step in loop.steps(steps):
            rows, ends_pass = next(batches)
            learner.step(
                rows, 0.0 if size == len(x) else (1 - 1 / (step + 1)) ** RECENT, step < MOVING * steps
            )
            loop.value = learner.history[-1]
            if ends_pass:
                if learner.settled(before, tol):
                    if learner.gap == LAST_GAP:
                        break
                    learner.gap = LAST_GAP  # what is left to find is smaller than loose codes can show
                before = learner.atoms.clone()
    interrupted = loop.interrupted
    turn, unused = float("inf"), 0
    if not interrupted:
        with Loop("dictionary") as loop:
            turn, unused = learner.judge(size * steps // PASSES_PER_JUDGEMENT)
        interrupted = loop.interrupted
    return Dictionary(
        learner.atoms.T.contiguous(), learner.history, learner.relocated, turn, unused, interrupted
    )


@dataclass
class Learner:
    """The rows, the atoms as they are, and moments of the codes, C = E z z' and B = E z x', in which old ones fade."""

    x: Float[Tensor, "samples features"]
    atoms: Float[Tensor, "latents features"]
    penalty: float
    generator: torch.Generator
    history: list[float] = field(default_factory=list)
    relocated: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        latents, features = self.atoms.shape
        self.second, self.cross = self.x.new_zeros(latents, latents), self.x.new_zeros(latents, features)
        self.weight, self.gap = 0.0, CODE_GAP
        small = len(self.x) * latents <= KEPT
        self.codes = self.x.new_zeros(len(self.x), latents) if small else None
        self.quiet = True  # no atom was placed anew in this pass

    def batches(self, size: int) -> Iterator[tuple[Tensor | slice, bool]]:
        """Deal out all rows in random order, again and again, with whether a pass ends."""
        count = len(self.x)
        while size == count:
            yield slice(None), True
        while True:
            order = torch.randperm(count, generator=self.generator)
            for first in range(0, count, size):
                yield order[first : first + size], first + size >= count

    def solve(self, rows: Tensor | slice, gap: float) -> tuple[Tensor, Tensor]:
        """Find the codes of rows from where they were; return them and the residual."""
        x = self.x[rows]
        start = None if self.codes is None else self.codes[rows]
        z = lasso(x, self.atoms.T, self.penalty, gap, ROUNDS, start).z
        if self.codes is not None:
            self.codes[rows] = z
        return z, x - z @ self.atoms

    def energy(self, z: Tensor, residual: Tensor) -> float:
        """Return the mean energy of rows."""
        return float(0.5 * residual.square().sum() + self.penalty * z.abs().sum()) / len(z)

    def step(self, rows: Tensor | slice, keep: float, may_relocate: bool) -> None:
        """Code a batch, add its moments to what is kept of the old ones, and move the atoms."""
        z, residual = self.solve(rows, self.gap)
        old = keep * self.weight
        self.weight = old + len(z)
        self.second.mul_(old / self.weight).addmm_(z.T, z, alpha=1 / self.weight)
        self.cross.mul_(old / self.weight).addmm_(z.T, self.x[rows], alpha=1 / self.weight)
        moved = relocate(self.atoms, self.second, self.cross, residual, self.penalty) if may_relocate else []
        if moved:
            self.relocated.append({"step": len(self.history), "atoms": len(moved)})
            self.quiet = False
            if self.codes is not None:
                self.codes[:, moved] = 0.0
        update_atoms(self.atoms, self.second, self.cross)
        self.history.append(-self.energy(z, residual))

    def settled(self, before: Tensor, tol: float) -> bool:
        """Say whether the pass that ends changed next to nothing."""
        quiet, self.quiet = self.quiet, True
        return quiet and float((self.atoms - before).norm(dim=1).max()) < 0.5 * tol

    def judge(self, most: int) -> tuple[float, int]:
        """Return how far a step on all rows, or on ``most`` of them, would move an atom, and how many are unused."""
        rows: Tensor | slice = slice(None)
        if len(self.x) > max(most, 1):
            rows = torch.randperm(len(self.x), generator=self.generator)[: max(most, 1)]
        z, residual = self.solve(rows, LAST_GAP)
        self.history.append(-self.energy(z, residual))
        trial = self.atoms.clone()
        turn = update_atoms(trial, z.T @ z / len(z), z.T @ self.x[rows] / len(z), passes=1)
        return turn, int((z == 0).all(0).sum())
