r"""Dictionary learning: what is reached in equal time, beside the tools people use?

- `patches`: 20,000 patches of 12 x 12 pixels, 256 atoms, 1/2 ||x - A h||^2 + .5 ||h||_1, with equal contrast (norm 12,
  about 45 active atoms) and divided by their norm (about 2). Judged by the mean objective of all rows, with unit-norm
  atoms and codes certified to 1e-6 by one function for all.
- `planted`: 10,000 rows of 64 features, each a sum of 5 or 10 of 128 random unit atoms with normal weights, and
  noise at 20 dB. Judged by the number of atoms with a learned one at |cosine| > .95.

probae runs for a number of steps, and the peers then get at least the processor time it took on its one thread, so
that what else the machine does falls on nobody: SPAMS `trainDL` as many iterations as fill it, scikit-learn
`MiniBatchDictionaryLearning` as many calls of `partial_fit`. All have float64 rows with the column means removed (it
takes them off again, and its checks, its scale and its test of convergence are inside its time) and one penalty; the
peers start from the same random rows, normalised. Runs take turns within each seed; the claim is on medians over seeds,
of the objective over that of a peer and of the atoms found.

Run:     python -m benchmarks.dictionary                         (about twenty minutes)
         python -m benchmarks.dictionary --parts planted --seeds 0 1
Claim:   objective at or below SPAMS and below scikit-learn; more atoms than either. Found in
         results/benchmarks/dictionary.json.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import spams
import torch
import tyro
from sklearn.decomposition import MiniBatchDictionaryLearning
from threadpoolctl import threadpool_limits

import probae as pa
from benchmarks._machine import save

FOUND = 0.95  # |cosine| at which a planted atom counts
SPAMS_BATCH, SCIKIT_BATCH = 512, 256  # their defaults
Part = Literal["patches", "planted"]
Scaling = Literal["contrast", "unit"]


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    parts: tuple[Part, ...] = ("patches", "planted")
    """What to measure."""
    scalings: tuple[Scaling, ...] = ("contrast", "unit")
    """How the patches are scaled."""
    contrast_steps: tuple[int, ...] = (25, 60, 150)
    """Steps of probae on patches of equal contrast: about 2, 5 and 10 seconds."""
    unit_steps: tuple[int, ...] = (100, 250, 500)
    """Steps of probae on patches of norm 1."""
    planted_steps: tuple[int, ...] = (60, 150)
    """Steps of probae on planted atoms."""
    active: tuple[int, ...] = (5, 5, 10)
    """Planted atoms in a row, by setting."""
    planted_penalty: tuple[float, ...] = (0.1, 0.3, 0.2)
    """Penalty of each planted setting."""
    size: int = 12
    """Side of a patch."""
    count: int = 20_000
    """Patches; half as many rows are planted."""
    atoms: int = 256
    """Atoms for the patches; half as many are planted, in a quarter as many features."""
    penalty: float = 0.5
    """Weight of the codes of patches."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of data and methods."""
    output: Path = Path("results/benchmarks/dictionary.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each length of run, after all seeds."""
    torch.set_num_threads(1)
    rows = []
    with threadpool_limits(1):
        warm_up()
        for problem in problems(settings):
            for steps in problem["steps"]:
                turns = [turn(problem, steps, seed, settings) for seed in settings.seeds]
                rows.append(summary(problem, steps, turns))
                print(line(rows[-1]), flush=True)
    return rows


def problems(settings: Settings) -> list[dict[str, Any]]:
    """Return the problems: a name, rows by seed with the truth where there is one, atoms, a penalty and steps."""
    found: list[dict[str, Any]] = []
    if "patches" in settings.parts:
        steps = {"contrast": settings.contrast_steps, "unit": settings.unit_steps}
        for scaling in settings.scalings:
            found.append(
                {
                    "name": f"patches, {scaling}",
                    "draw": lambda seed, scaling=scaling: (patches(scaling, seed, settings), None),
                    "atoms": settings.atoms,
                    "penalty": settings.penalty,
                    "steps": steps[scaling],
                }
            )
    if "planted" in settings.parts:
        for active, penalty in zip(settings.active, settings.planted_penalty, strict=True):
            found.append(
                {
                    "name": f"planted, {active} active, penalty {penalty}",
                    "draw": lambda seed, active=active: planted(active, seed, settings),
                    "atoms": settings.atoms // 2,
                    "penalty": penalty,
                    "steps": settings.planted_steps,
                }
            )
    return found


def patches(scaling: Scaling, seed: int, settings: Settings) -> np.ndarray:
    """Return the patches in one of the scalings, columns centred."""
    equal = scaling == "contrast"
    x = pa.datasets.natural_patches(settings.size, settings.count, seed, equalize_contrast=equal).x.numpy()
    x = x if equal else x / np.linalg.norm(x, axis=1, keepdims=True)
    return x - x.mean(0)


def planted(active: int, seed: int, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, columns centred, and the atoms they are made of."""
    generator = np.random.default_rng(seed)
    samples, features, latents = settings.count // 2, settings.atoms // 4, settings.atoms // 2
    atoms = generator.normal(size=(features, latents))
    atoms /= np.linalg.norm(atoms, axis=0)
    codes = np.zeros((samples, latents))
    support = generator.random((samples, latents)).argsort(axis=1)[:, :active]
    np.put_along_axis(codes, support, generator.normal(size=(samples, active)), axis=1)
    x = codes @ atoms.T
    x += generator.normal(size=x.shape) * math.sqrt(np.square(x).mean() / 100)
    return x - x.mean(0), atoms


def warm_up() -> None:
    """Compile, and import what is imported on first use."""
    learn(np.random.default_rng(0).normal(size=(600, 6)), 8, 0.5, 3, 0)


def learn(x: np.ndarray, atoms: int, penalty: float, steps: float, seed: int) -> np.ndarray:
    """Return unit-norm atoms (D, K) learned by probae."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ConvergenceWarning)  # the time is up before it converges
        method = pa.MAP(penalty=penalty, steps=int(steps))
        return unit(pa.fit(pa.SparseCoding(x.shape[1], atoms), x, method, seed=seed).model.loadings.numpy())


def learn_spams(x: np.ndarray, atoms: int, penalty: float, seconds: float, seed: int) -> np.ndarray:
    """Return unit-norm atoms learned by SPAMS, from Fortran arrays as it wants them, in no less processor time."""
    rows, first = np.asfortranarray(x.T), np.asfortranarray(first_atoms(x, atoms, seed).T)
    iterations = 5
    while True:
        start = time.process_time()
        found = spams.trainDL(
            rows,
            D=first.copy(order="F"),
            lambda1=penalty,
            mode=2,
            iter=iterations,
            batchsize=SPAMS_BATCH,
            numThreads=1,
            verbose=False,
        )
        used = time.process_time() - start
        if used >= seconds:
            return unit(found)
        iterations = max(iterations + 1, math.ceil(1.02 * iterations * seconds / used))


def learn_scikit(x: np.ndarray, atoms: int, penalty: float, seconds: float, seed: int) -> np.ndarray:
    """Return unit-norm atoms learned by scikit-learn in passes over shuffled rows until the time is up."""
    end = time.process_time() + seconds
    generator = np.random.default_rng(seed)
    peer = MiniBatchDictionaryLearning(
        atoms,
        alpha=penalty,
        fit_algorithm="cd",
        batch_size=SCIKIT_BATCH,
        dict_init=first_atoms(x, atoms, seed),
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of its inner problems stop early
        while True:
            order = generator.permutation(len(x))
            for first in range(0, len(x), SCIKIT_BATCH):
                peer.partial_fit(x[order[first : first + SCIKIT_BATCH]])
                if time.process_time() > end:
                    return unit(peer.components_.T)


def first_atoms(x: np.ndarray, atoms: int, seed: int) -> np.ndarray:
    """Return random rows of norm 1."""
    return unit(x[np.random.default_rng(seed).choice(len(x), atoms, replace=False)].T).T


def unit(atoms: np.ndarray) -> np.ndarray:
    """Return atoms (D, K) divided by their norms; one of zeros stays."""
    norms = np.linalg.norm(atoms, axis=0)
    return np.ascontiguousarray(atoms / np.where(norms > 0, norms, 1.0))


def turn(problem: dict[str, Any], steps: int, seed: int, settings: Settings) -> dict[str, Any]:
    """Learn with all on one draw of the data; return times, objectives and atoms found."""
    x, truth = problem["draw"](seed)
    atoms, penalty = problem["atoms"], problem["penalty"]
    start = time.process_time()
    learned = [learn(x, atoms, penalty, steps, seed)]
    seconds = time.process_time() - start
    learned += [peer(x, atoms, penalty, seconds, seed) for peer in (learn_spams, learn_scikit)]
    return {
        "seed": seed,
        "seconds": seconds,
        "objective": [objective(x, a, penalty) for a in learned],
        "found": None if truth is None else [recovered(a, truth) for a in learned],
    }


def objective(x: np.ndarray, atoms: np.ndarray, penalty: float) -> float:
    """Return the mean objective of all rows at certified codes."""
    z = pa.sparse_codes(x, atoms, penalty, tolerance=1e-6).z.numpy()
    return float((0.5 * np.square(x - z @ atoms.T).sum(1) + penalty * np.abs(z).sum(1)).mean())


def recovered(atoms: np.ndarray, truth: np.ndarray) -> int:
    """Return how many true atoms have a learned one beside them."""
    return int((np.abs(atoms.T @ truth).max(0) > FOUND).sum())


def summary(problem: dict[str, Any], steps: int, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the seeds, and the turns themselves."""
    values = np.array([one["objective"] for one in turns])
    row: dict[str, Any] = {
        "name": problem["name"],
        "steps": steps,
        "seconds": float(np.median([one["seconds"] for one in turns])),
        "objectives": np.median(values, axis=0).tolist(),
        "over SPAMS": spread(values[:, 0] / values[:, 1]),
        "over scikit-learn": spread(values[:, 0] / values[:, 2]),
        "turns": turns,
    }
    if turns[0]["found"] is not None:
        row["found"] = [spread(np.array([one["found"][who] for one in turns])) for who in range(3)]
        row["atoms"] = problem["atoms"]
    return row


def spread(values: np.ndarray) -> list[float]:
    """Return the median, the least and the largest."""
    return [float(np.median(values)), float(values.min()), float(values.max())]


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    mine, spams_, scikit = row["objectives"]
    text = (
        f"{row['name']:34s} {row['seconds']:5.1f} s: objective {mine:.4f}, SPAMS {spams_:.4f}, "
        f"scikit-learn {scikit:.4f}; ratios {row['over SPAMS'][0]:.4f} ({row['over SPAMS'][1]:.4f} .. "
        f"{row['over SPAMS'][2]:.4f}) and {row['over scikit-learn'][0]:.4f}"
    )
    if "found" in row:
        counts = [f"{m:.0f} ({low:.0f} .. {high:.0f})" for m, low, high in row["found"]]
        text += f"; atoms of {row['atoms']}: {counts[0]}, SPAMS {counts[1]}, scikit-learn {counts[2]}"
    return text


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings), "scikit-learn", "spams-bin")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
