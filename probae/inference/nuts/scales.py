r"""The density of the parameters and of the scales of the factors, and its gradient: compiled.

.. math:: z_{nk} \mid \tau \sim N(0, \tau_{nk}), \qquad x_n \mid \tau \sim N(\mu,\, W T_n W' + \Psi), \qquad
          \tau_{nk} = c_k\, g_{nk}^{\pm 1}, \quad g_{nk} \sim \mathrm{Gamma}(a_k, 1)

Exponential scales (a = 1) make Laplace factors, inverse gamma ones Student's t. The coordinate of a scale is w with
g = log(1 + e^w): for exponential scales it is logistic a priori, for all it has tails on either side that a step of one
size can follow. With R = T^{1/2}, r = x - mu, G = W' Psi^{-1} W and M = I + R G R nothing is divided by tau:

    log p(x | tau) = -1/2 [log |Psi| + log |M| + r' Psi^{-1} r - v' M v],    v = M^{-1} R W' Psi^{-1} r

and with the moments of z given tau, m = R v and C = R M^{-1} R, gradients are those of log p(x, z | tau) on average.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from probae.compiled import compile_cached
from probae.inference.nuts.collapsed import add_noise_and_mean_priors
from probae.inference.nuts.kernel import DENSITY, Target, compiled

__all__ = ["scale_log_density"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@compiled
def factor_row(G: Matrix, root: Vector, score: Vector, lower: Matrix, inverse: Matrix, v: Vector) -> float:
    """Write M^{-1} and v = M^{-1} R score, and return log |M| - v' M v; score is W' Psi^{-1} r."""
    latents = len(root)
    value = 0.0
    for k in range(latents):
        v[k] = root[k] * score[k]
        for j in range(k + 1):
            lower[k, j] = root[k] * G[k, j] * root[j]
        lower[k, k] += 1.0
        for j in range(k + 1):
            for i in range(j):
                lower[k, j] -= lower[k, i] * lower[j, i]
            if j < k:
                lower[k, j] /= lower[j, j]
                v[k] -= lower[k, j] * v[j]
        value += math.log(lower[k, k])
        lower[k, k] = math.sqrt(lower[k, k])
        v[k] /= lower[k, k]
        value -= v[k] * v[k]
    for k in range(latents):  # the inverse of the factor, in the lower triangle
        inverse[k, k] = 1.0 / lower[k, k]
        for j in range(k):
            held = 0.0
            for i in range(j, k):
                held += lower[k, i] * inverse[i, j]
            inverse[k, j] = -held / lower[k, k]
    for k in range(latents):  # L^{-T} v, and L^{-T} L^{-1} from the top: row k needs rows from k on
        held = 0.0
        for i in range(k, latents):
            held += inverse[i, k] * v[i]
        v[k] = held
        for j in range(k + 1):
            held = 0.0
            for i in range(k, latents):
                held += inverse[i, k] * inverse[i, j]
            inverse[k, j] = held
    for k in range(latents):
        for j in range(k):
            inverse[j, k] = inverse[k, j]
    return value


@compiled
def add_scaled_rows(
    scales: Vector,
    slope: Vector,
    target: Target,
    W: Matrix,
    psi: Vector,
    offset: Vector,
    dW: Matrix,
    dpsi: Vector,
    doffset: Vector,
) -> float:
    """Add the derivatives of the log likelihood given the scales and of the law of the scales, and return both."""
    latents, features = W.shape
    count = len(target.rows)
    V, G = np.empty((latents, features)), np.zeros((latents, latents))
    for k in range(latents):
        for d in range(features):
            V[k, d] = W[k, d] / psi[d]
        for j in range(k + 1):
            for d in range(features):
                G[k, j] += V[k, d] * W[j, d]
            G[j, k] = G[k, j]
    second, cross, first = np.zeros((latents, latents)), np.zeros((latents, features)), np.zeros(latents)
    square, sums, r = np.zeros(features), np.zeros(features), np.empty(features)
    lower, inverse = np.empty((latents, latents)), np.empty((latents, latents))
    root, score, v, steep = np.empty(latents), np.empty(latents), np.empty(latents), np.empty(latents)
    value = 0.0
    for n in range(count):
        for d in range(features):
            r[d] = target.rows[n, d] - offset[d]
            sums[d] += r[d]
            square[d] += r[d] * r[d]
        for k in range(latents):
            w, shape, power = scales[n * latents + k], target.laws[0, k], target.laws[1, k]
            small = math.exp(-abs(w))
            g = max(w, 0.0) + math.log1p(small)
            share = 1.0 / (1.0 + small)
            steep[k] = (share if w > 0.0 else small * share) / g
            value += (shape - 1.0) * math.log(g) + w - 2.0 * g
            slope[n * latents + k] = 1.0 + steep[k] * (shape - 1.0 - 2.0 * g)
            root[k] = math.sqrt(target.laws[2, k] * (g if power > 0.0 else 1.0 / g))
            held = 0.0
            for d in range(features):
                held += V[k, d] * r[d]
            score[k] = held
        value -= 0.5 * factor_row(G, root, score, lower, inverse, v)
        for k in range(latents):
            slope[n * latents + k] += 0.5 * steep[k] * target.laws[1, k] * (v[k] * v[k] + inverse[k, k] - 1.0)
            m = root[k] * v[k]
            first[k] += m
            for j in range(latents):
                second[k, j] += root[k] * root[j] * (v[k] * v[j] + inverse[k, j])
            for d in range(features):
                cross[k, d] += m * r[d]
    return value + add_moments(count, W, psi, second, cross, first, square, sums, dW, dpsi, doffset)


@compiled
def add_moments(
    count: int,
    W: Matrix,
    psi: Vector,
    second: Matrix,
    cross: Matrix,
    first: Vector,
    square: Vector,
    sums: Vector,
    dW: Matrix,
    dpsi: Vector,
    doffset: Vector,
) -> float:
    """Add the derivatives that the sums of z z', z r', z, r^2 and r make, and return what is left of the value."""
    latents, features = W.shape
    value = 0.0
    for k in range(latents):
        for d in range(features):
            explained = 0.0
            for j in range(latents):
                explained += second[k, j] * W[j, d]
            dW[k, d] += (cross[k, d] - explained) / psi[d]
            dpsi[d] += 0.5 * W[k, d] * (explained - 2.0 * cross[k, d]) / (psi[d] * psi[d])
            doffset[d] -= W[k, d] * first[k] / psi[d]
    for d in range(features):
        value -= 0.5 * (count * math.log(psi[d]) + square[d] / psi[d])
        dpsi[d] += 0.5 * (square[d] / psi[d] - count) / psi[d]
        doffset[d] += sums[d] / psi[d]
    return value


@functools.partial(compile_cached, options={}, signatures=[DENSITY])
def scale_log_density(theta: Vector, gradient: Vector, precision: Matrix, target: Target) -> float:
    """Return the log density at theta, up to a constant, and write its gradient.

    Parameters
    ----------
    theta, gradient : array (size,)
        Loadings, log noise variances, the mean where it is random, and w of every row and factor.
    precision : array (K, D)
        Of the normal prior of each loading.
    target : Target
    """
    features, latents, _, _, isotropic, sampled, _ = target.layout
    W, dW = np.empty((latents, features)), np.zeros((latents, features))
    psi, dpsi = np.empty(features), np.zeros(features)
    offset, doffset = np.empty(features), np.zeros(features)
    place = features * latents
    variances = 1 if isotropic else features
    after = place + variances + (features if sampled else 0)
    for d in range(features):
        for k in range(latents):
            W[k, d] = theta[d * latents + k]
        psi[d] = math.exp(theta[place if isotropic else place + d])
        offset[d] = (theta[place + variances + d] if sampled else target.centre[0, d]) - target.means[0, d]
    value = add_scaled_rows(theta[after:], gradient[after:], target, W, psi, offset, dW, dpsi, doffset)
    for d in range(features):
        for k in range(latents):
            pull = precision[k, d] * W[k, d]
            value -= 0.5 * pull * W[k, d]
            gradient[d * latents + k] = dW[k, d] - pull
    return add_noise_and_mean_priors(value, theta[place:], target, psi, dpsi, doffset, gradient[place:])
