r"""How many factors are there, and which way of counting finds the planted number?

Three factors are planted in columns with noise of unequal size, the last of them with loadings of a fraction of the
size of the others. Five ways of counting look at the same rows: BIC over maximum likelihood fits, parallel analysis,
the posterior of the number of active factors under ARD and under the multiplicative gamma process with eight factors
offered, and leave-one-out prediction of fits with one, two, ... factors. The covariance of N rows in D columns can show
a factor only if its variance in units of the noise exceeds sqrt(D / N), so a last factor below that should be missed.

Run:     python -m experiments.how_many_factors
Answer:  A factor that stands out is found by all rules, one at the edge by hardly any. 300 rows of 20 columns.
    Three factors alike, the last of eigenvalue 13 (5.9 to 21) against sqrt(20 / 300) = .26: three are named in 20 of 20
        data sets by BIC, parallel analysis, ARD (median probability .97), the multiplicative gamma process (.76), and by
        leave-one-out if the fewest factors within noise of the best are taken. The best of leave-one-out has a fourth
        in 2 of 20: an idle factor costs a prediction next to nothing.
    The last loadings a tenth as large, eigenvalue .23 (.09 to .37), above .26 in 8 of 20 data sets: two are named in all
        20 by BIC, parallel analysis, ARD and the fewest of leave-one-out, three in 3 of 20 by the multiplicative
        gamma process and in 4 of 20 by the best of leave-one-out.
    The chains are short (R-hat up to 1.2 with hyperparameters), so probabilities are good to a few hundredths.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.output import save, table
from probae.factors.number import BIC, ParallelAnalysis

Rows = list[dict[str, Any]]
RULES = ("BIC", "parallel analysis", "ARD", "multiplicative gamma", "LOO, best", "LOO, fewest within noise")
ENOUGH = 4.0  # nats below which a difference of elpd is none (Sivula et al., 2020)


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    samples: int = 300
    """Rows N."""
    features: int = 20
    """Columns D."""
    planted: int = 3
    """Factors in the data."""
    offered: int = 8
    """Factors of the fits under ARD and the multiplicative gamma process."""
    tried: int = 5
    """Most factors of the fits that leave-one-out compares."""
    strengths: tuple[float, ...] = (1.0, 0.1)
    """Size of the loadings of the last factor, relative to the others."""
    repeats: int = 20
    """Data sets."""
    draws: int = 300
    """Draws of each of two chains, after as many to warm up."""
    seed: int = 0
    """Seed of the first data set; each further repeat adds 1."""
    output: Path = Path("results/how_many_factors")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return the answer of every rule on every data set, and how often each was right."""
    answers = [row for strength in settings.strengths for row in one_strength(settings, strength)]
    return {"answers": answers, "summary": summary(settings, answers)}


def one_strength(settings: Settings, strength: float) -> Iterator[dict[str, Any]]:
    """Ask all rules about all data sets of one kind."""
    for seed in range(settings.seed, settings.seed + settings.repeats):
        x, signal = data(settings, strength, seed)
        for rule, (answer, probability, seconds) in ask(settings, x, seed).items():
            yield {
                "strength": strength,
                "seed": seed,
                "weakest eigenvalue": signal,
                "rule": rule,
                "answer": answer,
                "probability of planted": probability,
                "seconds": seconds,
            }


def data(settings: Settings, strength: float, seed: int) -> tuple[Tensor, float]:
    """Return rows in units of their standard deviations, and the last eigenvalue of W' Psi^-1 W of the truth."""
    generator = torch.Generator().manual_seed(seed)
    D, K = settings.features, settings.planted
    W = torch.randn(D, K, generator=generator, dtype=torch.float64)
    W[:, -1] *= strength
    psi = 0.5 + torch.rand(D, generator=generator, dtype=torch.float64)
    z = torch.randn(settings.samples, K, generator=generator, dtype=torch.float64)
    error = torch.randn(settings.samples, D, generator=generator, dtype=torch.float64)
    x = z @ W.mT + psi.sqrt() * error
    return x / x.std(0), float(torch.linalg.eigvalsh((W.mT / psi) @ W)[0])


