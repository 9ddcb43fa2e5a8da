"""The multiplicative gamma process: factors shrink more and more from the first to the last."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import Law, LoadingsPrior, State, expanded, log_normal

__all__ = ["MultiplicativeGamma"]


@dataclass(frozen=True, eq=False)
class MultiplicativeGamma(LoadingsPrior):
    r"""Loadings that shrink from factor to factor, each entry with a precision of its own besides.

    .. math:: W_{dk} \sim N\Big(0, \frac{s_d^2}{\phi_{dk} \tau_k}\Big), \quad
              \phi_{dk} \sim \mathrm{Gamma}(\tfrac\nu2, \tfrac\nu2), \quad
              \tau_k = \prod_{l \le k} \delta_l, \quad
              \delta_1 \sim \mathrm{Gamma}(a_1, 1), \quad \delta_l \sim \mathrm{Gamma}(a_2, 1),\ l \ge 2

    Sites: ``loadings_local_precision`` (phi, shape (D, K)) and ``loadings_shrinkage`` (delta, shape (K,)).

    Parameters
    ----------
    first, later : float
        a_1 and a_2. Above 2, both 1 / tau_k and its mean fall with k.
    degrees : float
        nu; entries are Student t of nu degrees of freedom given tau.
    scale : float or Tensor
        s, in units of x: a number, one for each feature (D,), or one for each entry (D, K). The default suits columns
        in units of their standard deviation.

    Raises
    ------
    ParameterError
        A number that is not finite and above 0.

    References
    ----------
    .. [1] Bhattacharya, A. & Dunson, D. B. (2011). Sparse Bayesian infinite factor models. Biometrika 98, 291-306.
    .. [2] Durante, D. (2017). A note on the multiplicative gamma process. Statistics & Probability Letters 122,
       198-204.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> prior = MultiplicativeGamma()
    >>> prior.variance(prior.start(10_000, 1, 4)).median(0).values[0].diff() < 0  # each is smaller
    tensor([True, True, True])
    """

    first: float = 2.1
    later: float = 3.1
    degrees: float = 3.0
    scale: float | Tensor = 1.0

    @property
    def _local(self) -> dist.Gamma:
        half = torch.tensor(0.5 * self.degrees, dtype=torch.float64)
        return dist.Gamma(half, half, validate_args=False)

    def _shrinkage(self, latents: int) -> dist.Gamma:
        shape = torch.full((latents,), self.later, dtype=torch.float64)
        shape[0] = self.first
        return dist.Gamma(shape, torch.ones_like(shape), validate_args=False)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """Both kinds of precisions, then the loadings given them."""
        local, shrinkage, entries = f"{name}_local_precision", f"{name}_shrinkage", self.entries_of(shape)

        def loadings(model: object) -> dist.TorchDistribution:
            precision = getattr(model, local) * getattr(model, shrinkage).cumprod(-1)
            return expanded(dist.Normal(0.0, entries * precision.rsqrt()), shape)

        return {
            local: expanded(self._local, shape),
            shrinkage: self._shrinkage(shape[1]).to_event(1),
            name: loadings,
        }

    def start(self, chains: int, features: int, latents: int) -> State:
        """Draw both kinds of precisions from their prior."""
        return {
            "loadings_local_precision": self._local.sample((chains, features, latents)),
            "loadings_shrinkage": self._shrinkage(latents).sample((chains,)),
        }

    def variance(self, state: State) -> Tensor:
        """s^2 / (phi tau)."""
        tau = state["loadings_shrinkage"].cumprod(-1)[:, None]
        return self.entries.square() / (state["loadings_local_precision"] * tau)

    def update(self, state: State, loadings: Float[Tensor, "chains features latents"]) -> State:
        r"""Draw each precision given the loadings and the other precisions.

        .. math:: \phi_{dk} &\sim \mathrm{Gamma}\big(\tfrac{\nu + 1}2, \tfrac12(\nu + \tau_k W_{dk}^2 / s_d^2)\big) \\
                  \delta_h &\sim \mathrm{Gamma}\Big(a_h + \tfrac D2 (K - h + 1), 1 + \tfrac12 \sum_{l \ge h}
                  \frac{\tau_l}{\delta_h} \sum_d \phi_{dl} W_{dl}^2 / s_d^2\Big)
        """
        features, latents = loadings.shape[1:]
        squares = (loadings / self.entries).square()
        shrinkage = state["loadings_shrinkage"].clone()
        rate = 0.5 * (self.degrees + shrinkage.cumprod(-1)[:, None] * squares)
        local = dist.Gamma(0.5 * (self.degrees + 1), rate, validate_args=False).sample()
        weights = 0.5 * (local * squares).sum(1)
        shapes = self._shrinkage(latents).concentration + 0.5 * features * torch.arange(latents, 0, -1)
        for h in range(latents):
            others = shrinkage.clone()
            others[:, h] = 1.0
            rate = 1.0 + (others.cumprod(-1) * weights)[:, h:].sum(-1)
            shrinkage[:, h] = torch._standard_gamma(shapes[h].expand_as(rate).contiguous()) / rate
        return {"loadings_local_precision": local, "loadings_shrinkage": shrinkage}

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Log density of each chain's precisions and loadings."""
        local = self._local.log_prob(state["loadings_local_precision"]).sum((-2, -1))
        shrinkage = self._shrinkage(loadings.shape[-1]).log_prob(state["loadings_shrinkage"]).sum(-1)
        return local + shrinkage + log_normal(loadings, self.variance(state))
