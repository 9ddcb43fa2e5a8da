r"""Why can independent Gaussian factors not be disentangled? I see it for a diagonal input covariance, not otherwise.

Turning the loadings, W -> W R, leaves W W' as it is, so with Gaussian factors the likelihood is flat for every
covariance; measured here on data whose sample covariance is exactly diagonal and on data where it is full. With
independent factors of another law, turning two of them by t costs 2 E log p(z) - 2 E log p(z_1 cos t + z_2 sin t) nats
per row, about (kappa_1 + kappa_2 - 2) t^2 / 2, where kappa = E (d log p / dz)^2 is 1 for the Gaussian and above 1 for
every other law of variance 1. So the axes have a standard error of 57.296 / sqrt(n (kappa_1 + kappa_2 - 2)) degrees,
infinite for Gaussian factors, whose plane is found all the same. Two controls: a law that is wrong about the factors
(Laplace for factors flatter than a Gaussian), which finds wrong axes, and heavy tails without axes (multivariate t).

Run:     python -m experiments.rotation
Answer:  No covariance helps: the factors must not be Gaussian. In brackets what was predicted.
    Gaussian factors, log-likelihood of 5,000 rows under rotation: changes by less than 1e-11 nats (0), whether the
        sample covariance is diagonal or full.
    Turned by 45 degrees, nats per row: Laplace -.1209 +- .0016 (2 - 3/sqrt(2) = -.1213), t5 -.0524 +- .0012 (-.0527),
        generalised normal 3 -.0349 +- .0008 (-.0334), multivariate t5 0 to 1e-15 (0).
    Information on the angle per row: Laplace 1.998 +- .014 (2), t5 .480 +- .011 (.5), generalised normal 3
        .262 +- .003 (.264), multivariate t5 and Gaussian 0 (0).
    Error of the axes without noise at 200, 1,000 and 5,000 rows, degrees: Laplace 3.1, 1.6, .54 (2.9, 1.3, .57);
        t5 7.3, 3.0, 1.2 (5.7, 2.6, 1.1); generalised normal 3 11.5, 4.7, 1.3 (7.9, 3.5, 1.6). The prediction is the
        limit of many rows. Mean |cosine| at 5,000 rows .9997 or more, at chance .90.
    Wrong law: Laplace assumed for generalised normal 3 prefers 45 degrees by .0556 +- .0015 nats per row (.0531), and
        its axes are off by 34, 40, 43.6 degrees (45). Laplace assumed for Gaussian or multivariate t5 factors: 24 to
        28 degrees at every size (26, any angle being as good), |cosine| .89 to .91 (chance .90).
    Laplace factors in noise, the same data for both: factor analysis misses the axes by 28, 23, 27 degrees (26), with
        |cosine| .89, .92, .89 (chance .90), and the plane by 4.5, 2.0, .82 degrees (3.8, 1.7, .76 when the noise is
        known to be equal); Laplace factors miss the axes by 6.4, 1.5, .94 degrees (4.7, 2.1, .95).
    The restarts of a fit end within .0012 nats per row of each other.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import fftconvolve
from torch import Tensor

import probae as pa
from experiments.figures import KEY, draw, legend_below, logarithmic
from experiments.output import save, table
from probae.agreement import chance_level
from probae.datasets import linear_factors
from probae.linalg import givens, haar_rotation
from probae.matching import match_columns, principal_angles, procrustes, rotation_angle
from probae.priors import Gaussian, GeneralizedNormal, Laplace, MultivariateStudentT, Prior, StudentT

LAWS: dict[str, Prior] = {
    "Gaussian": Gaussian(),
    "Laplace": Laplace(),
    "t5": StudentT(5.0),
    "generalised normal 3": GeneralizedNormal(3.0),
    "multivariate t5": MultivariateStudentT(5.0),
}
RIGHT = tuple((law, law) for law in LAWS)
WRONG = ("generalised normal 3", "Laplace")  # a peaked law assumed for factors flatter than a Gaussian
NO_AXES = (("Gaussian", "Laplace"), ("multivariate t5", "Laplace"))
CHANCE = 90 / math.sqrt(12)  # root mean square of an angle that is uniform between -45 and 45 degrees
FEATURES, LATENTS = 6, 2
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    rows: int = 100_000
    """Rows behind each likelihood along a rotation."""
    step: float = 5.0
    """Degrees from one angle to the next."""
    sizes: tuple[int, ...] = (200, 1000, 5000)
    """Numbers of rows a model is fitted to."""
    repeats: int = 30
    """Data sets for each law and size, without noise."""
    noisy_repeats: int = 15
    """Data sets for each size, with noise and more features than factors."""
    noise: float = 0.1
    """Noise variance of each feature; the loadings have orthonormal columns."""
    data_seed: int = 0
    """Seed of the first data set; each further one adds 1."""
    restart_seed: int = 1000
    """Seed of the first fit's restarts; each further one adds 1."""
    output: Path = Path("results/rotation")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    return {
        "covariances": list(covariances(settings)),
        "information": list(information(settings)),
        "profiles": list(profiles(settings)),
        "axes": list(axes(settings)),
        "plane": list(plane(settings)),
    }


