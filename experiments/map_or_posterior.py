r"""Sparse coding has a "non-parametric encoder" and is a parametric model: which inference map is good for what?

One model, h_k ~ Laplace(b), x given h ~ N(w A h, s^2 I) with atoms A of length one, and three maps from x to h: the
most probable code (the lasso), ridge regression, and the posterior mean. Two questions have exact answers where the
dictionary is orthonormal, for each coordinate is then a problem of its own, y = h + s e:

  Learning. The MAP energy, min_h |x - w A h|^2 / (2 s^2) + |h|_1 / b, falls without end as the dictionary grows, for h
  can shrink; the evidence log p(x; w) has its maximum at the truth, since its normalising constant counts.
  Estimation. Each map has its risk E (h_k - estimate)^2. The posterior mean has the least; its risk is the average
  posterior variance. Ridge has b^2 2 s^2 / (2 b^2 + s^2), the trace of its posterior covariance for any dictionary.
  And the best Gaussian q(h given x) misses the evidence by a gap that the shape of the posterior decides.

Beside it a dictionary of 32 random atoms in 16 dimensions, where no formula exists: lasso codes, Gibbs sampling and
annealed importance sampling.

Run:     python -m experiments.map_or_posterior
Answer:  The lasso is a map of inference in the model, and for neither question the best one. Predicted in brackets.
    Learning, noise 1/2, atoms of length w = .5 / 1 / 2 / 4 / 64, per feature and row of 1,000 rows. MAP energy 1.771 /
        .990 / .523 / .269 / .017 (1.754 / .980 / .519 / .267 / .017) falls without end. Log evidence -2.022 / -1.789 /
        -1.957 / -2.370 / -4.871 (-2.008 / -1.781 / -1.953 / -2.368 / -4.870) has its maximum at the true 1. So it is
        overcomplete: energy 2.215 / 1.210 / .635 / .326 / .021, evidence -2.320 / -2.024 / -2.249 / -2.758 / -5.449.
    Estimation at noise 1, risk of MAP / ridge / posterior mean: orthonormal .709 / .669 / .636 (.7056 / .6667 / .6315),
        standard errors .012; overcomplete 1.456 / 1.256 (1.262) / 1.214 (1.215), standard errors .02. The posterior
        mean is ahead at every noise from .1 to 2. MAP beats ridge only with an orthonormal dictionary and little noise.
    The best Gaussian posterior misses .00004 / .00306 / .01320 / .03377 nats per code (.00004 / .00309 / .01323 /
        .03366) at noise .1 / .5 / 1 / 2, orthonormal; .0198 / .0232 / .0298 / .0401, overcomplete, where low noise does
        not help: the codes are not determined by x, and their prior is not Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import probae as pa
from experiments.figures import KEY
from experiments.output import save, table

Rows = list[dict[str, Any]]
SQUARE, WIDE = "orthonormal", "overcomplete"


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment; the Laplace scale b is 1."""

    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 64.0)
    """Length w of the atoms in the model; 1 is true."""
    noise: float = 0.5
    """Noise s while the scale changes."""
    noises: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)
    """Noise levels s of the risks and gaps."""
    dimension: int = 8
    """Atoms of the orthonormal dictionary."""
    features: int = 16
    """Rows of the overcomplete dictionary."""
    latents: int = 32
    """Atoms of the overcomplete dictionary."""
    rows: int = 1000
    """Simulated rows of x."""
    wide_rows: int = 200
    """Simulated rows for evidences of the overcomplete dictionary."""
    draws: int = 250
    """Sweeps of each of two Gibbs chains for the posterior mean."""
    steps: int = 100
    """Temperatures of annealed importance sampling."""
    seed: int = 0
    """Seed of the dictionaries; the data have seed + 1, samplers seed + 2."""
    output: Path = Path("results/map_or_posterior")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction where there is one."""
    return {
        "scale": [row for kind in (SQUARE, WIDE) for row in scale_rows(kind, settings)],
        "risk": [row for kind in (SQUARE, WIDE) for row in risk_rows(kind, settings)],
        "gap": [row for kind in (SQUARE, WIDE) for row in gap_rows(kind, settings)],
    }


def scale_rows(kind: str, settings: Settings) -> Rows:
    """MAP energy and log evidence per row and coordinate of x, as the dictionary is scaled."""
    x, _ = simulate(kind, settings.noise, settings, few(kind, settings))
    rows = []
    for scale in settings.scales:
        per = len(atoms(kind, settings))
        energy = map_energy(x, scale * atoms(kind, settings), settings.noise) / per
        value = evidence(model_of(kind, scale, settings.noise, settings), x, settings) / per
        exact = kind == SQUARE
        rows.append(
            {
                "dictionary": kind,
                "noise": settings.noise,
                "w": scale,
                "MAP energy": float(energy.mean()),
                "se energy": standard_error(energy),
                "predicted energy": predicted_energy(scale, settings.noise) if exact else None,
                "log evidence": float(value.mean()),
                "se evidence": standard_error(value),
                "predicted evidence": predicted_evidence(scale, settings.noise) if exact else None,
            }
        )
    return rows


def risk_rows(kind: str, settings: Settings) -> Rows:
    """Mean squared error of one code by each inference map, and how much more it is than that of ridge."""
    rows = []
    for noise in settings.noises:
        x, h = simulate(kind, noise, settings, settings.rows)
        a, model = atoms(kind, settings), model_of(kind, 1.0, noise, settings)
        ridge = pa.ProbabilisticPCA(*a.shape)
        ridge.loadings, ridge.noise_variance = model.loadings, model.noise_variance
        linear = ridge.posterior(x)
        law = pa.GibbsPosterior(model, draws=settings.draws, seed=settings.seed + 2)(x)
        traces = None, float(2 * linear.variance.mean()), float(2 * law.variance.mean())
        predictions = predicted_risks(noise) if kind == SQUARE else traces
        codes = pa.sparse_codes(x, a, noise**2).z, math.sqrt(2) * linear.mean, math.sqrt(2) * law.mean
        errors = [(code.detach() - h).square().mean(1) for code in codes]
        for name, error, prediction in zip(STYLES, errors, predictions, strict=True):
            rows.append(
                {
                    "dictionary": kind,
                    "noise": noise,
                    "map": name,
                    "risk": float(error.mean()),
                    "standard error": standard_error(error),
                    "predicted": prediction,
                    "more than ridge": float((error - errors[1]).mean()),
                    "se more": standard_error(error - errors[1]),
                }
            )
    return rows


def gap_rows(kind: str, settings: Settings) -> Rows:
    """Evidence less the ELBO of the best Gaussian, per code in nats."""
    rows = []
    for noise in settings.noises:
        x, _ = simulate(kind, noise, settings, few(kind, settings))
        model = model_of(kind, 1.0, noise, settings)
        gap = (evidence(model, x, settings) - pa.GaussianPosterior(model).bound(x)) / model.latents
        rows.append(
            {
                "dictionary": kind,
                "noise": noise,
                "gap": float(gap.mean()),
                "standard error": standard_error(gap),
                "predicted": predicted_gap(noise) if kind == SQUARE else None,
            }
        )
    return rows


def atoms(kind: str, settings: Settings) -> Tensor:
    """Return unit-norm atoms, (D, K)."""
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.dimension,) * 2 if kind == SQUARE else (settings.features, settings.latents)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn).Q if kind == SQUARE else drawn / drawn.norm(dim=0)


def model_of(kind: str, scale: float, noise: float, settings: Settings) -> pa.SparseCoding:
    """Return the model; its codes z have variance one, so that h = z / sqrt 2 and loadings are sqrt 2 w A."""
    a = atoms(kind, settings)
    model = pa.SparseCoding(*a.shape)
    model.loadings = math.sqrt(2) * scale * a
    model.noise_variance = torch.tensor(noise**2, dtype=torch.float64)
    return model


def simulate(kind: str, noise: float, settings: Settings, rows: int) -> tuple[Tensor, Tensor]:
    """Draw h and x at w = 1."""
    a = atoms(kind, settings)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    rank = torch.rand(rows, a.shape[1], generator=generator, dtype=torch.float64) - 0.5
    h = -rank.sign() * torch.log1p(-2 * rank.abs())
    return h @ a.T + noise * torch.randn(rows, len(a), generator=generator, dtype=torch.float64), h


def few(kind: str, settings: Settings) -> int:
    """Return how many rows to take where the evidence is wanted."""
    return settings.rows if kind == SQUARE else settings.wide_rows


def map_energy(x: Tensor, a: Tensor, noise: float) -> Tensor:
    """Return min_h |x - a h|^2 / (2 s^2) + |h|_1 for each row."""
    h = pa.sparse_codes(x, a, noise**2).z
    return (x - h @ a.T).square().sum(1) / (2 * noise**2) + h.abs().sum(1)


def evidence(model: pa.SparseCoding, x: Tensor, settings: Settings) -> Tensor:
    """Return log p(x), exact where it can be."""
    try:
        return pa.log_evidence(model, x, pa.Exact()).value
    except pa.NotExactError:
        estimator = pa.AnnealedImportance(steps=settings.steps)
        return pa.log_evidence(model, x, estimator, seed=settings.seed + 2).value


def standard_error(values: Tensor) -> float:
    """Return the standard error of a mean over rows."""
    return float(values.std() / math.sqrt(len(values)))


# What one coordinate predicts: integrals over y = h + s e on a fine grid.


def grid(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points y and their masses under the truth, w = b = 1."""
    y = np.linspace(-40 - 10 * noise, 40 + 10 * noise, 50_001)
    mass = np.exp(log_density(y, 1.0, noise)) * (y[1] - y[0])
    return y, mass


