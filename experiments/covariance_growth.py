r"""Does the density get narrower as the weights grow, so that unseen variations get lost?

Scaling the loadings of x = W h + noise by c gives the covariance C(c) = c^2 W W' + Psi, which grows with c in every
direction or stays: the entropy of x rises and the peak of the density falls. What narrows is the posterior of h, with
covariance (I + c^2 W' Psi^{-1} W)^{-1}. A point orthogonal to the columns of W does lose density, by (log det C(c) -
log det C(1)) / 2 and no more, and the likelihood is highest at the true c = 1, because its normaliser holds the
weights back. MAP estimates of sparse codes have no normaliser: their energy falls as the weights grow. A prior N(0,
tau^2) on the loadings is expected to pay for few rows only.

Run:     python -m experiments.covariance_growth
Answer:  No, it gets wider. In brackets what was predicted; eight features, two factors, noise variance .5.
    Loadings times .25, .5, 1, 2, 4. Entropy of x: 9.45, 10.46, 11.72, 13.07, 14.45 nats, log-density at the peak
        -5.45, -6.45, -7.72, -9.07, -10.45, log det of the posterior covariance of h -1.7, -3.8, -6.3, -9.0, -11.7,
        mutual information of x and h .87, 1.88, 3.14, 4.49, 5.87 (all the same to 1e-10).
    Mean log-density of 200,000 rows of the truth: -18.11, -12.98, -11.71, -12.33, -13.51, highest at 1 (-18.14,
        -12.99, -11.72, -12.33, -13.51; standard errors .022 to .004).
    A point orthogonal to the columns of W, against c = 1: 2.27, 1.26, 0, -1.35, -2.73 (the same to 1e-10).
    One sparse cause, weight .5, 1, 2, 4, 64. Log evidence: -2.009, -1.782, -1.953, -2.369, -4.870, highest at the
        truth (-2.008, -1.781, -1.953, -2.368, -4.870). MAP energy: 1.755, .981, .519, .267, .0171, falling without
        end (1.754, .980, .519, .267, .0171). So MAP codes need their weights held, the likelihood does not.
    A prior on the loadings, 40 data sets of each kind, gain over maximum likelihood in nats per held-out row. Strong
        factors (true loadings 1.18): none at any size; tau = 1 costs .100 +- .011, .017 +- .003, .0017 +- .0005 at
        20, 50, 200 rows. Weak factors (true loadings .35): tau = .35 gains .145 +- .016, .030 +- .005, .0010 +-
        .0005. What a prior cures is noise that vanishes, not loadings that grow: without one 90 %, 25 % and 0 % of
        the fits to weak factors explain a feature completely, with loadings of .41, .38 and .36 on average.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import log_ndtr
from torch import Tensor

import probae as pa
from experiments.output import save, table

Array = NDArray[np.float64]
Rows = list[dict[str, Any]]
FEATURES, LATENTS, NOISE = 8, 2, 0.5
LOG_TWO_PI_E = math.log(2 * math.pi) + 1
LEAST_NOISE = 1e-4  # of a feature's variance, where a penalised fit stops


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    scales: tuple[float, ...] = (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0)
    """Factors c on the loadings."""
    weights: tuple[float, ...] = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 16.0, 64.0)
    """Weights w of one sparse cause in one feature; the true one is 1."""
    rows: int = 200_000
    """Rows behind each sampled mean."""
    sizes: tuple[int, ...] = (20, 50, 200)
    """Numbers of rows a penalised model is fitted to."""
    spreads: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 3.0, 10.0)
    """Standard deviations tau of the prior on the loadings."""
    strengths: tuple[float, ...] = (1.0, 0.3)
    """Factors on the true loadings, which are otherwise about 1: strong and weak causes."""
    repeats: int = 40
    """Data sets of each size."""
    data_seed: int = 0
    """Seed of the true loadings and of the first data set; each further one adds 1."""
    restart_seed: int = 1000
    """Seed of the first fit's random start; each further one adds 1."""
    output: Path = Path("results/covariance_growth")
    """Folder for the results."""


def measure(settings: Settings) -> dict[str, Rows]:
    """Return rows of numbers, each measurement with its prediction."""
    return {
        "widening": list(widening(settings)),
        "orthogonal": list(orthogonal(settings)),
        "codes": list(codes(settings)),
        "penalised": list(penalised(settings)),
    }


