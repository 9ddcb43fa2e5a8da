r"""The posterior of factors that share one random scale: a mixture over tau of Gaussians in one frame.

.. math:: p(z \mid x) = \sum_j r_j N\big(z; V (c_j \circ y), \tau_j I - V \operatorname{diag}(s\, c_j \tau_j) V'\big),
          \qquad c_{jk} = \frac{\tau_j s_k}{1 + \tau_j s_k^2}

with r_j the probability of tau_j given x. Its density is p(z) p(x | z) / p(x), without the mixture.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.models.shared_scale import ScaleRule, WhitenedScores, log_evidence, log_kernel
from probae.priors import MultivariateStudentT


class SharedScalePosterior(TorchDistribution):
    r"""Law of z given x for a multivariate t law of z: batch shape (N,), event shape (K,).

    Parameters
    ----------
    prior : MultivariateStudentT
    scores : WhitenedScores
        Of the rows.
    dtype : torch.dtype
        Of what comes back; the numbers are computed in float64.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.LinearFactorModel(2, 1, prior=pa.priors.MultivariateStudentT(3.0))
    >>> model.loadings, model.noise_variance = torch.tensor([[1.0], [1.0]]), torch.ones(2)
    >>> law = model.posterior([[1.0, 1.0], [9.0, 9.0]])
    >>> law.mean.squeeze(1) / torch.tensor([1.0, 9.0])       # outliers are shrunk less
    tensor([0.4741, 0.9748], dtype=torch.float64)
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(self, prior: MultivariateStudentT, scores: WhitenedScores, dtype: torch.dtype) -> None:
        self.prior, self.scores, self.dtype = prior, scores, dtype
        self.df = float(prior.df.detach())
        self.rule = ScaleRule.of(scores.values, scores.strengths, self.df)
        latents = len(scores.frame)
        super().__init__(torch.Size([len(scores.values)]), torch.Size([latents]), validate_args=False)

    @property
    def weights(self) -> Float[Tensor, "samples nodes"]:
        """Probability of each point of tau given x."""
        kernel = log_kernel(self.scores.values.square(), self.scores.strengths.square(), self.rule.log_scales)
        return (self.rule.log_weights + kernel).softmax(1)

    @property
    def mean(self) -> Float[Tensor, "samples latents"]:
        """Posterior mean."""
        return (self.scores.values * (self.weights @ self._gains()) @ self.scores.frame.mT).to(self.dtype)

    @property
    def variance(self) -> Float[Tensor, "samples latents"]:
        """Posterior variance: what is left for each tau, and the spread of its means over tau."""
        frame, values, weights = self.scores.frame, self.scores.values, self.weights
        gains = self._gains()
        scales = self.rule.scales.unsqueeze(1)
        outside = 1.0 - frame.square().sum(1)  # of each z outside the reach of W
        value = weights @ (scales / (1 + scales * self.scores.strengths.square())) @ frame.square().mT
        value = value + (weights @ scales) * outside.clamp_min(0.0)
        centre = weights @ gains
        for weight, gain in zip(weights.T, gains, strict=True):
            value += weight.unsqueeze(1) * ((values * (gain - centre)) @ frame.mT).square()
        return value.to(self.dtype)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*draws latents"]:
        """Draw tau, then z given it: shape (*sample_shape, N, K)."""
        count = torch.Size(sample_shape).numel()
        strengths, frame = self.scores.strengths, self.scores.frame
        node = torch.multinomial(self.weights, count, replacement=True).T  # (count, N)
        scales = self.rule.scales[node].unsqueeze(-1)
        noise = torch.randn(*node.shape, len(frame), dtype=torch.float64)
        inside = noise @ frame
        spread = (scales / (1 + scales * strengths.square())).sqrt()
        z = (self._gains()[node] * self.scores.values + spread * inside) @ frame.mT
        if len(strengths) < len(frame):
            z = z + scales.sqrt() * (noise - inside @ frame.mT)
        return z.reshape(*sample_shape, *self.batch_shape, len(frame)).to(self.dtype)

    def log_prob(self, value: Float[Tensor, "*draws latents"]) -> Float[Tensor, "*draws"]:
        """Return log p(z) + log p(y | z) - log p(y) in nats."""
        z = value.double()
        residual = self.scores.values - (z @ self.scores.frame) * self.scores.strengths
        evidence = log_evidence(self.scores, self.df)
        joint = self.prior.joint_log_prob(z) - 0.5 * residual.square().sum(-1)
        return (joint - evidence).detach().to(self.dtype)

    def _gains(self) -> Float[Tensor, "nodes rank"]:
        spread = torch.outer(self.rule.scales, self.scores.strengths)
        return spread / (1 + spread * self.scores.strengths)
