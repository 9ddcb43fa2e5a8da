r"""Can binary codes learned without labels be the address of an image, and does noise on their input make them binary?

An autoencoder has logistic units z = 1 / (1 + exp(-a - s e)) between encoder and decoder, e standard normal, s the
noise [1]. Reconstruction through the noise pays for inputs |a| many times s, so units go to 0 and 1; without noise it
does not. Nothing in it says that near images get near codes. That is asked for by showing the encoder one of the ten
nearest images (by pixels) in place of the one to be reconstructed; no label is used.

Measured: leave one out over all 1,797 digits, precision of the 10 nearest codes (expectation over ties). All methods
see all images, without labels. In a second table codes are learned on three quarters and asked with the rest.

[1] Salakhutdinov, R. & Hinton, G. (2009). Semantic hashing. International Journal of Approximate Reasoning 50.

Run:     python -m experiments.semantic_hashing
Answer:  Yes, and yes. Means of two restarts, published numbers of the same kind in brackets; pixels reach .965 (.965).
    Precision at 16 / 32 / 64 bits: learned .938 / .961 / .967, iterative quantisation .877 / .919 / .946 (.881 / .924 /
        .943), random hyperplanes .685 / .805 / .888 (.633 / .795 / .884; .639 / .801 / .887 over 20 seeds).
        A standard error over images is .003 to .007.
    Shown its own image, .896 / .933 / .942: the neighbours are worth .04 / .03 / .025, and without them 64 learned bits
        are no better than iterative quantisation.
    Activations outside (.1, .9): .977 / .967 / .954 with noise, .25 / .27 / .50 without. So the noise makes the units
        binary, but for search that counts at 16 bits only (.923 without); at 64 bits codes without it find more (.974).
    Images that were not learned from: .908 / .924 / .943, quantisation .847 / .901 / .916, pixels .948. Beyond pixels,
        as at 64 bits above, is hence for images that were there at the learning.
    Two stages: comparing one row in ten by the long code keeps .994 of the exact answer, one in fifty .868.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.output import save, table

Rows = list[dict[str, Any]]
PUBLISHED = {  # the numbers of the project's oracles, found with other code; the ceiling is that of raw pixels
    "ITQ": {16: 0.881, 32: 0.924, 64: 0.943},
    "random hyperplanes": {16: 0.633, 32: 0.795, 64: 0.884},
    "raw pixels": {0: 0.965},
}


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    bits: tuple[int, ...] = (16, 32, 64)
    """Lengths of codes."""
    noise: float = 6.0
    """Standard deviation of the noise on the input of the units."""
    quiet: float = 0.05
    """The same for the control, next to none."""
    neighbours: int = 10
    """Nearest images, itself among them, of which the encoder is shown one."""
    hidden: int = 256
    """Width of the hidden layers of encoder and decoder."""
    epochs: int = 200
    """Passes over the images."""
    lr: float = 4e-3
    """First step of Adam."""
    retrieved: int = 10
    """Rows of which the precision is taken."""
    seeds: int = 2
    """Restarts of each method."""
    seed: int = 0
    """Of the first restart; each further one adds 1."""
    samples: int = 1797
    """Images used, from the first."""
    output: Path = Path("results/semantic_hashing")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, the published ones beside them."""
    data = pa.datasets.digits()
    x, labels = data.x[: settings.samples], data.labels[: settings.samples]
    precision, fits = [raw_row(settings, x, labels)], []
    for bits in settings.bits:
        for seed in range(settings.seed, settings.seed + settings.seeds):
            precision += list(baselines(settings, bits, seed, x, labels))
            for method, noise, neighbours in kinds(settings):
                encoder = learn(settings, x, bits, noise, neighbours, seed)
                precision.append(
                    row(settings, method, bits, seed, encoder.bits(x), labels) | saturation(encoder, x)
                )
                if seed == settings.seed:
                    fits.append(histogram(encoder, x, method, bits))
    return {
        "precision": precision,
        "activations": fits,
        "held out": list(held_out(settings, x, labels)),
        "two stages": list(two_stages(settings, x)),
    }


