r"""Noise variances given the loadings alone, the scores integrated out, compiled.

One feature at a time: x_d given the other features has the variance tau + psi_d, with

.. math:: q = M_{-d}^{-1} w_d, \quad \tau = w_d' q, \quad
    r = S_{dd} - 2 q' g + q' H q, \quad g = W_{-d}' \Psi_{-d}^{-1} S_{-d,d}, \quad
    H = W_{-d}' \Psi_{-d}^{-1} S_{-d,-d} \Psi_{-d}^{-1} W_{-d}

so that p(psi_d | W, other psi) is p(psi_d) (tau + psi_d)^{-n/2} exp(-r / (2 (tau + psi_d))). A feature that its factors
nearly determine moves as far here as the posterior is wide; given the scores it creeps. Proposals take tau + psi_d
from the inverse gamma law that psi_d would have at tau = 0, and are accepted by Metropolis and Hastings.
"""

from __future__ import annotations

import numpy as np

from probae.inference.gibbs.small_matrices import (
    Array,
    compiled,
    factor,
    gram,
    solve,
    solve_transposed,
    weighted_gram,
)

EPS = float(np.finfo(np.float64).eps)


@compiled
def log_weight(noise: float, rest: float, shape: float, scale: float) -> float:
    """The log of target over proposal, less what they share: IG(psi) / IG(tau + psi)."""
    total = rest + noise
    return (shape + 1.0) * np.log(total / noise) - scale * (1.0 / noise - 1.0 / total)


@compiled
def draw_noise_alone(
    columns: Array,
    squares: Array,
    prior: tuple[float, Array],
    loadings: Array,
    noise: Array,
    fitted: Array,
    gammas: Array,
    uniforms: Array,
) -> None:
    """Draw each noise variance in place; ``fitted`` W' Psi^{-1} T' (K, r) follows. ``columns`` is T' (D, r)."""
    latents, features = loadings.shape
    shape, scales = prior
    cover, product, lower = np.zeros((3, latents, latents))
    weighted_gram(loadings, noise, 1.0, lower)
    factor(lower)
    for i in range(latents):
        cover[i, i] = 1.0
    solve(lower, cover)
    solve_transposed(lower, cover)
    gram(fitted, product)
    q, g, w = np.empty((3, latents))
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
        proposed = (scales[d] + 0.5 * max(residual, EPS * squares[d])) / gammas[d] - rest
        if proposed <= 0.0:
            continue
        gain = log_weight(proposed, rest, shape, scales[d]) - log_weight(psi, rest, shape, scales[d])
        if np.log(uniforms[d]) >= gain:
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
