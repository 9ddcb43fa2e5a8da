r"""Posterior of factor analysis: effective draws per second of Gibbs and NUTS, beside NumPyro's and Pyro's NUTS?

W (20, 3) with N(0, 1) entries, psi ~ IG(2, 1/2), 1,000 rows from the model. Effective draws are the smallest bulk
effective sample size (ArviZ) over all uniquenesses and all entries of W W', which no rotation changes, per second of
processor time. Each run has a process of its own with one thread; its clock holds compilation, adaptation and warm-up.
Gibbs runs with what numba compiled before on this machine, as every run after the first does, and once without.

Peers: NumPyro's NUTS on the density with z integrated out, from the moments, chains vectorised; the same with z
sampled; Pyro's NUTS with z sampled, its potential compiled. Pyro is too slow for a whole run. It is the same algorithm
on the same density as NumPyro's, so a leapfrog step is worth the same: what is measured is the time of a step, and what
is claimed is NumPyro's effective draws per step over that time. Compilation, adaptation and warm-up are left out, to
Pyro's advantage. With z sampled the smallest effective sample size of a run that can be waited for is some tens: its
rate is known to a third or so.

That all sample one law is seen by their means: the largest difference in combined standard errors is printed beside
what is allowed.

Run:     python -m benchmarks.posterior          (needs the extra `bench`; about half an hour)
         python -m benchmarks.posterior --no-joint --no-wide
Claim:   see CLAIMS, SAME_RATE and LARGEST; what was found is in the rows of results/benchmarks/posterior.json.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from arviz_stats.base import array_stats

from benchmarks._machine import save
from benchmarks._samplers import Job, in_process_of_its_own

CLAIMS = {  # effective draws per second of Gibbs over those of the peer, at least
    "NumPyro collapsed": 30.0,
    "NumPyro joint": 2000.0,
    "Pyro joint": 2000.0,
    "NumPyro collapsed, wide": 30.0,
}
SAME_RATE = 0.2  # |ratio - 1| of the rates at 100,000 and at 1,000 rows, at most
LARGEST = 4.0  # difference of two means in combined standard errors


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    rows: int = 1000
    """Rows."""
    many_rows: int = 100_000
    """Rows of the run whose rate should be the same."""
    chains: int = 4
    """Chains of every one but Pyro."""
    draws: int = 4000
    """Draws of each chain of Gibbs."""
    warmup: int = 200
    """Sweeps of Gibbs before them."""
    nuts: bool = True
    """Whether `pa.NUTS` is measured too."""
    nuts_draws: int = 500
    """Draws, and steps of adaptation, of each chain of every NUTS with z integrated out."""
    joint: bool = True
    """Whether z is sampled too, by NumPyro and Pyro."""
    joint_draws: int = 1000
    """Draws of each chain of NumPyro with z sampled."""
    joint_warmup: int = 300
    """Steps of adaptation before them."""
    wide: bool = True
    """Whether 100 features and 10 latents are measured."""
    wide_draws: int = 200
    """Draws of each chain of NumPyro there."""
    wide_warmup: int = 300
    """Steps of adaptation before them."""
    turns: int = 5
    """Turns of Gibbs at few and at many rows."""
    seed: int = 0
    """Seed of the data."""
    output: Path = Path("results/benchmarks/posterior.json")
    """File for the results."""


@dataclass(frozen=True, eq=False)
class Run:
    """Moments and worth of the draws of one run."""

    mean: np.ndarray
    error: np.ndarray
    effective: float
    notes: dict[str, Any]

    @property
    def rate(self) -> float:
        """Effective draws per second."""
        return self.effective / self.notes["processor"]


def run(job: Job, environment: dict[str, str] | None = None) -> Run:
    """Run a job in a process of its own and look at its draws."""
    with tempfile.TemporaryDirectory() as folder:
        values, notes = in_process_of_its_own(replace(job, output=f"{folder}/draws.npz"), environment)
    worth = np.asarray(array_stats.ess(values, chain_axis=0, draw_axis=1))
    error = np.asarray(array_stats.mcse(values, method="mean", chain_axis=0, draw_axis=1))
    return Run(values.mean((0, 1)), error, float(worth.min()), notes)


def apart(one: Run, other: Run) -> float:
    """Return the largest difference of two means in combined standard errors."""
    return float(np.max(np.abs(one.mean - other.mean) / np.hypot(one.error, other.error)))


def row(case: str, mine: Run, theirs: Run, peer: str, rate: float | None = None) -> dict[str, Any]:
    """Compare two runs; where the peer was too slow to run, ``rate`` is its own, at which it would draw as much."""
    rate = theirs.rate if rate is None else rate
    found = {
        "case": case,
        "peer": peer,
        "ratio": mine.rate / rate,
        "claim": CLAIMS.get(case),
        "effective draws": [mine.effective, theirs.effective],
        "seconds": [mine.notes["processor"], theirs.effective / rate],
        "per second": [mine.rate, rate],
        "means apart": apart(mine, theirs),
        "allowed": LARGEST,
        "notes": theirs.notes,
    }
    print(line(found), flush=True)
    return found


def line(found: dict[str, Any]) -> str:
    """Return a row as text."""
    claim = "" if found["claim"] is None else f" (claim {found['claim']:.0f})"
    worth, seconds, rates = found["effective draws"], found["seconds"], found["per second"]
    return (
        f"{found['case']}: {found['ratio']:.3g} times {found['peer']}{claim}; {worth[0]:.0f} effective draws in "
        f"{seconds[0]:.2f} s against {worth[1]:.0f} in {seconds[1]:.1f} s, {rates[0]:.0f} and {rates[1]:.3g} a second; "
        f"means {found['means apart']:.1f} standard errors apart (at most {found['allowed']:.0f})"
    )


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each comparison."""
    gibbs = Job(
        "Gibbs",
        settings.rows,
        20,
        3,
        settings.chains,
        settings.warmup,
        settings.draws,
        data_seed=settings.seed,
    )
    run(gibbs)  # compiles
    mine, rows = beside_many_rows(gibbs, settings)
    with tempfile.TemporaryDirectory() as empty:
        cold = run(gibbs, {"NUMBA_CACHE_DIR": empty})
    rows.append(row("Gibbs, nothing compiled before", cold, mine, "Gibbs"))
    size = {"warmup": settings.nuts_draws, "draws": settings.nuts_draws}
    collapsed = run(replace(gibbs, sampler="NumPyro collapsed", **size))
    rows.append(row("NumPyro collapsed", mine, collapsed, "NumPyro collapsed"))
    if settings.nuts:
        job = replace(gibbs, sampler="NUTS", **size)
        run(job)  # compiles
        rows.append(row("NUTS", run(job), collapsed, "NumPyro collapsed"))
    if settings.joint:
        rows += beside_joint(gibbs, mine, settings)
    if settings.wide:
        wide = replace(gibbs, features=100, latents=10)
        size = {"warmup": settings.wide_warmup, "draws": settings.wide_draws}
        theirs = run(replace(wide, sampler="NumPyro collapsed", **size))
        rows.append(row("NumPyro collapsed, wide", run(wide), theirs, "NumPyro collapsed"))
    return rows


