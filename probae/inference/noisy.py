"""Maximum likelihood of a noisy linear factor model with independent non-Gaussian factors."""

from __future__ import annotations

import math
import warnings

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, Data, NotExactError
from probae.inference import importance
from probae.inference.base import Loop, Outcome
from probae.inference.gaussian import fit_diagonal, fit_isotropic, summarize
from probae.inference.importance import (
    ImportancePosterior,
    differentiable_scores,
    standard_draws,
    weighted_draws,
)
from probae.inference.learnt_shapes import learnt_shapes, logs_of, search_frame_and_shapes, write
from probae.inference.relative_newton import BOUNDS
from probae.inference.rotation_search import RotationSearch
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors.information import information_of, spread_of

ROWS = 20_000  # rows that refine the likelihood; more change the answer by less than its standard error
MAX_STEPS = 400


@local_parameters
def fit_noisy(model: LinearFactorModel, data: Data, seed: int, draws: int | None) -> Outcome:
    """Fit subspace and noise as FA or PPCA does, find the frame, then refine all parameters by importance sampling.

    Learnt shapes of the laws are found with the frame and refined with the parameters.

    Rows whose importance weights degenerate (many factors) are not refined: the first two steps are consistent alone.
    """
    _require_scores(model)
    if _normal(model):
        return _fit_normal(model, data, seed, draws)
    _start_from_gaussian(model, data, seed)
    search = _turn_to_best_frame(model, data, seed)
    count = draws or int(np.clip(1_500_000 // (min(len(data.values), ROWS) * model.latents), 16, 128))
    posterior = ImportancePosterior(model, count=max(count, 128), seed=seed)
    if _poor_weights(posterior, data):
        history, converged, interrupted = (
            [float(posterior.log_likelihood(data.values[:ROWS]).mean())],
            True,
            False,
        )
    else:
        history, converged, interrupted = _refine(model, data, seed, count)
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


def _start_from_gaussian(model: LinearFactorModel, data: Data, seed: int) -> None:
    """Start at the Gaussian model: its subspace and noise are those of any law of z of variance 1."""
    gaussian, _, _ = _fit_gaussian(model, data, seed)
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
    """Loadings, noise and mean free of units, and the logarithms of learnt shapes, as one vector."""

    def __init__(self, model: LinearFactorModel, spread: Tensor) -> None:
        self.model, self.spread = model, spread
        self.sizes = [tuple(getattr(model, name).shape) for name in model.parameter_names]
        self.learnt = learnt_shapes(model.prior.coordinates(model.latents) or [])
        self.exponents = [shape.log_excess.requires_grad_() for shape in self.learnt]

    def start(self) -> np.ndarray:
        """Return the vector of the model as it is."""
        model, spread = self.model, self.spread
        parts = [model.loadings / spread.unsqueeze(1), model.noise_variance.log(), model.mean / spread]
        return torch.cat([part.detach().flatten() for part in [*parts, logs_of(self.learnt)]]).numpy()

    def parts(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return loadings, noise variance and mean, and write the shapes into the laws."""
        counts = [math.prod(size) for size in self.sizes]
        *parts, logs = vector.split([*counts, len(self.learnt)])
        write(self.learnt, logs.detach())
        loadings, noise, mean = (part.view(size) for part, size in zip(parts, self.sizes, strict=True))
        return loadings * self.spread.unsqueeze(1), noise.exp(), mean * self.spread

    def bounds(self, start: np.ndarray) -> list[tuple[float | None, float | None]]:
        """Keep noise variances above exp(-6) of where they start, and shapes in their range."""
        first = math.prod(self.sizes[0])
        last = first + math.prod(self.sizes[1])
        found: list[tuple[float | None, float | None]] = [(None, None)] * (len(start) - len(self.learnt))
        found[first:last] = [(float(low) - 6.0, None) for low in start[first:last]]
        return found + [BOUNDS] * len(self.learnt)


def _refine(model: LinearFactorModel, data: Data, seed: int, count: int) -> tuple[list[float], bool, bool]:
    """Run L-BFGS on the importance-sampled log-likelihood per row; draws stay fixed, so it is a smooth function."""
    generator = torch.Generator().manual_seed(seed)
    x = data.values
    if len(x) > ROWS:
        x = x[torch.randperm(len(x), generator=generator)[:ROWS]]
    draws = standard_draws(count, len(x), model.latents, generator)
    spread = x.std(0).clamp_min(1e-12)
    history: list[float] = []
    coordinates = _Coordinates(model, spread)

    def objective(vector: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(vector).requires_grad_()
        loadings, noise, mean = coordinates.parts(point)
        scores = differentiable_scores(x, loadings, noise.expand(model.features), mean)
        _, weights = weighted_draws(model.prior, scores, draws)
        value = (scores.remainder + weights.logsumexp(0)).mean() - math.log(count)
        gradient, *slopes = torch.autograd.grad(value, [point, *coordinates.exponents])
        if slopes:
            gradient[-len(slopes) :] = torch.stack(slopes)
        return -value.item(), -gradient.numpy()

    best = coordinates.start()
    converged = False
    with Loop("likelihood") as loop:
        ticks = loop.steps(MAX_STEPS)

        def record(state: scipy.optimize.OptimizeResult) -> None:
            nonlocal best
            best = state.x.copy()
            history.append(-float(state.fun))
            loop.value = history[-1]
            next(ticks, None)

        answer = scipy.optimize.minimize(
            lambda v: objective(v),
            best,
            jac=True,
            method="L-BFGS-B",
            bounds=coordinates.bounds(best),
            callback=lambda intermediate_result: record(intermediate_result),
            options={"maxiter": MAX_STEPS, "ftol": 1e-7, "gtol": 1e-6},
        )
        converged = bool(answer.success)
    loadings, noise, mean = coordinates.parts(torch.from_numpy(best.copy()))
    model.loadings, model.noise_variance, model.mean = loadings.clone(), noise.clone(), mean.clone()
    return history, converged, loop.interrupted


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
