r"""Semi-amortized inference: a few steps up the evidence lower bound, row by row, from an encoder's answer.

    P   <- (1 - r) P + r H,       H = -E hess log p(x, z)
    m   <- m + r P^{-1} g,        g =  E grad log p(x, z),      q(z) = N(m, P^{-1})

Natural gradients of length r [1]_: with r = 1 they are Newton's for the mean, and reach the posterior of a linear
Gaussian model at once. For independent codes q keeps diag(P), while the mean still moves by the whole P: the bound's
Hessian in m is -H for any covariance of q. A step that lowers a row's bound is taken back and halved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count, check_data
from probae.encoders import Encoder
from probae.encoders.laws import DiagonalCode, GaussianCode
from probae.inference.base import few_threads
from probae.inference.gaussian_expectation import Expectation, Expected, expectation_of
from probae.models import LatentModel
from probae.models.pyro_context import local_parameters

TOLERANCE = 1e-12  # nats a step, below which a row has arrived
SHORTEST = 2.0**-20  # step below which a row is left as it is


class Gaussians(NamedTuple):
    """Gaussian laws of some rows.

    Attributes
    ----------
    mean : Tensor (N, K)
    root : Tensor (N, K, K)
        Lower triangular L of the covariance L L'.
    diagonal : bool
        Whether the family has independent codes.
    """

    mean: Float[Tensor, "samples latents"]
    root: Float[Tensor, "samples latents latents"]
    diagonal: bool

    def law(self, dtype: torch.dtype) -> GaussianCode | DiagonalCode:
        """Return the distribution over z."""
        if self.diagonal:
            return DiagonalCode(self.mean.to(dtype), self.root.diagonal(dim1=-2, dim2=-1).to(dtype))
        return GaussianCode(self.mean.to(dtype), self.root.to(dtype))

    def at(self, rows: slice | Tensor) -> Gaussians:
        """Return the laws of some of the rows."""
        return Gaussians(self.mean[rows], self.root[rows], self.diagonal)

    @property
    def entropy(self) -> Float[Tensor, "samples"]:
        """Entropy of each law in nats."""
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det + 0.5 * self.mean.shape[-1] * (1 + math.log(2 * math.pi))


def gaussians_of(law: dist.TorchDistribution) -> Gaussians | None:
    """Read the Gaussian that a law is, in float64; None if it is none.

    Examples
    --------
    >>> found = gaussians_of(DiagonalCode(torch.zeros(3, 2), torch.ones(3, 2)))
    >>> found.diagonal, found.root.shape
    (True, torch.Size([3, 2, 2]))
    """
    base = law.base_dist if isinstance(law, torch.distributions.Independent) else None
    if isinstance(base, torch.distributions.Normal) and len(law.event_shape) == 1:
        return Gaussians(base.loc.double(), torch.diag_embed(base.scale.double()), True)
    covariance = getattr(law, "covariance_matrix", None)
    if isinstance(law, torch.distributions.MultivariateNormal):
        root = law.scale_tril.double()
    elif covariance is not None and covariance.ndim == 3:
        root = torch.linalg.cholesky(covariance.double())
    else:
        return None
    mean = law.mean.double()
    return Gaussians(mean, root.expand(*mean.shape, mean.shape[-1]), False)


@dataclass(frozen=True, eq=False)
class RefinedPosterior:
    r"""An encoder's Gaussian q(z | x), improved by some steps for each row (semi-amortized inference).

    No steps leave the encoder's answer; every further step raises each row's evidence lower bound or keeps it, up to
    the best member of the encoder's own family: Gaussians with a full covariance, or with independent codes. (A
    covariance of low rank plus a diagonal is refined as a full one.)

    Parameters
    ----------
    encoder : Encoder
        With a Gaussian law.
    model : LatentModel
        Linear models take exact expectations; any other, 256 fixed quasi-random draws.
    steps : int
        T, most steps for each row; it stops before them when a step gains less than 1e-12 nats.

    References
    ----------
    .. [1] Khan, M. E. & Rue, H. (2023). The Bayesian learning rule. Journal of Machine Learning Research 24.
    .. [2] Kim, Y., Wiseman, S., Miller, A. C., Sontag, D. & Rush, A. M. (2018). Semi-amortized variational
       autoencoders. ICML.

    Examples
    --------
    >>> import probae as pa
    >>> model, encoder = pa.FactorAnalysis(5, 2), pa.MLPEncoder(5, 2).double()
    >>> x = model.sample(4, seed=0)
    >>> refined = pa.RefinedPosterior(encoder, model, steps=3)
    >>> bool(torch.allclose(refined(x).mean, model.posterior(x).mean))
    True
    """

    encoder: Encoder
    model: LatentModel
    steps: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, Encoder):
            raise ParameterError(f"encoder should be an Encoder, got {type(self.encoder).__name__}.")
        if not isinstance(self.model, LatentModel):
            raise ParameterError(f"model should be a probae model, got {type(self.model).__name__}.")
        check_count("steps", self.steps, minimum=0)

    @local_parameters
    @torch.no_grad()
    def __call__(self, x: Any) -> dist.TorchDistribution:
        """Return the refined q(z | x) of each row, in the dtype of x."""
        names = getattr(self.encoder, "feature_names", None)
        data = check_data(x, features=self.encoder.features, names=names)
        law = self.encoder(data.values.to(next(self.encoder.parameters()).dtype))
        start = require_gaussian(law)
        expectation = expectation_of(self.model)
        return climb(expectation, data.values, start, self.steps)[0].law(data.dtype)


def require_gaussian(law: dist.TorchDistribution) -> Gaussians:
    """Return the Gaussian that a law is, or say that refinement needs one."""
    found = gaussians_of(law)
    if found is None:
        raise ParameterError(
            f"Refinement needs a Gaussian encoder, such as MLPEncoder, but the law of this one is {type(law).__name__}."
        )
    return found


def climb(
    expectation: Expectation, x: Tensor, start: Gaussians, steps: int, tol: float = TOLERANCE
) -> tuple[Gaussians, Float[Tensor, "samples"]]:
    """Raise the evidence lower bound of every row from a start; return the laws and their bounds in nats."""
    means, roots, values = [], [], []
    block = expectation.block()
    with few_threads(min(block, len(x)) * start.mean.shape[1] ** 2):
        for low in range(0, len(x), block):
            rows = slice(low, low + block)
            state = _climb_block(expectation, x[rows], start.at(rows), steps, tol)
            means.append(state.q.mean)
            roots.append(state.q.root)
            values.append(state.value)
    return Gaussians(torch.cat(means), torch.cat(roots), start.diagonal), torch.cat(values)


class _State(NamedTuple):
    q: Gaussians
    expected: Expected
    value: Tensor

    def at(self, rows: Tensor) -> _State:
        expected = Expected(*(part[rows] for part in self.expected))
        return _State(self.q.at(rows), expected, self.value[rows])

    def put(self, rows: Tensor, new: _State, chosen: Tensor) -> None:
        """Write the chosen rows of a new state over those that it was made from."""
        for old, part in zip(self.tensors, new.tensors, strict=True):
            old[rows[chosen]] = part[chosen]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.q.mean, self.q.root, *self.expected, self.value


def _evaluate(expectation: Expectation, x: Tensor, q: Gaussians) -> _State:
    expected = expectation(x, q.mean, q.root)
    value = expected.value + q.entropy
    return _State(q, expected, torch.where(value.isfinite(), value, -torch.inf))


def _climb_block(expectation: Expectation, x: Tensor, q: Gaussians, steps: int, tol: float) -> _State:
    best = _evaluate(expectation, x, Gaussians(q.mean.clone(), q.root.clone(), q.diagonal))
    best = best._replace(expected=Expected(*(part.clone() for part in best.expected)))
    live, length = torch.arange(len(x)), torch.ones(len(x), dtype=x.dtype)
    for _ in range(steps):
        now = best.at(live)
        moved, good = _move(now, length)
        tried = _evaluate(expectation, x[live], moved)
        better = good & (tried.value >= now.value)
        best.put(live, tried, better)
        done = (better & (tried.value - now.value < tol)) | (length < SHORTEST)
        length = torch.where(better, (2 * length).clamp_max(1.0), length / 2)[~done]
        live = live[~done]
        if len(live) == 0:
            break
    return best


def _move(now: _State, length: Tensor) -> tuple[Gaussians, Tensor]:
    """Take a natural-gradient step of the given length in each row; also say where its precision is positive."""
    q, weight = now.q, length.view(-1, 1, 1)
    before = torch.cholesky_inverse(q.root)
    precision = before + weight * (now.expected.curvature - before)
    factor, info = torch.linalg.cholesky_ex(precision)
    good = (info == 0) & precision.isfinite().all(-1).all(-1)
    identity = torch.eye(q.mean.shape[1], dtype=q.mean.dtype)
    factor = torch.where(good.view(-1, 1, 1), factor, identity)
    step = torch.cholesky_solve(now.expected.gradient.unsqueeze(-1), factor).squeeze(-1)
    mean = q.mean + length.unsqueeze(1) * step
    if q.diagonal:
        variance = 1 / precision.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(mean.dtype).tiny)
        return Gaussians(mean, torch.diag_embed(variance.sqrt()), True), good
    root, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor))
    good = good & (failed == 0)
    return Gaussians(mean, torch.where(good.view(-1, 1, 1), root, identity), False), good
