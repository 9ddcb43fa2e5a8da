r"""Independent components: how long for a gradient of 1e-7, beside Picard on the same objective from the same start?

Sources are Laplace, mixed at random and whitened; both get the same white rows and start from their axes, with the
same number of threads, in turn. With one thread the time is that of the processor, whatever else the machine does.
Ratios are taken within each turn; their median is the claim.

- `logistic`: the law of `pa.priors.Logistic()` on both sides: Picard gets its log density, score and slope as a
  density of its own, written with as few numpy passes as they take. One objective, so both gradients and
  likelihoods are compared by one function (that of the logistic law, here and in every other row).
- `tanh`: Picard with its built-in `tanh`, a logistic law of another scale, beside ours as above. The objectives differ.
- `whole logistic`, `whole`: `pa.fit` as a user calls it, from the mixed columns, checks of the data and all its starts
  inside the time, beside `picard(...)` with its own whitening: with the logistic law for both, and with what each
  takes by itself, the Laplace law (the one of these sources) and `tanh`.

Picard runs without constraint or extension (`ortho=False, extended=False`), which is the maximum likelihood problem.

Run:     python -m benchmarks.ica
Claim:   see CLAIM; `rows` in results/benchmarks/ica.json.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from picard import picard
from threadpoolctl import threadpool_limits

import probae as pa
from benchmarks._machine import save
from probae.inference.independent import Climb
from probae.inference.unmixing import UnmixingLikelihood

Clock = Callable[[], float]
CLAIM = 1.0  # times as fast at least
TOLERANCE = 1e-7  # of the largest entry of the relative gradient, for both
SCALE = np.sqrt(3) / np.pi  # of the logistic law of unit variance


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    sizes: tuple[tuple[int, int], ...] = ((20, 10_000), (20, 100_000), (64, 10_000), (64, 100_000))
    """Sources and rows of each data set."""
    repeats: int = 5
    """Turns of all."""
    threads: int = 1
    """Threads of every linear algebra library."""
    seed: int = 0
    """Seed of the data."""
    output: Path = Path("results/benchmarks/ica.json")
    """File for the results."""


class LogisticDensity:
    """The logistic law of unit variance as Picard asks for it: minus the log density, its first two derivatives."""

    def log_lik(self, y: np.ndarray) -> np.ndarray:
        """Return -log p up to a constant."""
        size = np.abs(y)
        size *= 1 / SCALE
        return size + 2 * np.log1p(np.exp(-size))

    def score_and_der(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return psi and psi'."""
        score = np.tanh(y * (0.5 / SCALE))
        score *= 1 / SCALE
        slope = np.square(score)
        slope *= -0.5
        slope += 0.5 / SCALE**2
        return score, slope


