"""Maximum likelihood of a noisy linear factor model with independent non-Gaussian factors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, Data, HeywoodWarning, NotExactError
from probae.inference import importance
from probae.inference.base import Loop, Outcome
from probae.inference.gaussian import fit_diagonal, fit_isotropic, summarize, warn_heywood
from probae.inference.importance import (
    ImportancePosterior,
    differentiable_scores,
    standard_draws,
    weighted_draws,
)
from probae.inference.learnt_shapes import learnt_shapes, logs_of, search_frame_and_shapes, write
from probae.inference.profile import AT_FLOOR, FLOOR
from probae.inference.relative_newton import BOUNDS
from probae.inference.rotation_search import RotationSearch
from probae.inference.score_information import information_root, row_scores
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors.information import information_of, spread_of

ROWS = 20_000  # that refine the likelihood first
BLOCK = 20_000  # rows whose draws are held at once
MAX_STEPS = 2000
SETTLED = 1e-5  # nats of all rows together: a step that adds less is the last
OFF_FLOOR = 0.1  # of the variance: where a noise variance starts that the Gaussian fit left on its floor


@local_parameters
def fit_noisy(model: LinearFactorModel, data: Data, seed: int, draws: int | None) -> Outcome:
    """Fit subspace and noise as FA or PPCA does, find the frame, then refine all parameters by importance sampling.

    Learnt shapes of the laws are found with the frame and refined with the parameters.

    Rows whose importance weights degenerate (many factors) are not refined: the first two steps are consistent alone.
    """
    _require_scores(model)
    if _normal(model):
        return _fit_normal(model, data, seed, draws)
    gaussian = _start_from_gaussian(model, data, seed)
    search = _turn_to_best_frame(model, data, seed)
    count = draws or int(np.clip(1_500_000 // (min(len(data.values), ROWS) * model.latents), 16, 128))
    posterior = ImportancePosterior(model, count=max(count, 128), seed=seed)
    if _poor_weights(posterior, data):
        model.noise_variance = gaussian.noise_variance.detach().clone()
        history, converged, interrupted = (
            [float(posterior.log_likelihood(data.values[:ROWS]).mean())],
            True,
            False,
        )
    else:
        history, converged, interrupted = _refine(model, data, seed, count)
    if model.noise == "diagonal":
        warn_heywood(
            (model.noise_variance < AT_FLOOR * _variance(model)).nonzero().flatten().tolist(), data.names
        )
    restarts = search.restarts if search else []
    return Outcome(posterior, history, converged, interrupted, restarts=restarts)


def _require_scores(model: LinearFactorModel) -> None:
    if model.latents >= model.features:
        raise NotExactError(
            f"Marginal likelihood with {model.latents} non-Gaussian latents for {model.features} features is not "
            "available here: use MAP(), or SVI with an encoder."
        )


def _normal(model: LinearFactorModel) -> bool:
    """Whether each factor is normal, of whatever variance, and stays so: the likelihood is flat along rotations.

    A likelihood by draws would have a slope there that is nothing but its error.
    """
    laws = model.prior.coordinates(model.latents)
    if laws is None or learnt_shapes(laws):
        return False
    return all(information_of(law) * spread_of(law) ** 2 < 1 + 1e-9 for law in laws)


def _fit_normal(model: LinearFactorModel, data: Data, seed: int, draws: int | None) -> Outcome:
    """Fit by the closed forms of factors of variance 1, and put each in its own scale."""
    _, history, converged = _fit_gaussian(model, data, seed)
    laws = model.prior.coordinates(model.latents)
    assert laws is not None
    spreads = torch.tensor([spread_of(law) for law in laws], dtype=torch.float64)
    model.loadings = model.loadings.detach() / spreads
    return Outcome(ImportancePosterior(model, count=draws or 128, seed=seed), history, converged)


def _fit_gaussian(
    model: LinearFactorModel, data: Data, seed: int
) -> tuple[LinearFactorModel, list[float], bool]:
    """Set the parameters of the Gaussian model with the same noise, and return it with how its fit went."""
    gaussian = LinearFactorModel(model.features, model.latents, noise=model.noise)
    solve = fit_diagonal if model.noise == "diagonal" else fit_isotropic
    history, converged = solve(gaussian, summarize(data), seed)
    for name in model.parameter_names:
        setattr(model, name, getattr(gaussian, name).detach().clone())
    return gaussian, history, converged


def _start_from_gaussian(model: LinearFactorModel, data: Data, seed: int) -> LinearFactorModel:
    """Start at the Gaussian model, and return it: its subspace and noise are those of any law of z of variance 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        gaussian, _, _ = _fit_gaussian(model, data, seed)
    noise, variance = model.noise_variance.detach(), _variance(model)
    # on the floor scores are lost to rounding, and the likelihood of other laws may have its maximum elsewhere
    model.noise_variance = torch.where(noise < AT_FLOOR * variance, OFF_FLOOR * variance, noise)
    strength = model.loadings.detach().norm(dim=0)
    weak = strength < 1e-3 * strength.max()
    if (
        weak.any()
    ):  # an empty column has no scores: give it a little of the noise, for the likelihood to judge
        start = torch.randn(
            model.features,
            int(weak.sum()),
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
        )
        filled = model.loadings.detach().clone()
        filled[:, weak] = 0.1 * start * gaussian.noise_variance.detach().mean().sqrt()
        model.loadings = filled
    return gaussian


