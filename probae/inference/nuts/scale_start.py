"""Where chains start that move the scales of the factors: parameters near the best, and scales given these."""

from __future__ import annotations

import copy

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import Data
from probae.inference.code_start import start
from probae.inference.gibbs_posterior import start_chains, sweep
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.metric import Blocks
from probae.inference.nuts.scale_laws import coordinates_of
from probae.inference.nuts.start import SMALLEST_NOISE, Density, curvature_covariance
from probae.inference.parameter_draws import Problem
from probae.inference.scale_conditional import ScaleConditional
from probae.parameter_priors import Fixed

__all__ = ["first_covariance", "first_theta"]

SWEEPS = 20  # of the scales given first parameters


def first_theta(
    problem: Problem, place: Coordinates, laws: NDArray[np.float64], chains: int, seed: int
) -> NDArray[np.float64]:
    """Return first parameters, the same for each chain, and scales drawn given them, (C, size)."""
    model = copy.deepcopy(problem.model)
    assert isinstance(problem.data, Data)
    found = start(model, problem.data, seed)
    noise = found.noise.double().clamp_min(SMALLEST_NOISE)  # columns have variance one
    mean = problem.fixed_mean if isinstance(problem.mean, Fixed) else problem.data.values.double().mean(0)
    parameters = np.tile(place.pack(found.loadings, noise, mean), (chains, 1))
    scales = torch.stack([draw_scales(problem, found.loadings, noise, mean) for _ in range(chains)])
    return np.concatenate([parameters, coordinates_of(scales, laws)], 1)


def draw_scales(problem: Problem, loadings: Tensor, noise: Tensor, mean: Tensor) -> Tensor:
    """Draw the scales (N, K) given parameters, after some sweeps; from torch's global generator."""
    assert isinstance(problem.data, Data)
    law, prior = ScaleConditional(loadings, noise), problem.model.prior
    y = law.whiten(problem.data.values.double() - mean)
    z = start_chains(prior, y, law.latents)
    for _ in range(SWEEPS):
        for rows in law.blocks(len(y)):
            z[rows] = sweep(prior, law, z[rows], y[rows]).z
    return prior.sample_scales(z)


def first_covariance(
    density: Density, theta: NDArray[np.float64], size: int, laws: NDArray[np.float64]
) -> Blocks:
    """Return the covariance of the parameters given the scales at theta, and variances of the scales a priori."""
    rows = (len(theta) - size) // laws.shape[1]
    return Blocks(curvature_covariance(density, theta, size), np.tile(prior_variances(laws), rows))


def prior_variances(laws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of each coordinate w, log(1 + e^w) ~ Gamma(a, 1), by a sum over a lattice.

    Examples
    --------
    >>> prior_variances(np.ones((3, 1))).round(4)                           # logistic: pi^2 / 3
    array([3.2899])
    """
    shape = laws[0]
    # about the mean of g: ends far in the tails of w, and steps small in its standard deviation, for every shape
    w = shape + np.linspace(-1.0, 1.0, 5000)[:, None] * (60.0 + 12.0 * np.sqrt(shape))
    g = np.logaddexp(0.0, w)
    weights = scipy.special.softmax((shape - 1.0) * np.log(g) + w - 2.0 * g, axis=0)
    mean = (weights * w).sum(0)
    return (weights * (w - mean) ** 2).sum(0)
