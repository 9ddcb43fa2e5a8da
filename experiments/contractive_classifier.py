r"""Has a contractive penalty a use in classifiers that are trained with labels?

A network 64-64-10, logits V tanh(U x + b) + c, is trained on digits with a penalty on the Jacobian of its logits,
J = V diag(d) U with d = 1 - tanh^2, whose squared norm is a quadratic form:

    |J|_F^2 = d' G d,   G = (V'V) * (U U') entry by entry.

Peers are weight decay and the layer-wise penalty |diag(d) U|_F^2 + |V|_F^2 of deep contractive networks, whose factors
bound the whole, |J|_F <= |V|_F |diag(d) U|_F, from far above: it pays for slopes that cancel. Each peer has the largest
strength, found by bisection, with the contractive network's accuracy on clean held-out images (mean over the splits),
or, if it never gets there, the most accurate one. Attacks may move every pixel by eps. Logits linear in x withstand
them if and only if

    min_j margin_j / |w_y - w_j|_1 > eps,

which tests the attacks: on linear logits one step (FGSM) reaches it for two classes, and no attack passes it. With the
gradients of the margins at x in place of w_y - w_j it predicts, to first order, what a network withstands.

Run:     python -m experiments.contractive_classifier
Answer:  <to be measured>
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor, nn

import probae as pa
from experiments.output import save, table

Rows = list[dict[str, Any]]
KEYS = ("penalty", "strength", "matched to", "seed")
PEERS = ("weight decay", "layer-wise")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    hidden: int = 64
    """Hidden units."""
    contractive: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Strengths of the penalty on the Jacobian."""
    peers: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    """Strengths of the peers that are tried first."""
    bisections: int = 3
    """Halvings of the interval between two of them, on logarithms."""
    eps: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Largest change of a pixel; pixels lie between 0 and 1."""
    train: int = 1200
    """Rows for training; the other ones are for testing."""
    steps: int = 200
    """Steps of Adam, each on all rows."""
    attack_steps: int = 10
    """Steps of the projected gradient attack."""
    repeats: int = 5
    """Splits of the rows and starts of the network."""
    seed: int = 0
    """Seed of the first repeat; each further one adds 1."""
    output: Path = Path("results/contractive_classifier")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    fits = list(networks(settings))
    return {
        "attacks on linear logits": list(linear_attacks(settings)),
        "networks": averages(fits),
        "contractive above its peers": list(differences(settings, fits)),
    }


def networks(settings: Settings) -> Iterator[dict[str, Any]]:
    """Accuracy, Jacobian and accuracy under attack of every network, the contractive ones followed by their peers."""
    yield from scored(settings, "none", 0.0, 0.0)
    tried: dict[tuple[str, float], float] = {}
    for strength in settings.contractive:
        ours = list(scored(settings, "contractive", strength, strength))
        yield from ours
        goal = float(np.mean([row["accuracy"] for row in ours]))
        for name in PEERS:
            yield from scored(settings, name, matched(settings, name, goal, tried), strength)


def scored(settings: Settings, name: str, strength: float, match: float) -> Iterator[dict[str, Any]]:
    """Train and attack one kind of network on every split."""
    for seed in range(settings.seed, settings.seed + settings.repeats):
        (x, y), (test, labels) = split(settings, seed)
        net = fitted(x, y, name, strength, settings, seed)
        key = dict(zip(KEYS, (name, strength, match, seed), strict=True))
        yield key | scores(net, test, labels, settings)


def split(settings: Settings, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return images and classes for training, and the others."""
    data = pa.datasets.digits()
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(seed))
    x, y = data.x[order].to(torch.float32), data.labels[order]
    return (x[: settings.train], y[: settings.train]), (x[settings.train :], y[settings.train :])


