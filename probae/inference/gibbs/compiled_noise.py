r"""Noise variances given the loadings alone, the scores integrated out, compiled.

One feature at a time: x_d given the other features has the variance tau + psi_d, with

.. math:: q = M_{-d}^{-1} w_d, \quad \tau = w_d' q, \quad
    r = S_{dd} - 2 q' g + q' H q, \quad g = W_{-d}' \Psi_{-d}^{-1} S_{-d,d}, \quad
    H = W_{-d}' \Psi_{-d}^{-1} S_{-d,-d} \Psi_{-d}^{-1} W_{-d}

so that p(psi_d | W, other psi) is p(psi_d) (tau + psi_d)^{-n/2} exp(-r / (2 (tau + psi_d))). A feature that its factors
nearly determine moves as far here as the posterior is wide; given the scores it creeps. log psi_d is proposed from a
logistic law about the mode, whose tails are longer, and accepted by Metropolis and Hastings.
"""

from __future__ import annotations

import numpy as np

from probae.inference.gibbs.small_matrices import (
    Array,
    compiled,
    factor,
    gram,
    identity,
    solve,
    solve_transposed,
    weighted_gram,
)

EPS = float(np.finfo(np.float64).eps)
STEPS = 5  # of Fisher scoring; the proposal need not be at the mode to the last digit
LOGISTIC = 0.6  # scale of a logistic law by the standard deviation of the normal law that it covers
LEAST = 0.05  # of the variance given the other features: less is taken for noise that may be anything


@compiled
def log_target(y: float, rest: float, residual: float, count: float, shape: float, scale: float) -> float:
    """Log density of y = log psi given W and the other variances, up to a constant."""
    noise = np.exp(y)
    total = rest + noise
    return -shape * y - scale / noise - 0.5 * (count * np.log(total) + residual / total)


@compiled
def centre_and_spread(
    rest: float, residual: float, count: float, shape: float, scale: float
) -> tuple[float, float]:
    """Return the mode of log psi, nearly, and its standard deviation there, by Fisher scoring."""
    total = residual / count
    y = np.log(max(total - rest, LEAST * total, scale / (count + shape)))
    information = 1.0
    for _ in range(STEPS):
        noise = np.exp(y)
        total = rest + noise
        share, pull = noise / total, scale / noise
        slope = pull - shape - 0.5 * share * (count - residual / total)
        fisher = pull + 0.5 * count * share * share
        y += max(-1.0, min(1.0, slope / fisher))
        curvature = pull + 0.5 * share * (count * rest - residual * (rest - noise) / total) / total
        information = max(curvature, 0.25 * fisher)
    return y, 1.0 / np.sqrt(information)


@compiled
def propose_noise(
    noise: float, rest: float, residual: float, count: float, shape: float, scale: float, uniforms: Array
) -> float:
    """Draw psi from its law given W and the other variances, by one step from where it is."""
    centre, spread = centre_and_spread(rest, residual, count, shape, scale)
    spread *= LOGISTIC
    y = np.log(noise)
    old = abs(y - centre) / spread
    new = np.log(uniforms[0] / (1.0 - uniforms[0]))
    proposed = centre + spread * new
    new = abs(new)
    gain = log_target(proposed, rest, residual, count, shape, scale)
    gain -= log_target(y, rest, residual, count, shape, scale)
    gain += new + 2.0 * np.log1p(np.exp(-new)) - old - 2.0 * np.log1p(np.exp(-old))
    return np.exp(proposed) if np.log(uniforms[1]) < gain else noise


@compiled
def draw_noise_alone(
    columns: Array,
    squares: Array,
    prior: tuple[float, float, Array],
    loadings: Array,
    noise: Array,
    fitted: Array,
    uniforms: Array,
) -> None:
    """Draw each noise variance in place, and let ``fitted``, W' Psi^{-1} T' (K, r), follow.

    ``columns`` is T' (D, r), ``prior`` n with shape and scales of the inverse gamma laws, ``uniforms`` (D, 2).
    """
    latents, features = loadings.shape
    count, shape, scales = prior
    cover, product = np.empty((latents, latents)), np.empty((latents, latents))
    lower = np.empty((latents, latents))
    weighted_gram(loadings, noise, 1.0, lower)
    factor(lower)
    identity(cover)
    solve(lower, cover)
    solve_transposed(lower, cover)
    gram(fitted, product)
    q, g, w = np.empty(latents), np.empty(latents), np.empty(latents)
    for d in range(features):
        column, psi, extent = columns[d], noise[d], 0.0
        for i in range(latents):
            w[i] = loadings[i, d]
        for i in range(latents):
            total, score = 0.0, 0.0
            for j in range(latents):
                total += cover[i, j] * w[j]
            for m in range(len(column)):
                score += fitted[i, m] * column[m]
            q[i], g[i] = total, score
            extent += total * w[i]
        grow = psi / max(psi - extent, EPS * psi)  # q of the other features over q
        rest, cross, square = extent * grow, 0.0, 0.0
        for i in range(latents):
            cross += q[i] * grow * g[i]
            for j in range(latents):
                square += q[i] * product[i, j] * q[j] * grow * grow
        own = rest * squares[d] / psi
        cross -= own
        residual = squares[d] - 2.0 * cross + square - 2.0 * rest * cross / psi - rest * own / psi
        residual = max(residual, EPS * squares[d])
        proposed = propose_noise(psi, rest, residual, count, shape, scales[d], uniforms[d])
        if proposed == psi:
            continue
        noise[d] = proposed
        step = 1.0 / proposed - 1.0 / psi
        shrink = step / (1.0 + step * extent)
        for i in range(latents):
            for j in range(latents):
                cover[i, j] -= shrink * q[i] * q[j]
                product[i, j] += step * (w[i] * g[j] + g[i] * w[j]) + step * step * squares[d] * w[i] * w[j]
            for m in range(len(column)):
                fitted[i, m] += step * w[i] * column[m]
