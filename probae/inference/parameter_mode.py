"""The mode of loadings and noise variances, in the frame that it fixes, and the curvature there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from probae.checks import Data, ParameterError
from probae.inference.base import Loop
from probae.inference.frame import Frame
from probae.inference.gibbs.rows import centred
from probae.inference.parameter_coordinates import Coordinates, Parameters
from probae.inference.parameter_density import CollapsedDensity, check_noise
from probae.statistics import SufficientStatistics

STEPS = 50  # of Newton's method
TOLERANCE = 1e-9  # in nats: the rise that the next step promises
FLATTEST = 1e-6  # curvature, relative to the largest, below which a direction counts as flat
ROUNDING = 1e-13  # the same, below which a curvature is rounding
WEAKEST = 0.1**0.5  # length of a factor, in units of the noise, below which its axis would fix no frame


class Mode(NamedTuple):
    """Where the density is highest; ``precision`` is minus its Hessian there."""

    coordinates: Coordinates
    theta: Float[Tensor, " p"]
    precision: Float[Tensor, "p p"]
    converged: bool
    history: list[float]
    interrupted: bool


def find_mode(density: CollapsedDensity, method: str) -> Mode:
    """Climb by L-BFGS in all loadings, then by Newton's method in the frame of the loadings found.

    Raises
    ------
    ParameterError
        More latents than features, under a prior that leaves rotations free; columns that leave no proper posterior.
    """
    invariant = density.problem.loadings.rotation_invariant
    if invariant and density.latents > density.features:
        raise ParameterError(
            f"{method} needs no more latents than features, got {density.latents} and {density.features}: "
            "Gibbs() takes any number."
        )
    check_noise(density.problem)
    free = Coordinates(density, Frame(torch.zeros(density.features, density.latents).double(), fixed=False))
    options = {"maxiter": 2000, "maxfun": 4000, "gtol": 1e-4, "ftol": 1e-13}
    start = free.vector(_start(density))[0].numpy()
    found = minimize(free.value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    parameters = free.parameters(torch.from_numpy(found.x)[None])
    if not invariant:
        return _climb(free, torch.from_numpy(found.x))
    weights, parameters = _framed(parameters)
    coordinates = Coordinates(density, Frame(weights, fixed=True))
    return _climb(coordinates, coordinates.vector(parameters)[0])


def _start(density: CollapsedDensity) -> Parameters:
    """Half of each variance is noise; the best loadings given that (Lawley, 1940)."""
    data, rows = density.problem.data, density.centred
    if isinstance(data, Data):
        values = data.values.double()
        filled = torch.where(values.isnan(), values.nanmean(0).nan_to_num(), values)
        rows = centred(SufficientStatistics.from_data(filled))
    assert rows is not None
    root, mean, count = rows.root, rows.mean, rows.count
    variances = rows.squares / count
    noise = 0.5 * torch.where(variances > 0, variances, torch.ones_like(variances))
    noise = noise.mean().expand(1) if density.variances == 1 else noise
    _, values, axes = torch.linalg.svd(root / noise.sqrt() / count**0.5, full_matrices=True)
    strength = torch.zeros(density.latents, dtype=torch.float64)
    kept = min(len(values), density.latents)
    strength[:kept] = (values[:kept].square() - 1.0).clamp_min(0.0).sqrt()
    wide = torch.zeros(density.features, density.latents, dtype=torch.float64)
    found = min(density.features, density.latents)
    wide[:, :found] = axes[:found].T
    loadings = wide * strength.clamp_min(WEAKEST) * noise.sqrt().expand(density.features)[:, None]
    return Parameters(loadings[None], noise[None], mean[None] if density.samples_mean else None)


def _framed(parameters: Parameters) -> tuple[Tensor, Parameters]:
    """Return weights A = Psi^{-1} W, W in its principal axes, and the parameters in that frame."""
    spread = parameters.noise[0].sqrt().expand(parameters.loadings.shape[1])[:, None]
    left, values, _ = torch.linalg.svd(parameters.loadings[0] / spread, full_matrices=False)
    scaled = left * values.clamp_min(WEAKEST)
    return scaled / spread, parameters._replace(loadings=(scaled * spread)[None])


def _climb(coordinates: Coordinates, theta: Float[Tensor, " p"]) -> Mode:
    """Take Newton steps, shortened until they rise, until the next one promises nothing."""
    history = [float(coordinates.log_prob(theta[None]))]
    converged, precision = False, torch.eye(len(theta), dtype=torch.float64)
    with Loop("climbing") as loop:
        for _ in loop.steps(STEPS):
            _, gradient = coordinates.value_and_gradient(theta.numpy())
            precision = -coordinates.hessian(theta)
            values, axes = torch.linalg.eigh(precision)
            bounded = values.abs().clamp_min(FLATTEST * float(values.abs().max()))
            step = -axes @ ((axes.T @ torch.from_numpy(gradient)) / bounded)
            promise = -0.5 * float(step @ torch.from_numpy(gradient))
            converged = promise < TOLERANCE and bool(values[0] > 0)
            if promise < TOLERANCE:
                break
            lengths = 0.5 ** torch.arange(0.0, 20.0).double()
            tried = coordinates.log_prob(theta + lengths[:, None] * step).nan_to_num(-torch.inf)
            best = int(tried.argmax())
            if not tried[best] > history[-1]:
                break
            theta = theta + lengths[best] * step
            history.append(float(tried[best]))
            loop.value = history[-1]
    return Mode(coordinates, theta, precision, converged, history, loop.interrupted)


def root_of_inverse(precision: Float[Tensor, "p p"]) -> Float[Tensor, "p p"]:
    """Return C with C C' = H^{-1}; directions that curve up count as if they curved down, flat ones as rounding."""
    values, axes = torch.linalg.eigh(precision)
    return axes * values.abs().clamp_min(ROUNDING * float(values.abs().max())).rsqrt()