def matched(settings: Settings, name: str, goal: float, tried: dict[tuple[str, float], float]) -> float:
    """Return the largest strength of a peer whose mean accuracy on clean images reaches the goal."""

    def clean(strength: float) -> float:
        if (name, strength) not in tried:
            found = []
            for seed in range(settings.seed, settings.seed + settings.repeats):
                (x, y), (test, labels) = split(settings, seed)
                found.append(accuracy(fitted(x, y, name, strength, settings, seed), test, labels))
            tried[name, strength] = float(np.mean(found))
        return tried[name, strength]

    reaching = [strength for strength in settings.peers if clean(strength) >= goal]
    if not reaching:
        return max(settings.peers, key=clean)
    low = max(reaching)
    above = [strength for strength in settings.peers if strength > low]
    if not above:
        return low
    high = min(above)
    for _ in range(settings.bisections):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if clean(middle) >= goal else (low, middle)
    return low


def fitted(x: Tensor, y: Tensor, name: str, strength: float, settings: Settings, seed: int) -> nn.Sequential:
    """Return a network trained by Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(x.shape[1], settings.hidden), nn.Tanh(), nn.Linear(settings.hidden, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y) + strength * penalty(net, x, name)
        loss.backward()
        optimizer.step()
    return net.requires_grad_(False)


def penalty(net: nn.Sequential, x: Tensor, name: str) -> Tensor | float:
    """Return the mean penalty of strength 1."""
    if name == "contractive":
        return squared_jacobian(net, x).mean()
    if name == "layer-wise":
        return layer_norms(net, x)[0].mean() + layer_norms(net, x)[1]
    if name == "weight decay":
        return net[0].weight.square().sum() + net[2].weight.square().sum()
    return 0.0


def layer_norms(net: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared norms of the Jacobians of both layers, |diag(d) U|^2 of each row and |V|^2."""
    slope = 1 - torch.tanh(net[0](x)).square()
    return slope.square() @ net[0].weight.square().sum(1), net[2].weight.square().sum()


def linear_attacks(settings: Settings) -> Iterator[dict[str, Any]]:
    """Attack linear logits, whose exact accuracy under attack is known, for all classes and for two of them."""
    (x, y), (test, labels) = split(settings, settings.seed)
    for classes in (10, 2):
        seen, held = y < classes, labels < classes
        net = nn.Linear(x.shape[1], classes)
        nn.init.zeros_(net.weight)
        nn.init.zeros_(net.bias)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(settings.steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[seen]), y[seen]).backward()
            optimizer.step()
        net.requires_grad_(False)
        radius = linear_radius(net(test[held]), net.weight, labels[held])
        for eps in settings.eps:
            yield {
                "classes": classes,
                "eps": eps,
                "FGSM": accuracy(net, attacked(net, test[held], labels[held], eps, 1), labels[held]),
                "PGD": accuracy(
                    net, attacked(net, test[held], labels[held], eps, settings.attack_steps), labels[held]
                ),
                "exact": float((radius > eps).double().mean()),
            }


