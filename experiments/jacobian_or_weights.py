r"""The Jacobian of a code is proportional to its weights. Why is a penalty on it not weight decay?

For sigmoid units h = s(W x + b) the Jacobian dh/dx is diag(h (1 - h)) W, so the contractive penalty is weight decay
weighed by the squared slope of each unit at the data:

    |J|^2 = sum_j [h_j (1 - h_j)]^2 |W_j|^2 <= |W|^2 / 16.

For one unit s(w z) it is w^2 / 16 while w is small; about w / (6 sqrt(2 pi)) for large w and z ~ N(0, 1), as the
integral of s'^2 is 1/6; and about w^2 exp(-2 w) for |z| = 1: a unit that is on or off contracts at any weight.

On digits an autoencoder with tied weights is trained with the one and with the other penalty, so that both reconstruct
equally well. At equal reconstruction the best contractive one cannot have the larger |J|, nor the best one with weight
decay the larger |W|; how far apart they are has no closed form. J is looked at in three places: at the data; at the
same images moved at right angles to nine tenths of their variance, by as much as they are from their mean; and halfway
between each image and another one. The contractive penalty asks for a small J at the data only, which predicts nothing
for the other places.

Run:     python -m experiments.jacobian_or_weights
Answer:  Because the slopes of the units count, and a unit that is on or off has none. Predictions in brackets.
    One unit, z normal, w = 1/8, 4, 16, 64: .00097 (w^2 / 16: .00098), .256, 1.061, 4.255 (linear: .266, 1.064, 4.255),
        where weight decay is .016, 16, 256, 4096. At |z| = 1: .0010, .0050, 3e-12 at w = 1/8, 4, 16 (the same).
    Digits, contractive over weight decay, equal squared error within 1 %, 3 starts, strengths .03 / .1 / .3: |W| 1.06 /
        1.33 / 1.68 (above 1), |J|^2 .94 / .64 / .40 (below 1), standard errors .003 to .013. That |W| is larger by half
        holds at the strongest penalty only.
    Units outside (.1, .9): .01 / .40 / .78 against none (.0006 or less). So |J|^2 is .65 / .29 / .11 of |W|^2 / 16 (at
        most 1), with weight decay .78 to .81.
    Singular values above half of the largest, of 32: 27 / 12 / 5, with weight decay 29 / 22 / 17. Off the data J is
        much the same: at .3, first start, |J|^2 is 1.03 at the data, 1.03 moved and .80 between two images; with weight
        decay 2.57, 2.57, 2.81. One layer of units that are on or off contracts there as well.
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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.output import save, table

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    weights: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
    """Weights w of the single unit."""
    contractive: tuple[float, ...] = (0.03, 0.1, 0.3)
    """Strengths of the contractive penalty."""
    latents: int = 32
    """Sigmoid units."""
    samples: int = 1797
    """Digits used, from the first."""
    epochs: int = 150
    """Passes over the images."""
    batch: int = 256
    """Images in a step."""
    lr: float = 0.03
    """First step of Adam."""
    tolerance: float = 0.01
    """Largest relative difference of the squared errors that count as equal."""
    tries: int = 8
    """Largest number of strengths of weight decay to find an equal one."""
    repeats: int = 3
    """Starts of the weights."""
    seed: int = 0
    """Of the first start; each further one adds 1."""
    output: Path = Path("results/jacobian_or_weights")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    x = pa.datasets.digits().x[: settings.samples]
    networks, spectra = [], []
    decay = 0.003
    for strength in settings.contractive:
        for seed in range(settings.seed, settings.seed + settings.repeats):
            run = learn(settings, x, pa.ContractiveEncoder(strength), seed)
            decay, peer = matched(settings, x, squared_error(run, x), decay, seed)
            for name, number, one in (("contractive", strength, run), ("weight decay", decay, peer)):
                key = {"penalty": name, "strength": number, "matched to": strength, "seed": seed}
                networks.append(key | numbers(one, x))
                if seed == settings.seed:
                    spectra += [key | row for row in spectrum(one, x)]
    return {
        "one unit": list(units(settings)),
        "networks": networks,
        "ratios": list(ratios(settings, networks)),
        "spectra": spectra,
    }


def units(settings: Settings) -> Iterator[dict[str, Any]]:
    """Penalty on one unit, averaged over z ~ N(0, 1) by quadrature, and at |z| = 1."""
    grid = torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
    mass = torch.exp(-0.5 * grid[:, 0].square())
    edges = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    for w in settings.weights:
        encoder = pa.OneLayerEncoder(1, 1, "sigmoid").double()
        with torch.no_grad():
            encoder.weight.fill_(w)
            penalty = pa.ContractiveEncoder(1.0).penalty(None, encoder, grid)
            yield {
                "w": w,
                "weight decay": w**2,
                "gaussian z": float((penalty * mass).sum() / mass.sum()),
                "small w": w**2 / 16,
                "large w": w / (6 * math.sqrt(2 * math.pi)),
                "|z| = 1": float(pa.ContractiveEncoder(1.0).penalty(None, encoder, edges).mean()),
                "predicted |z| = 1": w**2 * math.exp(-2 * w) / (1 + math.exp(-w)) ** 4,
            }


def learn(settings: Settings, x: Tensor, penalty: pa.Regularizer, seed: int) -> pa.Fit:
    """Train sigmoid units with tied weights and a linear decoder."""
    features = x.shape[1]
    encoder = pa.TiedEncoder(features, settings.latents, standardize=False, activation="sigmoid")
    method = pa.MAP(
        encoder=encoder,
        objective=pa.SquaredError(),
        regularizers=(penalty,),
        epochs=settings.epochs,
        batch=settings.batch,
        lr=settings.lr,
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", pa.ProbaeWarning
        )  # three pixels are constant; codes are points on purpose
        return pa.fit(pa.ProbabilisticPCA(features, settings.latents), x.float(), method, seed=seed)


def matched(settings: Settings, x: Tensor, error: float, decay: float, seed: int) -> tuple[float, pa.Fit]:
    """Return weight decay of this squared error and its fit, by the secant rule on logarithms, from a first guess."""
    goal, seen = math.log(error), []
    for _ in range(settings.tries):
        run = learn(settings, x, pa.WeightDecay(decay), seed)
        seen.append((math.log(decay), math.log(squared_error(run, x)) - goal, run))
        if abs(seen[-1][1]) < settings.tolerance:
            break
        decay = math.exp(seen[-1][0] + step(seen))
    place, _, run = min(seen, key=lambda one: abs(one[1]))
    return math.exp(place), run


def step(seen: list[tuple[float, float, Any]]) -> float:
    """Return the change of the logarithm of the strength that a line through the last two tries asks for."""
    slope = 0.7  # of log error over log strength where decay rules; used for the first step
    if len(seen) > 1:
        (a, fa, _), (b, fb, _) = seen[-2:]
        slope = min(max((fb - fa) / (b - a), 0.2), 2.0)
    return min(max(-seen[-1][1] / slope, -1.5), 1.5)


def squared_error(run: pa.Fit, x: Tensor) -> float:
    """Return the mean squared error of the reconstruction, summed over pixels."""
    rebuilt = run.model.likelihood(run.posterior(x).mean).mean
    return float((x - rebuilt).square().sum(1).mean())


@torch.no_grad()
def numbers(run: pa.Fit, x: Tensor) -> dict[str, float]:
    """Return error, |W|, |J|^2 with its bound, and the share of units that are on or off."""
    encoder = run.posterior.encoder
    code, spectra = encoder(x).mean, pa.tangents(run, x, k=1).spectrum
    return {
        "squared error": squared_error(run, x),
        "|W|": float(encoder.weight.norm()),
        "|J|^2": float(encoder.jacobian_norm(x).mean()),
        "|W|^2 / 16": float(encoder.weight.square().sum() / 16),
        "saturated": float(((code < 0.1) | (code > 0.9)).double().mean()),
        "|J|^2 moved": float(encoder.jacobian_norm(moved(x)).mean()),
        "|J|^2 between": float(encoder.jacobian_norm(between(x)).mean()),
        "above half": float((spectra > 0.5 * spectra[:, :1]).double().sum(1).mean()),
    }


def spectrum(run: pa.Fit, x: Tensor) -> Iterator[dict[str, Any]]:
    """Median singular values of J in the three places."""
    for place, rows in (("data", x), ("moved", moved(x)), ("between", between(x))):
        values = pa.tangents(run, rows, k=1).spectrum.median(0).values
        yield {"place": place, "singular values": values.tolist()}


def moved(x: Tensor) -> Tensor:
    """Move images by as much as they are from their mean, at right angles to nine tenths of their variance."""
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    kept = values.flip(0).cumsum(0) < 0.9 * values.sum()
    rest = vectors.flip(1)[:, ~kept]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype) @ rest @ rest.T
    return x + noise * centred.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)


def between(x: Tensor) -> Tensor:
    """Return points halfway between each image and another one, which are like no image."""
    return (x + x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]) / 2


def ratios(settings: Settings, networks: Rows) -> Iterator[dict[str, Any]]:
    """Contractive over weight decay, seed by seed: mean and standard error."""
    for strength in settings.contractive:
        some = [row for row in networks if row["matched to"] == strength]
        pairs = list(zip(some[::2], some[1::2], strict=True))
        for name, expected in (("squared error", "1"), ("|W|", "above 1"), ("|J|^2", "below 1")):
            found = torch.tensor([ours[name] / peer[name] for ours, peer in pairs], dtype=torch.float64)
            yield {
                "strength": strength,
                "number": name,
                "ratio": float(found.mean()),
                "standard error": float(found.std() / len(found) ** 0.5) if len(found) > 1 else 0.0,
                "predicted": expected,
            }


BLUE, ORANGE, BLACK = "#0072B2", "#D55E00", "#000000"  # colours of Okabe and Ito
STYLES = {
    "contractive": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "weight decay": {"color": ORANGE, "linestyle": "--", "marker": "s", "markerfacecolor": "none"},
}

MARKERS = {"data": "o", "moved": "x", "between": "^"}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the penalty on one unit, the networks, and the spectra of their Jacobians."""
    figure = Figure(figsize=(12.4, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _plot_unit(left, rows["one unit"])
    _plot_networks(middle, rows["networks"])
    _plot_spectra(right, rows["spectra"])
    return figure


def _plot_unit(ax: Axes, rows: Rows) -> None:
    w = [row["w"] for row in rows]
    curve = torch.logspace(math.log10(w[0]), math.log10(w[-1]), 200, dtype=torch.float64)
    edge = curve.square() * torch.exp(-2 * curve) / (1 + torch.exp(-curve)) ** 4
    for heights, dash, color in (
        (curve.square(), "--", ORANGE),
        (curve.square() / 16, ":", BLACK),
        (curve / (6 * math.sqrt(2 * math.pi)), "-", BLUE),
        (edge, "-.", "#009E73"),
    ):
        ax.plot(curve, heights, dash, color=color, linewidth=1.3)
    for key, label, style in (
        ("weight decay", "weight decay", {"marker": "s", "color": ORANGE, "markerfacecolor": "none"}),
        ("gaussian z", "contractive, z normal", {"marker": "o", "color": BLUE}),
        ("|z| = 1", "contractive, |z| = 1", {"marker": "^", "color": "#009E73"}),
    ):
        ax.plot(w, [row[key] for row in rows], linestyle="", label=label, **style)
    ax.set(xscale="log", yscale="log", ylim=(1e-7, 2e4), xlabel="weight w of one unit", ylabel="penalty")
    ax.set_title("marks computed, lines: $w^2$, $w^2/16$, $w/(6\\sqrt{2\\pi})$, $w^2 s'(w)^2$", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="upper left")


def _plot_networks(ax: Axes, rows: Rows) -> None:
    for name, style in STYLES.items():
        some = [row for row in rows if row["penalty"] == name]
        marks = style | {"linestyle": ""}
        ax.plot([row["|W|"] ** 2 / 16 for row in some], [row["|J|^2"] for row in some], label=name, **marks)
    for row, peer in zip(rows[::2], rows[1::2], strict=True):
        across, up = ([one[key] for one in (row, peer)] for key in ("|W|^2 / 16", "|J|^2"))
        ax.plot(across, up, color="#999999", linewidth=0.8, zorder=0)
    top = max(row["|W|^2 / 16"] for row in rows)
    ax.plot([0, top], [0, top], ":", color=BLACK, linewidth=1.2, label="no unit saturated (upper bound)")
    ax.set(xlabel="$|W|^2 / 16$", ylabel="mean $|J|^2$ at the data", xlim=(0, None), ylim=(0, None))
    ax.set_title("grey lines join networks of equal squared error", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="upper left")


def _plot_spectra(ax: Axes, rows: Rows) -> None:
    strongest = max(row["matched to"] for row in rows)
    for row in (one for one in rows if one["matched to"] == strongest):
        style = STYLES[row["penalty"]] | {"marker": MARKERS[row["place"]], "markersize": 4}
        ranks = range(1, len(row["singular values"]) + 1)
        ax.plot(ranks, row["singular values"], label=f"{row['penalty']}, {row['place']}", **style)
    ax.set(yscale="log", xlabel="rank", ylabel="singular value of J (median over images)")
    ax.set_title(f"spectra, contractive penalty {strongest:g} and its match", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="lower left")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        if name != "spectra":
            print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
