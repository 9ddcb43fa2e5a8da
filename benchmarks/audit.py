r"""An audit of many rows: how long, how much memory, and where does each second go?

x = W z + e with 12 features and 3 factors, W standard normal, noise variances between .1 and .3. Factor analysis is
fitted to Gaussian factors and Laplace factors by its default method; the clock runs for `pa.audit(fit, x)` alone. Each
audit runs in a process of its own, the first on few rows to load and compile what it calls. The peak of memory is that
above what the process held when the audit began, and linear in the rows if its growth between numbers of rows is.

No peer measures the same, so that the claim is in seconds: below 60 for 100,000 rows and 20 for 2,000, on two cores.
Seconds by part are of the processor, from a second audit under the profiler, which slows it somewhat; a part may call
another.

Run:     python -m benchmarks.audit
         python -m benchmarks.audit --rows 10000 100000 300000
Claim:   see CLAIMS; `rows` in results/benchmarks/audit.json.
Seen:    one thread, processor seconds (and megabytes at the peak) for 2,000, 10,000, 100,000 and 300,000 rows:
         Gaussian factors 1.2 (5), 4.8 (41), 11.5 (119), 41 (282);
         Laplace factors 11.5 (82), 26 (98), 31 (225), 61 (204).
         By the clock of a quiet machine, 2,000 and 100,000 rows: Gaussian .7 and 7.6, Laplace 4.4 and 18.7 seconds.
         Linear in the rows from 100,000 on; below, frames and fits that look at some thousands of rows take most.
"""

from __future__ import annotations

import cProfile
import multiprocessing
import pstats
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import probae as pa
from benchmarks._machine import save

CLAIMS = {2_000: 20.0, 100_000: 60.0}  # seconds, at most
PARTS = (  # functions of the audit whose time is shown
    "structure",
    "angle_errors",
    "effective_information",
    "model_frame",
    "adaptive_frame",
    "noise_check",
    "rotation_information",
    "gaussian_test",
    "row_dependence",
    "held_out_rotation",
    "non_gaussian_directions",
    "robust_directions",
    "split_likelihood",
    "curvature_signs",
    "inference_evidence",
    "haar_spread",
    "rotation_profile",
    "noise_identification",
    "principal_frame",
    "rank_test",
)
Law = Literal["gaussian", "laplace"]


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    laws: tuple[Law, ...] = ("gaussian", "laplace")
    """Laws of the factors, of the data and of the model."""
    rows: tuple[int, ...] = (2_000, 10_000, 100_000, 300_000)
    """Numbers of rows."""
    features: int = 12
    """Features."""
    latents: int = 3
    """Factors."""
    threads: int = 2
    """Threads."""
    parts: bool = True
    """Whether a second audit is profiled."""
    seed: int = 0
    """Seed of the data and the fit."""
    output: Path = Path("results/benchmarks/audit.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each law and number of rows."""
    found = []
    for law in settings.laws:
        for rows in settings.rows:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(audited, (law, rows, settings)))
            print(line(found[-1]), flush=True)
    return found


def audited(law: Law, rows: int, settings: Settings) -> dict[str, Any]:
    """Fit, then time one audit, and another under the profiler."""
    torch.set_num_threads(settings.threads)
    warnings.simplefilter("ignore", pa.ProbaeWarning)
    run, x = fitted(law, 1000, settings)
    pa.audit(run, x)
    run, x = fitted(law, rows, settings)
    before = _restart_peak()
    start, used = time.perf_counter(), time.process_time()
    report = pa.audit(run, x)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    peak = _peak() - before
    return {
        "law": law,
        "rows": rows,
        "seconds": seconds,
        "cpu seconds": cpu,
        "claim": CLAIMS.get(rows),
        "peak megabytes": peak / 1024,
        "data megabytes": x.numel() * x.element_size() / 2**20,
        "verdict": report.verdict.name,
        "parts": _parts(run, x) if settings.parts else {},
    }


def fitted(law: Law, rows: int, settings: Settings) -> tuple[pa.Fit, torch.Tensor]:
    """Return a fit of the right law, and its rows."""
    prior = pa.priors.Gaussian() if law == "gaussian" else pa.priors.Laplace()
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        z = prior.sample(rows, settings.latents).double()
        loadings = torch.randn(settings.features, settings.latents, dtype=torch.float64)
        noise = 0.1 + 0.2 * torch.rand(settings.features, dtype=torch.float64)
        x = z @ loadings.T + noise.sqrt() * torch.randn(rows, settings.features, dtype=torch.float64)
    model = pa.LinearFactorModel(settings.features, settings.latents, prior)
    return pa.fit(model, x, seed=settings.seed), x


def _restart_peak() -> float:
    """Start the peak of memory anew, and return what is held now, in kilobytes (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """Return the peak of memory in kilobytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return float(next(entry for entry in status if entry.startswith("VmHWM")).split()[1])


def _parts(run: pa.Fit, x: torch.Tensor) -> dict[str, float]:
    """Return the processor seconds of each part, the longest first."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(pa.audit, run, x)
    seconds = dict.fromkeys(PARTS, 0.0)
    for (file, _, name), entry in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name in seconds and "identifiability" in file:
            seconds[name] += entry[3]
    return dict(sorted(seconds.items(), key=lambda part: -part[1]))


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    claim = "" if row["claim"] is None else f" (claim {row['claim']:.0f})"
    longest = ", ".join(f"{name} {seconds:.1f}" for name, seconds in list(row["parts"].items())[:6])
    return (
        f"{row['law']:9s}{row['rows']:8,d} rows {row['seconds']:6.1f} s{claim}, cpu {row['cpu seconds']:.1f} s, peak "
        f"{row['peak megabytes']:.0f} MB over {row['data megabytes']:.0f} MB of data, {row['verdict']}; {longest}"
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
