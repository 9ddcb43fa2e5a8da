"""Automatic relevance determination: one precision for the loadings of each factor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.parameter_priors.base import Law, LoadingsPrior, State, expanded, log_normal

__all__ = ["ARD"]


@dataclass(frozen=True, eq=False)
class ARD(LoadingsPrior):
    r"""Loadings whose precision is common to a factor and learnt, so that factors the data do not need fall to 0.

    .. math:: \alpha_k \sim \mathrm{Gamma}(a, b), \qquad W_{dk} \mid \alpha_k \sim N(0, s_d^2 / \alpha_k)

    The site of alpha is ``loadings_precision``, shape (K,).

    Parameters
    ----------
    shape, rate : float
        a and b, free of units. By default a factor has loadings of about s / 10, with tails so heavy (Student t of 2
        degrees of freedom) that one which the data need is hardly shrunk.
    scale : float or Tensor
        s, in units of x: a number, one for each feature (D,), or one for each entry (D, K). The default suits columns
        in units of their standard deviation.

    Raises
    ------
    ParameterError
        A number that is not finite and above 0.

    Notes
    -----
    The axes of W are those in which most columns vanish: the law is not rotation invariant.

    References
    ----------
    .. [1] Bishop, C. M. (1999). Variational principal components. ICANN 99, 509-514.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> strong_and_weak = torch.tensor([0.7, 0.01]).double().expand(1, 20, 2)
    >>> ARD().update({}, strong_and_weak)["loadings_precision"] > 100
    tensor([[False,  True]])
    """

    shape: float = 1.0
    rate: float = 0.01
    scale: float | Tensor = 1.0

    @property
    def _law(self) -> dist.Gamma:
        return dist.Gamma(*torch.tensor([self.shape, self.rate], dtype=torch.float64), validate_args=False)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """The precisions, then the loadings given them."""
        site, entries = f"{name}_precision", self.entries_of(shape)
        return {
            site: expanded(self._law, shape[1:]),
            name: lambda model: expanded(dist.Normal(0.0, entries * getattr(model, site).rsqrt()), shape),
        }

    def start(self, chains: int, features: int, latents: int) -> State:
        """Draw the precisions from their prior."""
        return {"loadings_precision": self._law.sample((chains, latents))}

    def variance(self, state: State) -> Tensor:
        """s^2 / alpha."""
        return self.entries.square() / state["loadings_precision"][:, None]

    def update(self, state: State, loadings: Float[Tensor, "chains features latents"]) -> State:
        """Draw alpha_k from Gamma(a + D / 2, b + sum_d (W_dk / s_d)^2 / 2)."""
        rate = self.rate + 0.5 * (loadings / self.entries).square().sum(1)
        return {
            "loadings_precision": dist.Gamma(
                self.shape + 0.5 * loadings.shape[1], rate, validate_args=False
            ).sample()
        }

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Log density of each chain's precisions and loadings."""
        hyper = self._law.log_prob(state["loadings_precision"]).sum(-1)
        return hyper + log_normal(loadings, self.variance(state))

    def log_marginal(self, loadings: Float[Tensor, "chains features latents"]) -> Float[Tensor, " chains"]:
        r"""Columns are multivariate Student t of 2 a degrees of freedom.

        .. math:: \log \frac{\Gamma(a + D/2)\, b^a}{\Gamma(a) (2\pi)^{D/2} \prod_d s_d}
                  - (a + \tfrac D2) \log\Big(b + \tfrac12 \sum_d W_{dk}^2 / s_d^2\Big)
        """
        entries = self.entries.expand(loadings.shape[1:])
        features, latents = entries.shape
        shape = self.shape + 0.5 * features
        constant = math.lgamma(shape) - math.lgamma(self.shape) + self.shape * math.log(self.rate)
        constant = latents * (constant - 0.5 * features * math.log(2 * math.pi)) - float(entries.log().sum())
        return constant - shape * (self.rate + 0.5 * (loadings / entries).square().sum(1)).log().sum(-1)
