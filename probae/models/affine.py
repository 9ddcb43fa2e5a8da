"""The law of x = mean + W z when W is square and there is no noise."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class AffineSources(TorchDistribution):
    r"""Law of x = mean + W z for z with a known law and W (K, K) invertible.

    .. math:: \log p(x) = \log p_z(W^{-1} (x - \mu)) - \log |\det W|

    Parameters
    ----------
    sources : Distribution
        Law of z, event shape (K,).
    loadings : Tensor (K, K)
    mean : Tensor (K,)
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self, sources: TorchDistribution, loadings: Float[Tensor, "k k"], mean: Float[Tensor, " k"]
    ) -> None:
        self.sources, self.loadings, self.mean_shift = sources, loadings, mean
        super().__init__(sources.batch_shape, sources.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of x, shape (K,): the sources have mean zero."""
        return self.mean_shift

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> AffineSources:
        """Return the law with another batch shape."""
        return AffineSources(self.sources.expand(batch_shape), self.loadings, self.mean_shift)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw x, shape (*sample_shape, *batch, K)."""
        return self.mean_shift + self.sources.sample(sample_shape) @ self.loadings.mT

    def log_prob(self, value: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Return log p(x) in nats."""
        z = torch.linalg.solve(self.loadings, (value - self.mean_shift).unsqueeze(-1)).squeeze(-1)
        return self.sources.log_prob(z) - torch.linalg.slogdet(self.loadings).logabsdet
