r"""Maximum likelihood factor analysis: how long, beside scikit-learn, for a likelihood at least as high?

Both fit the same float64 array in the same process with the same number of threads, in turn, so that whatever else the
machine does falls on both; the time includes all checks of the data. scikit-learn runs to an increase below 1e-6 nats
with its exact SVD. Both answers are judged by one function, the log-likelihood of the sample moments. A ratio is taken
within each turn; its median is the claim, its smallest and largest value say how noisy the machine was.

Run:     python -m benchmarks.factor_analysis
Claim:   200,000 x 50 with 5 factors in at most 1/50 of the time of scikit-learn,
         2,000 x 1,000 with 10 factors in at most 1/4.
Found:   1/230 and 1/26 with one thread, 1/340 and 1/27 with two (processors shared with other work: the ratios of
         single turns spread by up to two), the likelihood higher by 4e-7 and 2e-9 nats.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
import tyro
from sklearn.decomposition import FactorAnalysis
from threadpoolctl import threadpool_limits

import probae as pa
from probae import io

CLAIMS = {(200_000, 50, 5): 1 / 50, (2_000, 1_000, 10): 1 / 4}
ROUNDING = 1e-13  # of a log-likelihood: how finely two can be told apart


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    sizes: tuple[tuple[int, int, int], ...] = tuple(CLAIMS)
    """Rows, features and factors of each data set."""
    repeats: int = 3
    """Turns of both."""
    threads: int = os.cpu_count() or 1
    """Threads of every linear algebra library."""
    seed: int = 0
    """Seed of the data."""
    output: Path = Path("results/benchmarks/factor_analysis.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each size: ratios of the times, and both log-likelihoods."""
    torch.set_num_threads(settings.threads)
    with threadpool_limits(settings.threads):
        return [compare(size, settings) for size in settings.sizes]


def compare(size: tuple[int, int, int], settings: Settings) -> dict[str, Any]:
    """Time both on one data set, in turn."""
    samples, features, factors = size
    x = draw(size, settings.seed)
    covariance = np.cov(x.T, bias=True)

    def ours() -> tuple[np.ndarray, np.ndarray]:
        model = pa.fit(pa.FactorAnalysis(features, factors), x).model
        return model.loadings.numpy(), model.uniquenesses.numpy()

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        model = FactorAnalysis(factors, svd_method="lapack", tol=1e-6, max_iter=100_000).fit(x)
        return model.components_.T, model.noise_variance_

    pa.fit(pa.FactorAnalysis(features, factors), x[: 2 * features])  # what is imported on first use
    turns = [(timed(ours), timed(theirs)) for _ in range(settings.repeats)]
    ratios = [mine[0] / other[0] for mine, other in turns]
    reached = [samples * log_likelihood(covariance, *turns[0][who][1]) for who in (0, 1)]
    return {
        "size": f"{samples:,} x {features:,}, {factors} factors",
        "ratio": float(np.median(ratios)),
        "smallest": min(ratios),
        "largest": max(ratios),
        "claim": CLAIMS.get(size, math.nan),
        "seconds": [float(np.median([turn[who][0] for turn in turns])) for who in (0, 1)],
        "log-likelihoods": reached,
        "gain": reached[0] - reached[1],
        "at least as high": reached[0] - reached[1] >= -ROUNDING * abs(reached[1]),
    }


def draw(size: tuple[int, int, int], seed: int) -> np.ndarray:
    """Draw rows of a factor model with standard normal loadings and uniquenesses from .5 to 1.5."""
    samples, features, factors = size
    generator = np.random.default_rng(seed)
    loadings = generator.normal(size=(features, factors))
    noise = generator.uniform(0.5, 1.5, features)
    x = generator.normal(size=(samples, factors)) @ loadings.T
    return x + generator.normal(size=(samples, features)) * np.sqrt(noise)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither may stop before it has converged
        start = time.perf_counter()
        result = run()
        return time.perf_counter() - start, result


def log_likelihood(covariance: np.ndarray, loadings: np.ndarray, noise: np.ndarray) -> float:
    """Return the log-likelihood per row in nats of N(mean, W W' + diag psi) from the sample covariance."""
    root = np.linalg.cholesky(loadings @ loadings.T + np.diag(noise))
    log_det = 2 * np.log(root.diagonal()).sum()
    trace = np.trace(scipy.linalg.cho_solve((root, True), covariance))
    return -0.5 * float(len(noise) * math.log(2 * math.pi) + log_det + trace)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    lines = ["data set                     ratio  (smallest .. largest)   claim   seconds, probae and scikit-learn"]
    for row in rows:
        lines += [
            f"{row['size']:27s} {row['ratio']:6.4f}  ({row['smallest']:.4f} .. {row['largest']:.4f})       "
            f"{row['claim']:6.4f}   {row['seconds'][0]:.3f} and {row['seconds'][1]:.1f}",
            f"    log-likelihoods {row['log-likelihoods'][0]:.6f} and {row['log-likelihoods'][1]:.6f}, "
            f"gain {row['gain']:.1e} nats: {'at least as high' if row['at least as high'] else 'LOWER'}",
        ]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Return the versions of Python, probae and what does the arithmetic."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}
    return {"python": platform.python_version(), "probae": pa.__version__, **found}


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(report(rows))
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    io.write_json({"settings": asdict(settings), "versions": versions(), "rows": rows}, settings.output)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