def log_density(y: np.ndarray, scale: float, noise: float) -> np.ndarray:
    """Return log p(y) for y = w h + s e."""
    t = noise / scale
    left, right = (side * y / scale + scipy.special.log_ndtr(-side * y / noise - t) for side in (1, -1))
    return t**2 / 2 - math.log(2 * scale) + np.logaddexp(left, right)


def predicted_energy(scale: float, noise: float) -> float:
    """Return the mean of min_h (y - w h)^2 / (2 s^2) + |h|, a Huber function of y."""
    y, mass = grid(noise)
    corner = noise**2 / scale
    outside = np.abs(y) / scale - corner / (2 * scale)
    return float(mass @ np.where(np.abs(y) <= corner, y**2 / (2 * noise**2), outside))


def predicted_evidence(scale: float, noise: float) -> float:
    """Return E log p(y; w) under w = 1."""
    y, mass = grid(noise)
    return float(mass @ log_density(y, scale, noise))


def predicted_risks(noise: float) -> tuple[float, float, float]:
    """Return the risks of MAP, ridge and the posterior mean: E (f(y) - E[h | y])^2 + E var[h | y]."""
    y, mass = grid(noise)
    log_p = log_density(y, 1.0, noise)
    mean = y + noise**2 * np.gradient(log_p, y)
    least = 2.0 - float(mass @ mean**2)  # E h^2 is 2
    soft = np.sign(y) * np.maximum(np.abs(y) - noise**2, 0)
    ridge = 2 * y / (2 + noise**2)
    return tuple(least + float(mass @ (f - mean) ** 2) for f in (soft, ridge, mean))  # type: ignore[return-value]


