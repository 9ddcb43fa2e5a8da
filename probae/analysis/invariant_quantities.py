r"""Quantities of a linear Gaussian model that no rotation of its factors changes, for every draw of its parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.draws_likelihood import log_likelihood_of_draws
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.parameter_priors import Fixed

PAIRS = 3  # covariances looked at, beside all communalities


def invariant_quantities(
    model: LinearFactorModel, x: Float[Tensor, "samples features"], draws: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, " draws"]]:
    r"""Return what is ranked when a sampler of (W, psi, mean) is calibrated, by name.

    Logarithms of the noise variances, of the communalities (WW')_dd and of the largest eigenvalue of WW', which are
    nearly normal where the variances themselves are skew; three covariances (WW')_de; the mean, from that of the
    observed values, where it is random; and what depends on the data as a whole, which catches errors that quantities
    of the parameters alone cannot [1]_: log p(x | W, psi, mean), the same plus the log density of W, its
    hyperparameters and psi, and the expectation of the first entry of x given its row, from the mean of the observed
    values too.

    Parameters
    ----------
    model : LinearFactorModel
        With laws of :mod:`probae.parameter_priors` on loadings and noise variance.
    x : Tensor (N, D)
        May hold NaN.
    draws : mapping of str to Tensor
        ``loadings`` (S, D, K), ``noise_variance`` (S, D) or (S,), ``mean`` (S, D) and hyperparameters (S, ...).

    Notes
    -----
    A flat prior of the mean has no draws, so x is simulated at a fixed one. That is as good: the posterior of (W, psi,
    mean - sample mean) does not depend on the place of x, nor does any of these quantities.

    References
    ----------
    .. [1] Modrak, M. et al. (2023). Simulation-based calibration checking for Bayesian computation: the choice of test
       quantities shapes sensitivity. Bayesian Analysis.

    Examples
    --------
    >>> import probae as pa, torch
    >>> laws = pa.parameter_priors
    >>> model = pa.FactorAnalysis(3, 1).with_priors(laws.Normal(), laws.InverseGamma(), laws.Fixed())
    >>> ones = {"loadings": torch.ones(5, 3, 1), "noise_variance": torch.ones(5, 3), "mean": torch.zeros(5, 3)}
    >>> found = invariant_quantities(model, torch.full((4, 3), 2.0, dtype=torch.float64), ones)
    >>> len(found), round(found["log largest eigenvalue of WW'"][0].exp().item(), 9)
    (13, 3.0)
    >>> found["E(x[0,0] | x[0]) - mean"]                      # 2 x 3 / 4, from the mean of 2
    tensor([-0.5000, -0.5000, -0.5000, -0.5000, -0.5000], dtype=torch.float64)
    """
    loadings, mean = draws["loadings"].double(), draws["mean"].double()
    noise = draws["noise_variance"].double().reshape(len(loadings), -1)
    centre = x.nanmean(0).nan_to_num()
    one, other = torch.triu_indices(model.features, model.features, 1)[:, :PAIRS]
    found = _numbered("log noise_variance[{}]", noise.log())
    found |= _numbered("log (WW')[{0},{0}]", loadings.square().sum(-1).log())
    for d, e, value in zip(
        one.tolist(), other.tolist(), (loadings[:, one] * loadings[:, other]).sum(-1).T, strict=True
    ):
        found[f"(WW')[{d},{e}]"] = value
    found["log largest eigenvalue of WW'"] = torch.linalg.eigvalsh(loadings.mT @ loadings)[:, -1].log()
    if not isinstance(model.parameter_priors.get("mean"), Fixed):
        found |= _numbered("mean[{}] - sample mean", mean - centre)
    likelihood = log_likelihood_of_draws(model, {name: one[None] for name, one in draws.items()}, x)[0].sum(
        -1
    )
    found["log p(x | theta)"] = likelihood
    found["log p(x, theta)"] = likelihood + _log_prior(model, draws)
    expected = _expectation(x[0], loadings, noise.expand(mean.shape), mean)
    found["E(x[0,0] | x[0]) - mean"] = expected - centre[0]
    return found


def _numbered(name: str, values: Float[Tensor, "draws any"]) -> dict[str, Tensor]:
    return {name.format(index): value for index, value in enumerate(values.T)}


def _log_prior(model: LinearFactorModel, draws: Mapping[str, Tensor]) -> Float[Tensor, " draws"]:
    """Return log p(W, hyperparameters) + log p(psi)."""
    laws = model.parameter_priors
    loadings = laws["loadings"].log_prob(draws, draws["loadings"].double())
    noise = laws["noise_variance"].log_prob(draws["noise_variance"].double())
    return loadings + noise.reshape(len(loadings), -1).sum(-1)


def _expectation(row: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor) -> Float[Tensor, " draws"]:
    """Return mean_0 + w_0' E(z | the observed entries of the row) of each draw."""
    seen = ~row.isnan()
    centred = (row - mean)[:, None, seen]
    z = LowRankCovariance.factor(loadings[:, seen], noise[:, seen]).posterior_mean(centred)[:, 0]
    return mean[:, 0] + (loadings[:, 0] * z).sum(-1)
