r"""Exact Gaussian factor models: how long, beside the tools people use, for a likelihood at least as high?

Each peer runs in turn with probae on the same float64 data with the same number of threads, so that whatever else the
machine does falls on both; all checks of the data are inside the time. Likelihoods are judged by one function, from the
sample moments. A ratio is taken within each turn; its median is the claim.

- `rows`: scikit-learn's FactorAnalysis to an increase below 1e-6 nats, with its exact SVD, or where features are more
  than rows with its randomized one.
- `correlation`: R's `factanal` (timed inside R, so that no start of R counts) and statsmodels' `Factor(method="ml")`
  from one correlation matrix of 100 features.
- `product`: the whole fit of 1,000,000 x 100, moments included, beside one bare `x.T @ x`.
- `stream`: 10,000,000 x 50 from a memory map: peak resident memory, and seconds by the number of rows.
- `dask`: moments from two worker processes against those of one pass.

Run:     python -m benchmarks.gaussian                           (all; about ten minutes)
         python -m benchmarks.gaussian --parts correlation product
Claim:   see CLAIMS; `found` in results/benchmarks/gaussian.json.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.linalg
import torch
import tyro
from threadpoolctl import threadpool_limits

import probae as pa
from benchmarks._machine import save

CLAIMS = {
    "200,000 x 50, 5 factors": 300.0,
    "10,000 x 300, 20 factors": 15.0,
    "2,000 x 1,000, 10 factors": 4.0,
    "500 x 20,000, 10 factors": 3.0,
    "factanal": 10.0,
    "statsmodels": 50.0,
    "x.T @ x": 1 / 1.5,
}
ROUNDING = 1e-13  # of a log-likelihood: how finely two can be told apart
Part = Literal["rows", "correlation", "product", "stream", "dask"]


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    parts: tuple[Part, ...] = ("rows", "correlation", "product", "stream", "dask")
    """What to measure."""
    sizes: tuple[tuple[int, int, int], ...] = (
        (200_000, 50, 5),
        (10_000, 300, 20),
        (2_000, 1_000, 10),
        (500, 20_000, 10),
    )
    """Rows, features and factors of each data set beside scikit-learn."""
    correlation: tuple[int, int, int] = (1_000, 100, 5)
    """Rows behind the correlation matrix, features and factors."""
    product: tuple[int, int, int] = (1_000_000, 100, 5)
    """Rows, features and factors beside one matrix product."""
    stream: tuple[int, int, int] = (10_000_000, 50, 5)
    """Rows, features and factors of the memory map."""
    repeats: int = 3
    """Turns of both."""
    threads: int = 1
    """Threads of every linear algebra library."""
    seed: int = 0
    """Seed of the data."""
    output: Path = Path("results/benchmarks/gaussian.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each comparison."""
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    with threadpool_limits(settings.threads):
        if "rows" in settings.parts:
            rows += [beside_scikit_learn(size, settings) for size in settings.sizes]
        if "correlation" in settings.parts:
            rows += beside_correlation_tools(settings)
        if "product" in settings.parts:
            rows.append(beside_a_product(settings))
        if "stream" in settings.parts:
            rows.append(stream(settings))
        if "dask" in settings.parts:
            rows.append(two_workers(settings))
    return rows


def beside_scikit_learn(size: tuple[int, int, int], settings: Settings) -> dict[str, Any]:
    """Time both on one data set, in turn."""
    from sklearn.decomposition import FactorAnalysis

    samples, features, factors = size
    x = draw(size, settings.seed)
    solver = "lapack" if samples >= features else "randomized"

    def ours() -> tuple[np.ndarray, np.ndarray]:
        model = pa.fit(pa.FactorAnalysis(features, factors), x).model
        return model.loadings.numpy(), model.uniquenesses.numpy()

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        peer = FactorAnalysis(factors, svd_method=solver, tol=1e-6, max_iter=100_000).fit(x)
        return peer.components_.T, peer.noise_variance_

    pa.fit(pa.FactorAnalysis(features, factors), x[: max(2 * factors, 20)])  # what is imported on first use
    turns = [(timed(ours), timed(theirs)) for _ in range(settings.repeats)]
    reached = [log_likelihood(x, *turns[0][who][1]) for who in (0, 1)]
    name = f"{samples:,} x {features:,}, {factors} factors"
    return comparison(name, "scikit-learn", [(a[0], b[0]) for a, b in turns], reached)