def _variance(model: LinearFactorModel) -> Tensor:
    """Return the variance of each column, or their mean where all have one noise variance; factors of variance 1."""
    communalities = model.loadings.detach().square().sum(1)
    return (communalities.mean() if model.noise_variance.ndim == 0 else communalities) + model.noise_variance.detach()


def _turn_to_best_frame(model: LinearFactorModel, data: Data, seed: int) -> RotationSearch | None:
    """Rotate the loadings to the frame in which the scores follow the laws of the prior best, shapes learnt."""
    laws = model.prior.coordinates(model.latents)
    if laws is None:
        return None  # a spherical law: every frame has the same likelihood
    scores = model.sufficient_scores(data.values)
    search = search_frame_and_shapes(scores.values, scores.covariance, laws, seed)
    turned = model.loadings.detach() @ search.rotation
    sign = torch.sign(turned.gather(0, turned.abs().argmax(0, keepdim=True)))
    model.loadings = turned * torch.where(sign == 0, 1.0, sign)
    return search


class _Coordinates:
    """Loadings, noise, mean and logarithms of learnt shapes as one vector, in which the likelihood is round.

    The noise is floor + (start - floor) (1 + w / 2)^2: w is about the change of its logarithm, and where the maximum is
    at the floor, w = -2. All but the shapes are theta = theta_0 + L^-T u, L L' the information of a row.
    """

    def __init__(self, model: LinearFactorModel, x: Tensor, draws: Tensor) -> None:
        self.model = model
        self.sizes = [tuple(getattr(model, name).shape) for name in model.parameter_names]
        self.learnt = learnt_shapes(model.prior.coordinates(model.latents) or [])
        self.exponents = [shape.log_excess.requires_grad_() for shape in self.learnt]
        noise = model.noise_variance.detach()
        self.floor = torch.minimum(FLOOR * _variance(model), noise / 2)
        self.above = noise - self.floor
        still = torch.zeros_like(noise).flatten()
        self.origin = torch.cat([model.loadings.detach().flatten(), still, model.mean.detach()])
        self.root = self._root(x, draws)

    @torch.no_grad()
    def _root(self, x: Tensor, draws: Tensor) -> Tensor:
        """Return L, from these rows."""
        model = self.model
        loadings, noise, mean = (getattr(model, name).detach() for name in model.parameter_names)
        noise = noise.expand(model.features)
        of_loadings, of_noise, of_mean = row_scores(model.prior, x, loadings, noise, mean, draws)
        half = torch.full_like(noise, 0.5)
        if model.noise_variance.ndim == 0:
            of_noise, half = of_noise.sum(1, keepdim=True), half.sum(0, keepdim=True)
        scores = torch.cat([of_loadings.flatten(1), of_noise, of_mean], 1)
        complete = torch.cat([(1 / noise).repeat_interleave(model.latents), half, 1 / noise])
        return information_root(scores, complete)

    def start(self) -> np.ndarray:
        """Return the vector of the model as it is."""
        return torch.cat([torch.zeros_like(self.origin), logs_of(self.learnt)]).numpy()

    def parts(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return loadings, noise variance and mean, and write the shapes into the laws."""
        moved, logs = vector.split([len(self.origin), len(self.learnt)])
        write(self.learnt, logs.detach())
        away = torch.linalg.solve_triangular(self.root.mT, moved.unsqueeze(1), upper=True).squeeze(1)
        parts = (self.origin + away).split([math.prod(size) for size in self.sizes])
        loadings, change, mean = (part.view(size) for part, size in zip(parts, self.sizes, strict=True))
        return loadings, self.floor + self.above * (1 + change / 2).square(), mean

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Keep shapes in their range."""
        return [(None, None)] * len(self.origin) + [BOUNDS] * len(self.learnt)


class _Likelihood:
    """The importance-sampled log-likelihood per row, a smooth function of the coordinates: its draws stay fixed."""

    def __init__(self, coordinates: _Coordinates, x: Tensor, draws: Tensor) -> None:
        self.coordinates = coordinates
        self.blocks = list(zip(x.split(BLOCK), draws.split(BLOCK, 1), strict=True))
        self.rows = len(x)

    def loss(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Return its negative and the gradient of that."""
        coordinates = self.coordinates
        point = torch.from_numpy(vector).requires_grad_()
        total, slope = 0.0, torch.zeros_like(point)
        for x, draws in self.blocks:
            loadings, noise, mean = coordinates.parts(point)
            scores = differentiable_scores(x, loadings, noise.expand(len(loadings)), mean)
            _, weights = weighted_draws(coordinates.model.prior, scores, draws)
            value = (scores.remainder + weights.logsumexp(0) - math.log(len(draws))).sum() / self.rows
            gradient, *slopes = torch.autograd.grad(value, [point, *coordinates.exponents])
            if slopes:
                gradient[-len(slopes) :] = torch.stack(slopes)
            total, slope = total + value.item(), slope + gradient
        return -total, -slope.numpy()


def _refine(model: LinearFactorModel, data: Data, seed: int, count: int) -> tuple[list[float], bool, bool]:
    """Climb the importance-sampled log-likelihood: of some rows first where there are many, then of all."""
    generator = torch.Generator().manual_seed(seed)
    x = data.values
    if len(x) > ROWS:
        x = x[torch.randperm(len(x), generator=generator)]
    draws = standard_draws(count, len(x), model.latents, generator)
    history: list[float] = []
    converged = False
    with Loop("likelihood") as loop:
        ticks = loop.steps(MAX_STEPS)
        for rows in sorted({min(len(x), ROWS), len(x)}):
            history.clear()
            converged = _climb(model, x[:rows], draws[:, :rows], history, loop, ticks)
    return history, converged, loop.interrupted


def _climb(
    model: LinearFactorModel, x: Tensor, draws: Tensor, history: list[float], loop: Loop, ticks: Iterator[int]
) -> bool:
    """Run L-BFGS and leave the model at the best point, when interrupted too; return whether it converged."""
    coordinates = _Coordinates(model, x[:BLOCK], draws[:, :BLOCK])
    likelihood = _Likelihood(coordinates, x, draws)
    best = coordinates.start()
    level = max(1.0, abs(likelihood.loss(best)[0]))

    def record(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal best
        best = intermediate_result.x.copy()
        history.append(-float(intermediate_result.fun))
        loop.value = history[-1]
        next(ticks, None)

    try:
        answer = scipy.optimize.minimize(
            likelihood.loss,
            best,
            jac=True,
            method="L-BFGS-B",
            bounds=coordinates.bounds(),
            callback=record,
            options={"maxiter": MAX_STEPS, "ftol": SETTLED / (len(x) * level), "gtol": 1e-9},
        )
    except (
        torch.linalg.LinAlgError
    ):  # noise so small that scores are lost to rounding, as of columns that are copies
        return False
    finally:
        loadings, noise, mean = coordinates.parts(torch.from_numpy(best.copy()))
        model.loadings, model.noise_variance, model.mean = loadings.clone(), noise.clone(), mean.clone()
    return bool(answer.success)


def _poor_weights(posterior: ImportancePosterior, data: Data) -> bool:
    """Warn and say yes when too few draws carry the weight for the likelihood to be refined by them."""
    block = max(1, importance.CHUNK // (posterior.count * posterior.model.latents))
    low = float(posterior(data.values[:block]).effective_sample_size.quantile(0.05))
    if low >= 5:
        return False
    warnings.warn(
        f"Importance sampling of {posterior.model.latents} factors is poor (5 % of the rows have fewer than {low:.1f} "
        f"effective draws of {posterior.count}): the Gaussian fit in its best frame was kept without refinement.",
        ConvergenceWarning,
        stacklevel=2,
    )
    return True
