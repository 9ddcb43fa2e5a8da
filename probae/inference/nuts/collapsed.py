r"""The density of loadings and noise with the latents integrated out, and its gradient, from moments alone.

With S_g = W W' + Psi + diag(shift_g) on the features that group g observes, its count n_g and second moments C_g,

    log p(x | W, psi)  =  -1/2 sum_g [n_g log |S_g| + tr S_g^{-1} C_g]
    M = I + W' Psi^{-1} W,   B = M^{-1} W' Psi^{-1} = W' S^{-1}
    d/dW   =  -n B' + S^{-1} C B',         S^{-1} C B' = Psi^{-1} (C B' - W B C B')
    d/dpsi =  -1/2 diag(n S^{-1} - S^{-1} C S^{-1})                         (Lawley & Maxwell, 1971, ch. 4)

so that a gradient costs O(D^2 K), whatever the number of rows; with rows in place of C, O(D K) for each. A flat mean
takes one from the count. A normal mean N(m, s^2) does so too and adds a group: sqrt(n) (mean x - m) under W W' + Psi +
n s^2. Where entries are missing every pattern is a group and the mean is a coordinate.

Coordinates are W, log psi and the mean. Where the prior of W is rotation invariant, W = L Q with L lower-trapezoidal
takes its place: for standard normal W, L_ii ~ chi_{K-i+1}, i = 1, ..., and the rest of L is normal, independent of Q,
which is uniform (Bartlett's decomposition). The coordinate is log L_ii, but L_KK itself, of either sign, whose law
chi_1 does not vanish at 0.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from probae.compiled import compile_cached
from probae.inference.nuts.kernel import DENSITY, Target, add_products, compiled

__all__ = ["collapsed_log_density"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@compiled
def unpack(theta: Vector, target: Target, W: Matrix) -> int:
    """Write W' (K, D) and return how many coordinates it took."""
    features, latents, _, gauge, _, _, _ = target.layout
    place = 0
    for d in range(features):
        for k in range(latents):
            if gauge and k > d:
                W[k, d] = 0.0
                continue
            logarithmic = gauge and k == d and d + 1 < target.layout[2]
            W[k, d] = math.exp(theta[place]) if logarithmic else theta[place]
            place += 1
    return place


@compiled
def solve_capacitance(W: Matrix, inverse: Vector, B: Matrix) -> float:
    """Write B = (I + W' Psi^{-1} W)^{-1} W' Psi^{-1} and return log |I + W' Psi^{-1} W|."""
    latents, features = W.shape
    M = np.empty((latents, latents))
    for k in range(latents):
        for d in range(features):
            B[k, d] = W[k, d] * inverse[d]
        for j in range(latents):
            M[k, j] = 1.0 if j == k else 0.0
        add_products(W, B[k], M[k])  # the upper half is not read
    log_det = 0.0
    for k in range(latents):  # Cholesky factor in place, forward substitution in the same sweep
        for j in range(k):
            for i in range(j):
                M[k, j] -= M[k, i] * M[j, i]
            M[k, j] /= M[j, j]
            M[k, k] -= M[k, j] * M[k, j]
            for d in range(features):
                B[k, d] -= M[k, j] * B[j, d]
        M[k, k] = math.sqrt(M[k, k])
        log_det += 2 * math.log(M[k, k])
        for d in range(features):
            B[k, d] /= M[k, k]
    for k in range(latents - 1, -1, -1):
        for j in range(k + 1, latents):
            for d in range(features):
                B[k, d] -= M[j, k] * B[j, d]
        for d in range(features):
            B[k, d] /= M[k, k]
    return log_det


@compiled
def add_scatter(C: Matrix, W: Matrix, B: Matrix, inverse: Vector, dW: Matrix, dpsi: Vector) -> float:
    """Add the derivatives of -1/2 tr S^{-1} C and return it."""
    latents, features = W.shape
    BC = np.zeros((latents, features))
    for k in range(latents):
        for j in range(features):
            for d in range(features):
                BC[k, d] += B[k, j] * C[j, d]
    BCB = np.zeros((latents, latents))
    value = 0.0
    for k in range(latents):
        add_products(B, BC[k], BCB[k])
        value += BCB[k, k]
    residual, explained = np.empty(features), np.empty(features)
    for d in range(features):
        residual[d] = C[d, d]
    for k in range(latents):
        for d in range(features):
            explained[d] = 0.0
        for j in range(latents):
            for d in range(features):
                explained[d] += BCB[k, j] * W[j, d]
        for d in range(features):
            residual[d] += W[k, d] * (explained[d] - 2 * BC[k, d])
            dW[k, d] += inverse[d] * (BC[k, d] - explained[d])
    for d in range(features):
        value += residual[d] * inverse[d]
        dpsi[d] += 0.5 * residual[d] * inverse[d] * inverse[d]
    return -0.5 * value


