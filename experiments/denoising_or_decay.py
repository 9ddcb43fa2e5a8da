r"""Noise on the input is weight decay, so why does a denoising autoencoder beat one with weight decay?

Noise of variance v on the input of a reconstruction r(x) adds to the squared error, on average,

    v |B|^2                          for r(x) = B x: ridge on the whole map, and exactly so;
    v |dr/dx|^2 - ... + O(v^2)       for any r: small slopes at the data, not small weights.

Weight decay v / 2 on the factors of B = W2 W1 is neither: it thresholds, a(l) = max(1 - v / l, 0) in place of
l / (l + v). A network that may bend learns E[x | x + e], while no linear one is better than Wiener's filter. So noise
can gain on weight decay the distance from Wiener's error to the least possible one. That is 0 for normal data, and

    data, noise s                          Wiener    least
    rotated independent Laplace, s = 1     .66667    .63153     for each of 16 features
    four clusters at (+-2, +-2), s = 1     .80952    .48211     for each of 2

Measured: squared error of reconstructing held-out rows from noisy ones, noise of the same s for all, over the error of
Wiener's filter for the covariance of the training rows (the true one where it is known). Strengths c: noise of variance
c s^2, c s^2 / 2 times the squared Jacobian of the code or of the reconstruction, c s^2 / 2 times the squared weights.

Run:     python -m experiments.denoising_or_decay
Answer:  <to be measured>
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.output import save, table
from probae.linalg import haar_rotation

Rows = list[dict[str, Any]]
MODELS = ("linear", "tanh", "two layers")
PENALTIES = ("weight decay", "input noise", "encoder Jacobian", "reconstruction Jacobian")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    data: tuple[str, ...] = ("normal", "digits", "laplace", "clusters")
    """Data sets."""
    strengths: tuple[float, ...] = (1 / 16, 1 / 4, 1.0)
    """Strengths c of every penalty."""
    width: int = 64
    """Units of a hidden layer."""
    train: int = 20_000
    """Rows for training of data that are drawn; the digits have 1,300."""
    test: int = 4_000
    """Rows for testing of data that are drawn; the digits have 497."""
    steps: int = 700
    """Steps of Adam."""
    long: int = 2000
    """The same for input noise of strength 1 alone, to come nearer to the least possible error."""
    batch: int = 256
    """Rows in a step."""
    lr: float = 0.01
    """First step of Adam."""
    seed: int = 0
    """Of the data, of the start and of the noise."""
    output: Path = Path("results/denoising_or_decay")
    """Folder for the results."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows for training and for testing, the noise, and the covariance that Wiener's filter takes."""

    train: Tensor
    test: Tensor
    sd: float
    covariance: Tensor
    least: float | None  # the least possible error, where it is known


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    rows = []
    for name in settings.data:
        problem = problems(settings, name)
        for model in MODELS:
            rows += [
                {"data": name, "model": model, "penalty": penalty, "strength": strength}
                | scores(settings, problem, model, penalty, strength)
                for penalty, strength in kinds(settings)
            ]
    return {"errors": rows, "best": list(best(rows)), "trained longer": list(longer(settings))}


def longer(settings: Settings) -> Iterator[dict[str, Any]]:
    """Train networks that bend for longer, by noise of the strength they are tested with."""
    for name in settings.data:
        problem = problems(settings, name)
        for model in MODELS[1:]:
            found = scores(replace(settings, steps=settings.long), problem, model, "input noise", 1.0)
            yield {"data": name, "model": model, "steps": settings.long} | found


def kinds(settings: Settings) -> list[tuple[str, float]]:
    """Return every penalty with every strength, none first."""
    return [("none", 0.0), *((penalty, c) for penalty in PENALTIES for c in settings.strengths)]


def problems(settings: Settings, name: str) -> Problem:
    """Draw or load a data set; all are turned by a random rotation, which changes neither errors nor filters."""
    generator = torch.Generator().manual_seed(settings.seed)
    if name in ("normal", "digits"):
        x = pa.datasets.digits().x
        x = (x - x.mean(0)) @ haar_rotation(
            x.shape[1], generator
        )  # no pixel hardly varies: starts are in its units
        if name == "digits":
            x = x[torch.randperm(len(x), generator=generator)]
            train, test = x[:1300], x[1300:]
            return Problem(train, test, math.sqrt(0.1), torch.cov(train.T, correction=0), None)
        covariance = torch.cov(x.T, correction=0)
        values, vectors = torch.linalg.eigh(covariance)
        rows = normal(settings, len(x.T), generator) @ (vectors * values.clamp_min(0).sqrt()).T
        least = float((0.1 * values / (values + 0.1)).sum())
        return split(settings, rows, math.sqrt(0.1), covariance, least)
    features = 16 if name == "laplace" else 2
    if name == "laplace":
        uniform = torch.rand(
            settings.train + settings.test, features, generator=generator, dtype=torch.float64
        )
        rows = torch.distributions.Laplace(0.0, 1.0).icdf(uniform.clamp(1e-15, 1 - 1e-15))
        variance = 2.0
    else:
        sign = torch.randint(0, 2, (settings.train + settings.test, features), generator=generator) * 4 - 2
        rows = sign + 0.5 * normal(settings, features, generator)
        variance = 4.25
    covariance = variance * torch.eye(features, dtype=torch.float64)
    rows = rows @ haar_rotation(features, generator)
    return split(settings, rows, 1.0, covariance, features * least_error(name, 1.0))


