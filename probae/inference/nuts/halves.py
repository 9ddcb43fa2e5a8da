"""Halves of a trajectory on a stack, and the merging of two of them: compiled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probae.inference.nuts.kernel import compiled

__all__ = ["Tree", "dot", "merge", "put", "put_leaf", "turn_around"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class Tree(NamedTuple):
    """Buffers: the two ends and the stack of halves, and numbers of each half: log weight, leaves, log density."""

    positions: Matrix
    momenta: Matrix
    gradients: Matrix
    sums: Matrix
    firsts: Matrix
    lasts: Matrix
    proposals: Matrix
    numbers: Matrix


@compiled
def put(values: Vector, place: Vector) -> None:
    """Copy values to a place: a loop compiles faster than an assignment of slices."""
    for i in range(len(values)):
        place[i] = values[i]


@compiled
def dot(one: Vector, other: Vector) -> float:
    """Return the inner product."""
    total = 0.0
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@compiled
def straight(total: Vector, extra: Vector, first: Vector, last: Vector) -> bool:
    """Whether total + extra points along both momenta."""
    start, end = 0.0, 0.0
    for i in range(len(total)):
        whole = total[i] + extra[i]
        start += whole * first[i]
        end += whole * last[i]
    return start > 0 and end > 0


@compiled
def joined(tree: Tree, one: int, other: int, zeros: Vector) -> bool:
    """Whether two neighbouring halves, and both seams between them, make no U-turn; adds the sums of the other."""
    first, near, far, last = tree.firsts[one], tree.lasts[one], tree.firsts[other], tree.lasts[other]
    good = straight(tree.sums[one], far, first, far) and straight(tree.sums[other], near, near, last)
    for i in range(len(zeros)):
        tree.sums[one, i] += tree.sums[other, i]
    put(last, tree.lasts[one])
    return good and straight(tree.sums[one], zeros, first, last)


@compiled
def log_add(one: float, other: float) -> float:
    """Return log(e^one + e^other)."""
    high, low = max(one, other), min(one, other)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@compiled
def merge(tree: Tree, one: int, bias: bool, generator: Any, zeros: Vector) -> bool:
    """Merge the half after ``one`` into it, draw between their proposals, and say whether the union may go on."""
    other = one + 1
    straight_on = joined(tree, one, other, zeros)
    weight = log_add(tree.numbers[one, 0], tree.numbers[other, 0])
    odds = tree.numbers[other, 0] - (tree.numbers[one, 0] if bias else weight)
    if math.log(generator.random()) < odds:
        put(tree.proposals[other], tree.proposals[one])
        tree.numbers[one, 2] = tree.numbers[other, 2]
        tree.numbers[one, 3] = tree.numbers[other, 3]
    tree.numbers[one, 0] = weight
    tree.numbers[one, 1] += tree.numbers[other, 1]
    return straight_on


@compiled
def put_leaf(tree: Tree, place: int, side: int, value: float, start: float) -> float:
    """Put the end of the trajectory on the stack and return its energy."""
    momentum = tree.momenta[side]
    energy = 0.5 * dot(momentum, momentum) - value
    if not math.isfinite(energy):
        energy = np.inf
    put(momentum, tree.sums[place])
    put(momentum, tree.firsts[place])
    put(momentum, tree.lasts[place])
    put(tree.positions[side], tree.proposals[place])
    tree.numbers[place, 0] = start - energy
    tree.numbers[place, 1] = 1.0
    tree.numbers[place, 2] = value
    tree.numbers[place, 3] = energy
    return energy


@compiled
def turn_around(tree: Tree) -> None:
    """Let the whole trajectory, on the bottom of the stack, be read from its other end."""
    for i in range(tree.firsts.shape[1]):
        tree.firsts[0, i], tree.lasts[0, i] = tree.lasts[0, i], tree.firsts[0, i]
