r"""Does layer-wise pre-training of a deep autoencoder help, and when?

A mirrored network with 2 latents learns the digits from six starts: random weights of variance 1 / fan-in in every
layer; random weights scaled so that each kind of unit passes a signal on (times 16 after sigmoid units, 2 after
rectified ones; for tanh units the two are the same start); principal components, layer by layer; and autoencoders of
one layer, trained greedily: plain, with squared weights as a penalty, or denoising with masked inputs. The same
training follows, short or long. It is said [1] that stacks with a squared-weight penalty are a worse pre-training than
denoising ones, and that good random starts need neither.

A linear network can do no better than PCA with 2 components on the rows it learns from, whatever its start; on other
rows PCA of the training rows is the number to beat. scikit-learn's MLP (tanh, 64-128-64-2, 250 epochs) left 2.35 on the
first split.

[1] Hinton, G. (2012). Neural networks for machine learning, lecture 15.

Run:     python -m experiments.pretraining
Answer:  It rescues sigmoid units from small random weights; beside a scaled random start little is left of that.
    Error per held-out image with 4 hidden layers each way after 90 epochs, mean of 3 splits with its standard error;
        PCA leaves 3.35. With 3 splits a difference is beyond chance (5 %) from 4.3 standard errors on.
    Random starts: tanh 2.23 (.03); sigmoid 3.89 (.05) with 1 / fan-in, above PCA, and 2.88 (.03) scaled; relu 2.19
        (.06) and 2.31 (.06).
    Greedy plain, decay, denoising: tanh 2.39 (.02), 2.37 (.01), 2.25 (.03); sigmoid 2.73 (.04), 2.81 (.05), 2.60
        (.01); relu 2.26 (.04), 2.21 (.04), 2.22 (.07).
    Below the scaled random start of the same split: sigmoid .15 (.07), .07 (.07) and, denoising, .28 (.03); tanh -.16
        (.03), -.14 (.04), -.02 (.06); relu .05 (.04), .10 (.02), .09 (.07). With 2 hidden layers relu gains .23 (.01)
        from plain layers, and .14 (.06) from 1 / fan-in alone.
    Denoising ends below decay, as was said, with sigmoid and tanh units: by .21 (.05) and .12 (.03), with 2 hidden
        layers .10 (.01) and .04 (.04); not with rectified ones, -.01 (.06) and .02 (.08).
    Principal layers start at PCA and stay near it, for units are linear there: 2.71 (.03), 3.34 (.03), 3.40 (.06), the
        worst start for tanh and rectified units.
    After 15 epochs sigmoid units are at 4.68 from 1 / fan-in, 3.83 scaled, and 3.40 to 3.57 from layers. With 2 hidden
        layers 90 epochs are enough from either random start (2.79 and 2.85).
    Greedy starts had 60 epochs for each layer besides. No setting was tuned on these numbers; all are above the 1.96
        that a wider network with weight decay and noise reaches in 250 epochs (tests/test_oracles.py). 6 minutes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor, nn

import probae as pa
from experiments.output import save, table
from probae.activations import ACTIVATIONS

Rows = list[dict[str, Any]]
STOCK = 2.35  # scikit-learn's MLP on the split of seed 0
REFERENCE = "random, scaled"


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    units: tuple[str, ...] = ("tanh", "sigmoid", "relu")
    """Hidden units."""
    depths: tuple[int, ...] = (2, 4)
    """Hidden layers of the encoder, as many again in the decoder."""
    widths: tuple[int, ...] = (64, 48, 32, 16)
    """Widths of the hidden layers, from x on."""
    latents: int = 2
    """Units of the code."""
    budgets: tuple[int, ...] = (15, 90)
    """Epochs of the training that follows."""
    layer_epochs: int = 60
    """Epochs for each greedy layer."""
    batch: int = 337
    """Rows in a step."""
    lr: float = 0.005
    """First step of Adam, in layers and in the training that follows."""
    decay: float = 0.003
    """Weight of the squares in greedy layers with a penalty."""
    masked: float = 0.2
    """Share of the values hidden from denoising layers."""
    repeats: int = 3
    """Splits of the rows, each with a start of its own."""
    seed: int = 0
    """Seed of the first repeat; each further one adds 1."""
    output: Path = Path("results/pretraining")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with what PCA leaves."""
    fits = list(errors(settings))
    return {
        "errors": averages(fits),
        "below scaled random start": list(differences(fits, REFERENCE)),
        "below decay": [
            row for row in differences(fits, "greedy, decay") if row["start"] == "greedy, denoising"
        ],
    }


