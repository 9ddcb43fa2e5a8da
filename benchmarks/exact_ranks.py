r"""Do the moves of NUTS keep the posterior at 100 features and 10 factors? An exact test of ranks.

Parameters theta* are drawn from N(0, 1) loadings and IG(2, 1/2) noise variances, x given them: theta* is then one exact
draw of the posterior. The kernel of NUTS with a fixed step, and the metric of the curvature at the mode of x, is
reversible and depends on x alone. So theta* is put at a random place of a chain of 100 states and moves are made from
it to both sides: it is any state of a stationary chain, and its rank is uniform exactly, however slowly the
chain moves and without any warm-up (Besag & Clifford, 1989; Gandy & Scott, 2020). Ranked is what no rotation changes.

What that proves: the density, its gradient, the gauge and its undoing, the moves and the conversion of draws are right
at this size. What it does not: that the adaptation finds a good step and that chains forget their start;
`benchmarks.calibration` looks at these in cases where a thousand whole fits can be paid for. A chain that hardly moves
would pass, so each planted error must be caught at the same settings.

Run:     python -m benchmarks.exact_ranks                                (half an hour; a killed run goes on)
         python -m benchmarks.exact_ranks --planted narrow --simulations 100
Claim:   passes with nothing planted and fails with each error; results/benchmarks/exact-ranks-*.json
Seen:    N = 1000: 0 of 307 quantities flagged, smallest p times the tests .30 (1,434 s of a processor); narrow at
         N = 60: 8 flagged. With --features 8 --latents 2 --rows 20 at N = 1000, of 31 quantities: rows 6 flagged
         (smallest p 1e-17), gauge 18, prior 6 (6e-9); these three have not been run at 100 features.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

import probae as pa
from benchmarks._machine import save
from probae.analysis.invariant_quantities import invariant_quantities
from probae.analysis.simulator import Replicate, Replicates, Simulator
from probae.inference.nuts.collapsed import collapsed_log_density
from probae.inference.nuts.first import Start, start_of
from probae.inference.nuts.kernel import Target
from probae.inference.nuts.metric import affine_of, inverse, whiten
from probae.inference.nuts.record import parameters_of
from probae.inference.nuts.target import precision_of
from probae.inference.nuts.trajectory import advance
from probae.inference.parameter_draws import Problem, problem_of
from probae.statistics import SufficientStatistics

Planted = Literal["nothing", "narrow", "rows", "gauge", "prior"]


@dataclass(frozen=True)
class Settings:
    """Settings of the test."""

    rows: int = 200
    """Rows of x."""
    features: int = 100
    """Columns of x."""
    latents: int = 10
    """Factors."""
    simulations: int = 1000
    """Data sets."""
    states: int = 100
    """States of a chain, one of them the truth."""
    thin: int = 2
    """Moves between two states."""
    step: float = 0.25
    """Step of all chains, in units of the metric; acceptance about .85."""
    planted: Planted = "nothing"
    """Error of the density: all sd x .8; n rows for n - 1; chi of one degree more; variance of the loadings x 1.2."""
    seed: int = 0
    """Seed of the simulations."""
    output: Path = Path("results/benchmarks")
    """Folder for the results."""


def spoiled(target: Target, precision: Any, planted: Planted) -> tuple[Target, Any]:
    """Return what the density reads, with an error."""
    if planted == "narrow":  # moments of n / .64 rows
        return target._replace(counts=target.counts / 0.64, scatter=target.scatter / 0.64), precision
    if planted == "rows":
        return target._replace(counts=target.counts + 1), precision
    if planted == "gauge":
        layout = target.layout.copy()
        layout[2] += 1
        return target._replace(layout=layout), precision
    return target, precision / (1.2 if planted == "prior" else 1.0)


def states_about(
    problem: Problem, start: Start, theta: np.ndarray, settings: Settings, generator: np.random.Generator
) -> np.ndarray:
    """Return the states of a chain (states - 1, size) to both sides of theta, which is at a random place."""
    shape = torch.ones(1, settings.features, settings.latents, dtype=torch.float64)
    precision = precision_of(problem.loadings.variance({}) * shape, 1, start.place)
    target, precision = spoiled(start.target, precision, settings.planted)
    affine = affine_of(start.theta, start.covariance)
    averages = np.array([0.0, np.log(settings.step), 0.0, 0.0, 0.0])
    place, found = int(generator.integers(settings.states)), []
    for count in (place, settings.states - 1 - place):
        xi = whiten(affine, theta[None])
        draws, told = np.empty((count * settings.thin, *xi.shape)), np.empty((count * settings.thin, 1, 7))
        advance(
            collapsed_log_density,
            xi,
            10,
            False,
            0.8,
            averages,
            affine,
            precision,
            target,
            generator,
            draws,
            told,
        )
        found.append(draws[settings.thin - 1 :: settings.thin, 0])
    return inverse(affine, np.concatenate(found))


def simulate(simulator: Simulator, number: int, settings: Settings) -> Replicate:
    """Draw parameters and x, run the chain and rank."""
    first, second = np.random.SeedSequence([settings.seed, number]).generate_state(2).tolist()
    torch.default_generator.manual_seed(first)
    generator = np.random.default_rng(second)
    truth, x = simulator.simulate()
    problem = problem_of(simulator.model, SufficientStatistics.from_data(x), "NUTS")
    start, units = start_of(problem), problem.units
    theta = start.place.pack(
        truth["loadings"][0] / units[:, None], truth["noise_variance"][0] / units.square()
    )
    states = states_about(problem, start, theta, settings, generator)
    draws, _ = parameters_of(problem, start, states[None], {}, generator)
    inner = {
        "loadings": draws["loadings"] * units[:, None],
        "noise_variance": draws["noise_variance"] * units.square(),
        "mean": draws["mean"] * units,
    }
    found = invariant_quantities(simulator.model, x, {name: value[0] for name, value in inner.items()})
    wanted = torch.cat(list(invariant_quantities(simulator.model, x, truth).values()))
    values = torch.stack(list(found.values()), -1)
    one = pa.Calibration.from_draws(tuple(found), wanted[None], values[:, None], seed=second)
    return Replicate(tuple(found), one.ranks[0], one.deviations[0])


def calibrated(settings: Settings) -> pa.Calibration:
    """Make all simulations; a killed run goes on from its checkpoint."""
    laws = pa.parameter_priors
    model = pa.FactorAnalysis(settings.features, settings.latents).with_priors(
        loadings=laws.Normal(1.0), noise_variance=laws.InverseGamma(2.0, 0.5), mean=laws.Flat()
    )
    simulator = Simulator(model, pa.NUTS(), settings.rows, settings.states - 1, 0.0, settings.seed)
    checkpoint = pa.Checkpoint(stem(settings).with_suffix(".checkpoint"), every=10)
    run = {"settings": repr(replace(settings, simulations=0))}
    kept = checkpoint.read(run, {name: one[:0] for name, one in Replicates().tensors().items()})
    found = Replicates() if kept is None else Replicates.of(kept)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        for number in range(found.done, settings.simulations):
            found.add(simulate(simulator, number, settings))
            if checkpoint.due(found.done) or found.done == settings.simulations:
                checkpoint.write(run, found.tensors())
    count = settings.simulations
    ranks, deviations = torch.stack(found.ranks[:count]), torch.stack(found.deviations[:count])
    return pa.Calibration(found.names, ranks, settings.states - 1, deviations)


def stem(settings: Settings) -> Path:
    """Where the results go, without the ending."""
    return settings.output / f"exact-ranks-{settings.features}-{settings.latents}-{settings.planted}"


def summary(found: pa.Calibration, settings: Settings, seconds: float) -> dict[str, Any]:
    """Return a row of numbers."""
    smallest = torch.minimum(found.chi_square, found.ecdf).min()
    return {
        "planted": settings.planted,
        "passed": found.passed,
        "simulations": len(found.ranks),
        "quantities": len(found.names),
        "flagged": [name for name, flag in zip(found.names, found.flagged.tolist(), strict=True) if flag],
        "smallest p times the tests": min(1.0, float(smallest) * 2 * len(found.names)),
        "largest shift": float(found.shift.abs().max()),
        "seconds": seconds,
    }


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    return (
        f"{row['planted']} planted: {'passed' if row['passed'] else 'FAILED'}, {len(row['flagged'])} of "
        f"{row['quantities']} quantities flagged {row['flagged'][:8]}, N = {row['simulations']}; smallest p, "
        f"corrected, {row['smallest p times the tests']:.2g}; largest shift {row['largest shift']:.3f}; "
        f"{row['seconds']:.0f} s"
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    settings.output.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    found = calibrated(settings)
    row = summary(found, settings, time.process_time() - begin)
    print(line(row))
    pa.ranks_to_csv(found, stem(settings).with_suffix(".csv"))
    save(stem(settings).with_suffix(".json"), settings, [row], "numba")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
