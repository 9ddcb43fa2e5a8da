r"""Are weight decay, noise and a penalty on the Jacobian the same thing in a linear autoencoder?

A linear autoencoder B = W2 W1 with q latents loses tr (I - B) S (I - B)' on data with covariance S, plus a penalty.
Where a minimum exists, B keeps the eigenvectors of the q largest eigenvalues l of S and multiplies each by a gain a(l):

    nothing                                  1                      principal components
    input noise s, s |W2 W1|^2               l / (l + s)            ridge: never exactly 0
    g (|W1|^2 + |W2|^2), untied              max(1 - g / l, 0)      soft threshold: directions with l < g are lost
    c |W|^2 tied, the contractive one        max(1 - c / (2 l), 0)  the same, g = c / 2
    posterior mean of probabilistic PCA      1 - s / l              the same, s the noise that was fitted
    c |W1|^2 untied, the contractive one     no minimum: W1 -> 0, W2 -> infinity, B -> principal components
    noise v on the encoder's weights         no minimum: v tr(S) |W2|^2, the other way round

The losses depend on the data through S alone, so they are minimised exactly, by L-BFGS in double precision.

Run:     python -m experiments.shrinkage_atlas
Answer:  Only some of them. In brackets what was predicted.
    Made-up covariance, gains at eigenvalues 5, 3, 2: .9091, .8571, .8000 (same) with input noise .5; .9000, .8333,
        .7500 (same) with weight decay, g = .5, and with the tied contractive penalty; .5000, .1667, 0 (the same) for
        both at g = 2.5, where input noise still leaves .6667, .5455, .4444 (the same). Probabilistic PCA: .8800, .8000,
        .7000 (the same) at the fitted noise .6. On the digits all gains agree to the four digits shown, too.
    Untied contractive penalty: no minimum. From 10 to 300 steps |W1| falls from .89 to .043, |W2| grows from 3.4 to
        70, the loss above that of PCA falls from .99 to .006 (0 in the end). Noise on the encoder's weights: |W2| falls
        from .46 to .0023, |W1| grows from 5.6 to 4390; the loss is still .27 above (0 in the end), L-BFGS crawls there.
    So there are two kinds of shrinkage, ridge and soft threshold, and two penalties that do nothing in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    spectrum: tuple[float, ...] = (5.0, 3.0, 2.0, 1.2, 0.8, 0.5, 0.3, 0.2)
    """Eigenvalues of the made-up covariance."""
    latents: int = 3
    """Latents q for the made-up covariance."""
    digits_latents: int = 5
    """Latents q for the covariance of the digits; 0 leaves the digits out."""
    strengths: tuple[float, ...] = (0.1, 0.5)
    """Strengths s and g = c / 2 as shares of the largest eigenvalue."""
    iterations: int = 400
    """Largest number of steps of L-BFGS for one fit."""
    stops: tuple[int, ...] = (10, 30, 100, 300)
    """Steps at which losses without a minimum are looked at."""
    seed: int = 0
    """Seed of the rotation and of the first values."""
    output: Path = Path("results/shrinkage_atlas")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    data = list(covariances(settings))
    return {
        "gains": [row for some in data for row in gains(settings, *some)],
        "no minimum": [row for some in data for row in trajectories(settings, *some)],
    }


def covariances(settings: Settings) -> Iterator[tuple[str, Tensor, int]]:
    """Name, covariance and number of latents of each data set."""
    spectrum = torch.tensor(settings.spectrum, dtype=torch.float64)
    turn = haar_rotation(len(spectrum), torch.Generator().manual_seed(settings.seed))
    yield "made-up", turn @ spectrum.diag() @ turn.T, settings.latents
    if settings.digits_latents:
        x = torch.as_tensor(pa.datasets.digits().x, dtype=torch.float64)
        yield "digits", torch.cov(x.T, correction=0), settings.digits_latents


def gains(settings: Settings, data: str, cov: Tensor, latents: int) -> Iterator[dict[str, Any]]:
    """Gain of each kept direction, for each penalty that has a minimum."""
    values, vectors = torch.linalg.eigh(cov)
    values, vectors = values.flip(0)[:latents], vectors.flip(1)[:, :latents]
    for name, share, found in maps(settings, cov, latents):
        strength = share * float(values[0])
        if name == "probabilistic PCA":
            strength = float((cov.trace() - values.sum()) / (len(cov) - latents))
        learnt = (vectors * (found @ vectors)).sum(0)
        off = float(
            ((found - vectors @ learnt.diag() @ vectors.T) @ cov).norm()
        )  # what no data reach is free
        for value, gain in zip(values.tolist(), learnt.tolist(), strict=True):
            yield {
                "data": data,
                "penalty": name,
                "strength": strength,
                "eigenvalue": value,
                "gain": gain,
                "predicted": predicted(name, value, strength),
                "off the diagonal": off,
            }


def maps(settings: Settings, cov: Tensor, latents: int) -> Iterator[tuple[str, float, Tensor]]:
    """Penalty, strength as a share of the largest eigenvalue, and the fitted B."""
    top = float(torch.linalg.eigvalsh(cov)[-1])
    for name in PENALTIES:
        for share in (0.0,) if name == "none" else settings.strengths:
            first, second = start(cov, latents, settings.seed, name == "tied")
            descend(loss_of(name, cov, share * top, first, second), (first, second), settings.iterations)
            yield name, share, (second @ first).detach()
    yield "probabilistic PCA", 0.0, posterior_mean_map(cov, latents)


def posterior_mean_map(cov: Tensor, latents: int) -> Tensor:
    """Return W E(z | x) of probabilistic PCA as a matrix."""
    values, vectors = torch.linalg.eigh(cov)
    noise = values[:-latents].mean()
    loadings = vectors[:, -latents:] * (values[-latents:] - noise).sqrt()
    inner = loadings.T @ loadings + noise * torch.eye(latents, dtype=cov.dtype)
    return loadings @ torch.linalg.solve(inner, loadings.T)


def trajectories(settings: Settings, data: str, cov: Tensor, latents: int) -> Iterator[dict[str, Any]]:
    """Norms and loss along the descent of a penalty on one factor: the loss falls to that of PCA, never there."""
    values = torch.linalg.eigvalsh(cov)
    floor, top = float(values[:-latents].sum()), float(values[-1])
    for name in ("encoder only", "encoder noise"):
        for stop in settings.stops:
            first, second = start(cov, latents, settings.seed, False)
            loss = loss_of(name, cov, settings.strengths[0] * top, first, second)
            descend(loss, (first, second), stop)
            yield {
                "data": data,
                "penalty": name,
                "steps": stop,
                "|W1|": float(first.detach().norm()),
                "|W2|": float(second.detach().norm()),
                "loss above PCA": float(loss().detach()) - floor,
                "predicted": 0.0,
            }


PENALTIES = ("none", "input noise", "both factors", "tied")


def loss_of(name: str, cov: Tensor, strength: float, first: Tensor, second: Tensor) -> Callable[[], Tensor]:
    """Return the mean loss over data with this covariance, a function of the factors as they are."""

    def loss() -> Tensor:
        decoder = first.T if name == "tied" else second
        rest = torch.eye(len(cov), dtype=cov.dtype) - decoder @ first
        return ((rest @ cov) * rest).sum() + strength * penalty()

    def penalty() -> Tensor:
        if name == "none":
            return cov.new_zeros(())
        if name == "input noise":
            return (second @ first).square().sum()
        if name == "both factors":
            return first.square().sum() + second.square().sum()
        if name == "encoder noise":
            return cov.trace() * second.square().sum()
        return 2 * first.square().sum()  # c = 2 g: tied, or on the encoder alone

    return loss


def start(cov: Tensor, latents: int, seed: int, tied: bool) -> tuple[Tensor, Tensor]:
    """Return small random factors; the second of a tied pair is a view of the first."""
    generator = torch.Generator().manual_seed(seed)
    scale = 0.5 / len(cov) ** 0.5
    first = (scale * torch.randn(latents, len(cov), generator=generator, dtype=cov.dtype)).requires_grad_()
    if tied:
        return first, first.T
    second = (scale * torch.randn(len(cov), latents, generator=generator, dtype=cov.dtype)).requires_grad_()
    return first, second


def descend(loss: Callable[[], Tensor], factors: tuple[Tensor, ...], iterations: int) -> None:
    """Minimise by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        [factor for factor in factors if factor.is_leaf],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=50,
        tolerance_grad=1e-7,
        tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def predicted(name: str, value: float, strength: float) -> float:
    """Return the gain a(l) in closed form; the strength is s, or g = c / 2."""
    if name == "none":
        return 1.0
    if name == "input noise":
        return value / (value + strength)
    return max(1 - strength / value, 0.0)


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "none": {"color": "#000000", "linestyle": "-", "marker": "^", "label": "no penalty (PCA)"},
    "input noise": {"color": "#0072B2", "linestyle": "--", "marker": "o", "label": "input noise"},
    "both factors": {"color": "#D55E00", "linestyle": "-", "marker": "s", "label": "weight decay, untied"},
    "tied": {"color": "#D55E00", "linestyle": "-", "marker": "x", "label": "contractive, tied"},
    "probabilistic PCA": {"color": "#009E73", "linestyle": ":", "marker": "D", "label": "probabilistic PCA"},
    "encoder only": {"color": "#CC79A7", "linestyle": "-", "marker": "v", "label": "contractive, untied"},
    "encoder noise": {"color": "#56B4E9", "linestyle": "--", "marker": "P", "label": "noise on encoder"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the gain against the eigenvalue for each data set, and the descents that never end."""
    names = list(dict.fromkeys(row["data"] for row in rows["gains"]))
    figure = Figure(figsize=(3.9 * (len(names) + 1), 4.6), layout="constrained")
    axes = figure.subplots(1, len(names) + 1)
    for ax, name in zip(axes, names, strict=False):
        _plot_gains(ax, [row for row in rows["gains"] if row["data"] == name])
        ax.set_title(f"{name} covariance", fontsize=10)
    _plot_descents(axes[-1], [row for row in rows["no minimum"] if row["data"] == names[0]])
    figure.suptitle("marks are learnt, lines are predicted (right: lines join the marks)", fontsize=9)
    figure.legend(
        *axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower left", ncols=3, frameon=False
    )
    return figure


def _plot_gains(ax: Axes, rows: Rows) -> None:
    top = max(row["eigenvalue"] for row in rows)
    curve = torch.linspace(0.02 * top, 1.05 * top, 300).tolist()
    labelled = set()
    for name, strength in dict.fromkeys((row["penalty"], row["strength"]) for row in rows):
        some = [row for row in rows if (row["penalty"], row["strength"]) == (name, strength)]
        style = STYLES[name] | {"label": None if name in labelled else STYLES[name]["label"]}
        labelled.add(name)
        marks = style | {"linestyle": "", "markerfacecolor": "none", "markersize": 7}
        ax.plot([row["eigenvalue"] for row in some], [row["gain"] for row in some], **marks)
        heights = [predicted(name, value, strength) for value in curve]
        ax.plot(curve, heights, color=style["color"], linestyle=style["linestyle"], linewidth=1.2)
    ax.set(xlabel="eigenvalue of the direction", ylabel="gain of the autoencoder", ylim=(-0.04, 1.06))


def _plot_descents(ax: Axes, rows: Rows) -> None:
    for name in dict.fromkeys(row["penalty"] for row in rows):
        some = [row for row in rows if row["penalty"] == name]
        marks = STYLES[name] | {"markerfacecolor": "none"}
        ax.plot([row["steps"] for row in some], [row["loss above PCA"] for row in some], **marks)
    ax.set(xscale="log", yscale="log", xlabel="steps of L-BFGS", ylabel="loss above that of PCA")
    ax.set_title("no minimum: one factor shrinks for ever", fontsize=10)
    ax.legend(fontsize=8, frameon=False)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
