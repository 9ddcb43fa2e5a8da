r"""Derivatives of the log-likelihood of each row in the parameters, over the observed entries.

With S the covariance of the observed entries, :math:`a = S^{-1} (x - \mu)` and :math:`m = E[z \mid x] = W' a`,

.. math:: \frac{\partial \log p(x)}{\partial W} = a m' - S^{-1} W, \qquad
          \frac{\partial \log p(x)}{\partial \psi_d} = \tfrac12 (a_d^2 - S^{-1}_{dd}), \qquad
          \frac{\partial \log p(x)}{\partial \mu} = a,

zero for missing entries (Lawley & Maxwell, 1971, chapter 2, row by row). Their covariance over rows is the middle of
the sandwich in standard errors that do not rely on normal data.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError, ParameterError, check_data
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.models.marginal import observed_blocks
from probae.priors import CorrelatedGaussian


def observed_scores(model: LinearFactorModel, x: Any) -> Float[Tensor, "samples parameters"]:
    """Differentiate log p(x_n) of each row in loadings (row after row), noise variances (D or 1) and mean.

    Factor correlations are held fixed. At a maximum of the likelihood the columns sum to zero.

    Parameters
    ----------
    model : LinearFactorModel
        With Gaussian factors and noise.
    x : array, DataFrame or Tensor (N, D)
        NaN is a missing entry.

    Returns
    -------
    Tensor (N, D K + D + D), or (N, D K + 1 + D) for isotropic noise; float64, in nats per unit of the parameter

    Raises
    ------
    NotExactError
        For non-Gaussian factors.
    ParameterError
        For a model without noise.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x.clone()
    >>> x[::7, 2] = float("nan")
    >>> run = pa.fit(pa.FactorAnalysis(9, 2), x)
    >>> scores = observed_scores(run.model, x)
    >>> scores.shape, bool(scores.mean(0).abs().max() < 1e-5)
    (torch.Size([301, 36]), True)
    """
    if not model.gaussian:
        raise NotExactError(
            f"observed_scores has no closed form for {model.prior!r} factors: use a model with Gaussian factors."
        )
    if model.noise == "none":
        raise ParameterError('observed_scores needs a model with noise; this one has noise="none".')
    data = check_data(x, features=model.features, names=model.feature_names, missing="allow")
    loadings, noise, mean = model._standard_parameters()
    shape = (len(data.values), model.features)
    slopes = torch.zeros(*shape, model.latents, dtype=torch.float64)
    powers, weights = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    for rows, _, centred, covariance in observed_blocks(data.values, loadings, noise, mean):
        a, m, inverse = _solve(covariance, centred)
        seen = ~data.values[rows].isnan()
        width = a.shape[1]
        slope = a.unsqueeze(2) * m.unsqueeze(1) - covariance.posterior_map.mT
        power = 0.5 * (a.square() - inverse)
        everywhere = seen if width < model.features else torch.ones_like(seen)
        weights[rows] = _placed(a, everywhere) * seen
        powers[rows] = _placed(power, everywhere) * seen
        slopes[rows] = _placed(slope, everywhere) * seen.unsqueeze(2)
    if isinstance(model.prior, CorrelatedGaussian):  # the derivative in W of a function of W L
        slopes = slopes @ model.prior.factor.detach().double().mT
    noise_scores = powers if model.noise == "diagonal" else powers.sum(1, keepdim=True)
    return torch.cat([slopes.flatten(1), noise_scores, weights], 1)


def _solve(covariance: LowRankCovariance, centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return S^{-1} x (R, D), the posterior means (R, K) and the diagonal of S^{-1} (D,) or (R, D)."""
    batched = centred.ndim == 3
    a, m = covariance.solve(centred), covariance.posterior_mean(centred)
    inverse = (1.0 - covariance.orthogonal.square().sum(-1)) / covariance.noise
    return (a.squeeze(1), m.squeeze(1), inverse) if batched else (a, m, inverse)


def _placed(values: Tensor, seen: Tensor) -> Tensor:
    """Put values of the observed entries, the same for all rows, into their columns."""
    if values.shape[1] == seen.shape[1]:
        return values
    wide = values.new_zeros(*seen.shape, *values.shape[2:])
    wide[:, seen[0]] = values
    return wide
