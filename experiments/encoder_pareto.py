r"""Sparse coding has an encoder without parameters, yet is a parametric model. Different? What is it good for?

One model, two kinds of map. The decoder x = A h + s e with Laplace codes h is parametric. Its encoder may be the
minimiser of |x - A h|^2 / (2 s^2) + |h|_1 (a new optimisation for every row, without parameters of its own), some steps
of a solver for it, or a trained network. Each is judged by what it costs for a row and how far it stays from the
minimum; then the rows are doubled, and then the dictionary is another by 5 %, of which only the solvers are told.

Control: for an orthonormal dictionary every coordinate is a problem of its own, so that one step of ISTA is the
minimum, and the risk of each map and the gap of the best Gaussian per code are integrals over one number.

Run:     python -m experiments.encoder_pareto
Answer:  to be filled in
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.map_or_posterior import predicted_gap, predicted_risks
from experiments.output import save, table

Rows = list[dict[str, Any]]
Map = Callable[[Tensor], Tensor]

TRAINED = ("linear", "MLP", "PSD", "LISTA-3", "LISTA-10", "MLP, ELBO")
SOLVERS = ("ISTA-10", "ISTA-30", "ISTA-100", "exact lasso", "refined SVI")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    features: int = 16
    """Columns of x."""
    latents: int = 32
    """Atoms of the planted dictionary."""
    noises: tuple[float, ...] = (0.5, 0.2, 1.0)
    """Noise s; a feature has the variance 4 + s^2."""
    middle: float = 0.5
    """Noise of the shifts, the gaps and the figure."""
    perturbation: float = 0.05
    """Length of the change of each atom."""
    training_rows: int = 10_000
    """Rows the encoders are trained on."""
    epochs: int = 20
    """Passes over them."""
    hidden: int = 128
    """Hidden units of the MLPs."""
    gamma: float = 1.0
    """Weight of the distance to the code in PSD, over s^2."""
    refine: int = 20
    """Steps of refinement for each row."""
    rows: int = 2000
    """Held-out rows of the energies, risks and timings."""
    gap_rows: int = 100
    """Held-out rows of the gaps to log p(x)."""
    turns: int = 3
    """Timings of each encoder, taken in turns."""
    temperatures: int = 200
    """Steps of annealed importance sampling."""
    control: int = 8
    """Size of the orthonormal dictionary."""
    control_noises: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)
    """Its noises."""
    seed: int = 0
    """Seed of the dictionary; training rows have seed + 1, held-out rows seed + 2, training seed + 3."""
    output: Path = Path("results/encoder_pareto")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction where there is one."""
    found: dict[str, Rows] = {"pareto": [], "shift": [], "gap": [], "control": list(control(settings))}
    for noise in settings.noises:
        model = planted(dictionary(settings), noise)
        runs = trained(model, settings)
        found["pareto"] += pareto(model, runs, settings)
        if noise == settings.middle:
            found["shift"] += shifts(model, runs, settings)
            found["gap"] += gap_rows(model, runs, settings)
    return found


def dictionary(settings: Settings) -> Tensor:
    """Return unit-norm atoms (D, K)."""
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = torch.randn(settings.features, settings.latents, generator=generator, dtype=torch.float64)
    return drawn / drawn.norm(dim=0)


def planted(a: Tensor, noise: float) -> pa.SparseCoding:
    """Return the model of x = A h + s e; its codes z have variance one, so that h = sqrt 2 z and W = sqrt 2 A."""
    model = pa.SparseCoding(*a.shape)
    model.loadings = math.sqrt(2) * a
    model.noise_variance = torch.tensor(noise**2, dtype=torch.float64)
    return model