def truth(settings: Settings) -> pa.ProbabilisticPCA:
    """Return the true model of eight features and two factors."""
    generator = torch.Generator().manual_seed(settings.data_seed)
    model = pa.ProbabilisticPCA(FEATURES, LATENTS)
    model.loadings = torch.randn(FEATURES, LATENTS, generator=generator, dtype=torch.float64)
    model.noise_variance = torch.tensor(NOISE, dtype=torch.float64)
    return model.requires_grad_(False)


def scaled(model: pa.ProbabilisticPCA, scale: float) -> pa.ProbabilisticPCA:
    """Return the model with loadings c W."""
    other = pa.ProbabilisticPCA(FEATURES, LATENTS)
    other.loadings = scale * model.loadings.detach()
    other.noise_variance = model.noise_variance.detach().clone()
    return other.requires_grad_(False)


def widening(settings: Settings) -> Iterator[dict[str, Any]]:
    """Entropy and peak of x, mean log-density of rows of the truth, volume of the posterior, for each scale."""
    model = truth(settings)
    x = model.sample(settings.rows, seed=settings.data_seed + 1)
    strengths = torch.linalg.svdvals(model.loadings.detach()).square() / NOISE  # eigenvalues of W' Psi^{-1} W
    for scale in settings.scales:
        other = scaled(model, scale)
        marginal, density = other.marginal(), other.log_likelihood(x)
        posterior = other.posterior(x[:1]).covariance_matrix[0]
        grown = 1 + scale**2 * strengths
        log_det = FEATURES * math.log(NOISE) + float(grown.log().sum())
        quadratic = FEATURES - LATENTS + float(((1 + strengths) / grown).sum())
        yield {
            "scale": scale,
            "entropy": float(marginal.entropy()),
            "entropy predicted": 0.5 * (FEATURES * LOG_TWO_PI_E + log_det),
            "log peak": float(marginal.log_prob(other.mean.detach())),
            "log peak predicted": -0.5 * (FEATURES * (LOG_TWO_PI_E - 1) + log_det),
            "log density": float(density.mean()),
            "standard error": float(density.std() / math.sqrt(len(density))),
            "log density predicted": -0.5 * (FEATURES * (LOG_TWO_PI_E - 1) + log_det + quadratic),
            "posterior log det": float(torch.logdet(posterior)),
            "posterior log det predicted": -float(grown.log().sum()),
            "information": float(marginal.entropy()) - 0.5 * FEATURES * (LOG_TWO_PI_E + math.log(NOISE)),
            "information predicted": 0.5 * float(grown.log().sum()),
        }


def orthogonal(settings: Settings) -> Iterator[dict[str, Any]]:
    """Change of the log-density at a point orthogonal to the columns of W, and half the change of log det C."""
    model = truth(settings)
    away = torch.linalg.svd(model.loadings.detach()).U[:, -1:].T * 2.0  # a row of length 2
    base, base_peak = model.log_likelihood(away), model.marginal().log_prob(model.mean.detach())
    for scale in settings.scales:
        other = scaled(model, scale)
        change = float(other.log_likelihood(away) - base)
        peak = float(other.marginal().log_prob(other.mean.detach()) - base_peak)
        yield {"scale": scale, "change": change, "predicted": peak}


def codes(settings: Settings) -> Iterator[dict[str, Any]]:
    """Evidence and MAP energy per row of one Laplace cause h of scale 1: x = w h + N(0, .25), true w = 1."""
    generator = torch.Generator().manual_seed(settings.data_seed + 2)
    x = one_cause(1.0).sample(settings.rows, seed=int(torch.randint(2**31, (), generator=generator)))
    for weight in settings.weights:
        density = one_cause(weight).log_likelihood(x)
        found = pa.sparse_codes(x, torch.tensor([[weight]], dtype=torch.float64), 0.25)
        residual = (x - weight * found.z).square().sum(1) / 0.5
        energy = residual + found.z.abs().sum(1)
        yield {
            "weight": weight,
            "evidence": float(density.mean()),
            "evidence error": float(density.std() / math.sqrt(len(x))),
            "evidence predicted": mean_over_truth(lambda t, w=weight: log_evidence(t, w)),
            "energy": float(energy.mean()),
            "energy error": float(energy.std() / math.sqrt(len(x))),
            "energy predicted": mean_over_truth(lambda t, w=weight: least_energy(t, w)),
        }


