"""What the tests of moves share: one move at a fixed step, Geweke's test of it, and Ctrl-C after some moves."""

import math

import jaxtyping
import numpy as np
import pytest
import torch

import probae as pa
from probae.inference.nuts import sampler, trajectory

STEP, DEPTHS = 0.4, 5


@pytest.fixture(name="unchecked")
def unchecked_fixture():
    """Without run-time checks of types, which take longer than the moves."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def move_once(density, xi, affine, precision, target, generator):
    """Move the chains of xi (C, size) once, in place."""
    averages = np.array([math.log(STEP), math.log(STEP), 0.0, 0.0, 0.0])
    trajectory.advance(
        density, xi, DEPTHS, False, 0.8, averages, affine, precision, target, generator,
        np.empty((1, *xi.shape)), np.empty((1, len(xi), len(trajectory.STATISTICS))),
    )  # fmt: skip


def geweke(kernel, functions, iterations=200, chains=25):
    """Compare draws of (theta, x) with those of moves and new data in turns; a kernel moves one chain at a time."""

    def every_chain(theta, x):
        moved = [kernel.move(*(part[c] for part in theta), x[c]) for c in range(len(x))]
        return tuple(torch.stack(parts) for parts in zip(*moved, strict=True))

    return pa.joint_distribution_test(
        kernel.parameters, kernel.data, every_chain, functions, iterations=iterations, chains=chains
    )


@pytest.fixture(name="move_once")
def move_once_fixture():
    return move_once


@pytest.fixture(name="geweke")
def geweke_fixture():
    return geweke


@pytest.fixture(name="interrupt_after")
def interrupt_after_fixture(monkeypatch):
    """Ctrl-C comes in the slice that goes beyond so many moves."""

    def interrupt_after(moves):
        calls = []

        def some(*arguments):
            calls.append(len(arguments[-2]))
            if sum(calls) > moves:
                raise KeyboardInterrupt
            trajectory.advance(*arguments)

        monkeypatch.setattr(sampler, "SLICE", 1e-9)
        monkeypatch.setattr(sampler, "advance", some)

    return interrupt_after