@compiled
def add_row(
    x: Vector, weight: float, W: Matrix, B: Matrix, inverse: Vector, dW: Matrix, dpsi: Vector, dmean: Vector
) -> float:
    """Add the derivatives of -weight/2 x' S^{-1} x and return it; S^{-1} x = (x - W B x) / psi."""
    latents, features = W.shape
    residual = np.empty(features)
    for d in range(features):
        residual[d] = x[d]
    value = 0.0
    scores = np.empty(latents)
    for k in range(latents):
        total = 0.0
        for d in range(features):
            total += B[k, d] * x[d]
        scores[k] = total
        value += total * total
    for k in range(latents):
        for d in range(features):
            residual[d] -= W[k, d] * scores[k]
    for d in range(features):
        solved = residual[d] * inverse[d]
        value += residual[d] * solved
        dpsi[d] += 0.5 * weight * solved * solved
        dmean[d] += weight * solved
        residual[d] = solved
    for k in range(latents):
        for d in range(features):
            dW[k, d] += weight * residual[d] * scores[k]
    return -0.5 * weight * value


@compiled
def add_group(
    group: int, target: Target, W: Matrix, psi: Vector, mean: Vector, dW: Matrix, dpsi: Vector, dmean: Vector
) -> float:
    """Add the derivatives of the log likelihood of one group and return it."""
    latents, features = W.shape
    inverse, B = np.empty(features), np.empty((latents, features))
    log_det = 0.0
    for d in range(features):
        variance = psi[d] + target.shifts[group, d]
        seen = target.masks[group, d] > 0
        inverse[d] = 1 / variance if seen else 0.0
        log_det += math.log(variance) if seen else 0.0
    log_det += solve_capacitance(W, inverse, B)
    count = target.counts[group]
    for k in range(latents):
        for d in range(features):
            dW[k, d] -= count * B[k, d]
            dpsi[d] += 0.5 * count * inverse[d] * W[k, d] * B[k, d]
    for d in range(features):
        dpsi[d] -= 0.5 * count * inverse[d]
    value = -0.5 * count * log_det
    if group == 0 and target.layout[6]:
        value += add_scatter(target.scatter, W, B, inverse, dW, dpsi)
    offset = np.zeros(features)  # takes derivatives nobody asks for, then the distance of the group's mean
    for row in range(target.ends[group], target.ends[group + 1]):
        value += add_row(target.rows[row], 1.0, W, B, inverse, dW, dpsi, offset)
    if target.layout[5]:
        for d in range(features):
            offset[d] = target.means[group, d] - mean[d]
        value += add_row(offset, count, W, B, inverse, dW, dpsi, dmean)
    return value


@compiled
def add_loadings_prior(
    theta: Vector, precision: Matrix, target: Target, W: Matrix, dW: Matrix, gradient: Vector
) -> float:
    """Write the gradient in the coordinates of W and return the log density of its prior in them."""
    features, latents, free, gauge, _, _, _ = target.layout
    place, value = 0, 0.0
    for d in range(features):
        for k in range(min(latents, d + 1) if gauge else latents):
            value -= 0.5 * precision[k, d] * W[k, d] * W[k, d]
            slope = dW[k, d] - precision[k, d] * W[k, d]
            if gauge and k == d and d + 1 < free:
                # chi of K - d degrees of freedom, and the Jacobian of the log
                value += (free - d) * theta[place]
                slope = slope * W[k, d] + (free - d)
            gradient[place] = slope
            place += 1
    return value


@compiled
def total(values: Vector) -> float:
    """Return the sum."""
    result = 0.0
    for d in range(len(values)):
        result += values[d]
    return result


@compiled
def add_noise_and_mean_priors(
    value: float, theta: Vector, target: Target, psi: Vector, dpsi: Vector, dmean: Vector, gradient: Vector
) -> float:
    """Write the gradient in log psi and the mean, and return the value with the log densities of their priors.

    The coordinates theta and their gradient begin at log psi; the sum goes on from the value, which keeps its order.
    """
    features, _, _, _, isotropic, sampled, _ = target.layout
    variances = 1 if isotropic else features
    for d in range(variances):
        a, b, c = target.noise[0, d], target.noise[1, d], target.noise[2, d]
        value += a * theta[d] - b / psi[d] - c * psi[d]
        slope = total(dpsi) if isotropic else dpsi[d]
        gradient[d] = psi[d] * (slope - c) + a + b / psi[d]
    if sampled:
        for d in range(features):
            offset = theta[variances + d] - target.centre[0, d]
            value -= 0.5 * target.centre[1, d] * offset * offset
            gradient[variances + d] = dmean[d] - target.centre[1, d] * offset
    return value


@functools.partial(compile_cached, options={}, signatures=[DENSITY])
def collapsed_log_density(theta: Vector, gradient: Vector, precision: Matrix, target: Target) -> float:
    """Return the log density at theta, up to a constant, and write its gradient.

    Parameters
    ----------
    theta, gradient : array (size,)
    precision : array (K, D)
        Of the normal prior of each loading.
    target : Target
    """
    features, latents, _, _, isotropic, sampled, _ = target.layout
    W, dW = np.empty((latents, features)), np.zeros((latents, features))
    psi, dpsi = np.empty(features), np.zeros(features)
    mean, dmean = np.zeros(features), np.zeros(features)
    first = unpack(theta, target, W)
    variances = 1 if isotropic else features
    for d in range(features):
        psi[d] = math.exp(theta[first] if isotropic else theta[first + d])
        if sampled:
            mean[d] = theta[first + variances + d]
    value = 0.0
    for group in range(len(target.counts)):
        value += add_group(group, target, W, psi, mean, dW, dpsi, dmean)
    value += add_loadings_prior(theta, precision, target, W, dW, gradient)
    return add_noise_and_mean_priors(value, theta[first:], target, psi, dpsi, dmean, gradient[first:])