def one_cause(weight: float) -> pa.LinearFactorModel:
    """Return x = w h + N(0, .25) with a Laplace cause of scale 1, which is sqrt(2) times one of variance 1."""
    model = pa.LinearFactorModel(1, 1, prior=pa.priors.Laplace(), noise="isotropic")
    model.loadings = torch.tensor([[math.sqrt(2) * weight]], dtype=torch.float64)
    model.noise_variance = torch.tensor(0.25, dtype=torch.float64)
    return model


def log_evidence(x: float, weight: float, sd: float = 0.5) -> float:
    """Return the log-density of a Laplace cause of scale w in Gaussian noise."""
    ratio = sd / weight
    sides = [sign * x / weight + float(log_ndtr(-sign * x / sd - ratio)) for sign in (1, -1)]
    return 0.5 * ratio**2 - math.log(2 * weight) + float(np.logaddexp(*sides))


def least_energy(x: float, weight: float, variance: float = 0.25) -> float:
    """Return the minimum over h of (x - w h)^2 / (2 variance) + |h|: Huber's function."""
    threshold = variance / weight
    if abs(x) <= threshold:
        return x * x / (2 * variance)
    return abs(x) / weight - threshold**2 / (2 * variance)


def mean_over_truth(function: Any) -> float:
    """Return the mean of an even function of x under the true density, w = 1."""
    return (
        2
        * quad(
            lambda x: math.exp(log_evidence(x, 1.0)) * function(x), 0.0, 40.0, points=[0.5, 2.0], limit=200
        )[0]
    )


def penalised(settings: Settings) -> Iterator[dict[str, Any]]:
    """Expected log-density of a new row under factor analysis with a N(0, tau^2) prior on the loadings."""
    for strength in settings.strengths:
        model = scaled(truth(settings), strength)
        covariance = model.marginal().covariance_matrix
        best = held_out(model.loadings, model.noise_variance.expand(FEATURES), model.mean, covariance)
        for size in settings.sizes:
            for repeat in range(settings.repeats):
                seed, restart = settings.data_seed + 10 + repeat, settings.restart_seed + repeat
                statistics = pa.SufficientStatistics.from_data(model.sample(size, seed=seed))
                row = {
                    "strength": strength,
                    "size": size,
                    "data seed": seed,
                    "restart seed": restart,
                    "truth": best,
                }
                for found in fits(statistics, settings.spreads, restart, covariance):
                    yield row | found


