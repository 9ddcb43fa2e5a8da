r"""Maximum likelihood with a multivariate t law of the factors: heavy tails without axes.

Without noise x itself is multivariate t with covariance :math:`W W'`. With scale matrix S, :math:`\delta_n = (x_n -
\mu)' S^{-1} (x_n - \mu)` and weights :math:`w_n = (\nu + D) / (\nu + \delta_n)`, one step is

.. math:: \mu \leftarrow \frac{\sum w_n x_n}{\sum w_n}, \qquad
          S \leftarrow \frac{\sum w_n (x_n - \mu)(x_n - \mu)'}{\sum w_n},

then nu maximises the likelihood itself (ECME: Liu & Rubin, 1995; the divisor of S: Kent, Tyler & Vardi, 1994).
"""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from probae.checks import BoundaryWarning, Data, DataError, NotExactError, warn
from probae.inference.acceleration import Ascent
from probae.inference.base import ExactPosterior, Loop, Outcome
from probae.inference.factor_likelihood import FactorLikelihood
from probae.inference.gaussian import (
    assign,
    fit_diagonal,
    fit_isotropic,
    set_canonical,
    summarize,
    warn_heywood,
)
from probae.inference.shared_scale import FEWEST, MOST, SharedScaleLikelihood
from probae.models import LinearFactorModel
from probae.models.patterns import Patterns
from probae.models.pyro_context import local_parameters
from probae.priors import MultivariateStudentT

CALM = 2  # times in a row that a step must gain less than the tolerance


@local_parameters
def fit_elliptical(model: LinearFactorModel, data: Data, seed: int, steps: int, tolerance: float) -> Outcome:
    """Fit loadings, noise, mean and, where they may be learnt, the degrees of freedom."""
    if data.missing is not None:
        raise DataError(
            "MultivariateStudentT factors need complete rows, but x has missing values: fill them in."
        )
    if model.noise == "complement":
        raise NotExactError(
            'MultivariateStudentT factors with noise="complement" are not fitted: use noise="isotropic".'
        )
    solve = _fit_noise_free if model.noise == "none" else _fit_noisy
    history, converged, interrupted = solve(model, data, seed, steps, tolerance)
    assert isinstance(model.prior, MultivariateStudentT)
    if model.prior.freedom.learn and math.log(float(model.prior.df.detach()) - 2) <= FEWEST + 1e-9:
        warn(
            f"The degrees of freedom ended at {2 + math.exp(FEWEST):g}, next to 2: the tails are so heavy that the "
            "covariance, and with it the scale of the loadings, means little.",
            BoundaryWarning,
        )
    return Outcome(ExactPosterior(model), history, converged, interrupted)


def _fit_noisy(
    model: LinearFactorModel, data: Data, seed: int, steps: int, tolerance: float
) -> tuple[list[float], bool, bool]:
    """Climb by accelerated EM from the fit of Gaussian factors."""
    prior, statistics = model.prior, summarize(data)
    assert isinstance(prior, MultivariateStudentT)
    gaussian = LinearFactorModel(model.features, model.latents, noise=model.noise)
    (fit_diagonal if model.noise == "diagonal" else fit_isotropic)(gaussian, statistics, seed)
    patterns = Patterns.of_statistics(statistics)
    frame = FactorLikelihood(patterns, model.latents, model.noise == "diagonal", statistics.variances)
    problem = SharedScaleLikelihood(data.values, frame, prior.freedom.learn)
    excess = (
        (prior.df.detach() - 2).log().clamp(FEWEST, MOST) if prior.freedom.learn else (prior.df - 2).log()
    )
    start = torch.cat([frame.join(*gaussian._gaussian_parameters()), excess.detach().view(1)])
    ascent = Ascent(problem, start, tolerance)
    history = [ascent.point.value]
    with Loop("EM") as loop:
        for _, point in zip(loop.steps(steps), ascent, strict=False):
            history.append(point.value)
            loop.value = point.value
    theta = ascent.point.theta
    set_canonical(model, *frame.split(theta[:-1]))
    _set_freedom(prior, float(theta[-1]))
    warn_heywood(frame.at_floor(theta[:-1]), data.names)
    return history, ascent.converged, loop.interrupted


def _fit_noise_free(
    model: LinearFactorModel, data: Data, seed: int, steps: int, tolerance: float
) -> tuple[list[float], bool, bool]:
    """Fit the multivariate t law of x."""
    prior, x = model.prior, data.values
    assert isinstance(prior, MultivariateStudentT)
    df = float(prior.df.detach())
    if prior.freedom.learn:
        df = float(np.clip(df, 2 + math.exp(FEWEST), 2 + math.exp(MOST)))
    mean, scatter = x.mean(0), (x - x.mean(0)).mT @ (x - x.mean(0)) / len(x)
    scatter = scatter * (df - 2) / df
    history: list[float] = []
    calm = 0
    with Loop("EM") as loop:
        for _ in loop.steps(steps):
            distance, log_det = _distances(x - mean, scatter)
            if prior.freedom.learn:
                df = _best_freedom(distance, x.shape[1])
            history.append(_mean_log_density(distance, log_det, x.shape[1], df))
            loop.value = history[-1]
            calm = calm + 1 if len(history) > 1 and history[-1] - history[-2] < tolerance else 0
            if calm == CALM:
                break
            weights = (df + x.shape[1]) / (df + distance)
            weights = weights / weights.sum()
            mean = weights @ x
            scatter = (x - mean).mT @ ((x - mean) * weights.unsqueeze(1))
    values, vectors = np.linalg.eigh((scatter * df / (df - 2)).numpy())
    assign(model, vectors[:, ::-1] * np.sqrt(values[::-1]), None, mean)
    _set_freedom(prior, math.log(df - 2))
    return history, calm == CALM, loop.interrupted


def _distances(centred: Tensor, scatter: Tensor) -> tuple[Tensor, float]:
    """Return the squared distances of the rows and log |S|."""
    values, vectors = torch.linalg.eigh(scatter)
    if not bool(values.isfinite().all()) or values[0] <= 1e-12 * values[-1]:
        raise DataError(
            "The covariance of x is singular, or so many rows lie in a plane that a t law shrinks to it: with "
            'noise="none" first drop collinear columns and repeated rows.'
        )
    return ((centred @ vectors) / values.sqrt()).square().sum(1), float(values.log().sum())


def _mean_log_density(distance: Tensor, log_det: float, features: int, df: float) -> float:
    constant = (
        math.lgamma((df + features) / 2) - math.lgamma(df / 2) - 0.5 * features * math.log(math.pi * df)
    )
    return constant - 0.5 * log_det - 0.5 * (df + features) * float((distance / df).log1p().mean())


def _best_freedom(distance: Tensor, features: int) -> float:
    """Return the degrees of freedom with the largest likelihood at these distances."""
    psi = scipy.special.digamma

    def slope(excess: float) -> float:
        df = 2 + math.exp(excess)
        ratio = distance / df
        known = float(psi((df + features) / 2) - psi(df / 2)) - features / df
        return (
            known - float(ratio.log1p().mean()) + (df + features) / df * float((ratio / (1 + ratio)).mean())
        )

    if slope(FEWEST) <= 0:
        return 2 + math.exp(FEWEST)
    if slope(MOST) >= 0:
        return 2 + math.exp(MOST)
    return 2 + math.exp(float(scipy.optimize.brentq(slope, FEWEST, MOST, xtol=1e-12)))


def _set_freedom(prior: MultivariateStudentT, excess: float) -> None:
    if prior.freedom.learn:
        with torch.no_grad():
            prior.freedom.log_excess.fill_(excess)
