"""The posterior of the latents as equally weighted draws of Markov chains, one set for each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.checks import NotExactError

__all__ = ["Draws"]


class Draws(TorchDistribution):
    r"""Posterior of z for each row as draws of Markov chains: batch shape (N,), event shape (K,).

    Parameters
    ----------
    draws : Tensor (chains, draws, N, K)
        Draws of equal weight; the chains of one row have nothing to do with those of another.
    mean, variance : Tensor (N, K), optional
        Better estimates than those of the draws, such as averages of conditional means.
    acceptance : Tensor (N,), optional
        Share of proposals each row accepted, for samplers that propose.

    Examples
    --------
    >>> import torch
    >>> law = Draws(torch.arange(8.0).reshape(2, 2, 1, 2))
    >>> law.batch_shape, law.event_shape, law.mean
    (torch.Size([1]), torch.Size([2]), tensor([[3., 4.]]))
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self,
        draws: Float[Tensor, "chains draws samples latents"],
        mean: Float[Tensor, "samples latents"] | None = None,
        variance: Float[Tensor, "samples latents"] | None = None,
        acceptance: Float[Tensor, " samples"] | None = None,
    ) -> None:
        self.draws, self.acceptance = draws, acceptance
        self._mean = draws.mean((0, 1)) if mean is None else mean
        self._variance = draws.var((0, 1), correction=0) if variance is None else variance
        super().__init__(draws.shape[2:3], draws.shape[3:], validate_args=False)

    @property
    def flat(self) -> Float[Tensor, "draws samples latents"]:
        """The draws of all chains, one chain after the other."""
        return self.draws.flatten(0, 1)

    @property
    def mean(self) -> Float[Tensor, "samples latents"]:
        """Posterior mean, (N, K)."""
        return self._mean

    @property
    def variance(self) -> Float[Tensor, "samples latents"]:
        """Posterior variance, (N, K)."""
        return self._variance

    @property
    def effective_sample_size(self) -> Float[Tensor, "samples latents"]:
        """Bulk effective sample size of each latent of each row (Vehtari et al., 2021), from arviz-stats.

        It takes about a millisecond for each number: look at some of many rows.
        """
        return self._diagnose(array_stats.ess)

    @property
    def r_hat(self) -> Float[Tensor, "samples latents"]:
        """Rank-normalised split R-hat of each latent of each row (Vehtari et al., 2021), from arviz-stats.

        It takes about a millisecond for each number: look at some of many rows.
        """
        return self._diagnose(array_stats.rhat)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Pick draws at random with replacement, for each row on its own, (*sample_shape, N, K)."""
        flat = self.flat
        chosen = torch.randint(len(flat), (torch.Size(sample_shape).numel(), flat.shape[1]))
        picked = flat[chosen, torch.arange(flat.shape[1])]
        return picked.reshape(*sample_shape, *flat.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        """Refuse: draws have no density.

        Raises
        ------
        NotExactError
            Always.
        """
        raise NotExactError("Draws have no density: use log_joint of the model, less log_evidence.")

    def _diagnose(self, statistic: Callable[..., Any]) -> Float[Tensor, "samples latents"]:
        found = statistic(self.draws.double().numpy(), chain_axis=0, draw_axis=1)
        return torch.from_numpy(np.asarray(found)).to(self.draws.dtype)
