r"""Is the transpose of the encoder an approximation of its inverse, or is tying weights only sharing parameters?

Autoencoders x -> W2 s(W1 x) with q units, linear or sigmoid, learn n digits in three ways: tied, W2 = W1'; untied; and
untied with weight decay g / 2 on both matrices, beside half the squared error. For linear units the optima are known.
With S the covariance of the n rows, l its q largest eigenvalues and U their eigenvectors, the reconstruction is

    W2 W1 = U diag(a) U',   a = 1 (tied, untied),   a = max(1 - g / l, 0) (weight decay),

so tied and untied should have the same test error. At the optimum W1 W2 has the eigenvalues a; W2 = W1' when tied, and
also with weight decay; untied, W1 is any matrix with that W2 W1 on the rows, so W2 - W1' is whatever the start left.
Sigmoid units have no closed form. The pixels are turned by a random rotation first, because a start in the units of
each pixel would be huge where a pixel hardly varies; norms, errors and optima do not change by it.

Run:     python -m experiments.tied_weights
Answer:  A tie, or weight decay, makes the transpose; squared error does not. Means of 3 splits, 10 units, predictions
        in brackets, 50 / 100 / 200 / 500 / 1,300 rows for training.
    Linear, squared error of unseen images: tied 1.586 / 1.443 / 1.355 / 1.278 / 1.245 (the same); with weight decay
        within .0015 of it; untied .115, .011, .005, .002, .002 above it (0), standard errors .015, .002, .002, .0007,
        .0002. All three reach the predicted error of their own rows within .25 %. So untied ones lose by what their
        start left in directions that the rows hardly reach, not by the optimum, and 200 rows are enough to end it.
    Sigmoid: tied 1.645, untied .264 above it at 50 rows (standard error .034); .012, .025, .033, .041 below it at 100
        and more (.008 to .002): then the tie costs. Weight decay is within .016 of tied, one to two standard errors,
        at all sizes.
    Cosine of W2 and W1': untied .46 to .60 (linear) and .55 to .65 (sigmoid), with weight decay 1.000 (1) and .990 to
        .993. |W1 W2 - I|: 1e-5 or less tied (0), below .001 untied (0), .053 to .055 with weight decay (the same): the
        decoder inverts the encoder in all of them. With sigmoid units it is no inverse (10 to 14), tied or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
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
WAYS = ("tied", "untied", "untied, decay")
UNITS = ("linear", "sigmoid")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    samples: tuple[int, ...] = (50, 100, 200, 500, 1300)
    """Rows n for training."""
    test: int = 497
    """Rows for testing, others than those for training."""
    latents: int = 10
    """Units q."""
    decay: float = 0.002
    """Weight of |W1|^2 + |W2|^2 beside half the squared error, g / 2."""
    steps: int = 600
    """Steps of Adam, each on all rows."""
    lr_linear: float = 0.02
    """First step of Adam, linear units."""
    lr_sigmoid: float = 0.05
    """The same, sigmoid units."""
    repeats: int = 3
    """Splits of the rows and starts of the weights."""
    seed: int = 0
    """Of the first repeat; each further one adds 1."""
    output: Path = Path("results/tied_weights")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    fits = list(autoencoders(settings))
    return {"autoencoders": averages(fits), "tied above untied": list(differences(fits)), "fits": fits}


def autoencoders(settings: Settings) -> Iterator[dict[str, Any]]:
    """Train and measure every autoencoder."""
    x = pa.datasets.digits().x
    x = x @ haar_rotation(x.shape[1], torch.Generator().manual_seed(settings.seed))
    for seed in range(settings.seed, settings.seed + settings.repeats):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        test = x[order[-settings.test :]]
        for samples in settings.samples:
            rows = x[order[:samples]]
            for units in UNITS:
                for way in WAYS:
                    run = learn(settings, rows, units, way, seed)
                    yield {"units": units, "way": way, "n": samples, "seed": seed} | numbers(
                        settings, run, rows, test, units, way
                    )


def learn(settings: Settings, x: Tensor, units: str, way: str, seed: int) -> pa.Fit:
    """Train one autoencoder with a linear decoder."""
    features, latents = x.shape[1], settings.latents
    encoder: pa.Encoder = pa.OneLayerEncoder(features, latents, units)
    if way == "tied":
        encoder = pa.TiedEncoder(features, latents, standardize=False, activation=units)
    method = pa.MAP(
        encoder=encoder,
        objective=pa.SquaredError(),
        regularizers=(pa.WeightDecay(settings.decay),) if way == "untied, decay" else (),
        epochs=settings.steps,
        batch=None,
        lr=settings.lr_linear if units == "linear" else settings.lr_sigmoid,
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", pa.ProbaeWarning
        )  # codes are points on purpose, in axes of no meaning
        return pa.fit(pa.ProbabilisticPCA(features, latents), x, method, seed=seed)


@torch.no_grad()
def numbers(
    settings: Settings, run: pa.Fit, x: Tensor, test: Tensor, units: str, way: str
) -> dict[str, float | None]:
    """Return errors and distances with their predictions, None where there is none."""
    decoder = run.model.loadings.detach()
    if way == "tied":
        decoder = decoder / run.posterior.encoder.unit[0]  # weights are tied in the units of training
    encoder = decoder.T if way == "tied" else run.posterior.encoder.weight.detach()
    eye = torch.eye(len(encoder), dtype=x.dtype)
    gain, best = optimum(settings, x, way)
    linear = units == "linear"
    return {
        "train error": squared_error(run, x),
        "predicted train": loss_of(best, x, x) if linear else None,
        "test error": squared_error(run, test),
        "predicted test": loss_of(best, x, test) if linear else None,
        "|W2 - W1'| / |W2|": float((decoder - encoder.T).norm() / decoder.norm()),
        "predicted tie": 0.0 if way == "tied" or (linear and way != "untied") else None,
        "cosine": float((decoder * encoder.T).sum() / decoder.norm() / encoder.norm()),
        "|W1 W2 - I|": float((encoder @ decoder - eye).norm()),
        "predicted inverse": float((1 - gain).norm()) if linear else None,
    }


def optimum(settings: Settings, x: Tensor, way: str) -> tuple[Tensor, Tensor]:
    """Return the gains a and the map U diag(a) U' of the best linear autoencoder."""
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    values, vectors = values.flip(0)[: settings.latents], vectors.flip(1)[:, : settings.latents]
    gain = torch.ones_like(values)
    if way == "untied, decay":
        gain = (1 - 2 * settings.decay / values).clamp_min(0)
    return gain, vectors @ gain.diag() @ vectors.T