def beside_correlation_tools(settings: Settings) -> list[dict[str, Any]]:
    """Fit one correlation matrix with R's factanal and with statsmodels."""
    samples, features, factors = settings.correlation
    correlation = np.corrcoef(draw(settings.correlation, settings.seed).T)
    statistics = pa.SufficientStatistics.from_covariance(correlation, count=samples)

    def ours() -> tuple[np.ndarray, np.ndarray]:
        model = pa.fit(pa.FactorAnalysis(features, factors), statistics).model
        return model.loadings.numpy(), model.uniquenesses.numpy()

    def likelihood(answer: tuple[np.ndarray, np.ndarray]) -> float:
        return samples * moments_log_likelihood(correlation, *answer)

    ours()
    rows = []
    for peer, theirs in (
        ("factanal", factanal(correlation, samples, factors, settings)),
        ("statsmodels", statsmodels(correlation, samples, factors)),
    ):
        if theirs is None:
            rows.append({"name": peer, "skipped": "Rscript is not installed"})
            continue
        turns = []
        for _ in range(settings.repeats):
            mine = [timed(ours) for _ in range(5)]
            turns.append((float(np.median([seconds for seconds, _ in mine])), mine[0][1], *theirs()))
        reached = [likelihood(turns[0][1]), likelihood(turns[0][3])]
        rows.append(comparison(peer, peer, [(turn[0], turn[2]) for turn in turns], reached))
    return rows


def factanal(
    correlation: np.ndarray, samples: int, factors: int, settings: Settings
) -> Callable[[], tuple[float, tuple[np.ndarray, np.ndarray]]] | None:
    """Return a call that times R's factanal inside R, or None without R."""
    program = shutil.which("Rscript")
    if program is None:
        return None
    script = """
        options(digits = 17)
        R <- as.matrix(read.csv(commandArgs(TRUE)[1], header = FALSE))
        colnames(R) <- rownames(R) <- paste0("x", seq_len(nrow(R)))
        k <- as.integer(commandArgs(TRUE)[2]); n <- as.integer(commandArgs(TRUE)[3])
        run <- function() factanal(covmat = R, factors = k, n.obs = n, rotation = "none")
        fit <- run()
        seconds <- median(replicate(3, system.time(run())[["elapsed"]]))
        cat(seconds, "\\n"); cat(unclass(fit$loadings), "\\n"); cat(fit$uniquenesses, "\\n")
    """

    def run() -> tuple[float, tuple[np.ndarray, np.ndarray]]:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "correlation.csv"
            np.savetxt(table, correlation, delimiter=",", fmt="%.17g")
            command = [program, "-e", script, str(table), str(factors), str(samples)]
            environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
            text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        seconds, loadings, noise = (np.array(line.split(), dtype=float) for line in text.strip().splitlines())
        return float(seconds[0]), (loadings.reshape(factors, -1).T, noise)

    return run


def statsmodels(
    correlation: np.ndarray, samples: int, factors: int
) -> Callable[[], tuple[float, tuple[np.ndarray, np.ndarray]]]:
    """Return a call that times statsmodels' maximum likelihood."""
    from statsmodels.multivariate.factor import Factor

    def run() -> tuple[float, tuple[np.ndarray, np.ndarray]]:
        def fitted() -> Any:
            return Factor(corr=correlation, n_factor=factors, method="ml", nobs=samples).fit()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            answer = fitted()
            seconds = time.perf_counter() - start
        return seconds, (answer.loadings, answer.uniqueness)

    return run


