r"""The no-U-turn sampler with multinomial trajectories, compiled, for any compiled log density; all chains in one call.

Positions are xi in theta = origin + D (I + U' S U) xi (:mod:`probae.inference.nuts.metric`), with momentum N(0, I).
A tree of 2^j leapfrog steps is grown without recursion: finished halves wait on a stack, and the two on top are merged
while they are of one size. A half is dropped where

    rho . p_first <= 0  or  rho . p_last <= 0,    rho the sum of its momenta,

and across the seam of two halves where the same holds of one half and the first momentum of the other. Within a half
the draw is multinomial; between trajectories it is biased towards the newer half (Betancourt, 2017, appendix A).
Chains take turns draw by draw, so that results do not depend on how many draws one call makes.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from probae.compiled import compile_cached
from probae.inference.nuts.halves import Tree, dot, merge, put, put_leaf, turn_around
from probae.inference.nuts.kernel import (
    DENSITY,
    GENERATOR,
    LANES,
    MATRIX,
    TARGET,
    VECTOR,
    Target,
    add_products,
    compiled,
)

__all__ = ["STATISTICS", "Affine", "advance"]

STATISTICS = ("lp", "energy", "acceptance_rate", "tree_depth", "n_steps", "diverging", "step_size")
DIVERGED = 1000.0  # nats of energy that a trajectory may lose
SHRINKAGE, DELAY, DECAY = 0.05, 10.0, 0.75  # of dual averaging (Hoffman & Gelman, 2014, sec. 3.2)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Tensor3 = NDArray[np.float64]


class Affine(NamedTuple):
    """The map theta = origin + D (I + U' S U) xi: vectors origin, diag D, diag S, and the orthonormal rows of U."""

    origin: Vector
    scale: Vector
    stretch: Vector
    directions: Matrix


@compiled
def add_stretch(affine: Affine, vector: Vector, result: Vector) -> None:
    """Add U' S U vector to the result, a few directions at a time so that they are read from memory once."""
    rank, size = affine.directions.shape
    along = np.zeros(rank)
    for first in range(0, rank, LANES):
        last = min(first + LANES, rank)
        add_products(affine.directions[first:last], vector, along[first:last])
        r = first
        while r + 3 < last:
            a, b = affine.stretch[r] * along[r], affine.stretch[r + 1] * along[r + 1]
            c, d = affine.stretch[r + 2] * along[r + 2], affine.stretch[r + 3] * along[r + 3]
            one, two = affine.directions[r], affine.directions[r + 1]
            three, four = affine.directions[r + 2], affine.directions[r + 3]
            for i in range(size):
                result[i] = result[i] + a * one[i] + b * two[i] + c * three[i] + d * four[i]
            r += 4
        while r < last:
            weight = affine.stretch[r] * along[r]
            for i in range(size):
                result[i] += weight * affine.directions[r, i]
            r += 1


@compiled
def whitened(
    density: Any, xi: Vector, gradient: Vector, affine: Affine, precision: Matrix, target: Target
) -> float:
    """Return the log density at xi and write its gradient in xi."""
    size = len(xi)
    theta, slope = xi.copy(), np.empty(size)
    add_stretch(affine, xi, theta)
    for i in range(size):
        theta[i] = affine.origin[i] + affine.scale[i] * theta[i]
    value = density(theta, slope, precision, target)
    for i in range(size):
        slope[i] *= affine.scale[i]
        gradient[i] = slope[i]
    add_stretch(affine, slope, gradient)
    return value


@compiled
def leapfrog(
    density: Any, side: int, step: float, tree: Tree, affine: Affine, precision: Matrix, target: Target
) -> float:
    """Move one end of the trajectory and return its log density."""
    position, momentum, gradient = tree.positions[side], tree.momenta[side], tree.gradients[side]
    for i in range(len(position)):
        momentum[i] += 0.5 * step * gradient[i]
        position[i] += step * momentum[i]
    value = whitened(density, position, gradient, affine, precision, target)
    for i in range(len(position)):
        momentum[i] += 0.5 * step * gradient[i]
    return value


@compiled
def grow(
    density: Any,
    depth: int,
    side: int,
    step: float,
    start: float,
    tree: Tree,
    affine: Affine,
    precision: Matrix,
    target: Target,
    generator: Any,
    statistics: Vector,
    zeros: Vector,
) -> bool:
    """Grow a half of 2^depth steps above the bottom of the stack; false where it turned or diverged."""
    top = 0
    for _ in range(2**depth):
        value = leapfrog(density, side, step if side else -step, tree, affine, precision, target)
        top += 1
        energy = put_leaf(tree, top, side, value, start)
        statistics[2] += min(1.0, math.exp(start - energy))
        statistics[4] += 1.0
        if not energy - start < DIVERGED:
            statistics[5] = 1.0
            return False
        while top > 1 and tree.numbers[top, 1] == tree.numbers[top - 1, 1]:
            top -= 1
            if not merge(tree, top, False, generator, zeros):
                return False
    return True


@compiled
def transition(
    density: Any,
    xi: Vector,
    step: float,
    depths: int,
    tree: Tree,
    affine: Affine,
    precision: Matrix,
    target: Target,
    generator: Any,
    statistics: Vector,
) -> None:
    """Move xi once and write the statistics of the move."""
    size = len(xi)
    zeros = np.zeros(size)
    for number in range(len(statistics)):
        statistics[number] = 0.0
    for i in range(size):
        tree.momenta[0, i] = generator.standard_normal()
    put(xi, tree.positions[0])
    put(xi, tree.positions[1])
    put(tree.momenta[0], tree.momenta[1])
    value = whitened(density, xi, tree.gradients[0], affine, precision, target)
    put(tree.gradients[0], tree.gradients[1])
    start = 0.5 * dot(tree.momenta[0], tree.momenta[0]) - value
    put_leaf(tree, 0, 0, value, start)
    ahead = 1
    depth = 0
    while depth < depths:
        side = 1 if generator.random() < 0.5 else 0
        if side != ahead:
            turn_around(tree)
            ahead = side
        if not grow(
            density, depth, side, step, start, tree, affine, precision, target, generator, statistics, zeros
        ):
            break
        depth += 1
        if not merge(tree, 0, True, generator, zeros):
            break
    put(tree.proposals[0], xi)
    statistics[0] = tree.numbers[0, 2]
    statistics[1] = tree.numbers[0, 3]
    statistics[2] /= max(statistics[4], 1.0)
    statistics[3] = depth
    statistics[6] = step


@compiled
def average_dual(averages: Vector, acceptance: float, goal: float) -> None:
    """Update log step, its average, the mean error and the count; the last number is what log step shrinks towards."""
    averages[3] += 1.0
    count = averages[3]
    gain = 1.0 / (count + DELAY)
    averages[2] += gain * (goal - acceptance - averages[2])
    averages[0] = averages[4] - math.sqrt(count) / SHRINKAGE * averages[2]
    weight = count**-DECAY
    averages[1] += weight * (averages[0] - averages[1])


TENSOR = types.Array(types.float64, 3, "C")
AFFINE = types.NamedTuple((VECTOR, VECTOR, VECTOR, MATRIX), Affine)
ADVANCE = types.void(
    types.FunctionType(DENSITY),
    MATRIX,
    types.int64,
    types.boolean,
    types.float64,
    VECTOR,
    AFFINE,
    TENSOR,
    TARGET,
    GENERATOR,
    TENSOR,
    TENSOR,
)


@functools.partial(compile_cached, options={}, signatures=[ADVANCE])
def advance(
    density: Any,
    xi: Matrix,
    depths: int,
    adapt: bool,
    goal: float,
    averages: Vector,
    affine: Affine,
    precision: Tensor3,
    target: Target,
    generator: Any,
    draws: Tensor3,
    statistics: Tensor3,
) -> None:
    """Move all chains as often as there is room for draws.

    Parameters
    ----------
    density : compiled function
    xi : array (C, size)
        Where the chains are; moved.
    depths : int
        Largest depth of a tree.
    adapt : bool
        Whether the step, one for all chains, is adapted by the mean acceptance of the chains.
    goal : float
        Acceptance to adapt to.
    averages : array (5,)
        State of the dual averaging; the step is exp of the first number, or of the second when not adapting.
    affine : Affine
    precision : array (C, K, D)
    target : Target
    generator : numpy.random.Generator
    draws : array (T, C, size)
        Positions after each move; written.
    statistics : array (T, C, 7)
        As named by `STATISTICS`; written.
    """
    chains, size = xi.shape
    halves = depths + 2
    tree = Tree(
        np.empty((2, size)),
        np.empty((2, size)),
        np.empty((2, size)),
        np.empty((halves, size)),
        np.empty((halves, size)),
        np.empty((halves, size)),
        np.empty((halves, size)),
        np.empty((halves, 4)),
    )
    for number in range(len(draws)):
        step = math.exp(averages[0] if adapt else averages[1])
        accepted = 0.0
        for chain in range(chains):
            told = statistics[number, chain]
            transition(
                density, xi[chain], step, depths, tree, affine, precision[chain], target, generator, told
            )
            put(xi[chain], draws[number, chain])
            accepted += told[2] / chains
        if adapt:
            average_dual(averages, accepted, goal)
