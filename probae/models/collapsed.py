"""The Gaussian log-likelihood of many rows from their moments alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from probae.linalg import LowRankCovariance
from probae.statistics import SufficientStatistics

LOG_TWO_PI = math.log(2 * math.pi)


def collapsed_log_density(
    statistics: SufficientStatistics, loadings: Tensor, noise: Tensor | None, mean: Tensor
) -> Float[Tensor, ""]:
    r"""Return the log-likelihood of all rows under N(mean, W W' + Psi), in nats; without noise W is square.

    .. math:: -\tfrac n2 \big[D \log 2\pi + \log|\Sigma| + \operatorname{tr} \Sigma^{-1} (S + dd')\big],
              \quad d = \bar x - \mu
    """
    count, shift = statistics.count, statistics.mean - mean
    if noise is None:
        log_det = 2 * torch.linalg.slogdet(loadings).logabsdet
        second = statistics.covariance + torch.outer(shift, shift)
        trace = torch.linalg.solve(loadings @ loadings.mT, second).trace()
    else:
        covariance = LowRankCovariance.factor(loadings, noise)
        log_det = covariance.log_det
        if statistics.root is not None:
            rows = torch.cat([statistics.root, shift[None] * math.sqrt(count)])
            trace = covariance.quadratic_form(rows).sum() / count
        else:
            trace = covariance.trace(statistics.covariance + torch.outer(shift, shift))
    return -0.5 * count * (len(mean) * LOG_TWO_PI + log_det + trace)
