r"""Are Gibbs and NUTS calibrated as users run them? Simulation-based calibration through `pa.fit`.

1,000 simulations of each case: parameters from N(0, 1) loadings and IG(2, 1/2) noise variances, data from them, a fit,
and the rank of every rotation-invariant quantity among 99 draws whose effective sample size is at least 99. A posterior
20 % too narrow would be found for sure, one 10 % too narrow every second time. A killed run goes on from its
checkpoints.

Run:     python -m benchmarks.calibration                       (hours; each case is saved as it ends)
         python -m benchmarks.calibration --methods Gibbs --cases rows missing --simulations 200
         python -m benchmarks.calibration --methods NUTS --cases wide --draws 400 --nuts-warmup 200 \
             --nuts-acceptance 0.8               (the cheapest at 100 features, where nothing diverges: an hour)
Claim:   every case passes; `found` in results/benchmarks/calibration.json, with the ranks and a figure of each.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import probae as pa
from benchmarks._machine import save
from probae import io

CASES: dict[str, dict[str, Any]] = {
    "rows": {"rows": 50, "features": 6, "latents": 2},
    "fewer rows than features": {"rows": 5, "features": 8, "latents": 2},
    "missing": {"rows": 20, "features": 6, "latents": 2, "missing": 0.2},
    "wide": {"rows": 200, "features": 100, "latents": 10},
}
Case = Literal["rows", "fewer rows than features", "missing", "wide"]
Sampler = Literal["Gibbs", "NUTS"]


@dataclass(frozen=True)
class Settings:
    """Settings of the calibration."""

    methods: tuple[Sampler, ...] = ("Gibbs", "NUTS")
    """What is calibrated."""
    cases: tuple[Case, ...] = ("rows", "fewer rows than features", "missing", "wide")
    """Sizes of the data."""
    simulations: int = 1000
    """Simulations of each case."""
    draws: int = 200
    """Draws of the one chain of a fit to begin with; doubled until they are worth 99."""
    warmup: int = 100
    """Sweeps of Gibbs before them."""
    nuts_warmup: int = 400
    """Moves of NUTS before them."""
    nuts_acceptance: float = 0.95
    """Acceptance of NUTS: at few rows the default diverges in one fit of fifty, and that counts as a failure."""
    seed: int = 0
    """Seed of the simulations."""
    output: Path = Path("results/benchmarks")
    """Folder for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each method and case."""
    rows = []
    for sampler in settings.methods:
        method = method_of(sampler, settings)
        for name in settings.cases:
            begin = time.process_time()
            found = calibrated(method, f"{sampler} {name}", CASES[name], settings)
            rows.append(summary(sampler, name, found, time.process_time() - begin))
            print(line(rows[-1]), flush=True)
            if not found.passed:
                print(found, flush=True)
    return rows


def method_of(sampler: Sampler, settings: Settings) -> Any:
    """Return the method with the settings of the calibration."""
    if sampler == "Gibbs":
        return pa.Gibbs(settings.draws, settings.warmup, chains=1)
    return pa.NUTS(settings.draws, settings.nuts_warmup, chains=1, target_acceptance=settings.nuts_acceptance)


def calibrated(method: Any, name: str, case: dict[str, Any], settings: Settings) -> pa.Calibration:
    """Calibrate one method in one case; save the ranks and their figure."""
    laws = pa.parameter_priors
    model = pa.FactorAnalysis(case["features"], case["latents"]).with_priors(
        loadings=laws.Normal(1.0), noise_variance=laws.InverseGamma(2.0, 0.5), mean=laws.Flat()
    )
    stem = settings.output / f"calibration-{name.lower().replace(' ', '-')}"
    found = pa.parameter_calibration(
        model,
        method,
        case["rows"],
        simulations=settings.simulations,
        missing=case.get("missing", 0.0),
        seed=settings.seed,
        checkpoint=pa.Checkpoint(stem.with_suffix(".checkpoint")),
    )
    pa.ranks_to_csv(found, stem.with_suffix(".csv"))
    io.write_figure(pa.plots.calibration(found).figure, stem.with_suffix(".png"))
    return found


def summary(sampler: str, name: str, found: pa.Calibration, seconds: float) -> dict[str, Any]:
    """Return a row of numbers."""
    quantities = len(found.names)
    smallest = torch.minimum(found.chi_square, found.ecdf).min()
    return {
        "method": sampler,
        "case": name,
        "passed": found.passed,
        "simulations": len(found.ranks),
        "quantities": quantities,
        "flagged": int(found.flagged.sum()),
        "failures": len(found.failures),
        "smallest p times the tests": min(1.0, float(smallest) * 2 * quantities),
        "sd ratios": [float(found.sd_ratio.min()), float(found.sd_ratio.max())],
        "error of the sd ratio": float(found.sd_ratio_error.median()),
        "largest shift": float(found.shift.abs().max()),
        "error of the shift": float(found.shift_error.median()),
        "seconds": seconds,
    }


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    low, high = row["sd ratios"]
    return (
        f"{row['method']} {row['case']}: {'passed' if row['passed'] else 'FAILED'}, {row['flagged']} of "
        f"{row['quantities']} quantities flagged, {row['failures']} of {row['simulations']} fits failed; sd ratios "
        f"{low:.3f} .. {high:.3f} (error {row['error of the sd ratio']:.3f}), largest shift {row['largest shift']:.3f} "
        f"(error {row['error of the shift']:.3f}); smallest p, corrected, {row['smallest p times the tests']:.2g}; "
        f"{row['seconds']:.0f} s"
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    settings.output.mkdir(parents=True, exist_ok=True)
    save(settings.output / "calibration.json", settings, measure(settings), "pyro-ppl", "numba")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
