r"""The best Gaussian posterior of the codes: the ELBO with the exact expected log prior, maximised row by row.

    ELBO(m, S) = E_q log p(x | z) + sum_k E_q log p(z_k) + log det(2 pi e S) / 2,   q = N(m, S)

At the maximum S^{-1} = W' Psi^{-1} W + diag(curvature) and W' Psi^{-1} (x - mean - W m) = slope, so each step goes
from the precision to the one that its own moments ask for, and takes a Newton step in m: natural gradients of length
one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count, check_data, check_positive
from probae.inference.base import few_threads
from probae.inference.expected_log_prior import expected_log_prior
from probae.inference.gibbs_posterior import require_scale_mixture
from probae.inference.scale_conditional import BLOCK
from probae.inference.variational_posterior import tangent_variances
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters

TANGENT_ROUNDS = 10  # of the cheaper bound, for a start
SHORTEST = 2.0**-20  # step below which a row is left as it is


class Gaussians(NamedTuple):
    """Gaussian laws of some rows and their ELBO.

    Attributes
    ----------
    mean : Tensor (N, K)
    site : Tensor (N, K)
        What the prior adds to the precision.
    factor : Tensor (N, K, K)
        Cholesky factor of the precision.
    covariance : Tensor (N, K, K)
    slope, curvature : Tensor (N, K)
        Of the expected log prior.
    value : Tensor (N,)
        ELBO in nats; minus infinity where the precision is not positive.
    """

    mean: Float[Tensor, "samples latents"]
    site: Float[Tensor, "samples latents"]
    factor: Float[Tensor, "samples latents latents"]
    covariance: Float[Tensor, "samples latents latents"]
    slope: Float[Tensor, "samples latents"]
    curvature: Float[Tensor, "samples latents"]
    value: Float[Tensor, "samples"]


@dataclass(frozen=True, eq=False)
class GaussianPosterior:
    r"""The Gaussian closest to p(z | x) in KL(q || p), full covariance, one optimisation a row.

    For a Laplace prior the ELBO is concave and exact in every term, so its maximum is the best that any Gaussian
    encoder can reach: what an encoder falls short of it by is amortization, and what it falls short of log p(x) by
    is the price of normality. Other laws use quadrature of 64 nodes for E log p(z).

    Parameters
    ----------
    model : LinearFactorModel
        As for :class:`GibbsPosterior`, but not `MultivariateStudentT`.
    steps : int
        Most steps a row.
    tol : float
        A row stops when a step gains less than this, in nats.

    References
    ----------
    .. [1] Challis, E. & Barber, D. (2013). Gaussian Kullback-Leibler approximate inference. Journal of Machine Learning
       Research 14, 2239-2286.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(4, 3)
    >>> x = model.sample(5, seed=0)
    >>> best, tangent = pa.GaussianPosterior(model), pa.VariationalPosterior(model)
    >>> bool((best.bound(x) > tangent.bound(x)).all()), best(x).covariance_matrix.shape
    (True, torch.Size([5, 3, 3]))
    """

    model: LinearFactorModel
    steps: int = 200
    tol: float = 1e-8

    def __post_init__(self) -> None:
        require_scale_mixture(self.model, "GaussianPosterior")
        check_count("steps", self.steps)
        check_positive("tol", self.tol)
        zero = torch.zeros(1, self.model.latents, dtype=torch.float64)
        expected_log_prior(self.model.prior, zero, zero + 1)  # says now if it cannot

    @local_parameters
    @torch.no_grad()
    def __call__(self, x: Any) -> dist.MultivariateNormal:
        """Return the best q(z | x) of each row; N K^2 numbers."""
        found, dtype = self._solve(x)
        mean, covariance = (
            torch.cat(parts) for parts in zip(*((q.mean, q.covariance) for q in found), strict=True)
        )
        tril = torch.linalg.cholesky(covariance)
        return dist.MultivariateNormal(mean.to(dtype), scale_tril=tril.to(dtype), validate_args=False)

    @local_parameters
    @torch.no_grad()
    def bound(self, x: Any) -> Float[Tensor, "samples"]:
        """Return the ELBO per row, a lower bound on log p(x) in nats."""
        found, dtype = self._solve(x, values_only=True)
        return torch.cat([q.value for q in found]).to(dtype)

    def _solve(self, x: Any, values_only: bool = False) -> tuple[list[Gaussians], torch.dtype]:
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        loadings, noise, mean = self.model._gaussian_parameters()
        problem = Problem(self.model, loadings / noise.sqrt().unsqueeze(1), float(noise.log().sum()))
        y = (data.values - mean) / noise.sqrt()
        block = max(1, BLOCK // self.model.latents**2)
        found = []
        with few_threads(min(block, len(y)) * self.model.latents**2):
            for rows in y.split(block):
                best = problem.climb(rows, self.steps, self.tol)
                found.append(
                    best._replace(covariance=best.covariance[:0], factor=best.factor[:0])
                    if values_only
                    else best
                )
        return found, data.dtype


class Problem:
    """The ELBO of rows y = Psi^{-1/2} (x - mean) under one model."""

    def __init__(self, model: LinearFactorModel, whitened: Tensor, log_noise: float) -> None:
        self.prior, self.whitened = model.prior, whitened
        self.gram = whitened.mT @ whitened
        self.constant = 0.5 * (model.latents - log_noise - model.features * math.log(2 * math.pi))
        self.constant += 0.5 * model.latents * math.log(2 * math.pi)

    def evaluate(self, y: Tensor, mean: Tensor, site: Tensor) -> Gaussians:
        """Return the laws with these means and precisions gram + diag(site), with their ELBO."""
        factor, info = torch.linalg.cholesky_ex(self.gram + torch.diag_embed(site))
        bad = (info > 0).view(-1, 1, 1)
        factor = torch.where(bad, torch.eye(site.shape[1], dtype=site.dtype), factor)
        covariance = torch.cholesky_inverse(factor)
        expected = expected_log_prior(self.prior, mean, covariance.diagonal(dim1=-2, dim2=-1).sqrt())
        spread = (self.gram * covariance).sum((-2, -1))
        distance = (y - mean @ self.whitened.mT).square().sum(1) + spread
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        value = self.constant - 0.5 * distance - log_det + expected.value.sum(1)
        value = torch.where(bad.flatten() | ~value.isfinite(), -torch.inf, value)
        return Gaussians(mean, site, factor, covariance, expected.slope, expected.curvature, value)

    def climb(self, y: Tensor, steps: int, tol: float) -> Gaussians:
        """Maximise the ELBO of every row; a step that lowers a row's is taken back and halved for that row."""
        best = self.evaluate(y, *self._first(y))
        live, length = torch.arange(len(y)), torch.ones(len(y), 1, dtype=y.dtype)
        for _ in range(steps):
            now = Gaussians(*(part[live] for part in best))
            tried = self._step(y[live], now, length)
            better = tried.value >= now.value
            for part, new in zip(best, tried, strict=True):
                part[live[better]] = new[better]
            done = better & (tried.value - now.value < tol) | (length.squeeze(1) < SHORTEST)
            length = torch.where(better.unsqueeze(1), (2 * length).clamp_max(1.0), length / 2)[~done]
            live = live[~done]
            if len(live) == 0:
                break
        return best

    def _step(self, y: Tensor, now: Gaussians, length: Tensor) -> Gaussians:
        """Take a natural-gradient step of the given length in each row."""
        gradient = y @ self.whitened - now.mean @ self.gram - now.slope
        site = now.site + length * (now.curvature - now.site)
        factor, info = torch.linalg.cholesky_ex(self.gram + torch.diag_embed(site))
        factor = torch.where((info > 0).view(-1, 1, 1), now.factor, factor)
        move = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
        return self.evaluate(y, now.mean + length * move, site)

    def _first(self, y: Tensor) -> tuple[Tensor, Tensor]:
        xi = torch.ones(len(y), len(self.gram), dtype=y.dtype)
        for _ in range(TANGENT_ROUNDS):
            site = (1 / tangent_variances(self.prior, xi)).clamp_max(1e12)
            factor = torch.linalg.cholesky(self.gram + torch.diag_embed(site))
            mean = torch.cholesky_solve((y @ self.whitened).unsqueeze(-1), factor).squeeze(-1)
            variance = torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1)
            xi = (mean.square() + variance).sqrt()
        return mean, site