def kinds(settings: Settings) -> list[tuple[str, float, int]]:
    """Name the learned codes: method, noise, neighbours."""
    return [
        ("learned", settings.noise, settings.neighbours),
        ("learned, no code noise", settings.quiet, settings.neighbours),
        ("learned, own image", settings.noise, 1),
    ]


def learn(
    settings: Settings, x: Tensor, bits: int, noise: float, neighbours: int, seed: int
) -> pa.BinaryCodeEncoder:
    """Train an autoencoder with binary codes; with one neighbour, the image itself is shown."""
    features = x.shape[1]
    model = pa.Autoencoder(features, bits, pa.decoders.MLPDecoder(bits, features, hidden=(settings.hidden,)))
    method = pa.SVI(
        pa.BinaryCodeEncoder(features, bits, hidden=(settings.hidden,), noise_std=noise),
        epochs=settings.epochs,
        batch=128,
        lr=settings.lr,
        objective=pa.SampledReconstruction(),
        regularizers=() if neighbours == 1 else (pa.Denoising(pa.NearbyRow(x, neighbours)),),
    )
    with warnings.catch_warnings():
        # three pixels are constant, units are what the guide says on purpose, and precision is judged, not the bound
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        encoder: pa.BinaryCodeEncoder = pa.fit(model, x.float(), method, seed=seed).posterior.encoder
    return encoder