def fits(
    statistics: pa.SufficientStatistics, spreads: tuple[float, ...], seed: int, covariance: Tensor
) -> Iterator[dict[str, Any]]:
    """Fit the loadings without a prior, by maximum likelihood, and with each prior."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)  # kept in the row
        run = pa.fit(pa.FactorAnalysis(FEATURES, LATENTS), statistics)
    free = run.model
    value = held_out(free.loadings, free.noise_variance, statistics.mean, covariance)
    yield described(math.inf, value, free.loadings, free.noise_variance, [], list(run.warnings))
    for spread in spreads:
        loadings, noise, restarts = with_prior(statistics, spread, free, seed)
        value = held_out(loadings, noise, statistics.mean, covariance)
        yield described(spread, value, loadings, noise, restarts, [])


def described(
    spread: float, value: float, loadings: Tensor, noise: Tensor, restarts: list[float], given: list[str]
) -> dict[str, Any]:
    """Return what is kept of a fit."""
    share = noise / (loadings.square().sum(1) + noise)
    size = float(loadings.square().mean().sqrt())
    return {
        "spread": spread,
        "held out": value,
        "size of loadings": size,
        "least share of noise": float(share.min()),
        "restarts": restarts,
        "warnings": given,
    }


def held_out(loadings: Tensor, noise: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """Return the expected log-density of a row of the truth, whose mean is 0, under a fitted model."""
    model = pa.FactorAnalysis(FEATURES, LATENTS)
    model.loadings, model.noise_variance, model.mean = (
        loadings.detach(),
        noise.detach().clone(),
        mean.detach(),
    )
    rows = pa.SufficientStatistics.from_covariance(covariance, count=1000)
    return float(model.collapsed(rows)) / 1000


def with_prior(
    statistics: pa.SufficientStatistics, spread: float, free: pa.FactorAnalysis, seed: int
) -> tuple[Tensor, Tensor, list[float]]:
    """Return loadings and noise that maximise likelihood times prior, and what each of three starts reached."""
    sample, count = statistics.covariance.numpy(), statistics.count
    total = sample.diagonal()
    noise = np.maximum(free.noise_variance.numpy(), 0.01 * total)
    random = np.random.default_rng(seed).normal(size=(FEATURES, LATENTS)) * min(spread, 1.0)
    starts = [free.loadings.numpy(), 0.3 * free.loadings.numpy(), random]
    bounds = [(None, None)] * (FEATURES * LATENTS) + [
        (math.log(LEAST_NOISE * t), math.log(10 * t)) for t in total
    ]
    settings = {"jac": True, "bounds": bounds, "options": {"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-7}}
    found = [
        minimize(
            energy,
            np.concatenate([w.ravel(), np.log(noise)]),
            (sample, count, spread),
            "L-BFGS-B",
            **settings,
        )
        for w in starts
    ]
    best = min(found, key=lambda result: result.fun)
    loadings = torch.from_numpy(best.x[: FEATURES * LATENTS].reshape(FEATURES, LATENTS).copy())
    return (
        loadings,
        torch.from_numpy(np.exp(best.x[FEATURES * LATENTS :])),
        [-float(result.fun) for result in found],
    )


def energy(parameters: Array, sample: Array, count: int, spread: float) -> tuple[float, Array]:
    """Return minus the log-likelihood and log-prior per row, without constants, and the gradient."""
    loadings = parameters[: FEATURES * LATENTS].reshape(FEATURES, LATENTS)
    noise = np.exp(parameters[FEATURES * LATENTS :])
    precision = np.linalg.inv(loadings @ loadings.T + np.diag(noise))
    fitted = precision @ sample
    value = 0.5 * (np.trace(fitted) - np.linalg.slogdet(precision)[1])
    slope = precision - fitted @ precision  # twice the gradient in the covariance
    value += 0.5 * float(np.square(loadings).sum()) / (count * spread**2)
    gradient = slope @ loadings + loadings / (count * spread**2)
    return value, np.concatenate([gradient.ravel(), 0.5 * slope.diagonal() * noise])


def gains(rows: Rows) -> Rows:
    """Return, for each strength, size and tau, the mean gain in held-out log-density over maximum likelihood."""
    lines = []
    for (strength, size), group in groupby(rows, lambda row: (row["strength"], row["size"])):
        some = list(group)
        free = {row["data seed"]: row["held out"] for row in some if math.isinf(row["spread"])}
        for spread in sorted({row["spread"] for row in some}):
            chosen = [row for row in some if row["spread"] == spread]
            gain = np.array([row["held out"] - free[row["data seed"]] for row in chosen])
            apart = [max(row["restarts"]) - min(row["restarts"]) for row in chosen if row["restarts"]]
            lines.append(
                {
                    "strength": strength,
                    "size": size,
                    "spread": spread,
                    "gain": float(gain.mean()),
                    "standard error": float(gain.std() / math.sqrt(len(gain))),
                    "short of truth": float(np.mean([row["truth"] - row["held out"] for row in chosen])),
                    "size of loadings": float(np.mean([row["size of loadings"] for row in chosen])),
                    "at the boundary": float(np.mean([row["least share of noise"] < 1e-3 for row in chosen])),
                    "restarts apart": max(apart, default=0.0),
                }
            )
    return lines


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")


def plot(rows: dict[str, Rows]) -> Figure:
    """Draw contours, what widens and what narrows, evidence against energy, and what a prior on the loadings gains."""
    figure = Figure(figsize=(11.0, 8.6), layout="constrained")
    figure.suptitle(
        "marks are measured; lines are predicted, save below right (bars: two standard errors)", fontsize=10
    )
    (first, second), (third, fourth) = figure.subplots(2, 2)
    draw_contours(first)
    draw_widening(second, rows["widening"])
    draw_codes(third, rows["codes"])
    draw_gains(fourth, gains(rows["penalised"]))
    return figure


def draw_contours(ax: Axes) -> None:
    """Draw regions that hold 90 % of two features with one factor, for three scales of its loadings."""
    loadings, radius = np.array([[1.0], [0.7]]), math.sqrt(-2 * math.log(0.1))
    circle = np.linspace(0, 2 * math.pi, 200)
    for index, scale in enumerate((0.5, 1.0, 2.0)):
        root = np.linalg.cholesky(scale**2 * loadings @ loadings.T + 0.25 * np.eye(2))
        x, y = radius * root @ np.stack([np.cos(circle), np.sin(circle)])
        ax.plot(x, y, color=COLOURS[index], linestyle=DASHES[index], label=f"loadings times {scale:g}")
    ax.set(
        aspect="equal",
        xlabel="first feature",
        ylabel="second feature",
        title="90 % of the rows: never narrower",
    )
    ax.legend(fontsize=8, loc="upper left", frameon=False)


def draw_widening(ax: Axes, rows: Rows) -> None:
    """Draw entropy and peak of x, mean log-density and volume of the posterior against the scale."""
    lines = (
        ("entropy", "entropy of x"),
        ("log peak", "log-density at its peak"),
        ("log density", "mean log-density of rows of the truth"),
        ("posterior log det", "log det of the posterior covariance of h"),
    )
    scales = [row["scale"] for row in rows]
    for index, (name, label) in enumerate(lines):
        style = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 5}
        ax.plot(scales, [row[name] for row in rows], linestyle="", label=label, **style)
        ax.plot(
            scales, [row[f"{name} predicted"] for row in rows], color=COLOURS[index], linestyle=DASHES[index]
        )
    ax.axvline(1.0, color="#999999", linewidth=0.8)
    ax.set(
        xscale="log",
        xlabel="scale of the loadings (truth: 1)",
        ylabel="nats",
        title="x widens, h given x narrows",
    )
    ax.set_xticks(scales, [f"{scale:g}" for scale in scales])
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 0.53), framealpha=1, edgecolor="none")


def draw_codes(ax: Axes, rows: Rows) -> None:
    """Draw minus the evidence and the MAP energy of a sparse cause against its weight."""
    weights = [row["weight"] for row in rows]
    for index, (name, sign, label) in enumerate(
        (
            ("evidence", -1, "- log evidence: lowest at the truth"),
            ("energy", 1, "MAP energy: falls without end"),
        )
    ):
        style = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 5}
        ax.plot(weights, [sign * row[name] for row in rows], linestyle="", label=label, **style)
        predicted = [sign * row[f"{name} predicted"] for row in rows]
        ax.plot(weights, predicted, color=COLOURS[index], linestyle=DASHES[index])
    ax.axvline(1.0, color="#999999", linewidth=0.8)
    ax.set(xscale="log", xlabel="weight of one sparse cause (truth: 1)", ylabel="nats per row")
    ax.set_title("MAP codes need held weights, likelihood does not")
    ticks = [0.25, 1, 4, 16, 64]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=8, framealpha=1, edgecolor="none", loc="upper center")


def draw_gains(ax: Axes, lines: Rows) -> None:
    """Draw what a prior on the loadings gains in held-out log-density over none."""
    finite = [line for line in lines if math.isfinite(line["spread"])]
    sizes, strengths = (sorted({line[name] for line in finite}) for name in ("size", "strength"))
    for (strength, size), group in groupby(finite, lambda line: (line["strength"], line["size"])):
        some, index = list(group), sizes.index(size)
        style = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 5, "linewidth": 1.4}
        if strength == strengths[-1]:
            style |= {"linestyle": "--", "markerfacecolor": "none"}
        bars = [2 * line["standard error"] for line in some]
        label = f"{size} rows, {'strong' if strength == strengths[-1] else 'weak'} factors"
        spreads = [line["spread"] for line in some]
        ax.errorbar(spreads, [line["gain"] for line in some], yerr=bars, elinewidth=1, label=label, **style)
    ax.axhline(0.0, color="#999999", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=0.01, linscale=0.5)
    ax.set(
        xlabel="standard deviation of the prior on the loadings",
        title="a prior on the loadings: held-out rows",
    )
    ax.set_ylabel("gain over maximum likelihood (nats per row)")
    for ticks, names in (
        ([0.1, 0.2, 0.5, 1, 3, 10], ax.set_xticks),
        ([-1, -0.1, -0.01, 0, 0.01, 0.1, 1], ax.set_yticks),
    ):
        names(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=8, frameon=False, loc="lower right")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    rows = measure(settings)
    for name, some in rows.items():
        print(f"{name}\n{table(gains(some) if name == 'penalised' else some)}\n")
    save(settings.output, settings, rows, plot(rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
