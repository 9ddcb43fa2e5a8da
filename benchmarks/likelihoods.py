r"""Is the likelihood probae reaches ever below that of scikit-learn, statsmodels or R's `factanal`?

Every data set below is fitted by all four with 1 factor to as many as the Ledermann bound allows (six at most), and
each answer is judged by one function of the sample correlation matrix. The loss of probae is the log-likelihood of the
peer less its own, per row in nats. Where a peer lets a uniqueness fall below a millionth of the variance, probae's
floor, its answer is judged at the floor and counted. R refuses fits without degrees of freedom and stops where it finds
no optimum.

Run:     python -m benchmarks.likelihoods
Claim:   the largest loss is below 1e-6 nats per row on every data set.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import sklearn.datasets
import tyro
from sklearn.decomposition import FactorAnalysis
from statsmodels.multivariate.factor import Factor

import probae as pa
from benchmarks._machine import save

FLOOR = 1e-6


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    random: int = 40
    """Random data sets, half of them near Heywood cases."""
    most_factors: int = 6
    """Most factors to fit."""
    seed: int = 0
    """Seed of the random data sets."""
    output: Path = Path("results/benchmarks/likelihoods.json")
    """File for the results."""


def data_sets(settings: Settings) -> Iterator[tuple[str, np.ndarray]]:
    """Yield rows by name."""
    yield "Holzinger-Swineford", pa.datasets.holzinger_swineford().x.numpy()
    for name in ("iris", "wine", "breast_cancer", "diabetes"):
        options = {"scaled": False} if name == "diabetes" else {}
        yield name, getattr(sklearn.datasets, f"load_{name}")(**options).data
    for i in range(settings.random):
        generator = np.random.default_rng([settings.seed, i])
        features = int(generator.integers(5, 16))
        factors = int(generator.integers(1, 5))
        samples = int(generator.integers(2 * features, 400))
        noise = generator.uniform(0.2, 2.0, features)
        if i % 2:
            noise[generator.integers(features)] = 1e-6
        x = generator.normal(size=(samples, factors)) @ generator.normal(size=(factors, features))
        yield f"random {i}", x + generator.normal(size=(samples, features)) * np.sqrt(noise)


Answer = tuple[np.ndarray, np.ndarray]


def ours(correlation: np.ndarray, x: np.ndarray, factors: int) -> Answer:
    """Fit with probae."""
    statistics = pa.SufficientStatistics.from_covariance(correlation, count=len(x))
    model = pa.fit(pa.FactorAnalysis(len(correlation), factors), statistics).model
    return model.loadings.numpy(), model.uniquenesses.numpy()


def scikit_learn(correlation: np.ndarray, x: np.ndarray, factors: int) -> Answer:
    """Fit with scikit-learn, on standardised columns."""
    standard = (x - x.mean(0)) / x.std(0)
    peer = FactorAnalysis(factors, svd_method="lapack", tol=1e-8, max_iter=20_000).fit(standard)
    return peer.components_.T, peer.noise_variance_


def statsmodels(correlation: np.ndarray, x: np.ndarray, factors: int) -> Answer | None:
    """Fit with statsmodels; None where it gives up."""
    try:
        peer = Factor(corr=correlation, n_factor=factors, method="ml", nobs=len(x)).fit()
    except (ValueError, np.linalg.LinAlgError):
        return None
    return peer.loadings, peer.uniqueness


def factanal(cases: list[tuple[np.ndarray, int, int]]) -> list[Answer | None]:
    """Fit all cases (correlation, rows, factors) with one call of R; None for each without R."""
    program = shutil.which("Rscript")
    if program is None:
        return [None] * len(cases)
    script = """
        options(digits = 17)
        for (case in seq_len(as.integer(commandArgs(TRUE)[2]))) {
            R <- as.matrix(read.csv(file.path(commandArgs(TRUE)[1], paste0(case, ".csv")), header = FALSE))
            size <- scan(file.path(commandArgs(TRUE)[1], paste0(case, ".txt")), quiet = TRUE)
            colnames(R) <- rownames(R) <- paste0("x", seq_len(nrow(R)))
            fit <- try(factanal(covmat = R, factors = size[2], n.obs = size[1], rotation = "none",
                                control = list(nstart = 5, lower = 1e-6)), silent = TRUE)
            if (inherits(fit, "try-error")) { cat("failed\\n\\n"); next }
            cat(unclass(fit$loadings), "\\n"); cat(fit$uniquenesses, "\\n")
        }
    """
    with tempfile.TemporaryDirectory() as folder:
        for i, (correlation, samples, factors) in enumerate(cases, 1):
            np.savetxt(Path(folder) / f"{i}.csv", correlation, delimiter=",", fmt="%.17g")
            (Path(folder) / f"{i}.txt").write_text(f"{samples} {factors}")
        command = [program, "-e", script, folder, str(len(cases))]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    found: list[Answer | None] = []
    for (_, _, factors), loadings, noise in zip(cases, lines[::2], lines[1::2], strict=False):
        if loadings.startswith("failed"):
            found.append(None)
        else:
            found.append(
                (np.array(loadings.split(), float).reshape(factors, -1).T, np.array(noise.split(), float))
            )
    return found


def log_likelihood(correlation: np.ndarray, loadings: np.ndarray, noise: np.ndarray) -> float:
    """Return the log-likelihood per row in nats, uniquenesses held at the floor."""
    root = np.linalg.cholesky(loadings @ loadings.T + np.diag(np.maximum(noise, FLOOR)))
    log_det = 2 * np.log(root.diagonal()).sum()
    trace = np.trace(scipy.linalg.cho_solve((root, True), correlation))
    return -0.5 * float(len(noise) * math.log(2 * math.pi) + log_det + trace)


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return the loss against each peer for each data set and number of factors."""
    cases = []
    for name, x in data_sets(settings):
        features = x.shape[1]
        bound = int((2 * features + 1 - math.sqrt(8 * features + 1)) / 2)
        correlation = np.corrcoef(x.T)
        cases += [
            (name, x, correlation, factors) for factors in range(1, min(bound, settings.most_factors) + 1)
        ]
    from_r = factanal([(correlation, len(x), factors) for _, x, correlation, factors in cases])
    rows = []
    peers: dict[str, Callable[..., Answer | None]] = {
        "scikit-learn": scikit_learn,
        "statsmodels": statsmodels,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (name, x, correlation, factors), answer in zip(cases, from_r, strict=True):
            own = log_likelihood(correlation, *ours(correlation, x, factors))
            others = {peer: run(correlation, x, factors) for peer, run in peers.items()} | {
                "factanal": answer
            }
            losses = {
                peer: None if found is None else log_likelihood(correlation, *found) - own
                for peer, found in others.items()
            }
            below = [peer for peer, found in others.items() if found is not None and found[1].min() < FLOOR]
            rows.append({"data": name, "factors": factors, "loss": losses, "below the floor": below})
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the largest loss against each peer, and the worst rows."""
    lines = [f"{len(rows)} fits"]
    for peer in ("scikit-learn", "statsmodels", "factanal"):
        losses = [
            (row["loss"][peer], row["data"], row["factors"]) for row in rows if row["loss"][peer] is not None
        ]
        if not losses:
            lines.append(f"{peer}: not run")
            continue
        worst = max(losses)
        gains = sum(loss < -1e-6 for loss, _, _ in losses)
        below = sum(peer in row["below the floor"] for row in rows)
        lines.append(
            f"{peer}: {len(losses)} answers, largest loss {worst[0]:.1e} nats per row ({worst[1]}, "
            f"{worst[2]} factors); probae higher by more than 1e-6 in {gains}; {below} answers below the floor"
        )
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(report(rows))
    save(settings.output, settings, rows, "scikit-learn", "statsmodels")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