def beside_a_product(settings: Settings) -> dict[str, Any]:
    """Time the whole fit, moments included, beside one product of the matrix with itself."""
    samples, features, factors = settings.product
    x = draw(settings.product, settings.seed)
    pa.fit(pa.FactorAnalysis(features, factors), x[:1000])
    turns = []
    for _ in range(max(settings.repeats, 5)):
        mine, _ = timed(lambda: pa.fit(pa.FactorAnalysis(features, factors), x))
        product, _ = timed(lambda: x.T @ x)
        turns.append((mine, product))
    row = comparison("x.T @ x", f"one product, {samples:,} x {features}", turns, None)
    row["times the product"] = float(np.median([mine / product for mine, product in turns]))
    return row


def stream(settings: Settings) -> dict[str, Any]:
    """Fit a memory map in processes of their own: seconds and peak resident memory by the number of rows."""
    samples, features, factors = settings.stream
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(samples, features))
        step = min(samples, 500_000)
        for i, start in enumerate(range(0, samples, step)):
            mapped[start : start + step] = draw((step, features, factors), settings.seed + i)[
                : samples - start
            ]
        mapped.flush()
        del mapped
        counts = [samples // 4, samples // 2, samples]
        command = [sys.executable, "-m", "benchmarks.gaussian", "--stream-worker", str(path), str(factors)]
        found = [json.loads(output_of([*command, str(n), str(settings.threads)])) for n in counts]
    return {
        "name": f"memory map, {samples:,} x {features}",
        "rows": counts,
        "seconds": [one["seconds"] for one in found],
        "seconds per million rows": [1e6 * one["seconds"] / n for one, n in zip(found, counts, strict=True)],
        "peak resident MB": [one["peak"] for one in found],
        "before the fit MB": [one["before"] for one in found],
        "claim MB": 1000,
    }


def output_of(command: list[str]) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def stream_worker(path: str, factors: str, count: str, threads: str) -> None:
    """Fit the first rows of a memory map and print the seconds and the peak of resident memory."""
    torch.set_num_threads(int(threads))
    x = np.load(path, mmap_mode="r")[: int(count)]
    pa.fit(pa.FactorAnalysis(x.shape[1], int(factors)), np.array(x[:1000]))
    before = peak_resident()
    with threadpool_limits(int(threads)):
        start = time.perf_counter()
        run = pa.fit(pa.FactorAnalysis(x.shape[1], int(factors)), x)
        seconds = time.perf_counter() - start
    peak = peak_resident()
    sys.stdout.write(
        json.dumps({"seconds": seconds, "peak": peak, "before": before, "converged": run.converged})
    )


def peak_resident() -> float:
    """Return the largest resident memory of this process in MB; getrusage would count what its parent once held."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024**2 if sys.platform == "darwin" else 1024
    )


def two_workers(settings: Settings) -> dict[str, Any]:
    """Reduce a Dask array in two worker processes and compare its moments with those of one pass."""
    import dask
    import dask.array

    x = draw((400_000, 50, 5), settings.seed)
    chunks = dask.array.from_array(x, chunks=(37_000, 20))
    with dask.config.set(scheduler="processes", num_workers=2):
        start = time.perf_counter()
        found = pa.SufficientStatistics.from_data(chunks)
        seconds = time.perf_counter() - start
    whole = pa.SufficientStatistics.from_data(x)
    scale = whole.scatter.diagonal().sqrt()
    return {
        "name": "Dask, two worker processes, 400,000 x 50",
        "largest difference of the scatter": float(
            ((found.scatter - whole.scatter) / torch.outer(scale, scale)).abs().max()
        ),
        "largest difference of the mean": float(
            ((found.mean - whole.mean) / whole.variances.sqrt()).abs().max()
        ),
        "claim": 1e-12,
        "seconds": seconds,
    }


def draw(size: tuple[int, int, int], seed: int) -> np.ndarray:
    """Draw rows of a factor model with standard normal loadings and uniquenesses from .5 to 1.5."""
    samples, features, factors = size
    generator = np.random.default_rng(seed)
    loadings = generator.normal(size=(features, factors))
    noise = generator.uniform(0.5, 1.5, features)
    x = generator.normal(size=(samples, factors)) @ loadings.T
    for start in range(0, samples, 100_000):
        block = x[start : start + 100_000]
        block += generator.normal(size=block.shape) * np.sqrt(noise)
    return x


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither may stop before it has converged
        start = time.perf_counter()
        result = run()
        return time.perf_counter() - start, result


def comparison(
    name: str, peer: str, turns: list[tuple[float, float]], reached: list[float] | None
) -> dict[str, Any]:
    """Return the ratio of the peer's time to ours, and both likelihoods."""
    ratios = [other / mine for mine, other in turns]
    row: dict[str, Any] = {
        "name": name,
        "peer": peer,
        "times faster": float(np.median(ratios)),
        "smallest": min(ratios),
        "largest": max(ratios),
        "claim": CLAIMS.get(name, math.nan),
        "seconds": [float(np.median([turn[who] for turn in turns])) for who in (0, 1)],
    }
    if reached is not None:
        gain = reached[0] - reached[1]
        row |= {
            "log-likelihoods": reached,
            "gain": gain,
            "at least as high": gain >= -ROUNDING * abs(reached[1]),
        }
    return row


def log_likelihood(x: np.ndarray, loadings: np.ndarray, noise: np.ndarray) -> float:
    """Return the log-likelihood in nats of N(mean, W W' + diag psi), by Woodbury where features are many."""
    samples, features = x.shape
    if features <= 2000:
        return samples * moments_log_likelihood(np.cov(x.T, bias=True), loadings, noise)
    centred = (x - x.mean(axis=0)) / np.sqrt(noise)
    white = loadings / np.sqrt(noise)[:, None]
    root = np.linalg.cholesky(np.eye(white.shape[1]) + white.T @ white)
    explained = scipy.linalg.solve_triangular(root, (centred @ white).T, lower=True)
    log_det = np.log(noise).sum() + 2 * np.log(root.diagonal()).sum()
    energy = np.square(centred).sum() - np.square(explained).sum()
    return -0.5 * float(samples * (features * math.log(2 * math.pi) + log_det) + energy)


def moments_log_likelihood(covariance: np.ndarray, loadings: np.ndarray, noise: np.ndarray) -> float:
    """Return the log-likelihood per row in nats of N(mean, W W' + diag psi) from the sample covariance."""
    root = np.linalg.cholesky(loadings @ loadings.T + np.diag(noise))
    log_det = 2 * np.log(root.diagonal()).sum()
    trace = np.trace(scipy.linalg.cho_solve((root, True), covariance))
    return -0.5 * float(len(noise) * math.log(2 * math.pi) + log_det + trace)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = []
    for row in rows:
        if "times faster" not in row:
            lines.append(json.dumps(row, default=float))
            continue
        lines.append(
            f"{row['name']:26s} {row['times faster']:8.2f} times as fast as {row['peer']} "
            f"({row['smallest']:.2f} .. {row['largest']:.2f}; claim {row['claim']:.2f}); "
            f"{row['seconds'][0]:.4f} s and {row['seconds'][1]:.4f} s"
        )
        if "gain" in row:
            verdict = "at least as high" if row["at least as high"] else "LOWER"
            first, second = row["log-likelihoods"]
            lines.append(
                f"    log-likelihoods {first:.6f} and {second:.6f}, gain {row['gain']:.1e} nats: {verdict}"
            )
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(report(rows))
    save(settings.output, settings, rows, "scikit-learn", "statsmodels")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stream-worker"]:
        stream_worker(*sys.argv[2:])
    else:
        main(tyro.cli(Settings, description=__doc__))
