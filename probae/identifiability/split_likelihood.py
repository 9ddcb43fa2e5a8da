r"""Do non-Gaussian factors predict other rows better than any Gaussian factor analysis of them (T5)?

With theta_1 fitted to one half of the rows, the split likelihood ratio on the other half,

    E = prod_n p(x_n; theta_1) / max_theta prod_n p_Gauss(x_n; theta),

has expectation at most 1 under every Gaussian model: P(E >= 1 / alpha) <= alpha at any number of rows, with no
regularity (Wasserman, Ramdas & Balakrishnan, 2020). Both halves take both parts, and the mean of the two is an e-value
again. An importance-sampled numerator is unbiased, which keeps the bound.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probae.checks import DataError, ParameterError, ProbaeWarning
from probae.identifiability.data_test import table_rows
from probae.inference.base import Method
from probae.inference.fit import fit
from probae.inference.maximum_likelihood import MaximumLikelihood
from probae.models import LinearFactorModel

ROWS = 20_000  # rows used at most, chosen at random: the bound holds for any choice


@dataclass(frozen=True)
class SplitLikelihood:
    """E-value of a non-Gaussian factor model against Gaussian factors with the same noise.

    Attributes
    ----------
    log_e_values : (float, float)
        Log of the e-value of each half, in nats.
    samples : int
        Rows used, both halves together.
    exact : bool
        Whether the likelihood of the model is exact; otherwise it is importance-sampled.
    """

    log_e_values: tuple[float, float]
    samples: int
    exact: bool

    @property
    def log_e_value(self) -> float:
        """Log of the mean of both e-values, in nats."""
        return float(np.logaddexp(*self.log_e_values)) - math.log(2)

    @property
    def p_value(self) -> float:
        """Bound min(1, 1 / E) on the p-value."""
        return math.exp(min(0.0, -self.log_e_value))

    @property
    def power(self) -> str:
        """What could have been found at this number of rows, in a sentence."""
        needed = 2 * math.log(200.0) / self.samples
        return (
            f"At {self.samples} rows an e-value of 100 needs half of them to favour the model by {needed:.2g} nats per "
            "row over Gaussian factors fitted to them."
        )

    def describe(self) -> str:
        """Say the result in a sentence, with the power where it does not reject."""
        kind = "exact likelihoods" if self.exact else "importance-sampled numerator, unbiased"
        said = (
            f"Against Gaussian factors (T5): log e-value {self.log_e_value:.1f} nats, p <= {self.p_value:.3g} (split "
            f"likelihood ratio, valid at any number of rows; {kind})."
        )
        return said if self.p_value < 0.01 else f"{said} {self.power}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "log_e_value": self.log_e_value,
            "log_e_values": list(self.log_e_values),
            "p": self.p_value,
            "exact": self.exact,
        }


def split_likelihood(
    model: LinearFactorModel,
    x: Any,
    method: Method | None = None,
    *,
    seed: int = 0,
) -> SplitLikelihood:
    """Compare a non-Gaussian factor model with Gaussian factors by a split likelihood ratio (T5).

    Parameters
    ----------
    model : LinearFactorModel
        With non-Gaussian factors; it is copied and fitted to each half.
    x : array, DataFrame or Tensor (N, D)
        Complete rows, independent of each other.
    method : Method, optional
        How to fit it, as `fit`.
    seed : int
        Seed of the halves and of the fits.

    Returns
    -------
    SplitLikelihood

    Raises
    ------
    ParameterError
        A model that is Gaussian, or no linear factor model.
    DataError
        Rows too few for the Gaussian model of a half, values that are not finite, or as many noisy factors as features,
        whose likelihood has no estimate.

    Notes
    -----
    The denominator is the maximum likelihood of the Gaussian model on the rows it is compared on, so it always fits
    better than one fitted elsewhere: the test is valid rather than powerful. Rows that are elliptical reject too.

    References
    ----------
    Wasserman, Ramdas & Balakrishnan (2020), Universal inference, PNAS 117:16880.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(1000, 3, 3, prior=pa.priors.Laplace(), noise=0.0, seed=0).x
    >>> pa.split_likelihood(pa.IndependentComponents(3, 3), x).p_value < 1e-6
    True
    """
    if not isinstance(model, LinearFactorModel) or model.gaussian:
        raise ParameterError(
            "split_likelihood compares non-Gaussian factors with Gaussian ones: give a linear factor model with a "
            "prior such as Laplace()."
        )
    if not model.invertible and model.latents >= model.features:
        raise DataError(
            f"split_likelihood needs fewer noisy factors than features, got {model.latents} factors of "
            f"{model.features} features: their likelihood has no estimate."
        )
    rows = table_rows(x, 4 * (model.latents + 2))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:ROWS]
    halves = [rows[half] for half in order.chunk(2)]
    noise = "isotropic" if model.noise == "complement" else model.noise  # the covariances are the same
    gaussian = LinearFactorModel(model.features, model.latents, noise=noise)
    logs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)
        for train, test in (halves, halves[::-1]):
            own = fit(model, train, method, seed=seed).log_likelihood(test)
            best = fit(gaussian, test, MaximumLikelihood(), seed=seed).log_likelihood(test)
            logs.append(float((own - best).sum()))  # row by row, then summed
    return SplitLikelihood((logs[0], logs[1]), len(order), model.invertible)
