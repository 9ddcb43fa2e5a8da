"""The Gaussian likelihood by automatic differentiation, from the moments of rows that observe the same features."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data
from probae.models.patterns import Patterns
from probae.statistics import SufficientStatistics

__all__ = ["Group", "gaussian_log_likelihood", "groups_of"]


class Group(NamedTuple):
    """Rows that observe the same features: which, how many, their mean and the scatter about it."""

    observed: Tensor
    count: float  # type: ignore[assignment]  # rows, where a tuple counts its entries
    mean: Tensor
    scatter: Tensor


def groups_of(data: SufficientStatistics | Data) -> list[Group]:
    """Return the rows by what they observe."""
    if isinstance(data, SufficientStatistics):
        return [Group(torch.arange(data.features), float(data.count), data.mean, data.scatter)]
    patterns = Patterns.of(data.values.double())
    found = []
    for number, mask in enumerate(patterns.observed):
        seen = torch.nonzero(mask).flatten()
        root = patterns.roots[patterns.owner == number][:, seen]
        found.append(
            Group(seen, float(patterns.counts[number]), patterns.means[number][seen], root.mT @ root)
        )
    return found


def gaussian_log_likelihood(
    groups: list[Group],
    loadings: Float[Tensor, "features latents"],
    noise: Float[Tensor, "*#features"],
    mean: Float[Tensor, " features"],
) -> Float[Tensor, ""]:
    r"""Return the log likelihood of W, psi and the mean in nats, differentiable, in O(D^3) for each group.

    .. math:: -\tfrac12 \sum_g \big[n_g \log |2 \pi S_g| + \operatorname{tr} S_g^{-1}
              \big(C_g + n_g (m_g - \mu)(m_g - \mu)'\big)\big]

    Examples
    --------
    >>> import probae as pa
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 3.0]]).double()
    >>> model = pa.FactorAnalysis(2, 1)
    >>> parts = model.loadings.detach(), model.noise_variance.detach(), model.mean.detach()
    >>> value = gaussian_log_likelihood(groups_of(SufficientStatistics.from_data(x)), *parts)
    >>> torch.allclose(value, model.log_likelihood(x).sum())
    True
    """
    covariance = loadings @ loadings.mT + torch.diag(noise.expand(len(loadings)))
    value = torch.zeros((), dtype=torch.float64)
    for group in groups:
        seen = group.observed
        lower = torch.linalg.cholesky(covariance[seen][:, seen])
        apart = group.mean - mean[seen]
        second = group.scatter + group.count * torch.outer(apart, apart)
        log_det = 2 * lower.diagonal().log().sum() + len(seen) * math.log(2 * math.pi)
        value = value - 0.5 * (group.count * log_det + torch.cholesky_solve(second, lower).diagonal().sum())
    return value