def normal(settings: Settings, features: int, generator: torch.Generator) -> Tensor:
    """Return standard normal rows for training and testing."""
    return torch.randn(settings.train + settings.test, features, generator=generator, dtype=torch.float64)


def split(settings: Settings, x: Tensor, sd: float, covariance: Tensor, least: float) -> Problem:
    """Return the rows as a problem."""
    return Problem(x[: settings.train], x[settings.train :], sd, covariance, least)


def least_error(name: str, sd: float) -> float:
    """Return E Var(x | x + e) of one feature, by the rule of midpoints."""
    x = torch.arange(-20, 20, 0.02, dtype=torch.float64) + 0.01
    log_prior = (
        -x.abs() if name == "laplace" else torch.logaddexp(-2 * (x - 2).square(), -2 * (x + 2).square())
    )
    prior = log_prior.softmax(0)
    joint = prior * torch.exp(-0.5 * ((x[:, None] - x) / sd).square())  # rows y, columns x
    evidence = joint.sum(1)
    mean = joint @ x / evidence
    return float((prior * x.square()).sum() - (evidence / evidence.sum() * mean.square()).sum())


def scores(
    settings: Settings, problem: Problem, model: str, penalty: str, strength: float
) -> dict[str, float | None]:
    """Train one autoencoder; return its error over Wiener's with the standard error, and what is predicted."""
    run = learn(settings, problem, model, penalty, strength)
    test = problem.test
    noise = torch.randn(
        test.shape, generator=torch.Generator().manual_seed(settings.seed + 1), dtype=test.dtype
    )
    noisy = test + problem.sd * noise
    errors = (test - run.model.likelihood(run.posterior(noisy).mean).mean).square().sum(1)
    filtered = linear_map(problem.covariance, "input noise", problem.sd**2)
    wiener = (test - noisy @ filtered).square().sum(1)
    change = errors - wiener
    return {
        "error": float(errors.mean()),
        "over Wiener": float(errors.mean() / wiener.mean()),
        "standard error": float(change.std() / len(change) ** 0.5 / wiener.mean()),
        "predicted": predicted(problem, model, penalty, strength),
        "Wiener": expected(problem, filtered),
        "least / Wiener": problem.least and problem.least / float(expected(problem, filtered)),
    }


def learn(settings: Settings, problem: Problem, model: str, penalty: str, strength: float) -> pa.Fit:
    """Train one autoencoder by squared error; its decoder is linear."""
    x, width = problem.train, settings.width
    features = x.shape[1]
    latents = width if model == "tanh" else features
    encoder: pa.Encoder = pa.OneLayerEncoder(features, latents, "tanh" if model == "tanh" else "linear")
    if model == "two layers":
        encoder = pa.MLPEncoder(features, latents, hidden=(width, width), covariance="diagonal")
    method = pa.MAP(
        encoder=encoder,
        objective=pa.SquaredError(),
        regularizers=regularizers(penalty, strength * problem.sd**2),
        epochs=max(1, round(settings.steps * settings.batch / len(x))),
        batch=settings.batch,
        lr=settings.lr,
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", pa.ProbaeWarning
        )  # codes are points, and the encoder's Jacobian has no minimum
        return pa.fit(pa.ProbabilisticPCA(features, latents), x.float(), method, seed=settings.seed)


def regularizers(penalty: str, variance: float) -> tuple[pa.Regularizer, ...]:
    """Return the penalty that stands for noise of this variance."""
    if penalty == "none":
        return ()
    if penalty == "input noise":
        return (pa.Denoising(pa.GaussianNoise(math.sqrt(variance))),)
    if penalty == "encoder Jacobian":
        return (pa.ContractiveEncoder(variance / 2, probes=1),)
    if penalty == "reconstruction Jacobian":
        return (pa.ContractiveReconstruction(variance / 2, probes=1),)
    return (pa.WeightDecay(variance / 2),)


