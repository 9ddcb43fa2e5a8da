r"""Expected log joint of a Gaussian q(z) = N(m, L L') for each row, with its derivatives.

    value = E log p(x, z),   gradient = E grad log p(x, z),   curvature = -E hess log p(x, z)

Exact for linear models, where E log p(x | z) is a quadratic form and :mod:`probae.inference.expected_log_prior` does
the prior. Any other model is averaged over z = m + L e for a fixed set of e, the same for every law, so that two laws
compare without noise; the curvature then comes from first derivatives, -E[grad e'] L^{-1} (Stein's identity).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.expected_log_prior import expected_log_prior
from probae.models import LatentModel, LinearFactorModel
from probae.priors import CorrelatedGaussian

DRAWS = 256  # of e for a model without closed form
BLOCK = 2_000_000  # numbers in the largest tensor of a block of rows


class Expected(NamedTuple):
    """Expected log joint of some rows, and its derivatives.

    Attributes
    ----------
    value : Tensor (N,)
    gradient : Tensor (N, K)
    curvature : Tensor (N, K, K)
    """

    value: Float[Tensor, "samples"]
    gradient: Float[Tensor, "samples latents"]
    curvature: Float[Tensor, "samples latents latents"]


class Expectation(Protocol):
    """What an ascent on the evidence lower bound asks of a model."""

    exact: bool

    def block(self) -> int:
        """Rows worked on at once."""

    def __call__(
        self,
        x: Float[Tensor, "samples features"],
        mean: Float[Tensor, "samples latents"],
        root: Float[Tensor, "samples latents latents"],
    ) -> Expected:
        """Return the expected log joint of each row under N(mean, root root')."""


class LinearExpectation:
    r"""Closed form for a linear model with independent factors, or correlated Gaussian ones.

    .. math:: E \log p(x \mid z) = -\tfrac12 \big[|\Psi^{-1/2} (x - \mu - W m)|^2 + \operatorname{tr} G S
              + \log |2 \pi \Psi| \big], \quad G = W' \Psi^{-1} W
    """

    exact = True

    def __init__(self, model: LinearFactorModel) -> None:
        loadings, noise, self.mean = model._gaussian_parameters()
        self.prior, self.deviation = model.prior, noise.sqrt()
        self.whitened = loadings / self.deviation.unsqueeze(1)
        self.gram = self.whitened.mT @ self.whitened
        self.constant = -0.5 * float(noise.log().sum() + model.features * math.log(2 * math.pi))
        if isinstance(self.prior, CorrelatedGaussian):
            factor = self.prior.factor.detach().double()
            self.precision = torch.cholesky_inverse(factor)
            self.constant -= 0.5 * model.latents * math.log(2 * math.pi) + float(
                factor.diagonal().log().sum()
            )

    def block(self) -> int:
        """Rows worked on at once."""
        return max(1, BLOCK // len(self.gram) ** 2)

    def __call__(self, x: Tensor, mean: Tensor, root: Tensor) -> Expected:
        """Return the expected log joint of each row."""
        residual = (x - self.mean) / self.deviation - mean @ self.whitened.mT
        covariance = root @ root.mT
        distance = residual.square().sum(1) + (self.gram * covariance).sum((-2, -1))
        value, gradient = self.constant - 0.5 * distance, residual @ self.whitened
        if isinstance(self.prior, CorrelatedGaussian):
            slope = mean @ self.precision
            value = value - 0.5 * ((slope * mean).sum(1) + (self.precision * covariance).sum((-2, -1)))
            return Expected(value, gradient - slope, (self.gram + self.precision).expand_as(root))
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        prior = expected_log_prior(self.prior, mean, sd)
        curvature = self.gram + torch.diag_embed(prior.curvature)
        return Expected(value + prior.value.sum(1), gradient - prior.slope, curvature)


class SampledExpectation:
    """Average over a fixed set of e, of mean zero and unit covariance: exact where log p(x, z) is quadratic in z."""

    exact = False

    def __init__(self, model: Any, draws: int, seed: int) -> None:
        self.model = model
        self.noise = balanced_normal(max(draws, 4 * model.latents), model.latents, seed)

    def block(self) -> int:
        """Rows worked on at once."""
        width = max(self.model.latents, self.model.features)
        return max(1, BLOCK // (len(self.noise) * width))

    def __call__(self, x: Tensor, mean: Tensor, root: Tensor) -> Expected:
        """Return the expected log joint of each row."""
        count = len(self.noise)
        z = mean + torch.einsum("nkj,sj->snk", root, self.noise)
        with torch.enable_grad():
            z.requires_grad_(True)
            value = self.model.log_joint(x, z)
            (slope,) = torch.autograd.grad(value.sum(), z)
        cross = torch.einsum("snk,sj->nkj", slope, self.noise) / count
        curvature = -torch.linalg.solve_triangular(root, cross, upper=False, left=False)
        return Expected(value.detach().mean(0), slope.mean(0), 0.5 * (curvature + curvature.mT))


def balanced_normal(draws: int, latents: int, seed: int) -> Float[Tensor, "draws latents"]:
    """Return quasi-random standard normal numbers in pairs e, -e, with covariance exactly the identity.

    Examples
    --------
    >>> e = balanced_normal(64, 3, seed=0)
    >>> bool((e.mean(0).abs() < 1e-12).all()), bool(((e.mT @ e / 64 - torch.eye(3)).abs() < 1e-12).all())
    (True, True)
    """
    engine = torch.quasirandom.SobolEngine(latents, scramble=True, seed=seed)
    uniform = engine.draw((draws + 1) // 2, dtype=torch.float64).clamp(1e-10, 1 - 1e-10)
    half = torch.special.ndtri(uniform)
    factor = torch.linalg.cholesky(half.mT @ half / len(half))
    half = torch.linalg.solve_triangular(factor, half.mT, upper=False).mT
    return torch.cat([half, -half])


def expectation_of(model: LatentModel, draws: int = DRAWS, seed: int = 0) -> Expectation:
    """Return the closed form where the model has one, else an average over draws.

    Examples
    --------
    >>> import probae as pa
    >>> expectation_of(pa.SparseCoding(3, 4)).exact
    True
    """
    if isinstance(model, LinearFactorModel) and not model.invertible:
        independent = model.prior.coordinates(model.latents) is not None
        if independent or isinstance(model.prior, CorrelatedGaussian):
            return LinearExpectation(model)
    return SampledExpectation(model, draws, seed)