def errors(settings: Settings) -> Iterator[dict[str, Any]]:
    """Squared error per image of every network, on rows it learned from and on others."""
    for seed in range(settings.seed, settings.seed + settings.repeats):
        train, test = split(seed)
        pca = pca_error(train, test, settings.latents)
        for units in settings.units:
            for depth in settings.depths:
                shape = settings.widths[:depth], units
                for start in starts(units):
                    encoder, model = started(start, shape, train, settings, seed)
                    for epochs in settings.budgets:
                        run = trained(encoder, model, train, epochs, settings, seed)
                        yield {
                            "units": units,
                            "depth": depth,
                            "start": start,
                            "epochs": epochs,
                            "seed": seed,
                            "train": squared_error(run, train),
                            "error": squared_error(run, test),
                            "PCA": pca,
                        }


def split(seed: int) -> tuple[Tensor, Tensor]:
    """Return training and test images, a quarter for testing and every class in proportion."""
    from sklearn.model_selection import train_test_split

    data = pa.datasets.digits()
    parts = train_test_split(data.x.numpy(), test_size=0.25, random_state=seed, stratify=data.labels.numpy())
    train, test = (torch.tensor(part, dtype=torch.float32) for part in parts)
    return train, test


def pca_error(train: Tensor, test: Tensor, latents: int) -> float:
    """Return the squared error per test image of principal components of the training images."""
    mean = train.double().mean(0)
    axes = torch.linalg.svd(train.double() - mean, full_matrices=False).Vh[:latents]
    rest = test.double() - mean
    return float((rest - rest @ axes.mT @ axes).square().sum(1).mean())


def starts(units: str) -> list[str]:
    """Return the starts to compare; tanh units are at their scale with 1 / fan-in."""
    random = [REFERENCE] if units == "tanh" else ["random, 1 / fan-in", REFERENCE]
    return [*random, "principal", "greedy", "greedy, decay", "greedy, denoising"]


def started(
    start: str, shape: tuple[tuple[int, ...], str], x: Tensor, settings: Settings, seed: int
) -> tuple[Any, Any]:
    """Return encoder and model at one of the starts."""
    hidden, units = shape
    pair = pa.mirrored(x.shape[1], settings.latents, hidden, activation=units)
    if start == REFERENCE:
        return pair
    if start == "random, 1 / fan-in":
        return unscaled(*pair, x, seed)
    greedy: dict[str, Any] = {"epochs": settings.layer_epochs, "batch": settings.batch, "lr": settings.lr}
    how = {
        "principal": pa.PrincipalLayers(),
        "greedy": pa.GreedyLayers(**greedy),
        "greedy, decay": pa.GreedyLayers(**greedy, decay=settings.decay),
        "greedy, denoising": pa.GreedyLayers(**greedy, corruption=pa.Denoising(pa.Masking(settings.masked))),
    }[start]
    return pa.pretrain(*pair, x, how, seed=seed)


@torch.no_grad()
def unscaled(encoder: Any, model: Any, x: Tensor, seed: int) -> tuple[Any, Any]:
    """Return the pair with weights of variance 1 / fan-in and no offsets in every layer."""
    generator = torch.Generator().manual_seed(seed)
    model.start(x.double(), generator)
    encoder.double().start(x.double(), generator)
    gain = ACTIVATIONS[encoder.activation].gain
    decoder = model.decoder
    for network in ([*encoder.body, encoder.head], [*decoder.body, decoder.head]):
        for layer in [one for one in network if isinstance(one, nn.Linear)][1:]:
            layer.weight /= gain**0.5
            layer.bias.zero_()
    encoder.started = model.started = True
    return encoder, model


def trained(encoder: Any, model: Any, x: Tensor, epochs: int, settings: Settings, seed: int) -> pa.Fit:
    """Return the fit by squared error from where the pair is."""
    method = pa.SVI(encoder, objective=pa.SquaredError(), epochs=epochs, batch=settings.batch, lr=settings.lr)
    with warnings.catch_warnings():  # short budgets are the question, and so is a diagonal guide never used
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        return pa.fit(model, x, method, seed=seed)


