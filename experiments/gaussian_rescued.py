r"""Gaussian factors have no axes. Do they, once it is known when their variances change?

Two Gaussian factors have variances 1 + d and 1 - d in half of the rows, 1 - d and 1 + d in the others. Pooled they are
all but spherical, and every rotation of the loadings fits as well. With the labels of the rows known, the covariances
of the two halves share one pair of axes only, and the angle has a standard error of

    1 / sqrt(n I) radians,   I = 4 (w^2 - 1) / (2 w + 2) = 4 d^2 / (1 - d^2),   w = (1 + d^2) / (1 - d^2)

without noise; with noise in more features than factors it comes from the information of all parameters. Two controls
must show nothing: variances that do not change (d = 0), and the same labels in random order. The verdict of the audit
should follow: identified where the test of proportional variances can tell and the angle is known, else not.

Run:     python -m experiments.gaussian_rescued
Answer:  Yes: with known labels the axes are found, with the errors predicted. 15 data sets for each number, 10 with
    noise; predictions in brackets, degrees, root mean square. One z stands behind every d.
    Two features without noise, labels known, at d = .1, .2, .4 and .7: 500 rows 15 +- 4 (13), 5.8 +- .7 (6.3),
        2.8 +- .4 (2.9), 1.2 +- .2 (1.3); 2,000 rows 6.7 +- 1.1 (6.4), 2.8 +- .5 (3.1), 1.3 +- .2 (1.5), .55 +- .08
        (.65); 8,000 rows 2.9 +- .4 (3.2), 1.4 +- .2 (1.6), .65 +- .09 (.73), .29 +- .04 (.33). At d = 0: 20 to 28 (26).
    Labels shuffled, 45 data sets for each d: 26 +- 2 (26), 26 +- 2 (26), 26 +- 2 (26), 25 +- 2 (24) and 21 +- 2 (21).
        Random halves of a mixture differ most along its axes, which shows a little at d = .7.
    Six noisy features, labels known: 5.6 +- 1.0 (7.0), 2.9 +- .5 (3.6), 1.5 +- .3 (1.8) and .77 +- .17 (.88) at d = .1,
        .2, .4 and .7; without labels 19 to 26 (26) at every d, and never called identified.
    Without noise the audit calls 4 of 15, 12 of 15 and 15 of 15 data sets of 500, 2,000 and 8,000 rows identified at
        d = .1, and 131 of 135 above. Of those with nothing to find it calls 2 of 55 with equal variances and known
        labels, and 2 of 225 with shuffled ones: tests at level .01. One data set of 2,000 rows is INCONCLUSIVE at every
        d above 0, because its rows look dependent (p = .003): a test at that level does that at times.
"""

from __future__ import annotations

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
from torch import Tensor

import probae as pa
from experiments.figures import KEY, draw, legend_below
from experiments.output import save, table
from probae.linalg import haar_rotation
from probae.matching import match_columns, procrustes, rotation_angle

CHANCE = 90 / math.sqrt(12)  # root mean square of an angle that is uniform between -45 and 45 degrees
FEATURES, LATENTS = 6, 2
KNOWN, SHUFFLED, POOLED = "labels known", "labels shuffled", "no labels"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    contrasts: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.7)
    """Contrasts d of the variances between the two kinds of rows."""
    sizes: tuple[int, ...] = (500, 2000, 8000)
    """Numbers of rows, without noise."""
    repeats: int = 15
    """Data sets for each contrast and size, without noise."""
    noise: float = 0.2
    """Noise variance of each of six features, where there is noise; the loadings have orthonormal columns."""
    noisy_repeats: int = 10
    """Data sets for each contrast, with noise, of the middle size."""
    seed: int = 0
    """Seed of the first data set; each further one adds 1. The fits have seeds of their own, 1,000 above."""
    output: Path = Path("results/gaussian_rescued")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    return {"without noise": list(without_noise(settings)), "with noise": list(with_noise(settings))}