def linear_map(covariance: Tensor, penalty: str, variance: float) -> Tensor:
    """Return the best linear reconstruction of rows with this covariance under a penalty."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0)
    gain = torch.ones_like(values)  # none, or a penalty that has no minimum and ends there
    if penalty in ("input noise", "reconstruction Jacobian"):
        gain = values / (values + variance)
    if penalty == "weight decay":
        gain = (1 - variance / values.clamp_min(1e-300)).clamp_min(0)
    return vectors @ gain.diag() @ vectors.T


def expected(problem: Problem, linear: Tensor) -> float:
    """Return the expected error of a linear map on the held-out rows."""
    rest = problem.test - problem.test @ linear
    return float(rest.square().sum(1).mean() + problem.sd**2 * linear.square().sum())


def predicted(problem: Problem, model: str, penalty: str, strength: float) -> float | None:
    """Return the error over Wiener's in closed form; None where there is none."""
    variance = problem.sd**2
    wiener = expected(problem, linear_map(problem.covariance, "input noise", variance))
    if model == "linear":
        covariance = torch.cov(problem.train.T, correction=0)
        return expected(problem, linear_map(covariance, penalty, strength * variance)) / wiener
    if penalty == "input noise" and strength == 1.0 and problem.least is not None:
        return problem.least / wiener
    return None


def best(rows: Rows) -> Iterator[dict[str, Any]]:
    """Choose for each penalty the strength of least error, on the held-out rows themselves."""
    for key in dict.fromkeys((row["data"], row["model"], row["penalty"]) for row in rows):
        some = [row for row in rows if (row["data"], row["model"], row["penalty"]) == key]
        yield min(some, key=lambda row: row["over Wiener"])


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "weight decay": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "input noise": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "encoder Jacobian": {"color": "#CC79A7", "linestyle": ":", "marker": "^"},
    "reconstruction Jacobian": {
        "color": "#009E73",
        "linestyle": "-.",
        "marker": "D",
        "markerfacecolor": "none",
        "markersize": 8,
    },
}
LONG = "input noise, trained longer"
TITLES = {
    "normal": "normal, digits' covariance",
    "digits": "digits",
    "laplace": "Laplace, turned",
    "clusters": "four clusters",
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the error against the strength: a row of panels for each model, a column for each data set."""
    names = list(dict.fromkeys(row["data"] for row in rows["errors"]))
    figure = Figure(figsize=(3.1 * len(names), 8.2), layout="constrained")
    axes = figure.subplots(len(MODELS), len(names), squeeze=False, sharex=True, sharey="col")
    for i, model in enumerate(MODELS):
        for j, name in enumerate(names):
            some, long = (
                [row for row in rows[key] if (row["data"], row["model"]) == (name, model)]
                for key in ("errors", "trained longer")
            )
            _plot_panel(axes[i, j], some)
            for row in long:
                axes[i, j].plot(1.0, row["over Wiener"], "*", color="#000000", markersize=9, label=LONG)
            if i == 0:
                axes[i, j].set_title(TITLES[name], fontsize=10)
        axes[i, 0].set_ylabel(f"{model}: error / Wiener's")
    figure.suptitle(
        "marks are measured (bars: two standard errors); lines: predicted for linear models, else they join the marks\n"
        "solid grey: Wiener's filter; dashed grey: the least possible error; dotted grey: no penalty",
        fontsize=9,
    )
    figure.supxlabel("strength of the penalty, c", fontsize=10)
    figure.legend(
        *axes[1, 0].get_legend_handles_labels(),
        fontsize=8,
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def _plot_panel(ax: Axes, rows: Rows) -> None:
    linear = rows[0]["model"] == "linear"
    ax.axhline(1.0, color="#777777", linewidth=1)
    ax.axhline(rows[0]["over Wiener"], color="#777777", linewidth=1, linestyle=":")
    if rows[0]["least / Wiener"] is not None:
        ax.axhline(rows[0]["least / Wiener"], color="#777777", linewidth=1, linestyle="--")
    for penalty, style in STYLES.items():
        some = [row for row in rows if row["penalty"] == penalty]
        c = [row["strength"] for row in some]
        bars = [2 * row["standard error"] for row in some]
        marks = (
            {"markersize": 5} | style | {"linestyle": "" if linear else style["linestyle"], "linewidth": 1}
        )
        ax.errorbar(c, [row["over Wiener"] for row in some], yerr=bars, elinewidth=1, label=penalty, **marks)
        if linear:
            heights = [row["predicted"] for row in some]
            ax.plot(c, heights, color=style["color"], linestyle=style["linestyle"], linewidth=1)
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(c, [f"{one:g}" for one in c])
    ax.set_yticks([0.6, 0.8, 1, 1.5, 2, 3, 4], ["0.6", "0.8", "1", "1.5", "2", "3", "4"])
    ax.minorticks_off()


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
