"""One step of expectation maximisation for loadings with fixed zeros and correlated factors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch

from probae.inference.masked import Group
from probae.inference.profile import FLOOR
from probae.models import ConfirmatoryFactorAnalysis
from probae.priors import CorrelatedGaussian

__all__ = ["Expectation", "expectation", "masked_step"]


def masked_step(model: ConfirmatoryFactorAnalysis, groups: list[Group]) -> Callable[[], float]:
    r"""Return one EM step, which returns the log-likelihood per row before it.

    Each feature is regressed on the factors that it may load on, and on 1 for the mean. The factors get the
    covariance that they have given x, and are brought back to variance 1 by scaling the columns of the loadings,
    which no fixed zero minds (parameter-expanded EM: Liu, Rubin & Wu, 1998).
    """
    pattern = model.pattern.numpy()
    shares = np.array(sum(group.share * group.observed for group in groups))
    centre = sum(group.share * group.observed * group.mean for group in groups) / shares
    spread = sum(g.share * g.observed * (g.covariance.diagonal() + (g.mean - centre) ** 2) for g in groups)
    variance = np.asarray(spread) / shares
    floor = FLOOR * np.maximum(variance, 1e-6 * variance.mean())

    def step() -> float:
        loadings, noise, mean = (value.numpy() for value in model._gaussian_parameters())
        expected = expectation(groups, loadings, model.factor_correlation.numpy(), noise, mean)
        updated, centres, residual = _regress(pattern, expected)
        length = np.sqrt(expected.factors.diagonal())
        model.loadings = torch.as_tensor(updated * length)
        model.mean = torch.as_tensor(centres)
        model.noise_variance = torch.as_tensor(np.maximum(residual / shares, floor))
        if model.free_correlations:
            phi = expected.factors / np.outer(length, length)
            model.prior = CorrelatedGaussian(0.5 * (phi + phi.T), learn=True)
        return expected.log_likelihood

    return step


@dataclass(frozen=True, eq=False)
class Expectation:
    """Moments of x and of (z, 1) given x, summed over the rows that have the feature; E zz' over all rows."""

    moments: np.ndarray
    cross: np.ndarray
    power: np.ndarray
    factors: np.ndarray
    log_likelihood: float


def expectation(
    groups: list[Group], loadings: np.ndarray, correlation: np.ndarray, noise: np.ndarray, mean: np.ndarray
) -> Expectation:
    """Take the expectations of one EM step, per row of the data."""
    features, factors = loadings.shape
    moments = np.zeros((features, factors + 1, factors + 1))
    cross, power = np.zeros((features, factors + 1)), np.zeros(features)
    total = correlation * (1.0 - sum(group.share for group in groups))  # rows without any value
    value = 0.0
    for group in groups:
        seen = group.observed
        own, shift = loadings[seen], (group.mean - mean)[seen]
        factor = scipy.linalg.cho_factor(own @ correlation @ own.T + np.diag(noise[seen]), lower=True)
        gain = scipy.linalg.cho_solve(factor, own @ correlation).T
        spread = group.covariance[np.ix_(seen, seen)]
        second = spread + np.outer(shift, shift)
        first = gain @ shift
        squares = correlation - gain @ own @ correlation + gain @ second @ gain.T
        both = np.block([[squares, first[:, None]], [first[None, :], np.ones((1, 1))]])
        centre = group.mean[seen]
        moments[seen] += group.share * both
        cross[seen, :-1] += group.share * (spread + np.outer(centre, shift)) @ gain.T
        cross[seen, -1] += group.share * centre
        power[seen] += group.share * (spread.diagonal() + centre**2)
        total += group.share * squares
        log_det = 2 * np.log(factor[0].diagonal()).sum()
        distance = float(scipy.linalg.cho_solve(factor, second).trace())
        value -= 0.5 * group.share * (len(centre) * math.log(2 * math.pi) + log_det + distance)
    return Expectation(moments, cross, power, total, float(value))


def _regress(pattern: np.ndarray, expected: Expectation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return loadings, means and residual powers of the features, those with one set of factors at a time."""
    features, factors = pattern.shape
    updated, centres = np.zeros((features, factors)), np.zeros(features)
    residual = np.zeros(features)
    for own in np.unique(pattern, axis=0):
        rows = np.flatnonzero((pattern == own).all(axis=1))
        free = np.append(np.flatnonzero(own), factors)
        cross = expected.cross[np.ix_(rows, free)]
        answer = np.linalg.solve(expected.moments[np.ix_(rows, free, free)], cross[..., None])[..., 0]
        updated[np.ix_(rows, free[:-1])], centres[rows] = answer[:, :-1], answer[:, -1]
        residual[rows] = expected.power[rows] - (answer * cross).sum(axis=1)
    return updated, centres, residual
