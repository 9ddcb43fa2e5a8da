r"""Parts of the evidence lower bound that need no draws when q is Gaussian, differentiable and in the dtype of q."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.encoders.laws import DiagonalCode, GaussianCode
from probae.inference.expected_log_prior import expected_log_prior
from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian, Gaussian, Laplace, Prior, Scaled

LOG_TWO_PI = math.log(2 * math.pi)


def entropy(law: Any) -> Float[Tensor, "samples"] | None:
    r"""Return -E_q log q(z) = log det L + K/2 (1 + log 2 pi) in nats; None where q is not Gaussian.

    Examples
    --------
    >>> entropy(DiagonalCode(torch.zeros(1, 2), torch.ones(1, 2)))
    tensor([2.8379])
    """
    if isinstance(law, DiagonalCode):
        spread = law.base_dist.scale.log().sum(-1)
    elif isinstance(law, GaussianCode):
        spread = law._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        spread = spread.expand(law.batch_shape)
    else:
        return None
    return spread + 0.5 * law.event_shape[0] * (1 + LOG_TWO_PI)


def expected_prior(prior: Prior, law: Any) -> Float[Tensor, "samples"] | None:
    r"""Return E_q log p(z) in nats; None without a closed form.

    .. math:: E_q \log N(z; 0, \Phi) = -\tfrac12 \big[m' \Phi^{-1} m + \operatorname{tr} \Phi^{-1} S
              + \log |\Phi| + K \log 2\pi\big]

    For Laplace codes E |z_k| is the mean of a folded normal; it depends on the variances of q alone.

    Examples
    --------
    >>> expected_prior(Gaussian(), DiagonalCode(torch.zeros(1, 2), torch.ones(1, 2)))
    tensor([-2.8379])
    """
    mean = gaussian_mean(law)
    if mean is None:
        return None
    latents = mean.shape[-1]
    if isinstance(prior, Gaussian):
        return -0.5 * (mean.square().sum(-1) + _total_variance(law) + latents * LOG_TWO_PI)
    if isinstance(prior, CorrelatedGaussian):
        return _of_correlated(prior, law, mean)
    laws = prior.coordinates(latents)
    if laws is None or not all(_is_closed(one) for one in laws):
        return None
    return expected_log_prior(prior, mean, _variance(law).sqrt()).value.sum(-1)


def expected_likelihood(
    model: Any, x: Float[Tensor, "samples features"], law: Any
) -> Float[Tensor, "samples"] | None:
    r"""Return E_q log p(x | z) of a linear model in nats; None without a closed form, or for missing entries.

    .. math:: \log N(x; \mu + W m, \Psi) - \tfrac12 \operatorname{tr} W' \Psi^{-1} W S
    """
    mean = gaussian_mean(law)
    if mean is None or not _is_linear(model) or bool(x.sum().isnan()):
        return None
    loadings, noise = model.loadings.to(mean.dtype), model.noise_variance
    residual = torch.addmm(x - model.mean, mean, loadings.mT, alpha=-1)
    if noise.ndim == 0:  # one product less, and one sum of logs
        energy = residual.square().sum(-1) / noise
        gram = loadings.mT @ loadings / noise
        normalizer = model.features * (noise.log() + LOG_TWO_PI)
    else:
        energy = residual.square() @ noise.reciprocal()
        gram = (loadings.mT / noise) @ loadings
        normalizer = noise.log().sum() + model.features * LOG_TWO_PI
    return -0.5 * (energy + _trace(gram, law) + normalizer)


def gaussian_mean(law: Any) -> Float[Tensor, "samples latents"] | None:
    """Return the mean of a Gaussian law; None for any other."""
    if isinstance(law, DiagonalCode):
        return law.base_dist.loc
    return law.loc if isinstance(law, GaussianCode) else None


def _is_linear(model: Any) -> bool:
    """Whether x given z is Gaussian around mean + W z, and nothing in a subclass says otherwise."""
    kind = type(model)
    return (
        isinstance(model, LinearFactorModel)
        and not model.invertible
        and kind.likelihood is LinearFactorModel.likelihood
        and kind.log_joint is LinearFactorModel.log_joint
    )


def _is_closed(law: Prior) -> bool:
    return isinstance(law.law if isinstance(law, Scaled) else law, Gaussian | Laplace)


def _of_correlated(prior: CorrelatedGaussian, law: Any, mean: Tensor) -> Tensor:
    factor = prior.factor.to(mean.dtype)
    inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
    energy = (mean @ inverse.mT).square().sum(-1) + _trace(inverse.mT @ inverse, law)
    log_det = 2 * factor.diagonal().log().sum()
    return -0.5 * (energy + log_det + mean.shape[-1] * LOG_TWO_PI)


def _variance(law: Any) -> Float[Tensor, "samples latents"]:
    """Return the variance of each coordinate."""
    if isinstance(law, DiagonalCode):
        return law.base_dist.scale.square()
    return law._unbroadcasted_scale_tril.square().sum(-1).expand(law.loc.shape)


def _total_variance(law: Any) -> Float[Tensor, "*samples"]:
    if isinstance(law, DiagonalCode):
        return law.base_dist.scale.square().sum(-1)
    return law._unbroadcasted_scale_tril.square().sum((-2, -1))


def _trace(matrix: Float[Tensor, "latents latents"], law: Any) -> Float[Tensor, "*samples"]:
    """Return tr(matrix S), S the covariance of each row."""
    if isinstance(law, DiagonalCode):
        return law.base_dist.scale.square() @ matrix.diagonal()
    root = law._unbroadcasted_scale_tril
    return ((matrix @ root) * root).sum((-2, -1))
