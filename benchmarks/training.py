r"""Training a linear model with an encoder: what does an epoch cost beside a loop written by hand, Pyro and pythae?

10,000 rows of 64 features, 16 latents; the encoder has one hidden layer of 128 tanh units and a diagonal covariance,
the decoder is linear with isotropic noise; minibatches of 256, Adam, float32, one thread. All sides begin from the same
weights and take the same number of steps.

Losses are the same on both sides of a comparison: closed form against the loop by hand (which also sees the same
minibatches, so the two final bounds should agree to rounding), one draw of every part against Pyro's `Trace_ELBO`, and
pythae's own (one draw of the likelihood of unit noise, closed divergence) against one draw of every part. The time of
probae is that of `pa.fit` as a whole: checks of the data, copies and the search for the program's sites are inside.

Run:     python -m benchmarks.training          (needs the extra `bench`; pythae as `pip install --no-deps pythae`
         with `pip install imageio pydantic`: its requirement `dataclasses` is part of Python)
Claim:   see CLAIMS; `found` in results/benchmarks/training.json.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import tyro
from pyro.infer import SVI as PyroSVI
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import probae as pa
from benchmarks._machine import save
from benchmarks._pythae import by_pythae
from probae.inference.first_values import initialize

CLAIMS = {"by hand": 1.15, "Pyro": 0.5, "pythae": 0.5}  # probae's time over the peer's, at most


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    rows: int = 10_000
    """Rows."""
    features: int = 64
    """Features."""
    latents: int = 16
    """Latents."""
    hidden: int = 128
    """Hidden units."""
    batch: int = 256
    """Rows in a step."""
    lr: float = 3e-3
    """Step of Adam, constant."""
    epochs: int = 20
    """Epochs in a turn: so many that what a fit does once weighs as little as in use."""
    turns: int = 7
    """Turns of all."""
    seed: int = 0
    """Seed of data and weights."""
    output: Path = Path("results/benchmarks/training.json")
    """File for the results."""


class Start:
    """Data in the units in which probae trains, and the modules all sides begin from."""

    def __init__(self, settings: Settings) -> None:
        truth = pa.ProbabilisticPCA(settings.features, settings.latents)
        self.x = truth.sample(settings.rows, seed=settings.seed).float()
        self.unit = float(self.x.double().std(0, correction=0).max())
        self.scaled = (self.x.double() / self.unit).float()
        self.encoder = pa.MLPEncoder(
            settings.features, settings.latents, hidden=(settings.hidden,), covariance="diagonal"
        )
        self.model = pa.ProbabilisticPCA(settings.features, settings.latents)

    def modules(self, seed: int) -> tuple[Any, Any, torch.Generator]:
        """Return fresh modules at their first values, and the generator that orders the rows."""
        generator = torch.Generator().manual_seed(seed)
        model, encoder = copy.deepcopy((self.model, self.encoder))
        model.requires_grad_(True).float()
        initialize(model, self.scaled, generator)
        encoder.start(self.scaled, generator)
        return model, encoder, generator

    def bound(self, model: Any, encoder: Any) -> float:
        """Return the closed bound per row of x for modules of scaled rows."""
        with torch.no_grad():
            value = pa.ELBO()(model.double(), encoder.double(), self.scaled.double()).mean()
        return float(value) - self.x.shape[1] * math.log(self.unit)


def raw_parameters(model: Any) -> list[Tensor]:
    """Return loadings, mean and the logarithm of the noise variance."""
    return [getattr(model, f"{name}_unconstrained") for name in ("loadings", "mean", "noise_variance")]


def by_probae(start: Start, settings: Settings, analytic: bool) -> float:
    """Fit by `pa.fit` and return the final bound."""
    method = pa.SVI(
        start.encoder, settings.epochs, settings.batch, settings.lr, pa.ELBO(analytic=analytic),
        schedule=pa.Constant(),
    )  # fmt: skip
    run = pa.fit(start.model, start.x, method, seed=settings.seed)
    with torch.no_grad():
        return float(pa.ELBO()(run.model, run.posterior.encoder, start.x.double()).mean())


def by_hand(start: Start, settings: Settings) -> float:
    """Train by a loop in plain PyTorch on the closed loss and return the final bound."""
    model, encoder, generator = start.modules(settings.seed)
    x = (start.scaled - encoder.centre) / encoder.spread  # once, as one would
    first, head = encoder.body[0], encoder.head
    loadings, mean, log_noise = (
        model.loadings_unconstrained,
        model.mean_unconstrained,
        model.noise_variance_unconstrained,
    )
    optimizer = torch.optim.Adam([*encoder.parameters(), *model.parameters()], lr=settings.lr, fused=True)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(x), generator=generator).split(settings.batch):
            location, log_scale = head(torch.tanh(first(x[rows]))).chunk(2, -1)
            variance = (2 * log_scale).exp()
            divergence = 0.5 * (variance + location.square() - 1 - 2 * log_scale).sum(-1)
            residual = start.scaled[rows] - (location @ loadings.mT + mean)
            energy = residual.square().sum(-1) + variance @ loadings.square().sum(0)
            width = x.shape[1] * (log_noise + math.log(2 * math.pi))
            loss = (divergence + 0.5 * (energy / log_noise.exp() + width)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return start.bound(model, encoder)


def by_pyro(start: Start, settings: Settings) -> float:
    """Train by plain Pyro and return the final bound."""
    model, encoder, generator = start.modules(settings.seed)
    loadings, mean, log_noise = (nn.Parameter(one.detach().clone()) for one in raw_parameters(model))
    decoder = nn.ParameterDict({"loadings": loadings, "mean": mean, "log_noise": log_noise})

    def program(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("samples", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(settings.latents), 1.0).to_event(1))
            scale = (0.5 * log_noise).exp()
            pyro.sample("x", dist.Normal(mean + z @ loadings.mT, scale).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("samples", len(x)):
            output = encoder.head(encoder.body((x - encoder.centre) / encoder.spread))
            location, log_scale = output.chunk(2, -1)
            pyro.sample("z", dist.Normal(location, log_scale.exp()).to_event(1))

    pyro.clear_param_store()
    pyro.enable_validation(False)
    svi = PyroSVI(program, guide, pyro.optim.Adam({"lr": settings.lr}), Trace_ELBO())
    for _ in range(settings.epochs):
        for rows in torch.randperm(settings.rows, generator=generator).split(settings.batch):
            svi.step(start.scaled[rows])
    with torch.no_grad():
        for one, value in zip(raw_parameters(model), (loadings, mean, log_noise), strict=True):
            one.copy_(value)
    return start.bound(model, encoder)


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """Return the processor seconds of a call and what it returns: others on the machine count less in them."""
    begin = time.process_time()
    value = run()
    return time.process_time() - begin, value


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each peer."""
    torch.set_num_threads(1)
    start = Start(settings)
    sides = {
        "closed": lambda: by_probae(start, settings, True),
        "drawn": lambda: by_probae(start, settings, False),
        "by hand": lambda: by_hand(start, settings),
        "Pyro": lambda: by_pyro(start, settings),
        "pythae": lambda: by_pythae(start, settings),
    }
    turns: list[dict[str, tuple[float, float]]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(settings.turns + 1):
            found = {name: timed(run) for name, run in sides.items()}
            turns += [found] if turn else []  # the first warms up
    rows = []
    for peer, mine in (("by hand", "closed"), ("Pyro", "drawn"), ("pythae", "drawn")):
        ratios = [turn[mine][0] / turn[peer][0] for turn in turns]
        seconds = [
            float(np.median([turn[who][0] for turn in turns])) / settings.epochs for who in (mine, peer)
        ]
        rows.append(
            {
                "peer": peer,
                "loss": mine,
                "ratio": float(np.median(ratios)),
                "smallest": min(ratios),
                "largest": max(ratios),
                "claim": CLAIMS[peer],
                "seconds per epoch": seconds,
                "bounds": [turns[-1][who][1] for who in (mine, peer)],
            }
        )
        print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    mine, theirs = (1e3 * one for one in row["seconds per epoch"])
    return (
        f"{row['ratio']:.3f} of {row['peer']} ({row['smallest']:.3f} .. {row['largest']:.3f}; claim "
        f"{row['claim']:.2f}), {row['loss']} loss; {mine:.0f} ms and {theirs:.0f} ms an epoch; "
        f"bounds {row['bounds'][0]:.5f} and {row['bounds'][1]:.5f} nats per row"
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings), "pyro-ppl", "pythae")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
