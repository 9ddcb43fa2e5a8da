r"""Gibbs sampling of p(z | x) through the Gaussian scale mixture of the prior.

    z | tau, x ~ N(S V' y, S)      all codes of a row at once (`ScaleConditional`)
    tau | z    ~ p(tau | z)        one scale a code (`Prior.sample_scales`)

Rows are independent given the parameters, so every row is a chain of its own and all of them move together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError, ParameterError, check_count, check_data
from probae.inference.base import few_threads
from probae.inference.draws import Draws
from probae.inference.scale_conditional import Drawn, ScaleConditional
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Prior

KEPT = 16_000_000  # numbers of the draws that are kept; more are thinned, after mean and variance have counted them


@dataclass(frozen=True, eq=False)
class GibbsPosterior:
    r"""Posterior of the codes of a linear model with noise, for any prior that is a Gaussian scale mixture.

    Exact in the limit of many draws, for more codes than features as well, where importance sampling fails.

    Parameters
    ----------
    model : LinearFactorModel
        With a Laplace, StudentT, SpikeSlab, MultivariateStudentT or Gaussian prior, or an Independent or Scaled one
        made of them; isotropic or diagonal noise.
    draws : int
        Sweeps of each chain that count.
    warmup : int
        Sweeps before, which do not.
    chains : int
        Chains of each row, each started from the prior.
    seed : int
        The same rows give the same draws at every call, whatever the caller's random state, which is not touched.

    Raises
    ------
    NotExactError
        For a law without a scale mixture.
    ParameterError
        For a model without noise, or a wrong count.

    References
    ----------
    .. [1] Park, T. & Casella, G. (2008). The Bayesian lasso. Journal of the American Statistical Association 103,
       681-686, section 2.
    .. [2] Bhattacharya, A., Chakraborty, A. & Mallick, B. K. (2016). Fast sampling with Gaussian scale mixture
       priors in high-dimensional regression. Biometrika 103, 985-991, algorithm 1.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(4, 6)                  # more codes than features
    >>> posterior = pa.GibbsPosterior(model, draws=50, warmup=10)(model.sample(3, seed=0))
    >>> posterior.mean.shape, posterior.draws.shape
    (torch.Size([3, 6]), torch.Size([2, 50, 3, 6]))
    """

    model: LinearFactorModel
    draws: int = 500
    warmup: int = 100
    chains: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        require_scale_mixture(self.model, "GibbsPosterior")
        check_count("draws", self.draws)
        check_count("warmup", self.warmup, minimum=0)
        check_count("chains", self.chains)
        check_count("seed", self.seed, minimum=0)

    @local_parameters
    @torch.no_grad()
    def __call__(self, x: Any) -> Draws:
        """Return draws of z for each row; the mean averages E[z | tau, x] over every sweep (Rao and Blackwell)."""
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        loadings, noise, mean = self.model._gaussian_parameters()
        law = ScaleConditional(loadings, noise)
        y = law.whiten(data.values - mean)
        every = -(-self.chains * self.draws * y.shape[0] * self.model.latents // KEPT)  # rounded up
        parts = []
        with torch.random.fork_rng(devices=[]), few_threads(y.numel() * self.chains * self.model.latents):
            for number, rows in enumerate(law.blocks(len(y), self.chains)):
                torch.default_generator.manual_seed(self.seed + number)
                parts.append(self._run(law, y[rows], max(1, every)))
        joined = (torch.cat(part, dim) for part, dim in zip(zip(*parts, strict=True), (2, 0, 0), strict=True))
        return Draws(*(part.to(data.dtype) for part in joined))

    def _run(self, law: ScaleConditional, y: Tensor, every: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run the chains of a block of rows: thinned draws, mean and variance."""
        shape = (self.chains, len(y), law.latents)
        y = y.expand(self.chains, *y.shape).flatten(0, 1)
        prior = self.model.prior
        z = start_chains(prior, y, law.latents)
        for _ in range(self.warmup):
            z = sweep(prior, law, z, y).z
        kept: list[Tensor] = []
        total, first, second = (torch.zeros(len(y), law.latents, dtype=torch.float64) for _ in range(3))
        for step in range(self.draws):
            mean, z = sweep(prior, law, z, y)
            total += mean
            first += z
            second += z.square()
            if step % every == 0:
                kept.append(z.view(shape))
        count = self.chains * self.draws
        mean, first, second = (part.view(shape).sum(0) / count for part in (total, first, second))
        return torch.stack(kept, 1), mean, (second - first.square()).clamp_min(0.0)


def start_chains(prior: Prior, y: Tensor, latents: int) -> Float[Tensor, "samples latents"]:
    """Draw z from the prior, wider than any posterior; from torch's global generator."""
    return prior.draw(torch.Size([len(y), latents]), y).detach()


def sweep(prior: Prior, law: ScaleConditional, z: Float[Tensor, "samples latents"], y: Tensor) -> Drawn:
    """Move every chain once: the scales given z, then z given the scales; from torch's global generator."""
    return law.draw(prior.sample_scales(z), y)


def require_scale_mixture(model: LinearFactorModel, what: str) -> None:
    """Refuse a model whose posterior has no Gaussian conditionals, and name what has."""
    if not isinstance(model, LinearFactorModel) or not model.prior.has_scale_mixture:
        raise NotExactError(
            f"{what} needs a linear model whose prior is a Gaussian scale mixture (Laplace, StudentT, SpikeSlab, "
            f"MultivariateStudentT or Gaussian), got {model!r}: use MaximumLikelihood() for fewer latents than "
            "features, or SVI(encoder)."
        )
    if model.noise == "none":
        raise ParameterError(
            f'{what} needs a model with noise; with noise="none" the codes are posterior(x).mean exactly.'
        )
