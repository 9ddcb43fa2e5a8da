r"""LISTA on held-out image patches: how near the lasso optimum, and in what share of the time of certified codes?

The setting of `benchmarks/codes.py`: patches of 12 x 12 pixels, 256 learned atoms, penalty .5. Of its scalings, equal
contrast makes codes of about 40 atoms; in the other two a row has one or two, the first product is most of the time of
either method, and the ratio of times is reported without a target. LISTA is `LISTAEncoder(solver="coordinate")` with
analytic weights: steps and thresholds are learned, from other draws of patches for the given dictionary. Both come from
the same two photographs, so patches overlap; settings were chosen on a third draw (seed 2). The same network untrained
is coordinate descent; FISTA of as many steps is there too, and LISTA of parallel layers that starts as FISTA.

Everyone runs in turn on the same float32 rows with one thread, in time of the processor; certified codes have a
relative gap of 1e-6. A ratio to certified codes from 0 is taken within each turn and its median printed. "warm" is the
encoder and certified codes from its answer, together. Objectives are means in float64.

Run:     python -m benchmarks.lista                     (about ten minutes)
         python -m benchmarks.lista --scalings contrast --no-parallel
Claim:   on equal contrast see TARGETS. Found, on a busy machine: 1.08 % above the optimum in .128 of the time with 8
         layers, .58 % in .180 with 16; certified codes from the encoder's .89 of those from 0, encoder included.
         Training took 10 s. FISTA: 21 % and 7.9 %; parallel layers trained for 31 and 58 s: 5.0 % and 1.5 %.
         On rows of norm 1 (1.7 atoms) an encoder has no place: .51 % and .39 % above in .55 and .86 of the time,
         and starting from it doubles that of certified codes.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

import probae as pa
from benchmarks import codes
from benchmarks._machine import save

Solver = Literal["fista", "coordinate"]
TARGETS = {8: 0.03, 16: 0.01}  # of the optimum, above it, by layers
TARGET_RATIO = 0.2  # of the time of certified codes
TARGET_WARM = 1.0
SMALL = 0.5  # of the penalty: codes below it are not started from


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    scalings: tuple[codes.Scaling, ...] = ("raw", "unit", "contrast")
    """How the patches are scaled."""
    layers: tuple[int, ...] = (8, 16)
    """Layers of the encoders."""
    training: int = 20_000
    """Patches to train on."""
    epochs: int = 10
    """Passes over them."""
    parallel: bool = True
    """Whether parallel layers, trained as long, take part."""
    lr: float = 0.02
    """First step of Adam."""
    repeats: int = 7
    """Turns."""
    data: codes.Settings = codes.Settings()
    """Patches and atoms."""
    output: Path = Path("results/benchmarks/lista.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each scaling and number of layers."""
    torch.set_num_threads(1)
    rows = []
    for scaling in settings.scalings:
        x = codes.patches(scaling, settings.data)
        other = replace(settings.data, seed=settings.data.seed + 1, count=settings.training)
        training = codes.patches(scaling, other).astype("float32")
        model = model_of(codes.make_atoms("learned", x, settings.data), settings.data.penalty)
        for layers in settings.layers:
            row = {"scaling": scaling, "layers": layers} | compared(model, training, x, layers, settings)
            print(line(row), flush=True)
            rows.append(row)
    return rows


def model_of(atoms: np.ndarray, penalty: float) -> pa.SparseCoding:
    """Return the model whose MAP codes are the lasso codes of these atoms at this penalty."""
    model = pa.SparseCoding(*atoms.shape)
    model.loadings = torch.from_numpy(atoms)
    model.noise_variance = torch.tensor(penalty / math.sqrt(2), dtype=torch.float64)
    return model


def trained(
    model: pa.SparseCoding, x: np.ndarray, layers: int, solver: Solver, settings: Settings
) -> tuple[pa.LISTAEncoder, float]:
    """Return an encoder trained for the model, in float32, and the seconds that it took."""
    encoder = pa.LISTAEncoder(model.features, model.latents, layers, "analytic", solver)
    method = pa.Amortization(encoder, epochs=settings.epochs, lr=settings.lr)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ConvergenceWarning)
        run = pa.fit(model, x, method, seed=settings.data.seed)
    return run.posterior.encoder.float(), time.process_time() - start


def untrained(model: pa.SparseCoding, layers: int, solver: Solver) -> pa.LISTAEncoder:
    """Return the solver itself."""
    encoder = pa.LISTAEncoder(model.features, model.latents, layers, "analytic", solver, least_move=0.0)
    encoder.attach(model)
    return encoder


@torch.no_grad()
def compared(
    model: pa.SparseCoding, training: np.ndarray, x: np.ndarray, layers: int, settings: Settings
) -> dict[str, Any]:
    """Time all in turn, and compare their objectives with that of certified codes."""
    rows, atoms, penalty = torch.from_numpy(x).float(), model.loadings.detach(), settings.data.penalty
    encoders, seconds = {}, {}
    with torch.enable_grad():
        for name, solver in (("lista", "coordinate"), ("parallel lista", "fista")):
            if name == "lista" or settings.parallel:
                encoders[name], seconds[name] = trained(model, training, layers, solver, settings)
    encoders |= {"coordinate descent": untrained(model, layers, "coordinate")}
    encoders |= {"fista": untrained(model, layers, "fista")}

    def certified(start: torch.Tensor | None = None) -> torch.Tensor:
        return pa.sparse_codes(rows, atoms, penalty, start=start).z

    def warm() -> torch.Tensor:
        code = encoders["lista"].codes(rows)
        # an active code costs a row of a Cholesky factor, and small ones are often not in the support
        return certified(torch.where(code.abs() > SMALL * penalty, code, torch.zeros_like(code)))

    peers = {"certified": certified, "warm": warm}
    peers |= {name: partial(encoder.codes, rows) for name, encoder in encoders.items()}
    found = {name: run().numpy() for name, run in peers.items()}  # compiles
    turns = [{name: timed(run) for name, run in peers.items()} for _ in range(settings.repeats)]
    values = {name: codes.objective(x, atoms.numpy(), z, penalty).mean() for name, z in found.items()}
    return {
        name: {
            "above": float(values[name] / values["certified"] - 1),
            "ratio": float(np.median([turn[name] / turn["certified"] for turn in turns])),
            "smallest and largest": [f(turn[name] / turn["certified"] for turn in turns) for f in (min, max)],
            "seconds": float(np.median([turn[name] for turn in turns])),
            "active atoms": float((found[name] != 0).sum(1).mean()),
            "seconds of training": seconds.get(name),
        }
        for name in peers
    }


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds of the processor that a call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    title = f"{row['scaling']}, {row['layers']} layers"
    if row["scaling"] == "contrast" and row["layers"] in TARGETS:
        title += f" (LISTA: at most {TARGETS[row['layers']]:.0%} above in {TARGET_RATIO} of the time; "
        title += f"warm: less than {TARGET_WARM})"
    peers = {name: value for name, value in row.items() if isinstance(value, dict)}
    return "\n".join(
        [
            title,
            *(
                f"  {name:19s}{p['above']:8.3%} above the optimum, {p['ratio']:.3f} of the time "
                f"({p['smallest and largest'][0]:.3f} .. {p['smallest and largest'][1]:.3f}); {p['seconds']:.3f} s, "
                f"{p['active atoms']:.1f} atoms"
                + (f", trained in {p['seconds of training']:.0f} s" if p["seconds of training"] else "")
                for name, p in peers.items()
            ),
        ]
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
