"""Spike-and-slab loadings: exactly 0, or normal."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import Law, LoadingsPrior, State

__all__ = ["SpikeSlab"]


@dataclass(frozen=True, eq=False)
class SpikeSlab(LoadingsPrior):
    r"""Loadings that are exactly 0 unless active.

    .. math:: q_k \sim \mathrm{Beta}(a, b), \qquad \gamma_{dk} \sim \mathrm{Bernoulli}(q_k), \qquad
              W_{dk} \mid \gamma_{dk} \sim \gamma_{dk}\, N(0, s_d^2) + (1 - \gamma_{dk})\, \delta_0

    Sites: ``loadings_probability`` (q, shape (K,)) and ``loadings_active`` (gamma, shape (D, K)).

    Parameters
    ----------
    alpha, beta : float
        a and b: the prior weighs as much as a active loadings and b others of each factor.
    scale : float or Tensor
        s, in units of x: a number, one for each feature (D,), or one for each entry (D, K). The default suits columns
        in units of their standard deviation.

    Raises
    ------
    ParameterError
        A number that is not finite and above 0.

    Notes
    -----
    Densities of W are against Lebesgue measure where it is active, and against a unit mass at 0 where it is not. The
    indicators are discrete: methods that follow gradients do not apply.

    References
    ----------
    .. [1] West, M. (2003). Bayesian factor regression models in the "large p, small n" paradigm. Bayesian Statistics
       7, 723-732.

    Examples
    --------
    >>> import probae as pa
    >>> program = pa.FactorAnalysis(6, 2).with_priors(loadings=pa.parameter_priors.SpikeSlab())
    >>> program.random_parameters
    ['loadings_probability', 'loadings_active', 'loadings']
    """

    alpha: float = 1.0
    beta: float = 1.0
    scale: float | Tensor = 1.0

    @property
    def sparse(self) -> bool:
        """True."""
        return True

    @property
    def _law(self) -> dist.Beta:
        return dist.Beta(*torch.tensor([self.alpha, self.beta], dtype=torch.float64), validate_args=False)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """The probabilities, the indicators, then the loadings given them."""
        probability, active = f"{name}_probability", f"{name}_active"
        scale = self.entries_of(shape)

        def indicators(model: object) -> dist.TorchDistribution:
            chance = getattr(model, probability).expand(shape)
            return dist.Bernoulli(chance, validate_args=False).to_event(2)

        def loadings(model: object) -> dist.TorchDistribution:
            spike, slab = dist.Delta(torch.zeros_like(scale)), dist.Normal(torch.zeros_like(scale), scale)
            return dist.MaskedMixture(getattr(model, active) > 0, spike, slab).to_event(2)

        return {
            probability: self._law.expand(shape[1:]).to_event(1),
            active: indicators,
            name: loadings,
        }

    def start(self, chains: int, features: int, latents: int) -> State:
        """Draw probabilities and indicators from their prior."""
        probability = self._law.sample((chains, latents))
        active = torch.bernoulli(probability[:, None].expand(chains, features, latents))
        return {"loadings_probability": probability, "loadings_active": active}

    def variance(self, state: State) -> Tensor:
        """s^2 where active, 0 elsewhere."""
        return self.entries.square() * state["loadings_active"]

    def update(self, state: State, loadings: Float[Tensor, "chains features latents"]) -> State:
        """Read the indicators off the loadings and draw q_k from Beta(a + active, b + others)."""
        active = (loadings != 0).double()
        count = active.sum(1)
        law = dist.Beta(self.alpha + count, self.beta + loadings.shape[1] - count, validate_args=False)
        return {"loadings_probability": law.sample(), "loadings_active": active}

    def draw_loadings(
        self,
        state: State,
        loadings: Float[Tensor, "chains features latents"],
        square: Float[Tensor, "chains latents latents"],
        cross: Float[Tensor, "chains latents features"],
        noise: Float[Tensor, "chains #features"],
    ) -> tuple[State, Float[Tensor, "chains features latents"]]:
        r"""Draw each loading with its indicator given the other loadings of its row, factor after factor.

        .. math:: P = \frac{(Z'Z)_{kk}}{\psi_d} + \frac1{s_d^2}, \quad
                  r = \frac{(Z'x_d)_k - \sum_{j \ne k} (Z'Z)_{kj} W_{dj}}{\psi_d}, \quad
                  \frac{p(\gamma_{dk} = 1)}{p(\gamma_{dk} = 0)} =
                  \frac{q_k}{1 - q_k} \frac{e^{r^2 / 2P}}{\sqrt{s_d^2 P}}, \quad
                  W_{dk} \mid \gamma_{dk} = 1 \sim N(r / P, 1 / P)
        """
        loadings = loadings.clone()
        variances = self.entries.square().expand(loadings.shape[1:])
        prior = torch.logit(state["loadings_probability"])
        explained = loadings @ square
        for k in range(loadings.shape[-1]):
            own, old = square[:, k, k, None], loadings[..., k].clone()
            precision = own / noise + 1.0 / variances[:, k]
            pull = (cross[:, k] - explained[..., k] + own * old) / noise
            odds = prior[:, k, None] + 0.5 * (pull.square() / precision - (variances[:, k] * precision).log())
            normal = pull / precision + torch.randn_like(pull) * precision.rsqrt()
            loadings[..., k] = torch.where(torch.rand_like(pull) < odds.sigmoid(), normal, 0.0)
            explained = explained + (loadings[..., k] - old)[..., None] * square[:, None, k]
        return {**state, "loadings_active": (loadings != 0).double()}, loadings

    def turned(
        self, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, "chains features latents"]:
        """Rotate two factors of each chain, picked at random, by a uniform angle if the same loadings are 0 in both.

        The slab has one scale for all factors, so their joint law is left as it is. Chains without zeros find the frame
        that has them.
        """
        chains, features, latents = loadings.shape
        if latents < 2 or not self.scales_factors_alike:
            return loadings
        pair = (
            torch.rand(chains, latents, dtype=torch.float64).argsort(1)[:, None, :2].expand(-1, features, 2)
        )
        chosen = loadings.gather(2, pair)
        same = ((chosen != 0)[..., 0] == (chosen != 0)[..., 1]).all(1)
        angle = 2 * torch.pi * torch.rand(chains, 1, dtype=torch.float64) * same[:, None]
        first, second = chosen.unbind(2)
        turned = [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()]
        return loadings.scatter(2, pair, torch.stack(turned, 2))

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Log density of each chain's probabilities, indicators and loadings; -inf where 0s and indicators differ."""
        probability, active = state["loadings_probability"], state["loadings_active"]
        chance = dist.Bernoulli(probability[:, None].expand_as(active), validate_args=False).log_prob(active)
        scale = self.entries_of(loadings.shape[1:])
        slab = dist.Normal(torch.zeros_like(scale), scale, validate_args=False).log_prob(loadings)
        values = torch.where(active > 0, slab, torch.where(loadings == 0, 0.0, -torch.inf))
        return self._law.log_prob(probability).sum(-1) + (chance + values).sum((-2, -1))
