r"""The sweep of :mod:`chains` for normal loadings and inverse-gamma noise, compiled.

Every random number comes in, so that nothing here keeps a state. Letters are those of :mod:`scores`, :mod:`loadings`
and :mod:`group_move`; matrices are transposed, so that the long dimension is innermost.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from probae.inference.gibbs.compiled_noise import draw_noise_alone
from probae.inference.gibbs.small_matrices import (
    Array,
    compiled,
    diagonalize,
    entry,
    factor,
    gram,
    identity,
    multiply,
    solve,
    solve_transposed,
    transpose,
    weighted_gram,
)

EPS = float(np.finfo(np.float64).eps)
LOG_TWO_PI = math.log(2.0 * math.pi)


class Given(NamedTuple):
    """What stays: T (r, D), T', its column norms squared, n, prior variances (D,) and noise IG(shape, scale (D,))."""

    root: Array
    root_transposed: Array
    squares: Array
    count: float  # type: ignore[assignment]  # rows, where a tuple counts its entries
    variance: Array
    shape: float
    scale: Array
    isotropic: bool


class Numbers(NamedTuple):
    """Random numbers of a block of B sweeps of C chains.

    Normals for the scores (B, C, K, r) and the loadings (B, C, K, D); factors of the remainder (B, C, K, rest); gammas
    for the noise given the scores (B, C, D) or (B, C, 1); Bartlett factors (B, C, K, K) and uniforms (B, C) of the move
    along the orbit; uniforms (B, C, D, 2) for the noise without the scores.
    """

    scores: Array
    loadings: Array
    remainder: Array
    gammas: Array
    triangles: Array
    uniforms: Array
    proposals: Array


class Kept(NamedTuple):
    """W' (B, C, K, D) and noise (B, C, D) after each sweep; likelihood before it, acceptance and best width (B, C)."""

    loadings: Array
    noise: Array
    likelihood: Array
    acceptance: Array
    width: Array


@compiled
def draw_scores(
    given: Given,
    loadings: Array,
    noise: Array,
    fitted: Array,
    normals: Array,
    remainder: Array,
    square: Array,
    cross: Array,
) -> float:
    """Write Z'Z and Z'X; return the log-likelihood of the parameters. ``fitted`` is W' Psi^{-1} T', and is lost."""
    latents, features = loadings.shape
    rank = len(given.root)
    lower = np.empty((latents, latents))
    weighted_gram(loadings, noise, 1.0, lower)
    factor(lower)
    solve(lower, fitted)
    log_det, distance = 0.0, 0.0
    for d in range(features):
        log_det += np.log(noise[d])
        distance += given.squares[d] / noise[d]
    both = np.empty((latents, rank + remainder.shape[1]))
    for j in range(latents):
        log_det += 2.0 * np.log(lower[j, j])
        for m in range(rank):
            distance -= fitted[j, m] * fitted[j, m]
            both[j, m] = fitted[j, m] + normals[j, m]
        for m in range(remainder.shape[1]):
            both[j, rank + m] = remainder[j, m]
    solve_transposed(lower, both)
    gram(both, square)
    multiply(both, given.root, cross)
    return -0.5 * (given.count * (log_det + features * LOG_TWO_PI) + distance)


@compiled
def draw_loadings(
    given: Given, loadings: Array, noise: Array, normals: Array, square: Array, cross: Array
) -> Array:
    """Turn the scores to their axes and write the loadings there; return the residual squares."""
    diagonalize(square, cross)
    rest = np.empty(loadings.shape[1])
    for d in range(len(rest)):
        rest[d] = given.squares[d]
    for j in range(len(loadings)):
        size = max(square[j, j], 0.0)
        for d in range(loadings.shape[1]):
            spread = 1.0 / np.sqrt(size / noise[d] + 1.0 / given.variance[d])
            w = (cross[j, d] / noise[d] * spread + normals[j, d]) * spread
            loadings[j, d] = w
            rest[d] += w * (size * w - 2.0 * cross[j, d])
    for d in range(len(rest)):
        rest[d] = max(rest[d], EPS * given.squares[d])
    return rest


@compiled
def draw_noise(given: Given, rest: Array, gammas: Array, noise: Array) -> None:
    """Write the noise variances."""
    total = 0.0
    for d in range(len(rest)):
        total += rest[d]
        if not given.isotropic:
            noise[d] = (given.scale[d] + 0.5 * rest[d]) / gammas[d]
    if given.isotropic:
        for d in range(len(rest)):
            noise[d] = (given.scale[0] + 0.5 * total) / gammas[0]