def loss_of(best: Tensor, x: Tensor, rows: Tensor) -> float:
    """Return the mean squared error of a linear map about the mean of x."""
    centred = rows - x.mean(0)
    return float((centred - centred @ best).square().sum(1).mean())


def squared_error(run: pa.Fit, x: Tensor) -> float:
    """Return the mean squared error of the reconstruction, summed over pixels."""
    rebuilt = run.model.likelihood(run.posterior(x).mean).mean
    return float((x - rebuilt).square().sum(1).mean())


def averages(fits: Rows) -> Rows:
    """Return means over repeats, and the standard error of the test error."""
    rows = []
    for key in dict.fromkeys((row["units"], row["way"], row["n"]) for row in fits):
        some = [row for row in fits if (row["units"], row["way"], row["n"]) == key]
        means = {
            name: None if some[0][name] is None else sum(row[name] for row in some) / len(some)
            for name in list(some[0])[4:]
        }
        error = standard_error([row["test error"] for row in some])
        rows.append(dict(zip(("units", "way", "n"), key, strict=True)) | means | {"standard error": error})
    return rows


def differences(fits: Rows) -> Iterator[dict[str, Any]]:
    """Test error of the tied autoencoder less that of the others, split by split."""
    for units, n in dict.fromkeys((row["units"], row["n"]) for row in fits):
        found = {
            way: [
                row["test error"] for row in fits if (row["units"], row["n"], row["way"]) == (units, n, way)
            ]
            for way in WAYS
        }
        for way in WAYS[1:]:
            change = [one - other for one, other in zip(found["tied"], found[way], strict=True)]
            yield {
                "units": units,
                "n": n,
                "other": way,
                "difference": sum(change) / len(change),
                "standard error": standard_error(change),
            }


def standard_error(values: list[float]) -> float:
    """Return the standard error of a mean, 0 for one value."""
    return float(torch.tensor(values).std() / len(values) ** 0.5) if len(values) > 1 else 0.0


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "tied": {"color": "#0072B2", "linestyle": "-", "marker": "o", "markerfacecolor": "none", "markersize": 9},
    "untied": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "untied, decay": {"color": "#009E73", "linestyle": ":", "marker": "D"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the test error and the distance from the tie against the rows for training."""
    figure = Figure(figsize=(11.4, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, units in zip(axes, UNITS, strict=False):
        _plot_errors(ax, [row for row in rows["autoencoders"] if row["units"] == units])
        ax.set_title(f"{units} units", fontsize=10)
    low, high = (pick(lim for ax in axes[:2] for lim in ax.get_ylim()) for pick in (min, max))
    for ax in axes[:2]:
        ax.set_ylim(low, high)
    _plot_cosines(axes[2], rows["autoencoders"])
    figure.suptitle(
        "marks are measured (bars: two standard errors); lines on the left are predicted, others join the marks",
        fontsize=9,
    )
    figure.legend(
        *axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def _plot_errors(ax: Axes, rows: Rows) -> None:
    for way, style in STYLES.items():
        some = [row for row in rows if row["way"] == way]
        n = [row["n"] for row in some]
        linear = some[0]["predicted test"] is not None
        marks = style | ({"linestyle": ""} if linear else {"linewidth": 1.0})
        bars = [2 * row["standard error"] for row in some]
        ax.errorbar(n, [row["test error"] for row in some], yerr=bars, elinewidth=1, label=way, **marks)
        if linear:
            heights = [row["predicted test"] for row in some]
            ax.plot(n, heights, color=style["color"], linestyle=style["linestyle"], linewidth=1.4)
    ax.set(xscale="log", xlabel="rows for training", ylabel="squared error of an unseen image")
    ax.set_xticks(n, [str(one) for one in n])
    ax.minorticks_off()


def _plot_cosines(ax: Axes, rows: Rows) -> None:
    for units, fill in (("linear", "none"), ("sigmoid", None)):
        for way in WAYS[1:]:
            some = [row for row in rows if (row["units"], row["way"]) == (units, way)]
            style = {
                key: value for key, value in STYLES[way].items() if key not in ("linestyle", "markersize")
            }
            style["markerfacecolor"] = style["color"] if fill is None else fill
            dash = "-" if units == "sigmoid" else ":"
            n = [row["n"] for row in some]
            ax.plot(
                n,
                [row["cosine"] for row in some],
                linestyle=dash,
                linewidth=1,
                label=f"{way}, {units}",
                **style,
            )
    ax.set(xscale="log", ylim=(-0.05, 1.05), xlabel="rows for training", ylabel="cosine of W2 and W1'")
    ax.set_xticks(n, [str(one) for one in n])
    ax.minorticks_off()
    ax.set_title("how near W2 is to the transpose (tied: 1)", fontsize=10)
    ax.legend(fontsize=8, frameon=False, loc="best")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        if name != "fits":
            print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