@dataclass(frozen=True, eq=False)
class Answer:
    """An unmixing matrix of the rows given, how many steps it took, and the seconds."""

    unmixing: np.ndarray
    steps: int
    seconds: float


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return four rows for each data set."""
    torch.set_num_threads(settings.threads)
    with threadpool_limits(settings.threads):
        return [row for size in settings.sizes for row in beside_picard(size, settings)]


def beside_picard(size: tuple[int, int], settings: Settings) -> list[dict[str, Any]]:
    """Time all on one data set, in turn."""
    sources, samples = size
    generator = np.random.default_rng([settings.seed, sources, samples])
    mixing = generator.normal(size=(sources, sources))
    x = generator.laplace(size=(samples, sources)) @ mixing.T
    white, whitener = whiten(x)
    columns = np.ascontiguousarray(white.T)
    clock = time.process_time if settings.threads == 1 else time.perf_counter
    law = pa.priors.Logistic()
    likelihood = UnmixingLikelihood(torch.from_numpy(white), [law] * sources)
    runs: dict[str, Callable[[], Answer]] = {
        "ours": lambda: ours(white, clock),
        "logistic": lambda: theirs(columns, LogisticDensity(), clock),
        "tanh": lambda: theirs(columns, "tanh", clock),
        "fit logistic": lambda: whole(x, law, clock),
        "whole logistic": lambda: theirs(np.ascontiguousarray(x.T), LogisticDensity(), clock, whiten=True),
        "fit": lambda: whole(x, pa.priors.Laplace(), clock),
        "whole": lambda: theirs(np.ascontiguousarray(x.T), "tanh", clock, whiten=True),
    }
    for run in (lambda: ours(white[:500], clock), lambda: whole(x[:500], pa.priors.Laplace(), clock)):
        run()  # what is compiled and imported on first use
    turns = [{name: run() for name, run in runs.items()} for _ in range(settings.repeats)]

    def judged(name: str) -> dict[str, Any]:
        answer = turns[0][name]
        full = answer.unmixing if "fit" in name or "whole" in name else answer.unmixing @ whitener
        point = likelihood.evaluate(torch.from_numpy(full @ np.linalg.inv(whitener)))
        amari = float(pa.amari_distance(torch.from_numpy(np.linalg.inv(full)), torch.from_numpy(mixing)))
        return {
            "steps": answer.steps,
            "seconds": float(np.median([turn[name].seconds for turn in turns])),
            "logistic gradient": float(point.gradient.abs().max()),
            "logistic log-likelihood": point.value,
            "amari": amari,
        }

    found = {name: judged(name) for name in runs}
    rows = []
    pairs = ("ours", "logistic"), ("ours", "tanh"), ("fit logistic", "whole logistic"), ("fit", "whole")
    for mine, other in pairs:
        ratios = [turn[other].seconds / turn[mine].seconds for turn in turns]
        rows.append(
            {
                "name": f"{sources} sources, {samples:,} rows",
                "peer": f"picard, {other}",
                "times faster": float(np.median(ratios)),
                "smallest": min(ratios),
                "largest": max(ratios),
                "claim": CLAIM,
                "ours": found[mine],
                "theirs": found[other],
            }
        )
    return rows


def whiten(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centred rows of identity covariance and the symmetric matrix that made them."""
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    whitener = (vectors / np.sqrt(values)) @ vectors.T
    return centred @ whitener, whitener


def ours(white: np.ndarray, clock: Clock) -> Answer:
    """Climb from the axes of white rows."""
    rows, latents = torch.from_numpy(white), white.shape[1]
    start = clock()
    climb = Climb([pa.priors.Logistic()] * latents, seed=0, starts=1)
    steps = sum(1 for _ in climb.run(rows))
    seconds = clock() - start
    assert climb.converged
    return Answer(climb.unmixing(latents).numpy(), steps, seconds)


def whole(x: np.ndarray, law: pa.priors.Prior, clock: Clock) -> Answer:
    """Fit as a user does."""
    latents = x.shape[1]
    start = clock()
    run = pa.fit(pa.IndependentComponents(latents, latents, prior=law), x)
    seconds = clock() - start
    return Answer(np.linalg.inv(run.model.loadings.numpy()), len(run.history), seconds)


def theirs(columns: np.ndarray, density: Any, clock: Clock, whiten: bool = False) -> Answer:
    """Run Picard from the axes of the white rows."""
    start = clock()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns where it did not converge
        whitener, unmixing, _, steps = picard(
            columns,
            fun=density,
            ortho=False,
            extended=False,
            whiten=whiten,
            centering=whiten,
            w_init=np.eye(len(columns)),
            tol=TOLERANCE,
            max_iter=2000,
            check_fun=False,
            return_n_iter=True,
        )
    seconds = clock() - start
    return Answer(unmixing if whitener is None else unmixing @ whitener, steps, seconds)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = []
    for row in rows:
        lines.append(
            f"{row['name']:26s} {row['times faster']:6.2f} times as fast as {row['peer']:22s} "
            f"({row['smallest']:.2f} .. {row['largest']:.2f}; claim {row['claim']:.1f})"
        )
        for who in ("ours", "theirs"):
            found = row[who]
            lines.append(
                f"    {who:6s} {found['seconds']:8.3f} s, {found['steps']:4d} steps, Amari {found['amari']:.6f}; "
                f"logistic gradient {found['logistic gradient']:.1e}, "
                f"log-likelihood {found['logistic log-likelihood']:.9f}"
            )
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(report(rows))
    save(settings.output, settings, rows, "python-picard", "numba")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
