"""The posterior of the latents as equally weighted draws of Markov chains, one set for each row."""

from __future__ import annotations

import numpy as np
import pyro.distributions as dist
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.checks import NotExactError, ParameterError

__all__ = ["Draws"]


class Draws(TorchDistribution):
    r"""Posterior of z for each row as draws of Markov chains: batch shape (N,), event shape (K,).

    Parameters
    ----------
    draws : Tensor (S, N, K)
        The draws of the first chain, then those of the second, and so on.
    chains : int
        Chains of equal length in ``draws``.
    acceptance : Tensor (N,), optional
        Share of proposals each row accepted, for samplers that propose.

    Raises
    ------
    ParameterError
        The draws do not divide into that many chains.

    Examples
    --------
    >>> import torch
    >>> draws = Draws(torch.arange(8.0).reshape(4, 1, 2), chains=2)
    >>> draws.batch_shape, draws.event_shape, draws.mean
    (torch.Size([1]), torch.Size([2]), tensor([[3., 4.]]))
    >>> draws.by_chain.shape
    torch.Size([2, 2, 1, 2])
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self,
        draws: Float[Tensor, "draws samples latents"],
        chains: int = 1,
        acceptance: Float[Tensor, " samples"] | None = None,
    ) -> None:
        if len(draws) == 0 or len(draws) % chains:
            raise ParameterError(f"{len(draws)} draws do not divide into {chains} chains of equal length.")
        self.draws, self.chains, self.acceptance = draws, chains, acceptance
        super().__init__(draws.shape[1:2], draws.shape[2:], validate_args=False)

    @property
    def by_chain(self) -> Float[Tensor, "chains draws samples latents"]:
        """The draws with an axis for the chains."""
        return self.draws.unflatten(0, (self.chains, -1))

    @property
    def mean(self) -> Float[Tensor, "samples latents"]:
        """Posterior mean, (N, K)."""
        return self.draws.mean(0)

    @property
    def variance(self) -> Float[Tensor, "samples latents"]:
        """Posterior variance, (N, K)."""
        return self.draws.var(0, correction=0)

    @property
    def effective_sample_size(self) -> Float[Tensor, "samples latents"]:
        """Bulk effective sample size of each latent of each row (Vehtari et al., 2021), from arviz-stats."""
        return self._diagnose(array_stats.ess)

    @property
    def r_hat(self) -> Float[Tensor, "samples latents"]:
        """Rank-normalised split R-hat of each latent of each row (Vehtari et al., 2021), from arviz-stats."""
        return self._diagnose(array_stats.rhat)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Pick draws at random with replacement, for each row on its own, (*sample_shape, N, K)."""
        count = torch.Size(sample_shape).numel()
        chosen = torch.randint(len(self.draws), (count, self.draws.shape[1]))
        picked = self.draws.gather(0, chosen.unsqueeze(-1).expand(-1, -1, self.draws.shape[-1]))
        return picked.reshape(*sample_shape, *self.draws.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        """Refuse: draws have no density.

        Raises
        ------
        NotExactError
            Always.
        """
        raise NotExactError("Draws have no density: use log_joint of the model, less log_evidence.")

    def _diagnose(self, statistic: object) -> Float[Tensor, "samples latents"]:
        values = self.by_chain.double().numpy()
        found = statistic(values, chain_axis=0, draw_axis=1)  # type: ignore[operator]
        return torch.from_numpy(np.asarray(found)).to(self.draws.dtype)
