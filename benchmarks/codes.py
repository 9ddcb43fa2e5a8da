r"""Lasso codes of image patches: how long, beside the tools people use, for an objective certified to 1e-6?

20,000 patches of 12 x 12 pixels and 256 atoms; 1/2 ||x - A z||^2 + .5 ||z||_1 is minimised for every patch. The patches
come in three scalings, which at one penalty make codes of about 1, 2 and 40 atoms: as cut, divided by their norm, and
with equal contrast (norm 12). The atoms are learned from the same patches, or are patches themselves.

Peers run in turn with probae on the same data, dtype and number of threads: SPAMS `lasso` (least-angle regression,
from Fortran arrays made before the clock starts) and scikit-learn `sparse_encode(algorithm="lasso_cd")`. Checks of the
data are inside the time of probae. A ratio of probae's time to the peer's is taken within each turn; its median is the
claim. Objectives are computed by one function in float64.

Run:     python -m benchmarks.codes                              (about ten minutes)
         python -m benchmarks.codes --scalings contrast --no-scikit-learn
Claim:   see CLAIMS; `found` in results/benchmarks/codes.json.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import spams
import torch
import tyro
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import probae as pa
from benchmarks._machine import save

CLAIMS = {"spams": 1.0, "scikit-learn": 0.35}  # probae's time over the peer's, at most
TOLERANCE = 1e-6
Scaling = Literal["raw", "unit", "contrast"]
Atoms = Literal["learned", "patches"]


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    scalings: tuple[Scaling, ...] = ("raw", "unit", "contrast")
    """How the patches are scaled."""
    dictionaries: tuple[Atoms, ...] = ("learned", "patches")
    """Where the atoms come from."""
    dtypes: tuple[Literal["float64", "float32"], ...] = ("float64", "float32")
    """Dtypes of the data, for all alike."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of every one."""
    scikit_learn: bool = True
    """Whether scikit-learn takes part: once, in float64."""
    size: int = 12
    """Side of a patch."""
    count: int = 20_000
    """Patches."""
    atoms: int = 256
    """Atoms."""
    penalty: float = 0.5
    """Weight of the codes."""
    learning_steps: int = 300
    """Minibatches the learned atoms have seen."""
    repeats: int = 5
    """Turns of probae and SPAMS."""
    seed: int = 0
    """Seed of the patches and the atoms."""
    output: Path = Path("results/benchmarks/codes.json")
    """File for the results."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each comparison."""
    rows = []
    for scaling in settings.scalings:
        x = patches(scaling, settings)
        for kind in settings.dictionaries:
            dictionary = make_atoms(kind, x, settings)
            for threads in settings.threads:
                torch.set_num_threads(threads)
                with threadpool_limits(threads):
                    found = [beside_spams(x, dictionary, d, threads, settings) for d in settings.dtypes]
                    if settings.scikit_learn:
                        found.append(beside_scikit_learn(x, dictionary, threads, settings))
                for row in found:
                    rows.append({"scaling": scaling, "dictionary": kind, "threads": threads} | row)
                    print(line(rows[-1]), flush=True)
    return rows


def patches(scaling: Scaling, settings: Settings) -> np.ndarray:
    """Return the patches in one of the scalings."""
    x = pa.datasets.natural_patches(
        settings.size, settings.count, settings.seed, equalize_contrast=scaling == "contrast"
    ).x.numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True) if scaling == "unit" else x


def make_atoms(kind: Atoms, x: np.ndarray, settings: Settings) -> np.ndarray:
    """Return atoms of norm 1: learned at MAP's own penalty, or random patches."""
    if kind == "patches":
        picked = np.random.default_rng(settings.seed).choice(len(x), settings.atoms, replace=False)
        atoms = x[picked].T
    else:
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pa.ConvergenceWarning)  # a dictionary on its way will do
            model = pa.SparseCoding(x.shape[1], settings.atoms)
            atoms = pa.fit(model, x, pa.MAP(steps=settings.learning_steps), seed=settings.seed).model.loadings
            atoms = atoms.detach().numpy()
    return np.ascontiguousarray(atoms / np.linalg.norm(atoms, axis=0))