def raw_row(settings: Settings, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """Rank by pixels."""
    curve = pa.precision_at(settings.retrieved, torch.cdist(x, x), labels)
    return as_row("raw pixels", 0, settings.seed, float(curve.precision[0]), float(curve.standard_error[0]))


def baselines(
    settings: Settings, bits: int, seed: int, x: Tensor, labels: Tensor
) -> Iterator[dict[str, Any]]:
    """Rank by codes of random hyperplanes and of iterative quantisation."""
    for method, kind in (("random hyperplanes", pa.RandomHyperplanes), ("ITQ", pa.ITQ)):
        yield row(settings, method, bits, seed, kind(bits).fit(x, seed).bits(x), labels)


def row(
    settings: Settings, method: str, bits: int, seed: int, codes: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Rank by codes, each image left out of its own list."""
    packed = pa.pack(codes)
    curve = pa.precision_at(settings.retrieved, packed.distances(packed), labels)
    return as_row(method, bits, seed, float(curve.precision[0]), float(curve.standard_error[0]))


def as_row(method: str, bits: int, seed: int, precision: float, error: float) -> dict[str, Any]:
    """Put numbers beside the published one; a row has all columns."""
    return {
        "method": method,
        "bits": bits,
        "seed": seed,
        "precision": precision,
        "standard error": error,
        "published": PUBLISHED.get(method, {}).get(bits),
        "saturation": None,
        "balance": None,
    }


def saturation(encoder: pa.BinaryCodeEncoder, x: Tensor) -> dict[str, float]:
    """Return the share of activations outside (.1, .9), and how far from 1/2 the worst bit's share of ones is."""
    report = pa.bit_report(activations(encoder, x))
    return {
        "saturation": float(report.saturation.mean()),
        "balance": float((report.balance - 0.5).abs().max()),
    }


def activations(encoder: pa.BinaryCodeEncoder, x: Tensor) -> Tensor:
    """Return the logistic units without noise."""
    with torch.no_grad():
        return encoder(x).logits.sigmoid()


def histogram(encoder: pa.BinaryCodeEncoder, x: Tensor, method: str, bits: int) -> dict[str, Any]:
    """Return shares of activations in twenty equal bins."""
    counts = torch.histc(activations(encoder, x), bins=20, min=0, max=1)
    return {"method": method, "bits": bits, "shares": (counts / counts.sum()).tolist()}


def held_out(settings: Settings, x: Tensor, labels: Tensor) -> Iterator[dict[str, Any]]:
    """Learn on three quarters, ask with the rest: queries were never seen."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(settings.seed))
    rows, queries = order[len(x) // 4 :], order[: len(x) // 4]
    curve = pa.precision_at(
        settings.retrieved, torch.cdist(x[queries], x[rows]), labels[rows], labels[queries]
    )
    yield {"method": "raw pixels", "bits": 0, "precision": float(curve.precision[0])}
    for bits in settings.bits:
        found = {
            "random hyperplanes": pa.RandomHyperplanes(bits).fit(x[rows], settings.seed),
            "ITQ": pa.ITQ(bits).fit(x[rows], settings.seed),
            "learned": learn(settings, x[rows], bits, settings.noise, settings.neighbours, settings.seed),
        }
        for method, encoder in found.items():
            distances = pa.pack(encoder.bits(x[rows])).distances(pa.pack(encoder.bits(x[queries])))
            curve = pa.precision_at(settings.retrieved, distances, labels[rows], labels[queries])
            yield {"method": method, "bits": bits, "precision": float(curve.precision[0])}


def two_stages(settings: Settings, x: Tensor) -> Iterator[dict[str, Any]]:
    """Find by the shortest code, rank by the longest: the share of the exact answer's distances that is kept."""
    short, long = (
        pa.pack(learn(settings, x, bits, settings.noise, settings.neighbours, settings.seed).bits(x))
        for bits in (min(settings.bits), max(settings.bits))
    )
    exact = pa.HammingIndex(long).nearest(long, settings.retrieved)
    for share in (0.02, 0.05, 0.099):
        found = pa.TwoStageIndex(short, long, share=share).nearest(short, long, settings.retrieved)
        # a row as near as the last exact one is as good an answer, whichever of the equals was returned
        kept = (found.distances <= exact.distances[:, -1:]).double().mean()
        yield {
            "bits": f"{short.bits} then {long.bits}",
            "share compared": found.compared / len(x),
            "recall": float(kept),
        }


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "learned": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "learned, no code noise": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
    "learned, own image": {"color": "#CC79A7", "linestyle": ":", "marker": "^"},
    "ITQ": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "random hyperplanes": {"color": "#000000", "linestyle": ":", "marker": "x"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw precision against bits, and the activations with and without noise."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_precision(left, rows["precision"])
    draw_activations(right, rows["activations"])
    figure.legend(
        *left.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def draw_precision(ax: Any, rows: Rows) -> None:
    """Draw means over restarts, bars two standard errors over images, crosses of published numbers in grey."""
    for method, style in STYLES.items():
        some = [one for one in rows if one["method"] == method]
        bits = sorted({one["bits"] for one in some})
        groups = [[one for one in some if one["bits"] == b] for b in bits]
        means = [sum(one["precision"] for one in group) / len(group) for group in groups]
        bars = [2 * max(one["standard error"] for one in group) for group in groups]
        ax.errorbar(bits, means, yerr=bars, label=method, markersize=5.5, elinewidth=1, **style)
    ceiling = next(one["precision"] for one in rows if one["method"] == "raw pixels")
    ax.axhline(ceiling, color="#666666", linewidth=1, label=f"raw pixels ({ceiling:.3f})")
    bits = sorted({one["bits"] for one in rows if one["bits"]})
    ax.set(xscale="log", xlabel="bits", ylabel="precision of the 10 nearest")
    ax.set_xticks(bits, [str(b) for b in bits])
    ax.minorticks_off()
    ax.set_title("digits, leave one out", fontsize=10)


def draw_activations(ax: Any, rows: Rows) -> None:
    """Draw histograms of the longest code."""
    longest = max(one["bits"] for one in rows)
    edges = [i / 20 for i in range(21)]
    for method, label in (("learned", "with code noise"), ("learned, no code noise", "without")):
        shares = next(one["shares"] for one in rows if (one["method"], one["bits"]) == (method, longest))
        style = STYLES[method]
        ax.stairs(
            shares, edges, color=style["color"], linestyle=style["linestyle"], linewidth=1.6, label=label
        )
    ax.set(xlabel="activation of a unit, without noise", ylabel="share of activations", yscale="log")
    ax.set_title(f"{longest} bits", fontsize=10)
    ax.legend(fontsize=8, frameon=False, loc="upper center")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        if name != "activations":
            print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
