r"""What noise-free sources ask of their law, for a block of sources at once and in few passes over it.

For s of shape (K, N) and one law: sum_n log p(s_kn), psi(s) = -(log p)'(s), its slope psi'(s), and, where the shape of
the law is learnt, the derivative of log p in the unbounded parameter of the shape.

A law with a kink at 0 (Laplace, the generalised normal of shape below 2) is rounded there,

.. math:: |s| \to r = \sqrt{s^2 + h^2},

so that its likelihood has a gradient and a curvature everywhere. The width h, in units of one standard deviation, is
the caller's; r >= |s| makes the rounded log density a lower bound, off by h times the slope of log p at 0, and by
O(h^2 / |s|) away from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.priors import Gaussian, GeneralizedNormal, Laplace, Logistic, Prior, Scaled, StudentT
from probae.priors.shape import Shape

NO_WIDTH = 1e-100  # rounds nothing, but keeps 0 / 0 away
STEP = 1e-3  # least half-width of the differences that a law without a known slope gets


class Block(NamedTuple):
    """Sources of one law, room for their scores and slopes, and what is asked for."""

    sources: Float[Tensor, "sources samples"]
    score: Float[Tensor, "sources samples"]
    slope: Float[Tensor, "sources samples"]
    width: float
    want_slope: bool

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sources, score and slope as numpy sees them."""
        return self.sources.numpy(), self.score.numpy(), self.slope.numpy()


class SourceLaw(Protocol):
    """A law as the likelihood of sources needs it."""

    @property
    def shape(self) -> Shape | None:
        """The shape that is learnt."""

    def __call__(self, block: Block) -> np.ndarray:
        """Write scores and slopes; return the log density summed over each row, then two sums about the shape."""


def source_law(prior: Prior) -> SourceLaw:
    """Return the law of a prior of one coordinate: compiled where it is known here, else through its own methods.

    Examples
    --------
    >>> s = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    >>> block = Block(s, torch.empty(1, 2, dtype=torch.float64), torch.empty(1, 2, dtype=torch.float64), 1e-3, True)
    >>> value = source_law(Laplace())(block)
    >>> block.score.round(decimals=3)
    tensor([[0.0000, 1.4140]], dtype=torch.float64)
    """
    match prior:
        case Gaussian():
            return GaussianSource()
        case Laplace():
            return LaplaceSource()
        case Logistic():
            return LogisticSource()
        case StudentT():
            return StudentSource(prior)
        case GeneralizedNormal():
            return PowerSource(prior)
        case Scaled():
            return ScaledSource(source_law(prior.law), float(prior.sd))
    return AnySource(prior)


def has_kink(prior: Prior) -> bool:
    """Whether the law has to be rounded: its score jumps at 0, or its slope has no bound there."""
    if isinstance(prior, Scaled):
        return has_kink(prior.law)
    if isinstance(prior, GeneralizedNormal):
        return prior.exponent.learn or float(prior.shape.detach()) < 2
    return isinstance(prior, Laplace)


@dataclass(frozen=True)
class GaussianSource:
    """psi = s, for coordinates of a joint law that are Gaussian."""

    shape: Shape | None = None

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums."""
        block.score.copy_(block.sources)
        block.slope.fill_(1.0)
        constant = block.sources.shape[1] * math.log(2 * math.pi)
        return _with_shape(-0.5 * (block.sources.square().sum(1) + constant))


@dataclass(frozen=True)
class LaplaceSource:
    """See `source_kernels.laplace`."""

    shape: Shape | None = None

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums."""
        return _kernels().laplace(*block.arrays, max(block.width, NO_WIDTH), block.want_slope)


@dataclass(frozen=True)
class LogisticSource:
    """See `source_kernels.logistic`."""

    shape: Shape | None = None

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums."""
        return _kernels().logistic(*block.arrays, block.want_slope)


@dataclass(frozen=True)
class StudentSource:
    """See `source_kernels.student`."""

    prior: StudentT

    @property
    def shape(self) -> Shape | None:
        """Of the prior, where it is learnt."""
        return self.prior.freedom if self.prior.freedom.learn else None

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums, with c = log Gamma((nu + 1)/2) - log Gamma(nu/2) - log(pi m)/2."""
        df = float(self.prior.df.detach())
        half = 0.5 * (df + 1)
        constant = math.lgamma(half) - math.lgamma(df / 2) - 0.5 * math.log(math.pi * (df - 2))
        change = 0.5 * (_digamma(half) - _digamma(df / 2) - 1 / (df - 2))
        law = np.array([df, constant, change])
        return _kernels().student(*block.arrays, law, block.want_slope, self.shape is not None)


@dataclass(frozen=True)
class PowerSource:
    """See `source_kernels.power`."""

    prior: GeneralizedNormal

    @property
    def shape(self) -> Shape | None:
        """Of the prior, where it is learnt."""
        return self.prior.exponent if self.prior.exponent.learn else None

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums, with c = log(beta / 2 alpha) - log Gamma(1/beta)."""
        beta = float(self.prior.shape.detach())
        log_alpha = 0.5 * (math.lgamma(1 / beta) - math.lgamma(3 / beta))
        constant = math.log(beta / 2) - log_alpha - math.lgamma(1 / beta)
        alpha_change = 0.5 * (3 * _digamma(3 / beta) - _digamma(1 / beta)) / beta**2
        change = 1 / beta - alpha_change + _digamma(1 / beta) / beta**2
        law = np.array([beta, log_alpha, constant, alpha_change, change])
        width = max(block.width, NO_WIDTH) if beta < 2 else NO_WIDTH
        return _kernels().power(*block.arrays, law, width, (block.want_slope, self.shape is not None))


@dataclass(frozen=True)
class ScaledSource:
    """The law of sd times a latent: log p_0(z / sd) - log sd."""

    law: SourceLaw
    sd: float

    @property
    def shape(self) -> Shape | None:
        """Of the law."""
        return self.law.shape

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums."""
        sums = self.law(block._replace(sources=block.sources / self.sd))
        block.score.div_(self.sd)
        block.slope.div_(self.sd**2)
        sums[:-2] -= block.sources.shape[1] * math.log(self.sd)
        return sums


@dataclass(frozen=True)
class AnySource:
    """A law known by its `log_prob` and `score` alone; the slope comes from differences of the score."""

    prior: Prior
    shape: Shape | None = None

    def __call__(self, block: Block) -> np.ndarray:
        """Return the sums."""
        s, step = block.sources, max(block.width, STEP)
        with torch.no_grad():
            block.score.copy_(self.prior.score(s))
            if block.want_slope:
                block.slope.copy_((self.prior.score(s + step) - self.prior.score(s - step)) / (2 * step))
            return _with_shape(self.prior.log_prob(s).sum(1))


def _kernels() -> Any:
    from probae.inference import source_kernels  # compiled on first use

    return source_kernels


def _with_shape(value: Tensor) -> np.ndarray:
    return np.append(value.numpy(), (0.0, 0.0))


def _digamma(x: float) -> float:
    return float(torch.special.digamma(torch.tensor(x, dtype=torch.float64)))
