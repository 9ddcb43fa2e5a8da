r"""What fixed zeros say of the axes of a confirmatory fit: whether they single them out, whether the data refute them.

The zeros are an assumption. Where they leave no rotation the axes are identified up to sign if it holds. The data can
refute it, by the likelihood ratio against the same number of factors with unrestricted loadings,

    2 (log p(x; W free) - log p(x; W with zeros))  ->  chi-square,  degrees of freedom = zeros beyond a choice of axes

and cannot prove it: with no such degrees of freedom any data fit the zeros as well as no zeros.
The error of a plane is the larger of two: of B = (W' Psi^{-1} W)^{-1} W' Psi^{-1} dW, how much of factor j is in column
k (nothing, where no feature loads on two factors), and of the angle arccos phi_jk between the two factors.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from scipy import stats
from torch import Tensor

from probae.checks import check_data
from probae.identifiability.nullity import Nullity, Parts, fisher_nullity
from probae.identifiability.precision import AngleError
from probae.identifiability.structure import Structure
from probae.inference.fit import fit
from probae.inference.grouped import group_rows
from probae.inference.masked import evaluate, information
from probae.models import ConfirmatoryFactorAnalysis, FactorAnalysis, LinearFactorModel
from probae.models.marginal import missing_patterns
from probae.statistics import SufficientStatistics

CHUNK = 4_000_000  # numbers of row scores held at a time


@dataclass(frozen=True)
class ZerosTest:
    """Likelihood-ratio test of the zeros.

    Attributes
    ----------
    statistic : float
        Twice the difference of the log-likelihoods, in nats.
    degrees_of_freedom : int
    p_value : float
        Of the chi-square law, which assumes normal, independent rows; 1 without degrees of freedom.
    against : str
        The model without zeros.
    samples : int
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float
    against: str
    samples: int

    def describe(self) -> str:
        """Say the test in a line."""
        if self.degrees_of_freedom == 0:
            return f"zeros against {self.against}: no degrees of freedom, so no data can refute them"
        return (
            f"zeros against {self.against}: chi-square {self.statistic:.2f} on {self.degrees_of_freedom} degrees of "
            f"freedom, p = {self.p_value:.2g} (asymptotic, assumes normal rows)"
        )


@dataclass(frozen=True, eq=False)
class Zeros:
    """The evidence on the fixed zeros of a confirmatory fit."""

    fixed: int
    nullity: Nullity
    factors: tuple[str, ...]
    features: tuple[str, ...]
    test: ZerosTest | None
    precision: tuple[AngleError, ...]

    @property
    def structure(self) -> Structure:
        """What is left of the rotations, as a group."""
        turned = self.nullity.rotations
        return Structure(
            turned.blocks,
            turned.dimension,
            self.nullity.smallest_other,
            exact=True,
            family="GL" if turned.oblique else "O",
        )


def zeros_of(model: ConfirmatoryFactorAnalysis, x: Any, names: tuple[str, ...] | None, seed: int) -> Zeros:
    """Gather the evidence; without x only what needs no data."""
    nullity = fisher_nullity(model)
    features = names or tuple(f"column {i}" for i in range(model.features))
    fixed = int((~model.pattern).sum())
    test: ZerosTest | None = None
    precision: tuple[AngleError, ...] = ()
    if x is not None:
        table = (
            x
            if isinstance(x, SufficientStatistics)
            else check_data(x, features=model.features, missing="allow").values
        )
        test = zeros_test(model, table, nullity, seed)
        if nullity.dimension == 0 and model.latents > 1:
            precision = mixing_errors(model, table)
    return Zeros(fixed, nullity, model.factor_labels, features, test, precision)


def zeros_test(
    model: ConfirmatoryFactorAnalysis, x: Tensor | SufficientStatistics, nullity: Nullity, seed: int
) -> ZerosTest | None:
    """Compare the fit with unrestricted loadings, or with any covariance where those are not identified.

    None where that needs the covariance of rows with missing entries.
    """
    features, factors = model.features, model.latents
    used = nullity.parameters + len(nullity.boundary) - nullity.dimension
    whole = isinstance(x, SufficientStatistics) or not bool(x.isnan().any())
    count = x.count if isinstance(x, SufficientStatistics) else len(x)
    own = _log_likelihood(model, x)
    if factors < features and (features - factors) ** 2 >= features + factors:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the other model, about the same data
            run = fit(FactorAnalysis(features, factors), x, seed=seed)
        best = _log_likelihood(run.model, x)
        against = f"unrestricted loadings of {factors} factor{'s' * (factors > 1)}"
        free = features * factors - factors * (factors - 1) // 2 + features
    elif whole:
        statistics = x if isinstance(x, SufficientStatistics) else SufficientStatistics.from_data(x)
        sign, log_det = np.linalg.slogdet(statistics.covariance.numpy())
        if sign <= 0:
            return None
        best, against = -0.5 * count * (features * (math.log(2 * math.pi) + 1) + log_det), "any covariance"
        free = features * (features + 1) // 2
    else:
        return None
    freedom = max(free - used, 0)
    statistic = max(2 * (best - own), 0.0)
    p_value = float(stats.chi2(freedom).sf(statistic)) if freedom else 1.0
    return ZerosTest(statistic, freedom, p_value, against, count)