def beside_spams(
    x: np.ndarray, dictionary: np.ndarray, dtype: str, threads: int, settings: Settings
) -> dict[str, Any]:
    """Time both in turn."""
    x, dictionary = x.astype(dtype), dictionary.astype(dtype)
    fortran = np.asfortranarray(x.T), np.asfortranarray(dictionary)

    def theirs() -> np.ndarray:
        return spams.lasso(fortran[0], D=fortran[1], lambda1=settings.penalty, mode=2, numThreads=threads).T

    ours = solver(x, dictionary, settings)
    turns = [(timed(ours), timed(theirs)) for _ in range(settings.repeats)]
    codes, other = turns[-1][0][1], turns[-1][1][1].toarray()
    return comparison("spams", dtype, [(a[0], b[0]) for a, b in turns], x, dictionary, codes, other, settings)


def beside_scikit_learn(
    x: np.ndarray, dictionary: np.ndarray, threads: int, settings: Settings
) -> dict[str, Any]:
    """Time both once, in float64."""

    def theirs() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return sparse_encode(
                x, dictionary.T, algorithm="lasso_cd", alpha=settings.penalty, n_jobs=threads
            )

    mine, other = timed(solver(x, dictionary, settings)), timed(theirs)
    turn = [(mine[0], other[0])]
    return comparison("scikit-learn", "float64", turn, x, dictionary, mine[1], other[1], settings)


def solver(x: np.ndarray, dictionary: np.ndarray, settings: Settings) -> Callable[[], pa.Codes]:
    """Return probae's solver, compiled."""
    pa.sparse_codes(x[:100], dictionary, settings.penalty)
    return lambda: pa.sparse_codes(x, dictionary, settings.penalty, tolerance=TOLERANCE)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def comparison(
    peer: str,
    dtype: str,
    turns: list[tuple[float, float]],
    x: np.ndarray,
    dictionary: np.ndarray,
    codes: pa.Codes,
    other: np.ndarray,
    settings: Settings,
) -> dict[str, Any]:
    """Return the ratio of the times, both objectives and the certificate."""
    ratios = [mine / theirs for mine, theirs in turns]
    mine, theirs = (objective(x, dictionary, z, settings.penalty) for z in (codes.z.numpy(), other))
    floor = 0.5e-3 * np.square(x.astype(np.float64)).sum(1)
    return {
        "peer": peer,
        "dtype": dtype,
        "ratio": float(np.median(ratios)),
        "smallest": min(ratios),
        "largest": max(ratios),
        "claim": CLAIMS[peer],
        "seconds": [float(np.median([turn[who] for turn in turns])) for who in (0, 1)],
        "active atoms": float((codes.z != 0).sum(1).double().mean()),
        "objectives": [float(mine.mean()), float(theirs.mean())],
        "peer above": float(theirs.mean() / mine.mean() - 1),
        "largest relative gap": float((codes.gap.numpy() / np.maximum(mine, floor)).max()),
    }


def objective(x: np.ndarray, dictionary: np.ndarray, z: np.ndarray, penalty: float) -> np.ndarray:
    """Return the objective of each row in float64."""
    x, dictionary, z = (a.astype(np.float64) for a in (x, dictionary, z))
    return 0.5 * np.square(x - z @ dictionary.T).sum(1) + penalty * np.abs(z).sum(1)


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    return (
        f"{row['scaling']:9s}{row['dictionary']:8s} {row['threads']} thread(s) {row['dtype']} "
        f"{row['active atoms']:5.1f} atoms: {row['ratio']:.3f} of {row['peer']} "
        f"({row['smallest']:.3f} .. {row['largest']:.3f}; claim {row['claim']:.2f}); "
        f"{row['seconds'][0]:.3f} s and {row['seconds'][1]:.3f} s; peer's objective {row['peer above']:+.1e}, "
        f"largest gap {row['largest relative gap']:.1e}"
    )


def main(settings: Settings) -> None:
    """Measure, print and save."""
    save(settings.output, settings, measure(settings), "scikit-learn", "spams-bin")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
