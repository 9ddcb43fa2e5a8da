"""Warm-up and draws of all chains: the step by dual averaging, the metric from the curvature and then from draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probae.inference.base import Loop
from probae.inference.nuts.kernel import Target
from probae.inference.nuts.metric import Covariance, affine_of, inverse, shrunk, whiten
from probae.inference.nuts.settings import Settings
from probae.inference.nuts.trajectory import STATISTICS, Affine, advance

__all__ = ["Chains", "Result", "run"]

SLICE = 0.2  # seconds of work between two looks for Ctrl-C
FIRST_STEP = 0.5
BOLDER = 3.0  # dual averaging leans to longer steps than the one before, which it then knows to be too long
BUFFER, LAST = 0.1, 0.2  # shares of the warm-up before the first metric from draws, and after the last

Part = tuple[NDArray[np.float64], NDArray[np.float64]]  # xi (t, C, size) and statistics (t, C, 7)
Refresh = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(eq=False)
class Chains:
    """All chains of a run.

    Attributes
    ----------
    density : compiled function
    target : Target
    theta : array (C, size)
    precision : array (C, K, D)
    covariance : array (size, size) or (size,), or Blocks
        First guess of that of the target.
    refresh : callable, optional
        Draws hyperparameters given theta (C, size) and returns the precision; called between moves.
    """

    density: Any
    target: Target
    theta: NDArray[np.float64]
    precision: NDArray[np.float64]
    covariance: Covariance
    generator: np.random.Generator
    refresh: Refresh | None = None
    averages: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))


@dataclass(frozen=True, eq=False)
class Result:
    """Draws (C, T, size) and statistics (C, T) by name; fewer draws where Ctrl-C came."""

    theta: NDArray[np.float64]
    statistics: dict[str, NDArray[np.float64]]
    interrupted: bool


def windows(warmup: int) -> list[int]:
    """Return the lengths of the warm-up's parts: each but the last ends with a new metric, and the lengths double.

    Examples
    --------
    >>> windows(500)
    [50, 116, 234, 100]
    """
    first, last = round(BUFFER * warmup), round(LAST * warmup)
    middle = warmup - first - last
    return [first, middle // 3, middle - middle // 3, last]


def run(chains: Chains, method: Settings) -> Result:
    """Warm up, then draw.

    Parameters
    ----------
    chains : Chains
    method : Settings

    Raises
    ------
    KeyboardInterrupt
        Before the first draw was made; later ones end the run, with the draws so far.
    """
    restart(chains, FIRST_STEP)
    affine = affine_of(chains.theta.mean(0), chains.covariance)
    kept: list[Part] = []
    with Loop("sampling") as loop:
        counter = loop.steps(method.warmup + method.draws)
        for number, length in enumerate(windows(method.warmup)):
            found: list[Part] = []
            move(chains, affine, length, method, True, counter, found)
            step = math.exp(chains.averages[1])
            if number in (1, 2) and length:
                theta = inverse(affine, np.concatenate([xi for xi, _ in found]))
                chains.covariance = shrunk(theta, chains.covariance)
                affine = affine_of(chains.theta.mean(0), chains.covariance)
            if number < 3 and length:
                restart(chains, step)
        move(chains, affine, method.draws, method, False, counter, kept)
    if not kept:
        raise KeyboardInterrupt
    theta = inverse(affine, np.concatenate([xi for xi, _ in kept]))
    told = np.concatenate([statistics for _, statistics in kept])
    named = {name: np.ascontiguousarray(told[..., i].T) for i, name in enumerate(STATISTICS)}
    return Result(np.ascontiguousarray(theta.swapaxes(0, 1)), named, loop.interrupted)


def restart(chains: Chains, step: float) -> None:
    """Start the dual averaging anew from a step."""
    chains.averages[:] = math.log(step), math.log(step), 0.0, 0.0, math.log(BOLDER * step)


def move(
    chains: Chains,
    affine: Affine,
    total: int,
    method: Settings,
    adapt: bool,
    counter: Iterator[int],
    kept: list[Part],
) -> None:
    """Move all chains so often, and append what they give; results do not depend on the size of the parts."""
    xi = whiten(affine, chains.theta)
    count, size = xi.shape
    done, part, pace = 0, 1, 0.0
    while done < total:
        part = min(total - done, 1 if chains.refresh else part)
        positions, statistics = np.empty((part, count, size)), np.empty((part, count, len(STATISTICS)))
        start = time.perf_counter()
        advance(
            chains.density,
            xi,
            method.tree_depth,
            adapt,
            method.target_acceptance,
            chains.averages,
            affine,
            chains.precision,
            chains.target,
            chains.generator,
            positions,
            statistics,
        )
        pace = max(time.perf_counter() - start, 1e-6) / part
        done += part
        part = max(1, min(2 * part, int(SLICE / pace)))
        for _ in range(len(positions)):
            next(counter)
        chains.theta = inverse(affine, xi)
        if chains.refresh:
            chains.precision = chains.refresh(chains.theta)
        kept.append((positions, statistics))  # last: Ctrl-C leaves no draw without hyperparameters
