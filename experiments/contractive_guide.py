r"""Does a contractive penalty on an amortized encoder make it better where it was not trained?

A network q(z | x) is trained for a given probabilistic PCA, by the bound less weight |d E[z | x] / dx|^2. Its distance
from the best normal law of each row, the amortization gap, is exact here. The best code is linear, m(x) = A (x - mean),
so contraction can only spoil it at the data. For a linear encoder the penalty multiplies the code in the direction of
the eigenvalue l, with noise s, by

    l^2 / (l^2 + 2 s weight),

which gives its gap anywhere in closed form: the line to judge the network by, which may bend. Asked at held-out digits;
at those moved by noise; at twice their distance from the mean; and halfway between two of them.

Run:     python -m experiments.contractive_guide
Answer:  <to be measured>
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.figures import KEY
from experiments.output import save, table

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    latents: int = 8
    """Latents of probabilistic PCA."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the encoder's hidden layers."""
    weights: tuple[float, ...] = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
    """Weights of the penalty."""
    train: int = 1300
    """Rows for training; the other ones are asked."""
    epochs: int = 200
    """Passes over the rows."""
    batch: int = 260
    """Rows in a step."""
    lr: float = 0.005
    """First step of Adam."""
    noise: float = 0.3
    """Standard deviation of the noise that moves images off the data."""
    repeats: int = 3
    """Splits of the rows and starts of the encoder."""
    seed: int = 0
    """Of the first repeat; each further one adds 1."""
    output: Path = Path("results/contractive_guide")
    """Folder for the results."""


@dataclass(frozen=True)
class ContractedBound:
    """The evidence lower bound less a weight times the squared Jacobian of the code."""

    weight: float
    name: ClassVar[str] = "bound less contraction"

    def __call__(self, model: Any, encoder: Any, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the value of each row, in nats."""
        bound: Tensor = pa.ELBO()(model, encoder, x)
        if self.weight > 0:
            bound = bound - pa.ContractiveEncoder(self.weight).penalty(model, encoder, x)
        return bound


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    fits = list(encoders(settings))
    return {"gaps": averages(fits), "fits": fits}


def encoders(settings: Settings) -> Iterator[dict[str, Any]]:
    """Amortization gap of every encoder in every place."""
    data = pa.datasets.digits().x
    for seed in range(settings.seed, settings.seed + settings.repeats):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        x, held = data[order[: settings.train]], data[order[settings.train :]]
        features = x.shape[1]
        model = pa.fit(pa.ProbabilisticPCA(features, settings.latents), x).model
        for weight in settings.weights:
            encoder = pa.MLPEncoder(features, settings.latents, hidden=settings.hidden)
            method = pa.Amortization(
                encoder,
                epochs=settings.epochs,
                batch=settings.batch,
                lr=settings.lr,
                objective=ContractedBound(weight),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pa.ProbaeWarning)  # how far training came is what is measured
                run = pa.fit(model, x.float(), method, seed=seed)
            for place, rows in places(settings, x, held, seed).items():
                yield {
                    "weight": weight,
                    "place": place,
                    "seed": seed,
                    "gap": pa.gaps(run, rows).amortization.mean,
                    "linear": linear_gap(model, rows, weight),
                }


def places(settings: Settings, x: Tensor, held: Tensor, seed: int) -> dict[str, Tensor]:
    """Return held-out rows and three ways off the data."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(held.shape, generator=generator, dtype=held.dtype)
    other = held[torch.randperm(len(held), generator=generator)]
    return {
        "held-out digits": held,
        "with noise": held + settings.noise * noise,
        "twice as far": x.mean(0) + 2 * (held - x.mean(0)),
        "between two": (held + other) / 2,
    }


def linear_gap(model: pa.ProbabilisticPCA, x: Tensor, weight: float) -> float:
    """Return the gap of the linear encoder that the penalty leaves: half the squared change of the code, in units of q.

    With W = U diag(sqrt(l - s)) the code in direction u has slope sqrt(l - s) / l and precision l / s.
    """
    w, noise = model.loadings.detach(), float(model.noise_variance)
    directions, roots, _ = torch.linalg.svd(w, full_matrices=False)
    values = roots.square() + noise
    gain = values.square() / (values.square() + 2 * noise * weight)
    squares = ((x - model.mean.detach()) @ directions).square().mean(0)
    change = (1 - gain).square() * (values - noise) / values.square() * squares
    return float(0.5 * (values / noise * change).sum())


def averages(fits: Rows) -> Rows:
    """Return means over repeats with standard errors."""
    rows = []
    for weight, place in dict.fromkeys((row["weight"], row["place"]) for row in fits):
        some = [row for row in fits if (row["weight"], row["place"]) == (weight, place)]
        gap = torch.tensor([row["gap"] for row in some], dtype=torch.float64)
        rows.append(
            {
                "place": place,
                "weight": weight,
                "gap": float(gap.mean()),
                "standard error": float(gap.std() / len(gap) ** 0.5) if len(gap) > 1 else 0.0,
                "linear": sum(row["linear"] for row in some) / len(some),
            }
        )
    return rows


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "held-out digits": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "with noise": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "twice as far": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
    "between two": {"color": "#CC79A7", "linestyle": ":", "marker": "^"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the gap against the weight of the penalty."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    ax = figure.subplots()
    positive = sorted({row["weight"] for row in rows["gaps"] if row["weight"] > 0})
    zero = positive[0] / 10  # where no penalty is drawn on the logarithmic axis
    for place, style in STYLES.items():
        some = [row for row in rows["gaps"] if row["place"] == place]
        across = [row["weight"] or zero for row in some]
        bars = [2 * row["standard error"] for row in some]
        marks = {"markersize": 5.5} | style | {"linestyle": "", "label": place}
        ax.errorbar(across, [row["gap"] for row in some], yerr=bars, elinewidth=1, **marks)
        heights = [(row["weight"], row["linear"]) for row in some if row["weight"] > 0]
        ax.plot(
            *zip(*heights, strict=True), color=style["color"], linestyle=style["linestyle"], linewidth=1.4
        )
    ax.set(xscale="log", yscale="log", xlabel="weight of the contractive penalty")
    ax.set_ylabel("amortization gap, nats per row")
    ax.set_xticks([zero, *positive], ["0", *(f"{one:g}" for one in positive)])
    ax.minorticks_off()
    figure.suptitle(KEY + " for a linear encoder", fontsize=9)
    figure.legend(
        *ax.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    print(table(rows["gaps"]))
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
