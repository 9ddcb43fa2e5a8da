r"""The Gaussian posterior that a bound of each prior gives, and that bound on log p(x).

A Gaussian scale mixture has log p(sqrt(u)) convex in u, so at any xi a tangent in z^2 lies below it:

    log p(z) >= log p(xi) - (z^2 - xi^2) / (2 tau),    tau = xi / psi(xi) = 1 / E[1/tau | z = xi]

For Laplace, -a |z| >= -a (z^2 / xi + xi) / 2. With the tangents the model is Gaussian, so for every xi

    log p(x) >= sum_k [log p(xi_k) + xi_k^2 / (2 tau_k) + log(2 pi tau_k) / 2] + log N(x; mean, W T W' + Psi)

and xi_k^2 = E z_k^2 under the Gaussian q(z | x) of that model raises the bound (Girolami, 2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from probae.checks import check_count, check_data
from probae.inference.base import few_threads
from probae.inference.gibbs_posterior import require_scale_mixture
from probae.inference.scale_conditional import Moments, ScaleConditional
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Prior

LOG_TWO_PI = math.log(2 * math.pi)
LEAST = 1e-140  # of xi: what is below has a square of zero


def tangent_variances(prior: Prior, xi: Float[Tensor, "samples latents"]) -> Float[Tensor, "samples latents"]:
    """Return tau = xi / psi(xi), the variances of the Gaussians that touch the prior at xi."""
    xi = xi.clamp_min(LEAST)
    return xi / prior.score(xi)


class ConditionalGaussian(TorchDistribution):
    """The Gaussian law of z given scales and rows, without a K x K matrix for each row: batch (N,), event (K,).

    Attributes
    ----------
    tau : Tensor (N, K)
        Variances of the codes before the row is seen.
    mean, variance : Tensor (N, K)
    """

    arg_constraints: dict[str, dist.constraints.Constraint] = {}
    support = dist.constraints.real_vector

    def __init__(
        self, law: ScaleConditional, tau: Tensor, y: Tensor, moments: Moments, dtype: torch.dtype
    ) -> None:
        self._law, self._y, self._moments = law, y, moments
        self.tau = tau
        self._dtype = dtype
        super().__init__(tau.shape[:1], tau.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean, (N, K)."""
        return self._moments.mean.to(self._dtype)

    @property
    def variance(self) -> Tensor:
        """Variance of each code, (N, K)."""
        return self._moments.variance.to(self._dtype)

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariance of the codes of each row, (N, K, K)."""
        return self._law.covariance(self.tau).to(self._dtype)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw from the law, (*sample_shape, N, K)."""
        count = torch.Size(sample_shape).numel()
        tau, y = self.tau.repeat(count, 1), self._y.repeat(count, 1)
        draws = torch.cat([self._law.draw(tau[rows], y[rows]).z for rows in self._law.blocks(len(tau))])
        return draws.reshape(*sample_shape, *self.tau.shape).to(self._dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of codes, (*sample_shape, N)."""
        deviation = z.double() - self._moments.mean
        distance = (deviation.square() / self.tau).sum(-1)
        distance = distance + (deviation @ self._law.whitened.mT).square().sum(-1)
        log_det = self._moments.log_det - self.tau.log().sum(-1)
        return (0.5 * (log_det - distance - self._law.latents * LOG_TWO_PI)).to(z.dtype)

    def entropy(self) -> Tensor:
        """Entropy of each row's law, in nats."""
        log_det = self.tau.log().sum(-1) - self._moments.log_det
        return (0.5 * (log_det + self._law.latents * (1 + LOG_TWO_PI))).to(self._dtype)


@dataclass(frozen=True, eq=False)
class VariationalPosterior:
    r"""Gaussian posterior of the codes under the tangents of the prior, with its bound on log p(x).

    Fast, smooth in x, and with the correlations of the codes; it calls the codes closer to normal than they are, and
    what that costs is the gap between ``bound(x)`` and log p(x). `GaussianPosterior` is the best Gaussian, in more
    time; `GibbsPosterior` has no gap.

    Parameters
    ----------
    model : LinearFactorModel
        As for :class:`GibbsPosterior`.
    steps : int
        Rounds of the fixed point xi^2 = E z^2.

    References
    ----------
    .. [1] Girolami, M. (2001). A variational method for learning sparse and overcomplete representations. Neural
       Computation 13, 2517-2532.
    .. [2] Palmer, J. A., Wipf, D. P., Kreutz-Delgado, K. & Rao, B. D. (2006). Variational EM algorithms for
       non-Gaussian latent variable models. Advances in Neural Information Processing Systems 18.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(4, 6)
    >>> x = model.sample(3, seed=0)
    >>> posterior = pa.VariationalPosterior(model)
    >>> posterior(x).mean.shape, posterior.bound(x).shape
    (torch.Size([3, 6]), torch.Size([3]))
    """

    model: LinearFactorModel
    steps: int = 100

    def __post_init__(self) -> None:
        require_scale_mixture(self.model, "VariationalPosterior")
        check_count("steps", self.steps)

    @local_parameters
    @torch.no_grad()
    def __call__(self, x: Any) -> ConditionalGaussian:
        """Return q(z | x) for each row."""
        law, y, _, dtype = self._read(x)
        tau, moments = self._solve(law, y)
        return ConditionalGaussian(law, tau, y, moments, dtype)

    @local_parameters
    @torch.no_grad()
    def bound(self, x: Any) -> Float[Tensor, "samples"]:
        """Return a lower bound on log p(x) per row, in nats."""
        law, y, prior, dtype = self._read(x)
        tau, moments = self._solve(law, y)
        xi = (moments.mean.square() + moments.variance).sqrt()
        return tangent_bound(prior, law, y, xi).to(dtype)

    def _read(self, x: Any) -> tuple[ScaleConditional, Tensor, Prior, torch.dtype]:
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        loadings, noise, mean = self.model._gaussian_parameters()
        law = ScaleConditional(loadings, noise)
        return law, law.whiten(data.values - mean), self.model.prior, data.dtype

    def _solve(self, law: ScaleConditional, y: Tensor) -> tuple[Tensor, Moments]:
        found = []
        with few_threads(y.numel() * law.latents):
            for rows in law.blocks(len(y)):
                xi = torch.ones(len(y[rows]), law.latents, dtype=torch.float64)
                for _ in range(self.steps):
                    tau = tangent_variances(self.model.prior, xi)
                    moments = law.moments(tau, y[rows])
                    xi = (moments.mean.square() + moments.variance).sqrt()
                found.append((tau, *moments))
        scales, mean, variance, covariance, log_det = zip(*found, strict=True)
        whole = Moments(
            torch.cat(mean), torch.cat(variance), torch.stack(covariance).sum(0), torch.cat(log_det)
        )
        return torch.cat(scales), whole


def tangent_bound(
    prior: Prior, law: ScaleConditional, y: Tensor, xi: Float[Tensor, "samples latents"]
) -> Float[Tensor, "samples"]:
    """Return the bound on log p(x) at any xi, per row in nats."""
    parts = []
    for rows in law.blocks(len(y)):
        tau = tangent_variances(prior, xi[rows])
        moments = law.moments(tau, y[rows])
        distance = (y[rows] - moments.mean @ law.whitened.mT).square().sum(1) + (
            moments.mean.square() / tau
        ).sum(1)
        gaussian = -0.5 * (distance + moments.log_det + law.features * LOG_TWO_PI) - law.deviation.log().sum()
        touch = 0.5 * (xi[rows].square() / tau + (2 * math.pi * tau).log()).sum(1)
        parts.append(prior.joint_log_prob(xi[rows].clamp_min(LEAST)) + touch + gaussian)
    return torch.cat(parts)
