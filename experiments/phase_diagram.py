r"""When can independent factors be told apart: how far from Gaussian, how many rows, how little noise?

Sixteen laws of the factors (generalised normal of shapes .7 to 4, of which 2 is Gaussian; Student-t), three numbers of
rows, three amounts of noise. Factors of a known law are found by principal components and the best rotation of the
scores, so that the plane of the factors and their axes are estimated apart. With kappa the information of the law with
its noise, brought to unit variance, the angle of each plane has a standard error of 1 / sqrt(n (2 kappa - 2)) radians,
which alone should decide: below n (2 kappa - 2) of about 10 (18 degrees) axes should be as good as arbitrary, and only
then found, whatever the law, the noise and the number of rows. What arbitrary axes score is subtracted: corrected
recovery is (mean |cosine| - chance) / (1 - chance). The prediction turns the true axes by normal angles of that
standard error. The plane should be found for every law. Five models are then fitted to the same data: Gaussian
factors, Laplace, Student-t and generalised normal with their shapes learnt, and multivariate t.

How raw and aligned chains of such models look is in `rotating_chains`, likelihoods along the angle in `rotation`.

Run:     python -m experiments.phase_diagram
Answer:  n (2 kappa - 2) decides, and about 10 is where axes begin to mean something. 160 data sets of 3 and 5 factors,
    one for each law, noise and number of rows, predictions in brackets.
    Recovery, 1 perfect and 0 chance, by n (2 kappa - 2): below 1 .03 +- .13 (.00); 1 to 3 .02 +- .11 (-.01); 3 to 10
        .35 +- .16 (.24); 10 to 32 .64 +- .07 (.66); 32 to 100 .71 +- .08 (.89); 100 to 1,000 .952 +- .009 (.975); above
        .993 +- .002 (.998). From 100 on the bound is nearly reached; below, single data sets still miss the axes (eight
        of the 45 from 10 to 100 by more than .35), most of them with 200 rows or laws close to Gaussian. Below 1 the
        prediction itself strays from 0 by up to .1: normal angles of that size wrap around unevenly.
    The plane of the factors is found for every law: its error is .99 +- .02 times the predicted one.
    Principal components know no axes, but equal variances are not estimated equally: those of peaked factors vary
        more from sample to sample than the covariances between them, and draw the components to the axes. Recovery
        is .28 +- .07 for shapes up to 1.25, t3 and t5, -.14 +- .06 for shapes of 2.5 and more, .02 +- .06 between.
    Five models of the same 1,000 rows, two data sets: factors of shape 1 (best possible .99): Laplace .99, Student-t
        .99, generalised normal .99; of shape 1.5 (.95): .96, .93, .95; of shape 3 (.96): Laplace -.76, Student-t -.72,
        the wrong axes surely, generalised normal .94. Gaussian and multivariate t factors: a likelihood that is the
        same to 1e-11 nats for every rotation, whatever their recovery by accident (.94 once). On Gaussian factors the
        likelihood of the others varies by .3 to 15 nats over a rotation all the same, and the axes are chance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, groupby, islice, product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.output import save, table
from experiments.phase_figure import draw_diagram
from probae.agreement import amari_distance, chance_level
from probae.datasets import linear_factors
from probae.inference.rotation_search import search_rotation, tabulate
from probae.linalg import haar_rotation
from probae.matching import match_columns, principal_angles
from probae.priors import GeneralizedNormal, Laplace, MultivariateStudentT, Prior, StudentT

TRANSITION = 10.0  # of n (2 kappa - 2)
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    shapes: tuple[float, ...] = (0.7, 1.0, 1.25, 1.5, 1.75, 1.9, 2.0, 2.1, 2.25, 2.5, 3.0, 4.0)
    """Shapes of generalised normal factors; 1 is Laplace, 2 Gaussian."""
    freedoms: tuple[float, ...] = (3.0, 5.0, 10.0, 30.0)
    """Degrees of freedom of Student-t factors."""
    sizes: tuple[int, ...] = (200, 1000, 5000)
    """Numbers of rows."""
    noises: tuple[float, ...] = (0.0, 0.1, 0.3)
    """Noise variances of a score, beside factors of variance 1."""
    latents: int = 3
    """Factors; there are twice as many features, with orthonormal loadings."""
    repeats: int = 1
    """Data sets for each law, size and noise."""
    other_latents: tuple[int, ...] = (5,)
    """Other numbers of factors, with the second size and noise alone."""
    model_shapes: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """Shapes of the factors to which all models are fitted."""
    model_rows: int = 1000
    """Rows of those data sets."""
    model_repeats: int = 2
    """Data sets for each of those shapes."""
    seed: int = 0
    """Seed of the first data set; each further one adds 1. Restarts have seeds of their own, 1,000 above."""
    output: Path = Path("results/phase_diagram")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    return {"recovery": list(recovery(settings)), "models": list(models(settings))}


def laws_of(settings: Settings) -> dict[str, Prior]:
    """Return the laws of the factors by name."""
    laws: dict[str, Prior] = {f"b = {shape:g}": GeneralizedNormal(shape) for shape in settings.shapes}
    return laws | {f"t{freedom:g}": StudentT(freedom) for freedom in settings.freedoms}


def recovery(settings: Settings) -> Iterator[dict[str, Any]]:
    """Axes and plane for every law, number of rows and noise: one row for each data set, with a seed of its own."""
    cells = [(*cell, settings.latents) for cell in product(settings.noises, settings.sizes)]
    cells += [(*middle(settings), latents) for latents in settings.other_latents]
    seeds = count(settings.seed)
    for name, law in laws_of(settings).items():
        for noise, size, latents in cells:
            for seed in islice(seeds, settings.repeats):
                yield one_recovery(name, law, noise, size, latents, seed)


def middle(settings: Settings) -> tuple[float, int]:
    """Return the second noise and the second number of rows, or the only ones."""
    return settings.noises[:2][-1], settings.sizes[:2][-1]


@lru_cache(maxsize=256)
def kappa_of(law: Prior, noise: float) -> float:
    """Return the information of a law with its noise, on unit variance."""
    return law.noisy_fisher_information(noise) if noise else law.fisher_information()


def one_recovery(name: str, law: Prior, noise: float, size: int, latents: int, seed: int) -> dict[str, Any]:
    """Find the axes of one data set."""
    kappa = kappa_of(law, noise)
    x, truth = data_of(law, noise, size, latents, seed)
    plane, y, covariance = principal_scores(x, latents, noise)
    tables = tabulate(y, covariance, [law] * latents)
    turn = search_rotation(y, covariance, tables, seed + 1000, restarts=1, rows=size).rotation
    information = size * max(2 * kappa - 2, 0.0)
    chance = chance_level(latents).mean
    return {
        "law": name,
        "noise": noise,
        "rows": size,
        "latents": latents,
        "seed": seed,
        "kappa": kappa,
        "information": information,
        "chance": chance,
        **scores_of(truth, plane @ turn, chance),
        "predicted": predicted_recovery(information, latents),
        "Gaussian": scores_of(truth, plane, chance)["corrected"],
        "plane": float(principal_angles(truth, plane).norm()),
        # (D - K) K components of the error, each of variance v (1 + v) / n, with D = 2 K
        "plane predicted": math.degrees(latents * math.sqrt(noise * (1 + noise) / size)),
    }


def data_of(law: Prior, noise: float, size: int, latents: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows and their orthonormal loadings."""
    truth = haar_rotation(2 * latents, torch.Generator().manual_seed(seed))[:, :latents]
    data = linear_factors(size, 2 * latents, latents, prior=law, noise=noise, loadings=truth, seed=seed)
    return data.x, truth