def covariances(settings: Settings) -> Iterator[dict[str, Any]]:
    """Gaussian factors: the largest change of the log-likelihood of all rows under rotation; 0 is predicted."""
    generator = torch.Generator().manual_seed(settings.data_seed)
    variances = torch.tensor([5.0, 3.0, 1.3, 1.2, 1.1, 1.0], dtype=torch.float64)
    turn = haar_rotation(FEATURES, generator)
    degrees = angles(settings.step, 180.0)
    models = (pa.ProbabilisticPCA(FEATURES, LATENTS), pa.FactorAnalysis(FEATURES, LATENTS))
    for name, covariance in (("diagonal", variances.diag()), ("full", turn @ variances.diag() @ turn.T)):
        x = rows_with(covariance, max(settings.sizes), generator)
        for model in (
            models if name == "full" else models[:1]
        ):  # a diagonal covariance leaves FA without a factor
            fitted = pa.fit(model, x, seed=settings.restart_seed).model
            change = turned(fitted, x, degrees).sum(1)
            total = float(fitted.log_likelihood(x).sum())
            yield {
                "model": type(model).__name__,
                "covariance": name,
                "rows": len(x),
                "log-likelihood": total,
                "largest change": float(change.abs().max()),
                "predicted": 0.0,
            }


def information(settings: Settings) -> Iterator[dict[str, Any]]:
    """Information on the angle per row: the mean square of psi(z_1) z_2 - psi(z_2) z_1, beside 2 kappa - 2."""
    for name, law in LAWS.items():
        z = linear_factors(settings.rows, 2, 2, prior=law, noise=0.0, seed=settings.data_seed).truth["z"]
        score = law.score(z)
        square = (score[:, 0] * z[:, 1] - score[:, 1] * z[:, 0]).square()
        error = float(square.std() / math.sqrt(len(square)))
        predicted = 0.0 if law.spherical else 2 * law.fisher_information() - 2
        yield {"law": name, "information": float(square.mean()), "error": error, "predicted": predicted}


def profiles(settings: Settings) -> Iterator[dict[str, Any]]:
    """Change of the log-likelihood per row along a rotation away from the true axes, without noise."""
    degrees = angles(settings.step, 90.0)
    for sources, name in (*RIGHT, WRONG):
        data = linear_factors(settings.rows, 2, 2, prior=LAWS[sources], noise=0.0, seed=settings.data_seed)
        model = pa.LinearFactorModel(2, 2, prior=LAWS[name], noise="none")
        model.loadings = data.truth["loadings"]
        change = turned(model, data.x, degrees)
        means, errors = change.mean(1), change.std(1) / math.sqrt(settings.rows)
        for degree, mean, error in zip(degrees.tolist(), means.tolist(), errors.tolist(), strict=True):
            row = {"sources": sources, "model": name, "degrees": degree, "change": mean, "error": error}
            yield {**row, "predicted": predicted_change(sources, name, degree)}


def axes(settings: Settings) -> Iterator[dict[str, Any]]:
    """Independent components of a square mixture: angle between fitted and true axes, one row for each fit."""
    for sources, name in (*(pair for pair in RIGHT if not LAWS[pair[0]].spherical), WRONG, *NO_AXES):
        kappa = LAWS[name].fisher_information()
        for size in settings.sizes:
            predicted = math.degrees(1 / math.sqrt(size * (2 * kappa - 2)))
            if sources != name:
                predicted = 45.0 if (sources, name) == WRONG else CHANCE
            for repeat in range(settings.repeats):
                seed = settings.data_seed + repeat
                truth = haar_rotation(2, torch.Generator().manual_seed(seed))
                x = linear_factors(size, 2, 2, prior=LAWS[sources], noise=0.0, loadings=truth, seed=seed).x
                model = pa.IndependentComponents(2, 2, prior=LAWS[name])
                row = {"sources": sources, "model": name, "rows": size, "predicted": predicted}
                yield row | fitted_axes(model, x, truth, seed, settings.restart_seed + repeat)