def squared_jacobian(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return |J|_F^2 of each row, shape (N,)."""
    first, second = net[0].weight, net[2].weight
    slope = 1 - torch.tanh(net[0](x)).square()
    return ((slope @ ((second.T @ second) * (first @ first.T))) * slope).sum(1)


def scores(net: nn.Sequential, x: Tensor, y: Tensor, settings: Settings) -> dict[str, float]:
    """Return accuracy on clean and on attacked images, with the first-order prediction, norms and the median margin."""
    radius = linear_radius(net(x), jacobians(net, x), y)
    norm = squared_jacobian(net, x).sqrt()
    first, second = layer_norms(net, x)
    best = net(x).topk(2).values
    found = {
        "accuracy": accuracy(net, x, y),
        "|J|": float(norm.mean()),
        "layer bound / |J|": float(((first * second).sqrt() / norm).mean()),
        "margin / |J|": float(((best[:, 0] - best[:, 1]) / norm).median()),
    }
    for eps in settings.eps:
        found[f"FGSM {eps:g}"] = accuracy(net, attacked(net, x, y, eps, 1), y)
        found[f"PGD {eps:g}"] = accuracy(net, attacked(net, x, y, eps, settings.attack_steps), y)
        found[f"predicted {eps:g}"] = float((radius > eps).double().mean())
    return found


def jacobians(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return J of each row, shape (N, classes, D)."""
    slope = 1 - torch.tanh(net[0](x)).square()
    return (net[2].weight * slope[:, None, :]) @ net[0].weight


def linear_radius(logits: Tensor, jacobian: Tensor, y: Tensor) -> Tensor:
    """Return the largest change of the pixels that linear logits withstand, min_j margin_j / |w_y - w_j|_1.

    Shapes: logits (N, C), jacobian (N, C, D) or (C, D), y (N,). Negative for rows that are wrong as they are.
    """
    jacobian = jacobian.expand(len(logits), -1, -1)
    rows = torch.arange(len(y))
    margin = logits[rows, y][:, None] - logits
    slope = (jacobian[rows, y][:, None] - jacobian).abs().sum(-1)
    radius = margin / slope
    radius[rows, y] = torch.inf
    return radius.min(1).values


def attacked(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    """Return images moved up the cross-entropy, by at most eps a pixel: FGSM for one step, PGD for more."""
    moved, size = x, eps if steps == 1 else 2.5 * eps / steps
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        loss = nn.functional.cross_entropy(net(moved), y, reduction="sum")
        (slope,) = torch.autograd.grad(loss, moved)
        moved = x + (moved.detach() + size * slope.sign() - x).clamp(-eps, eps)
    return moved


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of rows that are classified rightly."""
    return float((net(x).argmax(1) == y).double().mean())


def averages(fits: Rows) -> Rows:
    """Return the mean over splits of every number."""
    rows = []
    for key in dict.fromkeys(tuple(row[name] for name in KEYS[:3]) for row in fits):
        some = [row for row in fits if tuple(row[name] for name in KEYS[:3]) == key]
        numbers = {name: float(np.mean([row[name] for row in some])) for name in some[0] if name not in KEYS}
        rows.append(dict(zip(KEYS, key, strict=False)) | numbers)
    return rows


def differences(settings: Settings, fits: Rows) -> Iterator[dict[str, Any]]:
    """Mean difference, split by split, to the peers of equal accuracy on clean images."""
    for strength in settings.contractive:
        some = [row for row in fits if row["matched to"] == strength]
        ours = [row for row in some if row["penalty"] == "contractive"]
        for peer in PEERS:
            others = [row for row in some if row["penalty"] == peer]
            for name in ("accuracy", "|J|", *(f"PGD {eps:g}" for eps in settings.eps)):
                change = np.array([one[name] - other[name] for one, other in zip(ours, others, strict=True)])
                error = change.std(ddof=1) / len(change) ** 0.5 if len(change) > 1 else 0.0
                yield {
                    "strength": strength,
                    "peer": peer,
                    "its strength": others[0]["strength"],
                    "number": name,
                    "difference": float(change.mean()),
                    "standard error": float(error),
                }


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "contractive": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "weight decay": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "layer-wise": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the accuracy on clean images and under attack against the strength, peers at the strength they match."""
    columns = ["accuracy", *(name for name in rows["networks"][0] if name.startswith("PGD"))]
    figure = Figure(figsize=(3.2 * len(columns), 4.2), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    free = next(row for row in rows["networks"] if row["penalty"] == "none")
    for ax, column in zip(axes, columns, strict=True):
        ax.axhline(free[column], color="#000000", linestyle=":", linewidth=1, label="no penalty")
        for name, style in STYLES.items():
            some = [row for row in rows["networks"] if row["penalty"] == name]
            across = [row["matched to"] for row in some]
            ax.plot(across, [row[column] for row in some], markersize=6, linewidth=1, label=name, **style)
        ax.set(xscale="log", xlabel="strength of the contractive penalty")
        clean = column == "accuracy"
        ax.set_title("clean images" if clean else f"attack, pixels moved by up to {column[4:]}", fontsize=10)
        if not clean:
            ax.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share of held-out images that is right")
    figure.suptitle(
        "peers have the largest strength that leaves the same accuracy on clean images", fontsize=9
    )
    figure.legend(
        *axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
