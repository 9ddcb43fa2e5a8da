"""Criteria from information theory: squared loadings read as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.rotation.base import Criterion, check_at_least

__all__ = ["Infomax", "McCammon", "MinimumEntropy"]


@dataclass(frozen=True)
class Infomax(Criterion):
    r"""Infomax: what a feature says about the factor, in nats; orthogonal and oblique.

    .. math:: Q = \log K + H(p) - H(p_{d\cdot}) - H(p_{\cdot k}), \qquad
              p_{dk} = \lambda_{dk}^2 \Big/ \sum_{ci} \lambda_{ci}^2, \quad H(p) = -\sum p \log p

    log K less the mutual information of rows and columns. It is 0 for a perfect simple structure with factors of
    equal size.

    References
    ----------
    .. [1] McKeon, J. J. (1968). Rotation for maximum association between factors and tests. Biometric Laboratory,
       George Washington University; as given in Browne, M. W. (2001), Multivariate Behavioral Research 36, 111-150.

    Examples
    --------
    >>> import torch
    >>> abs(Infomax().value(torch.eye(2, dtype=torch.float64))) < 1e-15
    tensor(True)
    """

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        joint = loadings.square() / loadings.square().sum((-2, -1), keepdim=True)
        rows, columns = joint.sum(-1), joint.sum(-2)
        latents = torch.tensor(float(loadings.shape[-1]), dtype=loadings.dtype, device=loadings.device)
        both = entropy(joint).sum((-2, -1))
        return latents.log() + both - entropy(rows).sum(-1) - entropy(columns).sum(-1)

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        total = loadings.square().sum((-2, -1), keepdim=True)
        joint = loadings.square() / total
        rows, columns = joint.sum(-1, keepdim=True), joint.sum(-2, keepdim=True)
        surprise = safe_log(rows) + safe_log(columns) - safe_log(joint)
        mean = (joint * surprise).sum((-2, -1), keepdim=True)
        return 2 * loadings * (surprise - mean) / total


@dataclass(frozen=True)
class MinimumEntropy(Criterion):
    r"""Minimum entropy of the squared loadings. Orthogonal only.

    .. math:: Q = -\tfrac12 \sum_{dk} \lambda_{dk}^2 \log \lambda_{dk}^2

    References
    ----------
    .. [1] Jennrich, R. I. (2004). Rotation to simple loadings using component loss functions: the orthogonal case.
       Psychometrika 69, 257-273.

    Examples
    --------
    >>> import torch
    >>> abs(MinimumEntropy().value(torch.eye(2)))
    tensor(0.)
    """

    oblique: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        return 0.5 * entropy(loadings.square()).sum((-2, -1))

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        return -loadings * (safe_log(loadings.square()) + 1)


@dataclass(frozen=True)
class McCammon(Criterion):
    r"""McCammon's ratio of entropies: that within columns against that of their sums. Orthogonal only.

    .. math:: Q = \log \sum_k H\Big( \lambda_{\cdot k}^2 \Big/ \sum_d \lambda_{dk}^2 \Big)
              - \log H\Big( \sum_d \lambda_{dk}^2 \Big/ \sum_{dk} \lambda_{dk}^2 \Big)

    References
    ----------
    .. [1] McCammon, R. B. (1966). Principal component analysis and its application in large-scale correlation
       studies. Journal of Geology 74, 721-733.

    Examples
    --------
    >>> import torch
    >>> McCammon().value(torch.ones(3, 2)).exp()                        # 2 log 3 / log 2
    tensor(3.1699)
    """

    oblique: ClassVar[bool] = False

    def value(self, loadings: Float[Tensor, "*batch features latents"]) -> Float[Tensor, "*batch"]:
        """Return Q of each loading matrix."""
        within, between, *_ = self._entropies(loadings)
        return within.sum(-1).squeeze(-1).log() - between.squeeze(-1).squeeze(-1).log()

    def gradient(
        self, loadings: Float[Tensor, "*batch features latents"]
    ) -> Float[Tensor, "*batch features latents"]:
        """Return the gradient of Q."""
        within, between, shares, columns, sums, total = self._entropies(loadings)
        inside = (-safe_log(shares) - within) / sums / within.sum(-1, keepdim=True)
        outside = (-safe_log(columns) - between) / total / between
        return 2 * loadings * (inside - outside)

    def check(self, features: int, latents: int) -> None:
        """Refuse a single factor."""
        check_at_least(self, latents, 2, "one factor has no shares to compare")

    def _entropies(self, loadings: Tensor) -> tuple[Tensor, ...]:
        square = loadings.square()
        sums = square.sum(-2, keepdim=True).clamp_min(torch.finfo(loadings.dtype).tiny)
        total = sums.sum(-1, keepdim=True)
        shares, columns = square / sums, sums / total
        within, between = entropy(shares).sum(-2, keepdim=True), entropy(columns).sum(-1, keepdim=True)
        return within, between, shares, columns, sums, total


def safe_log(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return log p, finite at 0, for products that vanish there."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def entropy(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return -p log p, 0 at 0."""
    return -p * safe_log(p)