def plane(settings: Settings) -> Iterator[dict[str, Any]]:
    """Laplace factors in noise: axes and plane found by Gaussian and by Laplace factors, one row for each fit."""
    law, noise = Laplace(), settings.noise
    kappa = law.noisy_fisher_information(noise)
    models = {
        "factor analysis": pa.FactorAnalysis(FEATURES, LATENTS),
        "PPCA": pa.ProbabilisticPCA(FEATURES, LATENTS),
        "Laplace factors": pa.LinearFactorModel(FEATURES, LATENTS, prior=law, noise="isotropic"),
    }
    for size in settings.sizes:
        # (D - K) K independent components of the error, each of variance v (1 + v) / n
        missed = math.degrees(math.sqrt((FEATURES - LATENTS) * LATENTS * noise * (1 + noise) / size))
        for name, model in models.items():
            error = math.degrees(1 / math.sqrt(size * (2 * kappa - 2)))
            row = {"model": name, "rows": size, "predicted": error if name == "Laplace factors" else CHANCE}
            for repeat in range(settings.noisy_repeats):
                seed = settings.data_seed + repeat
                truth = haar_rotation(FEATURES, torch.Generator().manual_seed(seed))[:, :LATENTS]
                x = linear_factors(
                    size, FEATURES, LATENTS, prior=law, noise=noise, loadings=truth, seed=seed
                ).x
                found = fitted_axes(model, x, truth, seed, settings.restart_seed + repeat)
                yield row | {"plane predicted": missed} | found


