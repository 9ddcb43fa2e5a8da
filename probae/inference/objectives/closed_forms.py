r"""Parts of the evidence lower bound that need no draws when q is Gaussian, differentiable and in the dtype of q.

They run at every step of training, so each takes as few operations on tensors as it can.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probae.encoders.laws import DiagonalCode, GaussianCode, LowRankCode
from probae.inference.expected_log_prior import expected_log_prior
from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian, Gaussian, Laplace, Prior, Scaled

LOG_TWO_PI = math.log(2 * math.pi)


class Moments(NamedTuple):
    """A Gaussian law of each row: N(mean, S) with S = diag(variance), or S = L L' + diag(own) where L is given.

    Attributes
    ----------
    mean, variance : Tensor (N, K)
    half_log_det : Tensor (N,) or ()
        Half the log determinant of the covariance.
    root : Tensor (N, K, R) or (K, R), or None
        L: K columns for a full covariance, fewer for one of low rank.
    own : Tensor (N, K), or None
        Of a low rank.
    """

    mean: Float[Tensor, "samples latents"]
    variance: Float[Tensor, "#samples latents"]
    half_log_det: Float[Tensor, "*samples"]
    root: Float[Tensor, "*samples latents rank"] | None = None
    own: Float[Tensor, "#samples latents"] | None = None

    def trace(self, matrix: Float[Tensor, "latents latents"]) -> Float[Tensor, "*samples"]:
        """Return tr(matrix S) of each row, S its covariance."""
        if self.root is None:
            return self.variance @ matrix.diagonal()
        shared = ((matrix @ self.root) * self.root).sum((-2, -1))
        return shared if self.own is None else shared + self.own @ matrix.diagonal()


def moments(law: Any) -> Moments | None:
    """Return the moments of a Gaussian law of an encoder; None for any other.

    Examples
    --------
    >>> found = moments(DiagonalCode(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])))
    >>> found.variance, found.trace(torch.eye(2))
    (tensor([[1., 9.]]), tensor([10.]))
    """
    if isinstance(law, DiagonalCode):
        scale = law.base_dist.scale
        return Moments(law.base_dist.loc, scale.square(), scale.log().sum(-1))
    if isinstance(law, GaussianCode):
        root = law._unbroadcasted_scale_tril
        log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return Moments(law.loc, root.square().sum(-1), log_det, root)
    if isinstance(law, LowRankCode):
        factor, own = law._unbroadcasted_cov_factor, law._unbroadcasted_cov_diag
        inner = (
            law.wide._capacitance_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        )  # |S| = |D| |I + U' D^-1 U|
        log_det = (inner + 0.5 * own.double().log().sum(-1)).to(own.dtype)
        return Moments(law.loc, factor.square().sum(-1) + own, log_det, factor, own)
    return None


def entropy(q: Moments) -> Float[Tensor, "*samples"]:
    r"""Return -E_q log q(z) = 1/2 log det S + K/2 (1 + log 2 pi) in nats.

    Examples
    --------
    >>> entropy(moments(DiagonalCode(torch.zeros(1, 2), torch.ones(1, 2))))
    tensor([2.8379])
    """
    return q.half_log_det + 0.5 * q.mean.shape[-1] * (1 + LOG_TWO_PI)


def expected_prior(prior: Prior, q: Moments) -> Float[Tensor, "samples"] | None:
    r"""Return E_q log p(z) in nats; None without a closed form.

    .. math:: E_q \log N(z; 0, \Phi) = -\tfrac12 \big[m' \Phi^{-1} m + \operatorname{tr} \Phi^{-1} S
              + \log |\Phi| + K \log 2\pi\big]

    For Laplace codes E |z_k| is the mean of a folded normal; it depends on the variances of q alone.

    Examples
    --------
    >>> expected_prior(Gaussian(), moments(DiagonalCode(torch.zeros(1, 2), torch.ones(1, 2))))
    tensor([-2.8379])
    """
    latents = q.mean.shape[-1]
    if isinstance(prior, Gaussian):
        return (q.mean.square() + q.variance).sum(-1).mul(-0.5).sub(0.5 * latents * LOG_TWO_PI)
    if isinstance(prior, CorrelatedGaussian):
        return _of_correlated(prior, q)
    laws = prior.coordinates(latents)
    if laws is None or not all(_is_closed(one) for one in laws):
        return None
    return expected_log_prior(prior, q.mean, q.variance.expand(q.mean.shape).sqrt()).value.sum(-1)


def expected_likelihood(
    model: Any, x: Float[Tensor, "samples features"], q: Moments
) -> Float[Tensor, "samples"] | None:
    r"""Return E_q log p(x | z) of a linear model in nats; None without a closed form, or for missing entries.

    .. math:: \log N(x; \mu + W m, \Psi) - \tfrac12 \operatorname{tr} W' \Psi^{-1} W S
    """
    if not _is_linear(model) or bool(x.sum().isnan()):
        return None
    loadings, noise = model.loadings.to(q.mean.dtype), model.noise_variance
    residual = torch.addmm(x - model.mean, q.mean, loadings.mT, alpha=-1)
    if noise.ndim == 0:
        energy = (residual.square().sum(-1) + _spread(loadings, loadings, q)) * noise.reciprocal()
        log_det = model.features * noise.log()
    else:
        weight = noise.reciprocal()
        energy = residual.square() @ weight + _spread(loadings, loadings * weight.unsqueeze(1), q)
        log_det = noise.log().sum()
    return (energy + log_det).mul(-0.5).sub(0.5 * model.features * LOG_TWO_PI)


def _spread(one: Tensor, two: Tensor, q: Moments) -> Float[Tensor, "*samples"]:
    """Return tr(A' B S) for A and B with a row for each feature; the diagonal alone where S has no more."""
    return q.variance @ (one * two).sum(0) if q.root is None else q.trace(one.mT @ two)


def _is_linear(model: Any) -> bool:
    """Whether x given z is Gaussian around mean + W z, and nothing in a subclass says otherwise."""
    kind = type(model)
    return (
        isinstance(model, LinearFactorModel)
        and not model.invertible
        and not model.random_parameters
        and kind.likelihood is LinearFactorModel.likelihood
        and kind.log_joint is LinearFactorModel.log_joint
    )


def _is_closed(law: Prior) -> bool:
    return isinstance(law.law if isinstance(law, Scaled) else law, Gaussian | Laplace)


def _of_correlated(prior: CorrelatedGaussian, q: Moments) -> Float[Tensor, "samples"]:
    factor = prior.factor.to(q.mean.dtype)
    inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
    energy = (q.mean @ inverse.mT).square().sum(-1) + q.trace(inverse.mT @ inverse)
    log_det = 2 * factor.diagonal().log().sum()
    return -0.5 * (energy + log_det + q.mean.shape[-1] * LOG_TWO_PI)