@compiled
def move_frame(
    given: Given, loadings: Array, square: Array, width: float, triangle: Array, uniform: float
) -> tuple[float, float]:
    """Move the loadings along the orbit, in place; return the probability of acceptance and the best width here."""
    latents, features = loadings.shape
    freedom = given.count - features - latents - 1.0
    lower, turned = np.empty((latents, latents)), np.empty((latents, latents))
    weighted_gram(loadings, given.variance, 0.0, lower)
    factor(lower)
    for i in range(latents):
        for j in range(latents):
            total = 0.0
            for m in range(latents):
                total += lower[m, i] * max(square[m, m], 0.0) * lower[m, j]
            turned[i, j] = total
    axes, unturned = np.empty((latents, latents)), np.empty((latents, latents))
    inner = np.zeros((latents, latents))
    identity(axes)
    diagonalize(turned, axes)
    transpose(axes, unturned)
    solve_transposed(lower, unturned)
    gain, best, rates = 0.0, 0.0, np.empty(latents)
    for i in range(latents):
        value = max(turned[i, i], 0.0)
        root = np.sqrt(freedom * freedom + 4.0 * value)
        mode = 0.5 * (root - freedom) if freedom <= 0.0 else 2.0 * value / (root + freedom)
        best += root / latents
        rates[i] = mode * width
        inner[i, i] = np.sqrt(rates[i])
        new, old, extent = 0.0, 0.0, 0.0
        for m in range(latents):
            new += triangle[i, m] * triangle[i, m] / rates[i]
            old += unturned[m, i] * unturned[m, i]
            extent += lower[i, m] * lower[i, m]
        log_det = 2.0 * np.log(triangle[i, i] * lower[i, i]) - np.log(rates[i])
        gain += (freedom - width) * log_det - (value - rates[i]) * (new - old) + extent
    solve(triangle, inner)
    for i in range(latents):
        for m in range(latents):
            gain -= inner[i, m] * inner[i, m]
    acceptance = np.exp(min(0.5 * gain, 0.0))
    if uniform < acceptance:
        before = np.empty((latents, features))
        transpose(unturned, axes)
        multiply(inner, axes, turned)
        for i in range(latents):
            for d in range(features):
                before[i, d] = loadings[i, d]
        multiply(turned, before, loadings)
    return acceptance, best


@compiled
def fit_scores(given: Given, loadings: Array, noise: Array, fitted: Array) -> None:
    """Write W' Psi^{-1} T'."""
    weighted = np.empty(loadings.shape)
    for j in range(loadings.shape[0]):
        for d in range(loadings.shape[1]):
            weighted[j, d] = loadings[j, d] / noise[d]
    multiply(weighted, given.root_transposed, fitted)


@entry
def sweep_chains(
    given: Given, loadings: Array, noise: Array, width: float, numbers: Numbers, kept: Kept
) -> None:
    """Sweep W' (C, K, D) and noise (C, D) in place, and keep every state."""
    chains, latents, features = loadings.shape
    square, cross = np.empty((latents, latents)), np.empty((latents, features))
    fitted = np.empty((latents, len(given.root)))
    for c in range(chains):
        w, psi = loadings[c], noise[c]
        fit_scores(given, w, psi, fitted)
        for b in range(len(numbers.uniforms)):
            kept.likelihood[b, c] = draw_scores(
                given, w, psi, fitted, numbers.scores[b, c], numbers.remainder[b, c], square, cross
            )
            rest = draw_loadings(given, w, psi, numbers.loadings[b, c], square, cross)
            draw_noise(given, rest, numbers.gammas[b, c], psi)
            kept.acceptance[b, c], kept.width[b, c] = move_frame(
                given, w, square, width, numbers.triangles[b, c], numbers.uniforms[b, c]
            )
            fit_scores(given, w, psi, fitted)
            if not given.isotropic:
                prior, uniforms = (given.count, given.shape, given.scale), numbers.proposals[b, c]
                draw_noise_alone(given.root_transposed, given.squares, prior, w, psi, fitted, uniforms)
            for d in range(features):
                kept.noise[b, c, d] = psi[d]
                for j in range(latents):
                    kept.loadings[b, c, j, d] = w[j, d]