def beside_many_rows(gibbs: Job, settings: Settings) -> tuple[Run, list[dict[str, Any]]]:
    """Run Gibbs at few and at many rows in turn; return the run of median rate at few."""
    turns = [
        tuple(run(replace(gibbs, rows=rows, seed=seed)) for rows in (settings.rows, settings.many_rows))
        for seed in range(settings.turns)
    ]
    ratios = [many.rate / few.rate for few, many in turns]
    found = {
        "case": f"{settings.many_rows} rows",
        "ratio": float(np.median(ratios)),
        "smallest": min(ratios),
        "largest": max(ratios),
        "claim": SAME_RATE,
    }
    print(
        f"{found['case']}: {found['ratio']:.2f} times the rate at {settings.rows} "
        f"({min(ratios):.2f} .. {max(ratios):.2f}; claim 1 within {SAME_RATE})",
        flush=True,
    )
    return sorted((few for few, _ in turns), key=lambda one: one.rate)[len(turns) // 2], [found]


def beside_joint(gibbs: Job, mine: Run, settings: Settings) -> list[dict[str, Any]]:
    """Compare with NUTS that samples z: NumPyro's, and Pyro's by its time of a step."""
    job = replace(gibbs, sampler="NumPyro joint", warmup=settings.joint_warmup, draws=settings.joint_draws)
    theirs = run(job)
    rows = [row("NumPyro joint", mine, theirs, "NumPyro joint")]
    steps = theirs.notes["steps a draw"] * job.draws * job.chains
    short = run(replace(gibbs, sampler="Pyro joint", chains=1, warmup=1, draws=20))
    rate = theirs.effective / steps / short.notes["seconds a step"]
    rows.append(row("Pyro joint", mine, theirs, "Pyro joint, scaled up", rate))
    rows[-1]["notes"] = short.notes
    return rows


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings), "pyro-ppl", "numpyro", "jax", "numba")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