def squared_error(run: pa.Fit, x: Tensor) -> float:
    """Return the squared error per image at the mean code."""
    rebuilt = run.model.reconstruct(run.posterior(x).mean.double())
    return float((rebuilt - x).square().sum(1).mean())


def averages(fits: Rows) -> Rows:
    """Return means over the repeats with standard errors."""
    keys = list(dict.fromkeys((row["units"], row["depth"], row["start"], row["epochs"]) for row in fits))
    found: Rows = []
    for key in keys:
        some = [row for row in fits if (row["units"], row["depth"], row["start"], row["epochs"]) == key]
        error, spread = mean_and_error([row["error"] for row in some])
        found.append(
            dict(zip(("units", "depth", "start", "epochs"), key, strict=True))
            | {"train": mean_and_error([row["train"] for row in some])[0], "error": error}
            | {"standard error": spread, "PCA": mean_and_error([row["PCA"] for row in some])[0]}
        )
    return found


def differences(fits: Rows, reference: str) -> Iterator[dict[str, Any]]:
    """How far each start ends below the one of reference, split by split."""
    base = {key_of(row): row["error"] for row in fits if row["start"] == reference}
    keys = dict.fromkeys(
        (row["units"], row["depth"], row["epochs"], row["start"]) for row in fits if row["start"] != reference
    )
    for units, depth, epochs, start in keys:
        gains = [
            base[key_of(row)] - row["error"]
            for row in fits
            if (row["units"], row["depth"], row["epochs"], row["start"]) == (units, depth, epochs, start)
        ]
        gain, spread = mean_and_error(gains)
        yield {"units": units, "depth": depth, "epochs": epochs, "start": start} | {
            "lower by": gain,
            "standard error": spread,
        }


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the fits of one comparison share."""
    return row["units"], row["depth"], row["epochs"], row["seed"]


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Return a mean and its standard error, 0 for a single value."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((one - mean) ** 2 for one in values) / (len(values) - 1) / len(values))


STYLES = [  # colours of Okabe and Ito; markers tell the series apart in grey
    {"color": "#56B4E9", "marker": "o", "markerfacecolor": "none"},
    {"color": "#0072B2", "marker": "o"},
    {"color": "#E69F00", "marker": "s", "markerfacecolor": "none"},
    {"color": "#D55E00", "marker": "s"},
]


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the error on held-out images by start, one panel for each kind of unit."""
    averaged = rows["errors"]
    kinds = list(dict.fromkeys(row["units"] for row in averaged))
    names = [name for name in starts("sigmoid") if any(row["start"] == name for row in averaged)]
    series = list(dict.fromkeys((row["depth"], row["epochs"]) for row in averaged))
    figure = Figure(figsize=(3.4 * len(kinds) + 1.2, 4.8), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for ax, units in zip(axes, kinds, strict=True):
        for index, (depth, epochs) in enumerate(series):
            some = [
                row
                for row in averaged
                if (row["units"], row["depth"], row["epochs"]) == (units, depth, epochs)
            ]
            places = [names.index(row["start"]) + 0.14 * (index - (len(series) - 1) / 2) for row in some]
            bars = [2 * row["standard error"] for row in some]
            label = f"{depth} hidden layers each way, {epochs} epochs"
            style = {"linestyle": "", "markersize": 6, "elinewidth": 1} | STYLES[index % len(STYLES)]
            ax.errorbar(places, [row["error"] for row in some], yerr=bars, label=label, **style)
        ax.axhline(averaged[0]["PCA"], color="#000000", linewidth=1, label="PCA, 2 components")
        ax.axhline(STOCK, color="#000000", linewidth=1, linestyle=":", label="scikit-learn's MLP, 250 epochs")
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
        ax.set_xlim(-0.6, len(names) - 0.4)
        note = "; both random starts are one" if units == "tanh" else ""
        ax.set_title(f"{units} units{note}", fontsize=10)
    axes[0].set_ylabel("squared error per held-out image")
    figure.suptitle("marks are means over splits (bars: two standard errors)", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=3, frameon=False)
    return figure


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