def principal_scores(x: Tensor, latents: int, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return loadings, scores and score noise of probabilistic principal components."""
    if noise:
        model = pa.fit(pa.ProbabilisticPCA(x.shape[1], latents), x).model
        scores = model.sufficient_scores(x)
        mean = scores.variance.mean() * torch.eye(latents, dtype=torch.float64)  # equal, as the loadings are
        return model.loadings.detach(), scores.values, mean
    left, singular, right = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    root = math.sqrt(len(x))
    plane = right[:latents].T * (singular[:latents] / root)
    return plane, left[:, :latents] * root, torch.zeros(latents, latents, dtype=torch.float64)


def scores_of(truth: Tensor, loadings: Tensor, chance: float) -> dict[str, float]:
    """Compare loadings with the true ones."""
    cosine = float(match_columns(truth, loadings).cosines.mean())
    return {
        "cosine": cosine,
        "corrected": (cosine - chance) / (1 - chance),
        "Amari": amari_distance(truth, loadings),
    }


@lru_cache(maxsize=4096)
def predicted_recovery(information: float, latents: int, draws: int = 1000) -> float:
    """Return the corrected recovery of axes turned by normal angles of variance 1 / information in each plane."""
    chance = chance_level(latents).mean
    if information <= 0:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    angles = torch.randn(draws, latents, latents, generator=generator, dtype=torch.float64).triu(1)
    turns = torch.linalg.matrix_exp((angles - angles.mT) / math.sqrt(information))
    identity = torch.eye(latents, dtype=torch.float64)
    cosines = [float(match_columns(identity, turn).cosines.mean()) for turn in turns]
    return (float(np.mean(cosines)) - chance) / (1 - chance)


def models(settings: Settings) -> Iterator[dict[str, Any]]:
    """Five models of the same noisy data: axes, plane, and the range of the likelihood over a rotation."""
    noise, latents = middle(settings)[0], settings.latents
    for shape in settings.model_shapes:
        law = GeneralizedNormal(shape)
        kappa = kappa_of(law, noise)
        for repeat in range(settings.model_repeats):
            x, truth = data_of(law, noise, settings.model_rows, latents, settings.seed + repeat)
            for name, model in models_of(2 * latents, latents).items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # those of the fit are kept in the row
                    run = pa.fit(model, x, seed=settings.seed + 1000 + repeat)
                information = settings.model_rows * (2 * kappa - 2)
                yield {
                    "shape": shape,
                    "model": name,
                    "seed": settings.seed + repeat,
                    **scores_of(truth, run.model.loadings, chance_level(latents).mean),
                    "best possible": predicted_recovery(information, latents),
                    "plane": float(principal_angles(truth, run.model.loadings).norm()),
                    "likelihood range": pa.rotation_profile(run, x).range,
                    "warnings": list(run.warnings),
                }


def models_of(features: int, latents: int) -> dict[str, pa.LinearFactorModel]:
    """Return the five models by name."""
    laws: dict[str, Prior] = {
        "Laplace": Laplace(),
        "Student-t": StudentT(6.0, learn=True),
        "generalised normal": GeneralizedNormal(1.5, learn=True),
        "multivariate t": MultivariateStudentT(5.0),
    }
    fitted = {
        name: pa.LinearFactorModel(features, latents, prior=law, noise="isotropic")
        for name, law in laws.items()
    }
    return {"Gaussian": pa.ProbabilisticPCA(features, latents)} | fitted


def bands(rows: Rows) -> Rows:
    """Put recoveries together by the decade and half-decade of n (2 kappa - 2): measured beside predicted."""
    lines = []
    edges = [0.0, 1.0, 10**0.5, 10.0, 10**1.5, 100.0, 1000.0, math.inf]
    for low, high in zip(edges, edges[1:], strict=False):
        some = [row for row in rows if low <= row["information"] < high]
        if not some:
            continue
        values = np.array([row["corrected"] for row in some])
        lines.append(
            {
                "n (2 kappa - 2)": f"{low:.3g} to {high:.3g}",
                "fits": len(some),
                "corrected": values.mean(),
                "error": values.std() / math.sqrt(len(some)),
                "predicted": float(np.mean([row["predicted"] for row in some])),
                "lowest": values.min(),
                "Gaussian": float(np.mean([row["Gaussian"] for row in some])),
                "plane / predicted": float(
                    np.mean([row["plane"] / row["plane predicted"] for row in some if row["noise"]] or [1.0])
                ),
            }
        )
    return lines


def by_model(rows: Rows) -> Rows:
    """Put the fits of one model to factors of one shape together."""
    lines = []
    keys = itemgetter("shape", "model")
    for (shape, model), group in groupby(sorted(rows, key=keys), keys):
        some = list(group)
        means = {
            key: float(np.mean([row[key] for row in some]))
            for key in ("corrected", "best possible", "Amari", "plane", "likelihood range")
        }
        lines.append({"shape": shape, "model": model, **means})
    return lines


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw recovery against the information, over law and rows, and of the five models."""
    return draw_diagram(rows["recovery"], rows["models"], predicted_recovery, TRANSITION)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(f"recovery\n{table(bands(rows['recovery']))}\n\nmodels\n{table(by_model(rows['models']))}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