def simulate(model: pa.SparseCoding, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw x and the codes z that it is made of."""
    generator = torch.Generator().manual_seed(seed)
    rank = torch.rand(rows, model.latents, generator=generator, dtype=torch.float64) - 0.5
    z = -rank.sign() * torch.log1p(-2 * rank.abs()) / math.sqrt(2)
    noise = torch.randn(rows, model.features, generator=generator, dtype=torch.float64)
    return z @ model.loadings.detach().T + math.sqrt(noise_of(model)) * noise, z


def trained(model: pa.SparseCoding, settings: Settings) -> dict[str, pa.Fit]:
    """Train the encoders of the given model."""
    size = model.features, model.latents
    x, _ = simulate(model, settings.training_rows, settings.seed + 1)
    noise = noise_of(model)

    def perceptron() -> pa.MLPEncoder:
        return pa.MLPEncoder(*size, hidden=(settings.hidden,), covariance="diagonal")

    encoders = {
        "linear": (pa.LinearGaussianEncoder(*size), pa.LassoEnergy()),
        "MLP": (perceptron(), pa.LassoEnergy()),
        "PSD": (perceptron(), pa.PredictiveSparseDecomposition(settings.gamma * noise)),
        "LISTA-3": (pa.LISTAEncoder(*size, layers=3), pa.LassoEnergy()),
        "LISTA-10": (pa.LISTAEncoder(*size, layers=10), pa.LassoEnergy()),
        "MLP, ELBO": (perceptron(), pa.ELBO()),
    }
    runs = {}
    for name, (encoder, objective) in encoders.items():
        method = pa.Amortization(encoder, epochs=settings.epochs, objective=objective)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pa.ProbaeWarning)  # a fixed number of epochs, diagonal laws
            runs[name] = pa.fit(model, x, method, seed=settings.seed + 3)
    return runs


def maps(model: pa.SparseCoding, runs: dict[str, pa.Fit], settings: Settings) -> dict[str, Map]:
    """Return every encoder as a map from rows to codes; the solvers work for the model given here."""
    found: dict[str, Map] = {}
    for name in TRAINED:
        encoder = runs[name].posterior.encoder
        found[name] = encoder.codes if hasattr(encoder, "codes") else lambda x, e=encoder: e(x).mean
    for steps in (10, 30, 100):
        found[f"ISTA-{steps}"] = ista(model, steps)
    found["exact lasso"] = lambda x: best_codes(model, x)
    refined = pa.RefinedPosterior(runs["MLP, ELBO"].posterior.encoder, model, settings.refine)
    found["refined SVI"] = lambda x: refined(x).mean
    return found


def ista(model: pa.SparseCoding, steps: int) -> Map:
    """Return this many steps of ISTA: LISTA before any training."""
    encoder = pa.LISTAEncoder(model.features, model.latents, layers=steps, coupling="analytic").double()
    encoder.attach(model)
    return encoder.codes


def noise_of(model: pa.SparseCoding) -> float:
    """Return s^2."""
    return float(model.noise_variance.detach())


def penalty(model: pa.SparseCoding) -> float:
    """Return the weight of |z|_1 beside |x - W z|^2 / 2."""
    return math.sqrt(2) * noise_of(model)


def best_codes(model: pa.SparseCoding, x: Tensor) -> Tensor:
    """Return the lasso codes, to a relative gap of 1e-6."""
    return pa.sparse_codes(x, model.loadings.detach(), penalty(model), tolerance=1e-6).z


def energy(model: pa.SparseCoding, x: Tensor, z: Tensor) -> Tensor:
    """Return |x - A h|^2 / (2 s^2) + |h|_1 of each row, in nats."""
    squares = (x - z @ model.loadings.detach().T).square().sum(1)
    return (0.5 * squares + penalty(model) * z.abs().sum(1)) / noise_of(model)


@torch.no_grad()
def pareto(model: pa.SparseCoding, runs: dict[str, pa.Fit], settings: Settings) -> Rows:
    """Energy over the minimum, risk, support and time of every encoder, on rows of the model."""
    x, z = simulate(model, settings.rows, settings.seed + 2)
    found = maps(model, runs, settings)
    times = timings(found, x, settings.turns)
    return [
        {"noise": math.sqrt(noise_of(model)), **row, "ms per 1000 rows": times[row["encoder"]]}
        for row in judged(model, found, x, z)
    ]


@torch.no_grad()
def judged(model: pa.SparseCoding, found: dict[str, Map], x: Tensor, z: Tensor) -> Rows:
    """Compare the codes of every encoder with the lasso's and with the truth."""
    best = best_codes(model, x)
    lowest = energy(model, x, best)
    rows = []
    for name, encode in found.items():
        code = encode(x)
        above, error = (
            energy(model, x, code) - lowest,
            2 * (code - z).square().mean(1),
        )  # of h, whose variance is 2
        rows.append(
            {
                "encoder": name,
                "energy above minimum": float(above.mean()),
                "standard error": standard_error(above),
                "share of minimum": float(above.mean() / lowest.mean()),
                "risk": float(error.mean()),
                "se risk": standard_error(error),
                "support F1": support_score(code, best),
            }
        )
    return rows


def support_score(code: Tensor, best: Tensor) -> float:
    """Return F1 of the codes that are not zero, against those of the lasso."""
    both = float(((code != 0) & (best != 0)).sum())
    return 2 * both / float((code != 0).sum() + (best != 0).sum())


def timings(found: dict[str, Map], x: Tensor, turns: int) -> dict[str, float]:
    """Return processor milliseconds for 1,000 rows: the median over turns in which every encoder has its own."""
    spent: dict[str, list[float]] = {name: [] for name in found}
    for encode in found.values():
        encode(x[:10])  # compiled on first use
    for _ in range(turns):
        for name, encode in found.items():
            start = time.process_time()
            encode(x)
            spent[name].append(1e6 * (time.process_time() - start) / len(x))
    return {name: float(torch.tensor(some).median()) for name, some in spent.items()}


@torch.no_grad()
def shifts(model: pa.SparseCoding, runs: dict[str, pa.Fit], settings: Settings) -> Rows:
    """The same on rows twice as large, and on those of a dictionary that is 5 % another."""
    a = dictionary(settings)
    generator = torch.Generator().manual_seed(settings.seed + 4)
    change = torch.randn(a.shape, generator=generator, dtype=torch.float64)
    moved = a + settings.perturbation * change / change.norm(dim=0)
    other = planted(moved / moved.norm(dim=0), math.sqrt(noise_of(model)))
    x, z = simulate(model, settings.rows, settings.seed + 2)
    kinds = {"none": (model, x, z), "2 x": (model, 2 * x, 2 * z)}
    kinds["dictionary"] = (other, *simulate(other, settings.rows, settings.seed + 2))
    return [
        {"shift": kind, **row}
        for kind, (truth, rows, codes) in kinds.items()
        for row in judged(truth, maps(truth, runs, settings), rows, codes)
    ]


def gap_rows(model: pa.SparseCoding, runs: dict[str, pa.Fit], settings: Settings) -> Rows:
    """Log p(x) less the bound of each density, taken apart; log p(x) is from annealed importance sampling."""
    x, _ = simulate(model, settings.gap_rows, settings.seed + 2)
    run = runs["MLP, ELBO"]
    encoder, rows = run.posterior.encoder, []
    for steps in (0, 1, 3, settings.refine):
        refined = replace(run, posterior=pa.RefinedPosterior(encoder, model, steps))
        found = pa.gaps(
            refined, x, pa.AnnealedImportance(steps=settings.temperatures), seed=settings.seed + 3
        )
        rows.append(
            {
                "refined steps": steps,
                "approximation": found.approximation.mean,
                "se approximation": found.approximation.standard_error,
                "amortization": found.amortization.mean,
                "se amortization": found.amortization.standard_error,
                "total": found.total.mean,
            }
        )
    return rows


@torch.no_grad()
def control(settings: Settings) -> Rows:
    """Risks and gaps for an orthonormal dictionary, beside the integrals over one coordinate."""
    generator = torch.Generator().manual_seed(settings.seed)
    square = torch.randn(settings.control, settings.control, generator=generator, dtype=torch.float64)
    rows = []
    for noise in settings.control_noises:
        model = planted(torch.linalg.qr(square).Q, noise)
        x, z = simulate(model, settings.rows, settings.seed + 2)
        encoder = pa.MLPEncoder(*square.shape, hidden=(4,), covariance="diagonal").double()
        encoder.start(x, generator)
        refined = pa.RefinedPosterior(encoder, model, 100)
        risk, ridge, _ = predicted_risks(noise)
        for name, code, predicted in (
            ("one step of ISTA", ista(model, 1)(x), risk),
            ("exact lasso", best_codes(model, x), risk),
            ("ridge", x @ model.loadings.detach() / (2 + noise**2), ridge),
        ):
            error = 2 * (code - z).square().mean(1)
            rows.append(compared(noise, f"risk of {name}", error, predicted))
        gap = (model_evidence(model, x) - pa.ELBO()(model, refined, x)) / settings.control
        rows.append(compared(noise, "gap of the best Gaussian, per code", gap, predicted_gap(noise)))
    return rows


def model_evidence(model: pa.SparseCoding, x: Tensor) -> Tensor:
    """Return log p(x), exact for an orthonormal dictionary."""
    return pa.log_evidence(model, x, pa.Exact()).value


def compared(noise: float, what: str, values: Tensor, predicted: float) -> dict[str, Any]:
    """Return a mean over rows beside its prediction."""
    return {
        "noise": noise,
        "what": what,
        "measured": float(values.mean()),
        "standard error": standard_error(values),
        "predicted": predicted,
    }


def standard_error(values: Tensor) -> float:
    """Return the standard error of a mean over rows."""
    return float(values.std() / math.sqrt(len(values)))


FLOOR = 1e-6  # share of the minimum that the lasso is solved to
SHIFTS = {  # Okabe and Ito's colours; markers tell them apart in grey
    "none": {"color": "#000000", "marker": "o", "label": "rows like those of training"},
    "2 x": {"color": "#D55E00", "marker": "^", "label": "rows twice as large"},
    "dictionary": {"color": "#0072B2", "marker": "s", "label": "atoms 5 % different, told to solvers only"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw the energy above the minimum against time, and under both shifts."""
    figure = Figure(figsize=(11.5, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    noise = sorted({row["noise"] for row in rows["pareto"]})[
        len({row["noise"] for row in rows["pareto"]}) // 2
    ]
    draw_pareto(left, [row for row in rows["pareto"] if row["noise"] == noise], noise)
    draw_shifts(right, rows["shift"])
    return figure


def draw_pareto(ax: Axes, rows: Rows, noise: float) -> None:
    """Draw energy above the minimum against time, each encoder with its name."""
    for row in rows:
        solver = row["encoder"] in SOLVERS
        where = row["ms per 1000 rows"], max(row["share of minimum"], FLOOR)
        ax.plot(
            *where,
            "D" if solver else "o",
            color="#0072B2" if solver else "#D55E00",
            markersize=7,
            markerfacecolor="none" if solver else "#D55E00",
        )
        ax.annotate(row["encoder"], where, xytext=(7, 4), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", yscale="log", xlabel="processor ms for 1,000 rows")
    ax.set_ylabel("energy above the minimum, as a share of it")
    ax.margins(x=0.22, y=0.1)
    ax.set_title(f"noise {noise:g}: trained encoders (filled), solvers and refinement (open)", fontsize=10)


def draw_shifts(ax: Axes, rows: Rows) -> None:
    """Draw the energy above the minimum of every encoder under each shift."""
    names = list(dict.fromkeys(row["encoder"] for row in rows))
    for kind, style in SHIFTS.items():
        some = {row["encoder"]: max(row["share of minimum"], FLOOR) for row in rows if row["shift"] == kind}
        offset = {"none": 0.2, "2 x": 0.0, "dictionary": -0.2}[kind]
        heights = [len(names) - 1 - i + offset for i in range(len(names))]
        ax.plot([some[name] for name in names], heights, linestyle="", markersize=6.5, **style)
    ax.set_yticks(range(len(names)), names[::-1])
    for i in range(len(names) - 1):
        ax.axhline(i + 0.5, color="#DDDDDD", linewidth=0.8)
    ax.set(xscale="log", xlabel="energy above the minimum of the same rows, as a share of it")
    ax.set_title("under a shift", fontsize=10)
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