def predicted_gap(noise: float) -> float:
    """Return E [log p(y) - max over Gaussians q of its ELBO]."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    far = 12 + 6 * noise
    y, weights = 0.5 * far * (nodes + 1), far * weights  # both signs
    log_p = log_density(y, 1.0, noise)
    best = np.array(
        [-scipy.optimize.minimize(negative_elbo, (p, math.log(noise)), args=(p, noise)).fun for p in y]
    )
    return float(weights @ (np.exp(log_p) * (log_p - best)))


def negative_elbo(q: np.ndarray, y: float, noise: float) -> float:
    """Return minus the ELBO of q = N(m, exp(2 l)) for one coordinate."""
    m, sd = q[0], math.exp(q[1])
    size = sd * math.sqrt(2 / math.pi) * math.exp(-0.5 * (m / sd) ** 2) + m * math.erf(m / sd / math.sqrt(2))
    fit = ((y - m) ** 2 + sd**2) / (2 * noise**2) + math.log(noise) + size + math.log(2)
    return fit - q[1] - 0.5


STYLES = {  # colours of Okabe and Ito; dashes and markers tell the lines apart in grey
    "MAP": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "ridge": {"color": "#000000", "linestyle": ":", "marker": "^"},
    "posterior mean": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
}


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw energies against the scale, risks and gaps against the noise."""
    figure = Figure(figsize=(9.6, 7.6), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, kind in zip(axes[0], (SQUARE, WIDE), strict=True):
        draw_scale(ax, [row for row in rows["scale"] if row["dictionary"] == kind], kind)
    draw_risks(axes[1, 0], rows["risk"])
    draw_gaps(axes[1, 1], rows["gap"])
    figure.suptitle(KEY, fontsize=9)
    return figure


def draw_scale(ax: Axes, rows: Rows, kind: str) -> None:
    """Draw the MAP energy and minus the log evidence."""
    w = [row["w"] for row in rows]
    for name, sign, label in (("MAP energy", 1, "MAP energy"), ("log evidence", -1, "minus log evidence")):
        style = STYLES["MAP" if sign > 0 else "posterior mean"]
        short = name.split()[1]
        values = [sign * row[name] for row in rows]
        bars = [2 * row[f"se {short}"] for row in rows]
        ax.errorbar(w, values, yerr=bars, label=label, **(style | {"linestyle": "", "markersize": 5.5}))
        if rows[0][f"predicted {short}"] is not None:
            curve = np.geomspace(min(w), max(w), 30)
            law = predicted_energy if sign > 0 else predicted_evidence
            noise = rows[0]["noise"]
            ax.plot(
                curve,
                [sign * law(v, noise) for v in curve],
                color=style["color"],
                linestyle=style["linestyle"],
            )
    ax.set(
        xscale="log", xlabel="length of the atoms in the model (truth: 1)", ylabel="nats per feature and row"
    )
    ax.set_xticks(w, [f"{v:g}" for v in w])
    ax.minorticks_off()
    ax.set_title(f"{kind} dictionary", fontsize=10)
    ax.legend(fontsize=8, frameon=False)


def draw_risks(ax: Axes, rows: Rows) -> None:
    """Draw the risk of each map over that of ridge: filled marks orthonormal, open marks overcomplete."""
    for kind in (SQUARE, WIDE):
        base = {r["noise"]: r["risk"] for r in rows if (r["dictionary"], r["map"]) == (kind, "ridge")}
        for name, style in STYLES.items():
            some = [row for row in rows if (row["dictionary"], row["map"]) == (kind, name)]
            marks = style | {"linestyle": "", "markersize": 6.5}
            marks |= {"markerfacecolor": "none"} if kind == WIDE else {}
            if name != "ridge":
                ax.errorbar(
                    [row["noise"] for row in some],
                    [1 + row["more than ridge"] / base[row["noise"]] for row in some],
                    yerr=[2 * row["se more"] / base[row["noise"]] for row in some],
                    label=f"{name}, {kind}",
                    **marks,
                )
            if kind == SQUARE:
                index, curve = list(STYLES).index(name), np.geomspace(min(base), max(base), 30)
                risks = np.array([predicted_risks(s) for s in curve])
                line = {key: style[key] for key in ("color", "linestyle")}
                ax.plot(curve, risks[:, index] / risks[:, 1], linewidth=1.4, **line)
    ax.text(max(base), 1.005, "ridge", ha="right", fontsize=8)
    label_noise(ax, rows, "risk of a code / risk of ridge")
    ax.set_title("estimating the codes", fontsize=10)
    ax.legend(fontsize=8, frameon=False)


def draw_gaps(ax: Axes, rows: Rows) -> None:
    """Draw the gap of the best Gaussian."""
    for kind, marker in ((SQUARE, "o"), (WIDE, "s")):
        some = [row for row in rows if row["dictionary"] == kind]
        noise = [row["noise"] for row in some]
        bars = [2 * row["standard error"] for row in some]
        color = STYLES["posterior mean" if kind == SQUARE else "MAP"]["color"]
        gaps = [row["gap"] for row in some]
        ax.errorbar(noise, gaps, yerr=bars, linestyle="", marker=marker, color=color, label=kind)
        if kind == SQUARE:
            curve = np.geomspace(min(noise), max(noise), 25)
            ax.plot(curve, [predicted_gap(s) for s in curve], color=color, linewidth=1.4)
    label_noise(ax, rows, "log evidence - best ELBO (nats per code)")
    ax.set_title("what the best Gaussian posterior misses", fontsize=10)
    ax.legend(fontsize=8, frameon=False)


def label_noise(ax: Axes, rows: Rows, name: str) -> None:
    """Label the noise axis with the levels that were measured."""
    noise = sorted({row["noise"] for row in rows})
    ax.set(xscale="log", xlabel="noise s (Laplace scale of the codes: 1)", ylabel=name)
    ax.set_xticks(noise, [f"{s:g}" for s in noise])
    ax.minorticks_off()


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