def _log_likelihood(model: LinearFactorModel, x: Tensor | SufficientStatistics) -> float:
    if isinstance(x, SufficientStatistics):
        return float(model.collapsed(x))
    return float(model.log_likelihood(x).sum())


def mixing_errors(
    model: ConfirmatoryFactorAnalysis, x: Tensor | SufficientStatistics
) -> tuple[AngleError, ...]:
    """Return for each plane the standard error of the axes, in degrees: of one in the other, and of the angle between.

    The Cramer-Rao error is from the expected information, the sandwich from the scores of the rows where x has them.
    """
    parts = Parts.of(model)
    tail = parts.layout.split[1]
    kept = np.concatenate([np.ones(tail, dtype=bool), ~parts.boundary])
    count = x.count if isinstance(x, SufficientStatistics) else len(x)
    inner, outer = _information(model, parts, x)
    bread = np.linalg.inv(inner[np.ix_(kept, kept)])
    plain = bread / count
    robust = plain if outer is None else bread @ outer[np.ix_(kept, kept)] @ bread / count
    rows, columns = parts.layout.entries
    whitened = parts.loadings / np.sqrt(parts.noise)[:, None]
    pull = np.linalg.pinv(whitened) / np.sqrt(parts.noise)  # (K, D)
    errors = []
    for j, k in itertools.combinations(range(model.latents), 2):
        degrees = [0.0, 0.0]
        for one, other in ((j, k), (k, j)):
            weight = np.where(columns == other, pull[one, rows], 0.0)
            for index, covariance in enumerate((plain, robust)):
                spread = float(weight @ covariance[: len(rows), : len(rows)] @ weight)
                degrees[index] = max(degrees[index], math.degrees(math.sqrt(max(spread, 0.0))))
        if parts.layout.pairs:
            place = len(rows) + parts.layout.pairs.index((j, k))
            slope = 1 / math.sqrt(max(1 - parts.correlation[j, k] ** 2, 1e-12))
            for index, covariance in enumerate((plain, robust)):
                spread = math.sqrt(max(float(covariance[place, place]), 0.0))
                degrees[index] = max(degrees[index], math.degrees(slope * spread))
        errors.append(AngleError((j, k), degrees[0], degrees[1], count))
    return tuple(errors)


def _information(
    model: ConfirmatoryFactorAnalysis, parts: Parts, x: Tensor | SufficientStatistics
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the expected information per row, and the mean outer product of the scores where there are rows."""
    loadings, noise, mean = (value.numpy() for value in model._gaussian_parameters())
    scale = np.sqrt(((loadings @ parts.correlation) * loadings).sum(axis=1) + noise)
    theta = parts.layout.pack(parts.loadings, parts.correlation, parts.noise)
    data = x if isinstance(x, SufficientStatistics) else check_data(x, missing="allow")
    groups = group_rows(data)
    point = evaluate(parts.layout, groups, theta)
    assert point is not None
    inner = 0.5 * information(parts.layout, groups, point)
    if isinstance(x, SufficientStatistics):
        return inner, None
    U, V = parts.layout.derivatives(parts.loadings, parts.correlation, parts.noise)
    outer = np.zeros_like(inner)
    covariance = parts.loadings @ parts.correlation @ parts.loadings.T + np.diag(parts.noise)
    for index, seen in missing_patterns(x):
        own = seen.numpy()
        inverse = np.zeros_like(covariance)
        inverse[np.ix_(own, own)] = scipy.linalg.inv(covariance[np.ix_(own, own)])
        centre = ((U.T @ inverse) * V.T).sum(axis=1)
        for block in torch.split(x[index], max(CHUNK // max(len(theta), 1), 1)):
            pulled = np.where(own, (block.nan_to_num().numpy() - mean) / scale, 0.0) @ inverse
            scores = (pulled @ U) * (pulled @ V) - centre
            outer += scores.T @ scores
    return inner, outer / len(x)