def ask(settings: Settings, x: Tensor, seed: int) -> dict[str, tuple[int | None, float | None, float]]:
    """Return answer, probability of the planted number where there is one, and seconds of every rule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short chains, boundary cases of fits with too many factors
        found = {}
        for rule, counted in (
            ("BIC", lambda: (by_rule(x, BIC(), settings.tried, seed), None)),
            ("parallel analysis", lambda: (by_rule(x, ParallelAnalysis(), settings.tried, seed), None)),
            ("ARD", lambda: active(settings, x, pa.parameter_priors.ARD(), seed)),
            (
                "multiplicative gamma",
                lambda: active(settings, x, pa.parameter_priors.MultiplicativeGamma(), seed),
            ),
        ):
            start = time.process_time()
            answer, probability = counted()
            found[rule] = (answer, probability, time.process_time() - start)
        start = time.process_time()
        best, fewest = left_out(settings, x, seed)
        seconds = time.process_time() - start
        found["LOO, best"] = (best, None, seconds)
        found["LOO, fewest within noise"] = (fewest, None, seconds)
    return found


def by_rule(x: Tensor, rule: Any, largest: int, seed: int) -> int | None:
    """Return the answer of one of the usual rules."""
    return pa.number_of_factors(x, largest, rules=[rule], seed=seed).judgement(rule).answer


def active(settings: Settings, x: Tensor, prior: Any, seed: int) -> tuple[int, float]:
    """Return the most probable number of active factors, and the probability of the planted one."""
    model = pa.FactorAnalysis(settings.features, settings.offered).with_priors(loadings=prior)
    found = pa.active_factors(pa.fit(model, x, sampler(settings), seed=seed), x)
    return found.mode, float(found.probability[settings.planted])


def left_out(settings: Settings, x: Tensor, seed: int) -> tuple[int, int]:
    """Return the number that predicts best, and the least that predicts as well up to noise."""
    fits = {
        str(k): pa.fit(pa.FactorAnalysis(settings.features, k), x, sampler(settings), seed=seed)
        for k in range(1, settings.tried + 1)
    }
    found = pa.compare(fits, x)
    rows = zip(found.names, found.difference.tolist(), found.difference_error.tolist(), strict=True)
    level = [int(name) for name, gap, error in rows if -gap <= max(ENOUGH, 2 * error)]
    return int(found.names[0]), min(level)


def sampler(settings: Settings) -> pa.Gibbs:
    """Return two chains, as short as the settings ask for."""
    return pa.Gibbs(draws=settings.draws, warmup=settings.draws, chains=2)


def summary(settings: Settings, answers: Rows) -> Rows:
    """Return how many data sets got each answer from each rule."""
    found = []
    edge = math.sqrt(settings.features / settings.samples)
    for strength in settings.strengths:
        some = [row for row in answers if row["strength"] == strength]
        seen = float(np.mean([row["weakest eigenvalue"] > edge for row in some]))
        for rule in RULES:
            own = [row for row in some if row["rule"] == rule]
            right = [row["answer"] == settings.planted for row in own]
            found.append(
                {
                    "strength": strength,
                    "rule": rule,
                    "data sets": len(own),
                    "planted": sum(right),
                    "too few": sum((row["answer"] or 0) < settings.planted for row in own),
                    "too many": sum((row["answer"] or 0) > settings.planted for row in own),
                    "share above sqrt(D / N)": seen,
                    "seconds": float(np.mean([row["seconds"] for row in own])),
                }
            )
    return found


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw how many data sets got each answer: one panel for each strength, one line for each rule."""
    answers = rows["answers"]
    strengths = list(dict.fromkeys(row["strength"] for row in answers))
    most = max(max(row["answer"] or 0 for row in answers), 4)
    figure = Figure(figsize=(3.4 + 3.0 * len(strengths), 3.4), layout="constrained")
    for ax, strength in zip(
        np.atleast_1d(figure.subplots(1, len(strengths), sharey=True)), strengths, strict=True
    ):
        some = [row for row in answers if row["strength"] == strength]
        counts = np.array(
            [
                [sum(r["rule"] == rule and (r["answer"] or 0) == k for r in some) for k in range(most + 1)]
                for rule in RULES
            ]
        )
        total = max(counts.sum(1).max(), 1)
        ax.imshow(counts, cmap="Greys", vmin=0, vmax=1.25 * total, aspect="auto")
        for (i, k), count in np.ndenumerate(counts):
            if count:
                ax.text(
                    k,
                    i,
                    str(count),
                    ha="center",
                    va="center",
                    color="white" if count > 0.6 * total else "black",
                )
        ax.set_xticks(range(most + 1))
        ax.set_yticks(range(len(RULES)), RULES)
        ax.set_xlabel("number of factors named")
        eigenvalue = float(np.median([row["weakest eigenvalue"] for row in some]))
        ax.set_title(f"last loadings times {strength:g} (eigenvalue {eigenvalue:.2g})", fontsize=10)
    repeats = len({row["seed"] for row in answers})
    figure.suptitle(f"data sets, of {repeats}, in which a rule names so many factors", fontsize=11)
    return figure


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(table(rows["summary"]))
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
