r"""Which latents an encoder uses: posterior collapse and dead units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.analysis.encoder_bound import posterior_law
from probae.analysis.rows import check_rows
from probae.checks import NotExactError, ParameterError, check_count, check_positive
from probae.inference import Fit
from probae.inference.expected_log_prior import expected_log_prior
from probae.inference.refinement import gaussians_of
from probae.models.pyro_context import local_parameters
from probae.priors import CorrelatedGaussian, Gaussian, Independent, MultivariateStudentT, Prior, StudentT

__all__ = ["Collapse", "collapse"]

ACTIVE = 0.01  # of the variance of posterior means: Burda et al. (2016), appendix C
DRAWS = 256


@dataclass(frozen=True, eq=False)
class Collapse:
    """How much of each latent the rows decide.

    Attributes
    ----------
    divergence : Tensor (K,)
        KL(q(z_k | x) || p(z_k)) of each latent by itself, averaged over the rows, in nats.
    activity : Tensor (K,)
        Variance over the rows of the posterior mean E[z_k | x]; the prior has variance 1.
    threshold : float
        Of ``activity`` for an active unit (0.01 in Burda et al., 2016), and in nats of ``divergence`` for one that has
        not collapsed.
    """

    divergence: Float[Tensor, " latents"]
    activity: Float[Tensor, " latents"]
    threshold: float = ACTIVE

    @property
    def active(self) -> Bool[Tensor, " latents"]:
        """Latents whose posterior mean changes from row to row."""
        return self.activity > self.threshold

    @property
    def dead(self) -> Bool[Tensor, " latents"]:
        """Latents that say the same of every row, whatever that is."""
        return ~self.active

    @property
    def collapsed(self) -> Bool[Tensor, " latents"]:
        """Latents whose posterior is the prior."""
        return self.divergence <= self.threshold

    @property
    def fraction(self) -> float:
        """Share of the latents that have collapsed."""
        return float(self.collapsed.double().mean())

    def __str__(self) -> str:
        count = len(self.divergence)
        order = self.divergence.argsort(descending=True).tolist()
        active, collapsed = int(self.active.sum()), int(self.collapsed.sum())
        lines = [
            f"{active} of {count} latents are active, {collapsed} have collapsed to the prior "
            f"(threshold {self.threshold:g})",
            "  latent  KL, nats  variance of means",
        ]
        for k in order:
            state = "collapsed" if self.collapsed[k] else "dead" if self.dead[k] else ""
            lines.append(f"  {k:<6}  {self.divergence[k]:8.4f}  {self.activity[k]:.4f}  {state}".rstrip())
        return "\n".join(lines)


@local_parameters
@torch.no_grad()
def collapse(run: Fit, x: Any, threshold: float = ACTIVE, *, seed: int = 0) -> Collapse:
    r"""Find latents whose posterior is the prior (collapsed), or does not react to the rows (dead).

    .. math:: \frac1N \sum_n KL\big(q(z_k \mid x_n) \,\|\, p(z_k)\big), \qquad
              \operatorname{Var}_n E_q[z_k \mid x_n]

    The first is in closed form for Gaussian q (quadrature of 64 nodes for laws other than Gaussian and Laplace), and
    an average over 256 draws for other laws of independent codes.

    Parameters
    ----------
    run : Fit
    x : array, DataFrame or Tensor (N, D)
    threshold : float
        Below it a latent is dead, or collapsed.
    seed : int
        Of the draws.

    Raises
    ------
    ParameterError
        The posterior is a point mass, or draws without a density.
    DataError
        For rows the model cannot take.
    NotExactError
        The posterior is neither Gaussian nor made of independent codes.

    References
    ----------
    .. [1] Burda, Y., Grosse, R. & Salakhutdinov, R. (2016). Importance weighted autoencoders. ICLR.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> print(pa.collapse(pa.fit(pa.ProbabilisticPCA(9, 2), x), x).active)
    tensor([True, True])
    """
    if not isinstance(run, Fit):
        raise ParameterError(f"collapse needs the result of fit, got {type(run).__name__}.")
    check_positive("threshold", threshold)
    check_count("seed", seed, minimum=0)
    data = check_rows(run.model, x, minimum_rows=2)
    law = posterior_law(run, data.values)
    prior = _marginals(run.model.prior, run.model.latents)
    q = gaussians_of(law)
    if q is None:
        divergence = _by_draws(law, prior, seed)
        mean = law.mean.double()
    else:
        mean, sd = q.mean, q.root.square().sum(-1).sqrt()
        entropy = 0.5 + 0.5 * torch.log(2 * torch.pi * sd.square())
        divergence = -entropy - expected_log_prior(prior, mean, sd).value
    return Collapse(divergence.mean(0), mean.var(0, correction=0), threshold)


def _marginals(prior: Prior, latents: int) -> Prior:
    """Return the law of the codes one by one."""
    if isinstance(prior, CorrelatedGaussian):
        return Gaussian()
    if isinstance(prior, MultivariateStudentT):
        return StudentT(float(prior.df.detach()))
    laws = prior.coordinates(latents)
    assert laws is not None
    return prior if prior.event_dim == 0 else Independent(laws)


def _by_draws(law: Any, prior: Prior, seed: int) -> Tensor:
    """Average log q(z_k) - log p(z_k) over draws of independent codes."""
    base = law.base_dist if isinstance(law, torch.distributions.Independent) else None
    if base is None or base.batch_shape != law.batch_shape + law.event_shape:
        raise NotExactError(
            f"The divergence of each latent needs a Gaussian posterior or independent codes, got {type(law).__name__}: "
            "gaps(run, x) takes any law with a density."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        z = law.sample(torch.Size((DRAWS,)))
    laws = prior.coordinates(z.shape[-1]) or []
    expected = torch.stack([one.log_prob(z[..., k]) for k, one in enumerate(laws)], -1)
    return (base.log_prob(z) - expected).mean(0).double()