def fitted_axes(
    model: pa.LinearFactorModel, x: Tensor, truth: Tensor, seed: int, restart_seed: int
) -> dict[str, Any]:
    """Fit a model and say how far its axes and its plane are from the true ones, in degrees."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)  # kept in the row
        run = pa.fit(model, x, seed=restart_seed)
    match = match_columns(truth, run.model.loadings)
    return {
        "data seed": seed,
        "restart seed": restart_seed,
        "degrees": rotation_angle(procrustes(truth, match.matched).rotation),
        "cosine": float(match.cosines.mean()),
        "chance": chance_level(LATENTS).mean,
        "plane": float(principal_angles(truth, run.model.loadings).norm()),
        "restarts": [restart["contrast"] for restart in run.restarts],
        "warnings": list(run.warnings),
    }


def turned(model: pa.LinearFactorModel, x: Tensor, degrees: Tensor) -> Tensor:
    """Return the change of the log-likelihood of each row as two factors turn, shape (angles, rows)."""
    loadings, base = model.loadings.detach(), model.log_likelihood(x)
    other = copy.deepcopy(model)
    changes = []
    for rotation in givens(model.latents, 0, 1, torch.deg2rad(degrees)):
        other.loadings = loadings @ rotation
        changes.append(other.log_likelihood(x) - base)
    return torch.stack(changes)


def predicted_change(sources: str, model: str, degrees: float) -> float:
    """Return E log p(cos z_1 + sin z_2) - E log p(z), twice: the density of the sum is a convolution."""
    law, assumed = LAWS[sources], LAWS[model]
    if law.spherical or degrees % 90 == 0:
        return 0.0
    grid = torch.linspace(-40.0, 40.0, 2**16 + 1, dtype=torch.float64)
    parts = [abs(f(math.radians(degrees))) for f in (math.cos, math.sin)]
    one, two = ((law.log_prob(grid / part).exp() / part).numpy() for part in parts)
    straight = law.log_prob(grid).exp().numpy()
    value = assumed.log_prob(grid).numpy()
    mixed = fftconvolve(one, two, mode="same")
    return float(2 * (mixed @ value / mixed.sum() - straight @ value / straight.sum()))


def rows_with(covariance: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return Gaussian rows whose sample covariance is this one exactly, to rounding."""
    x = torch.randn(count, len(covariance), generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    root = torch.linalg.cholesky(x.T @ x / count)
    return torch.linalg.solve_triangular(root, x.T, upper=False).T @ torch.linalg.cholesky(covariance).T


def angles(step: float, last: float) -> Tensor:
    """Return 0, step, 2 step, ... up to ``last`` degrees."""
    return torch.arange(0.0, last + step / 2, step, dtype=torch.float64)


def summary(fits: Rows) -> Rows:
    """Put the fits of one law, model and size together: root mean squares over data sets, in degrees."""
    lines = []
    for _, group in groupby(fits, lambda row: (row.get("sources"), row["model"], row["rows"])):
        some = list(group)
        line = {name: some[0][name] for name in ("sources", "model", "rows") if name in some[0]}
        line["degrees"], line["error"] = root_mean_square([row["degrees"] for row in some])
        line["predicted"] = some[0]["predicted"]
        line |= {"cosine": float(np.mean([row["cosine"] for row in some])), "chance": some[0]["chance"]}
        if "plane predicted" in some[0]:
            line["plane"], line["plane error"] = root_mean_square([row["plane"] for row in some])
            line["plane predicted"] = some[0]["plane predicted"]
        line["restarts apart"] = max(
            max(row["restarts"], default=0) - min(row["restarts"], default=0) for row in some
        )
        lines.append(line)
    return lines


def root_mean_square(values: list[float]) -> tuple[float, float]:
    """Return the root mean square and its standard error."""
    square = np.square(values)
    value = math.sqrt(square.mean())
    return value, float(square.std() / math.sqrt(len(square)) / (2 * value))


def at_45(profile: Rows) -> Rows:
    """Pick the angle closest to 45 degrees from each profile."""
    groups = groupby(profile, lambda row: (row["sources"], row["model"]))
    return [min(group, key=lambda row: abs(row["degrees"] - 45)) for _, group in groups]


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "Gaussian": {
        "color": "#000000",
        "linestyle": "-",
        "marker": "o",
        "markersize": 8,
        "markerfacecolor": "none",
    },
    "multivariate t5": {"color": "#666666", "linestyle": ":", "marker": "x"},
    "generalised normal 3": {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    "t5": {"color": "#0072B2", "linestyle": "--", "marker": "s"},
    "Laplace": {"color": "#D55E00", "linestyle": "-", "marker": "D"},
    WRONG: {"color": "#CC79A7", "linestyle": (0, (1, 1)), "marker": "v"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the likelihood along a rotation, and the error of axes and plane against the number of rows."""
    figure = Figure(figsize=(12.0, 5.4), layout="constrained")
    figure.suptitle(KEY, fontsize=10)
    first, second, third = figure.subplots(1, 3)
    for ax, fits, columns in (
        (first, rows["profiles"], ("degrees", "change", "error", "predicted")),
        (second, summary(rows["axes"]), ("rows", "degrees", "error", "predicted")),
    ):
        for (sources, model), group in groupby(fits, lambda row: (row["sources"], row["model"])):
            label = model if sources == model else f"{model}, though the factors are {sources}"
            draw(ax, list(group), columns, STYLES.get((sources, model), STYLES[sources]), label)
    first.set(title="likelihood along a rotation", xlabel="rotation away from the true axes (degrees)")
    first.set(ylabel="change in log-likelihood (nats per row)", xticks=range(0, 91, 15))
    second.set(title="two factors, two features, no noise", ylabel="error (degrees, root mean square)")
    draw_plane(third, summary(rows["plane"]))
    third.sharey(second)
    for ax in (second, third):
        logarithmic(ax, sorted({row["rows"] for row in rows["axes"]}), [0.5, 1, 2, 5, 10, 20, 45])
        ax.set_xlabel("rows")
        ax.text(0.3, CHANCE * 0.93, "any angle", transform=ax.get_yaxis_transform(), ha="center", va="top")
    for ax in (first, second, third):
        legend_below(ax)
    return figure


def draw_plane(ax: Axes, lines: Rows) -> None:
    """Draw what Gaussian and Laplace factors find in the same noisy data."""
    of = {model: list(group) for model, group in groupby(sorted(lines, key=by_model), by_model)}
    error, plane = (
        ("rows", "degrees", "error", "predicted"),
        ("rows", "plane", "plane error", "plane predicted"),
    )
    draw(ax, of["factor analysis"], error, STYLES["Gaussian"], "axes, factor analysis")
    draw(ax, of["Laplace factors"], error, STYLES["Laplace"], "axes, Laplace factors")
    draw(ax, of["factor analysis"], plane, STYLES["t5"], "plane of the factors, factor analysis")
    ax.set_title(f"two Laplace factors, {FEATURES} noisy features")


def by_model(row: dict[str, Any]) -> str:
    """Sort and group by the model."""
    return row["model"]


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        shown = {"profiles": at_45, "axes": summary, "plane": summary}.get(name, list)
        print(f"{name}\n{table(shown(some))}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
