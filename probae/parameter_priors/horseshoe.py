"""Horseshoe loadings: most are near 0, and large ones are hardly shrunk."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import Law, LoadingsPrior, State, draw_inverse_gamma, expanded, log_normal

__all__ = ["Horseshoe"]


@dataclass(frozen=True, eq=False)
class Horseshoe(LoadingsPrior):
    r"""Loadings with half-Cauchy scales, one for each entry and one for all.

    .. math:: W_{dk} \sim N(0, s_d^2 \lambda_{dk}^2 \tau^2), \qquad \lambda_{dk} \sim C^+(0, 1), \qquad
              \tau \sim C^+(0, \tau_0)

    Sites: ``loadings_local_scale`` (lambda, shape (D, K)) and ``loadings_global_scale`` (tau, shape ()).

    Parameters
    ----------
    global_scale : float
        tau_0, free of units; small where few loadings differ from 0.
    scale : float or Tensor
        s, in units of x: a number, one for each feature (D,), or one for each entry (D, K). The default suits columns
        in units of their standard deviation.

    Raises
    ------
    ParameterError
        A number that is not finite and above 0.

    References
    ----------
    .. [1] Carvalho, C. M., Polson, N. G. & Scott, J. G. (2010). The horseshoe estimator for sparse signals. Biometrika
       97, 465-480.
    .. [2] Makalic, E. & Schmidt, D. F. (2016). A simple sampler for the horseshoe estimator. IEEE Signal Processing
       Letters 23, 179-182.

    Examples
    --------
    >>> prior = Horseshoe(0.1)
    >>> {name: tuple(value.shape) for name, value in prior.start(4, 6, 2).items()}
    {'loadings_local_scale': (4, 6, 2), 'loadings_global_scale': (4,)}
    """

    global_scale: float = 1.0
    scale: float | Tensor = 1.0

    @property
    def _local(self) -> dist.HalfCauchy:
        return dist.HalfCauchy(torch.ones((), dtype=torch.float64), validate_args=False)

    @property
    def _global(self) -> dist.HalfCauchy:
        return dist.HalfCauchy(torch.tensor(self.global_scale, dtype=torch.float64), validate_args=False)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """Both kinds of scales, then the loadings given them."""
        local, overall, entries = f"{name}_local_scale", f"{name}_global_scale", self.entries_of(shape)

        def loadings(model: object) -> dist.TorchDistribution:
            return expanded(
                dist.Normal(0.0, entries * getattr(model, local) * getattr(model, overall)), shape
            )

        return {local: expanded(self._local, shape), overall: self._global, name: loadings}

    def start(self, chains: int, features: int, latents: int) -> State:
        """Draw both kinds of scales from their prior."""
        return {
            "loadings_local_scale": self._local.sample((chains, features, latents)),
            "loadings_global_scale": self._global.sample((chains,)),
        }

    def variance(self, state: State) -> Tensor:
        """s^2 lambda^2 tau^2."""
        scales = state["loadings_local_scale"] * state["loadings_global_scale"][:, None, None]
        return (self.entries * scales).square()

    def update(self, state: State, loadings: Float[Tensor, "chains features latents"]) -> State:
        r"""Draw each scale given the loadings and the other scales, by way of auxiliary variables.

        A half-Cauchy scale is lambda^2 | nu ~ IG(1/2, 1/nu), nu ~ IG(1/2, 1), so with u = W / s

        .. math:: \nu &\sim IG(1, 1 + \lambda^{-2}), &
                  \lambda^2 &\sim IG\big(1, \tfrac1\nu + \tfrac{u^2}{2\tau^2}\big) \\
                  \xi &\sim IG(1, \tau_0^{-2} + \tau^{-2}), &
                  \tau^2 &\sim IG\Big(\tfrac{DK + 1}2,
                  \tfrac1\xi + \tfrac12 \sum_{dk} \frac{u_{dk}^2}{\lambda_{dk}^2}\Big)
        """
        local, overall = state["loadings_local_scale"], state["loadings_global_scale"]
        halves = 0.5 * (loadings / self.entries).square()
        auxiliary = draw_inverse_gamma(1.0, 1.0 + local**-2)
        local = draw_inverse_gamma(1.0, 1.0 / auxiliary + halves / overall.square()[:, None, None]).sqrt()
        auxiliary = draw_inverse_gamma(1.0, self.global_scale**-2 + overall**-2)
        total = (halves / local.square()).sum((-2, -1))
        overall = draw_inverse_gamma(0.5 * (halves[0].numel() + 1), 1.0 / auxiliary + total).sqrt()
        return {"loadings_local_scale": local, "loadings_global_scale": overall}

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Log density of each chain's scales and loadings."""
        local = self._local.log_prob(state["loadings_local_scale"]).sum((-2, -1))
        overall = self._global.log_prob(state["loadings_global_scale"])
        return local + overall + log_normal(loadings, self.variance(state))