def without_noise(settings: Settings) -> Iterator[dict[str, Any]]:
    """Two features of two factors: labels known and shuffled, one row for each data set."""
    for contrast in settings.contrasts:
        for size in settings.sizes:
            predicted = min(error_of(contrast, size), CHANCE)
            for repeat in range(settings.repeats):
                seed = settings.seed + repeat
                x, labels, truth = data_of(contrast, size, 2, 0.0, seed)
                for kind in (KNOWN, SHUFFLED):
                    some = (
                        labels
                        if kind == KNOWN
                        else labels[torch.randperm(size, generator=_generator(seed, 3))]
                    )
                    model = pa.LinearFactorModel(2, 2, noise="none")
                    found = fitted(model, x, some, truth, settings.seed + 1000 + repeat)
                    row = {"labels": kind, "contrast": contrast, "rows": size, "seed": seed}
                    yield (
                        row | {"predicted": predicted if kind == KNOWN else shuffled_error(contrast)} | found
                    )


def with_noise(settings: Settings) -> Iterator[dict[str, Any]]:
    """Six noisy features of two factors: labels known, and no labels at all."""
    size = settings.sizes[len(settings.sizes) // 2]
    for contrast in settings.contrasts:
        for repeat in range(settings.noisy_repeats):
            seed = settings.seed + repeat
            x, labels, truth = data_of(contrast, size, FEATURES, settings.noise, seed)
            for kind in (KNOWN, POOLED):
                model = pa.ProbabilisticPCA(FEATURES, LATENTS)
                some = labels if kind == KNOWN else None
                found = fitted(model, x, some, truth, settings.seed + 1000 + repeat)
                predicted = min(found["stated error"], CHANCE) if kind == KNOWN else CHANCE
                row = {"labels": kind, "contrast": contrast, "rows": size, "seed": seed}
                yield row | {"predicted": predicted} | found


def data_of(
    contrast: float, size: int, features: int, noise: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, the label of each, and the orthonormal loadings."""
    labels = torch.arange(size) % 2
    table_of = torch.tensor([[1 + contrast, 1 - contrast], [1 - contrast, 1 + contrast]], dtype=torch.float64)
    truth = haar_rotation(features, _generator(seed, 0))[:, :LATENTS]
    z = torch.randn(size, LATENTS, generator=_generator(seed, 1), dtype=torch.float64)
    error = torch.randn(size, features, generator=_generator(seed, 2), dtype=torch.float64)
    return (table_of[labels].sqrt() * z) @ truth.T + math.sqrt(noise) * error, labels, truth


def _generator(seed: int, part: int) -> torch.Generator:
    return torch.Generator().manual_seed(10 * seed + part)


def error_of(contrast: float, size: int) -> float:
    """Return the standard error of the angle in degrees, without noise; infinite without contrast."""
    information = 4 * contrast**2 / (1 - contrast**2)
    return math.degrees(1 / math.sqrt(size * information)) if information > 0 else math.inf


def shuffled_error(contrast: float) -> float:
    r"""Return the root mean square error in degrees with labels in random order, for any number of rows.

    The covariances of two random halves differ by chance: by more in the variances of the factors, whose kurtosis is
    positive where variances change, than between the factors. Their axes are at half the angle of tangent r C, with C
    of a Cauchy law and r^2 = (1 - d^2) / (1 + 2 d^2), the ratio of the two variances.
    """
    ratio = math.sqrt((1 - contrast**2) / (1 + 2 * contrast**2))
    share = (np.arange(10_000) + 0.5) / 10_000 - 0.5  # quantiles of C are tan(pi share)
    return math.degrees(math.sqrt(np.square(np.arctan(ratio * np.tan(np.pi * share)) / 2).mean()))


def fitted(
    model: pa.LinearFactorModel, x: Tensor, labels: Tensor | None, truth: Tensor, seed: int
) -> dict[str, Any]:
    """Fit, measure the angle between found and true axes in degrees, and ask for the verdict."""
    method = None if labels is None else pa.SegmentedLikelihood(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)  # kept in the row
        run = pa.fit(model, x, method, seed=seed)
        report = pa.audit(run, x)
    match = match_columns(truth, run.model.loadings)
    errors = report.evidence.precision
    return {
        "degrees": rotation_angle(procrustes(truth, match.matched).rotation),
        "stated error": max((error.cramer_rao for error in errors), default=math.inf),
        "verdict": report.verdict.name,
        "warnings": list(run.warnings),
    }


def summary(rows: Rows) -> Rows:
    """Put the data sets of one setting together: root mean squares in degrees, and the share that is identified."""
    lines = []
    keys = ("labels", "contrast", "rows")
    ordered = sorted(rows, key=lambda row: tuple(row[key] for key in keys))
    for values, group in groupby(ordered, lambda row: tuple(row[key] for key in keys)):
        some = list(group)
        square = np.square([row["degrees"] for row in some])
        measured = math.sqrt(square.mean())
        lines.append(
            dict(zip(keys, values, strict=True))
            | {
                "degrees": measured,
                "error": float(square.std() / math.sqrt(len(square)) / (2 * measured)),
                "predicted": float(np.median([row["predicted"] for row in some])),
                "identified": float(np.mean([row["verdict"] == "IDENTIFIED_SP" for row in some])),
            }
        )
    return lines


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    500: {"color": "#D55E00", "linestyle": "--", "marker": "s", "markerfacecolor": "none"},
    2000: {"color": "#0072B2", "linestyle": "-", "marker": "o", "markerfacecolor": "none"},
    8000: {"color": "#009E73", "linestyle": "-.", "marker": "^", "markerfacecolor": "none"},
    SHUFFLED: {"color": "#000000", "linestyle": ":", "marker": "x"},
    POOLED: {"color": "#000000", "linestyle": ":", "marker": "x"},
}
OTHERS = ("#CC79A7", "#56B4E9", "#666666")  # for numbers of rows that are not the default


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the error of the axes against the contrast, and how often the audit calls them identified."""
    figure = Figure(figsize=(13.0, 4.9), layout="constrained")
    figure.suptitle(KEY, fontsize=10)
    first, second, third = figure.subplots(1, 3)
    plain, noisy = summary(rows["without noise"]), summary(rows["with noise"])
    sizes = sorted({line["rows"] for line in plain})
    columns = ("contrast", "degrees", "error", "predicted")
    for index, size in enumerate(sizes):
        some = [line for line in plain if (line["labels"], line["rows"]) == (KNOWN, size)]
        style = STYLES.get(size, {"color": OTHERS[index % 3], "linestyle": "-", "marker": "D"})
        draw(first, some, columns, style, f"{size:,} rows, labels known")
        third.plot(
            [line["contrast"] for line in some],
            [line["identified"] for line in some],
            **{"markersize": 5.5} | style,
            label=f"{size:,} rows, labels known",
        )
    every = [row | {"rows": 0} for row in rows["without noise"] if row["labels"] == SHUFFLED]
    some = summary(every)
    draw(first, some, columns, STYLES[SHUFFLED], "any number of rows, labels shuffled")
    third.plot(
        [line["contrast"] for line in some],
        [line["identified"] for line in some],
        **STYLES[SHUFFLED],
        label="any number of rows, labels shuffled",
    )
    for kind, style in ((KNOWN, STYLES[2000]), (POOLED, STYLES[POOLED])):
        draw(second, [line for line in noisy if line["labels"] == kind], columns, style, kind)
    first.set_title("two features, no noise", fontsize=10)
    second.set_title(f"{FEATURES} noisy features, {noisy[0]['rows']:,} rows", fontsize=10)
    third.set_title("no noise: identified by the audit (lines join marks)", fontsize=10)
    third.set(ylim=(-0.05, 1.05), ylabel="share of data sets")
    least = min(first.dataLim.minpos[1], second.dataLim.minpos[1])
    for ax in (first, second):
        _degrees(ax, least)
    for ax in (first, second, third):
        ax.set_xlabel("contrast d of the variances")
        legend_below(ax)
    return figure


def _degrees(ax: Axes, least: float) -> None:
    ax.set(yscale="log", ylabel="error of the axes (degrees, root mean square)")
    low = 0.8 * least
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 45) if tick > low]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(low, 50)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(summary(some))}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
