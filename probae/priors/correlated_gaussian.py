"""The Gaussian law of correlated factors."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor, nn

from probae.checks import ParameterError
from probae.priors.base import Prior
from probae.priors.gaussian import Gaussian
from probae.priors.normal import log_normal

__all__ = ["CorrelatedGaussian"]

ASYMMETRY = 1e-6  # of a correlation matrix that was stored with few digits or in float32
SMALLEST_EIGENVALUE = 1e-12  # below, some factor is a function of the others


class CorrelatedGaussian(Prior):
    r"""A normal law of K factors with unit variances and correlations Phi.

    .. math:: \log p(z) = -\tfrac12 z' \Phi^{-1} z - \tfrac12 \log |\Phi| - \tfrac K2 \log 2\pi, \qquad
              \psi(z) = \Phi^{-1} z

    With L L' = Phi it is the law of L z_0 for standard normal z_0, so loadings W have the likelihood of the loadings
    W L on uncorrelated factors: the group that leaves a model unchanged is L O(K) L^{-1}, and without zeros in W
    neither the loadings nor Phi are identified.

    Parameters
    ----------
    correlation : matrix (K, K)
        Symmetric and positive definite, ones on the diagonal.
    learn : bool
        Whether the correlations may be learnt: row i of L is then proportional to (r_i1, ..., r_i,i-1, 1, 0, ...)
        with free r, which reaches every positive definite correlation matrix.

    Raises
    ------
    ParameterError
        `correlation` is no correlation matrix.

    Examples
    --------
    >>> prior = CorrelatedGaussian([[1.0, 0.6], [0.6, 1.0]])
    >>> prior.distribution(2).covariance_matrix
    tensor([[1.0000, 0.6000],
            [0.6000, 1.0000]], dtype=torch.float64)
    >>> prior.sample(4).shape, prior.coordinates(2)
    (torch.Size([4, 2]), None)
    """

    event_dim = 1
    matrix: Tensor

    def __init__(self, correlation: Any, learn: bool = False) -> None:
        super().__init__()
        matrix = check_correlation(correlation)
        self.learn = learn
        if learn:
            lower = torch.linalg.cholesky(matrix)
            self.ratios = nn.Parameter((lower / lower.diagonal().unsqueeze(1)).tril(-1))
        else:
            self.register_buffer("matrix", matrix)

    @property
    def latents(self) -> int:
        """Number of factors K."""
        return len(self.ratios if self.learn else self.matrix)

    @property
    def factor(self) -> Float[Tensor, "latents latents"]:
        """Lower triangular L with L L' = Phi and rows of length 1, differentiable where it is learnt."""
        if not self.learn:
            return torch.linalg.cholesky(self.matrix)
        rows = self.ratios.tril(-1) + torch.eye(self.latents).to(self.ratios)
        return rows / rows.norm(dim=1, keepdim=True)

    @property
    def correlation(self) -> Float[Tensor, "latents latents"]:
        """Correlations Phi of the factors."""
        if not self.learn:
            return self.matrix
        factor = self.factor
        product = factor @ factor.mT
        return product.tril(-1) + product.tril(-1).mT + torch.eye(self.latents).to(product)

    @property
    def spherical(self) -> bool:  # type: ignore[override]
        """Whether no two factors are correlated."""
        return bool((self.correlation.tril(-1) == 0).all())

    def log_prob(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """Log density of the whole last axis, in nats."""
        self._check_latents(z.shape[-1])
        factor = self.factor
        standard = torch.linalg.solve_triangular(factor, z.to(factor).unsqueeze(-1), upper=False).squeeze(-1)
        value = log_normal(standard, standard.new_ones(())).sum(-1) - factor.diagonal().log().sum()
        return value.to(z.dtype)

    def score(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """The score Phi^{-1} z."""
        self._check_latents(z.shape[-1])
        factor = self.factor
        return torch.cholesky_solve(z.to(factor).unsqueeze(-1), factor).squeeze(-1).to(z.dtype)

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """N(0, Phi) as one event.

        Raises
        ------
        ParameterError
            `latents` is not K.
        """
        self._check_latents(latents)
        zero = self._zero(like)
        return dist.MultivariateNormal(
            zero.expand(latents), scale_tril=self.factor.to(zero), validate_args=False
        )

    def coordinates(self, latents: int) -> list[Prior] | None:
        """None; standard normal laws where no two factors are correlated.

        Raises
        ------
        ParameterError
            `latents` is not K.
        """
        self._check_latents(latents)
        return [Gaussian()] * latents if self.spherical else None

    def sample(self, size: int, latents: int | None = None) -> Float[Tensor, "size latents"]:
        """Draws of shape (size, K): a joint law of fixed K has no draws of one coordinate."""
        return super().sample(size, self.latents if latents is None else latents)

    def prox(
        self, v: Float[Tensor, "*batch latents"], step: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "*batch latents"]:
        """The minimiser Phi (Phi + step I)^{-1} v of 1/2 |z - v|^2 - step log p(z), for one step above 0."""
        if not np.ndim(step) == 0 or not 0 < float(step) < np.inf:
            raise ParameterError(f"step should be one finite number above 0, got {step!r}.")
        self._check_latents(v.shape[-1])
        phi = self.correlation
        shrunk = torch.linalg.solve(phi + float(step) * torch.eye(self.latents).to(phi), phi)
        return (v.to(phi) @ shrunk).to(v.dtype)

    def _check_latents(self, latents: int) -> None:
        if latents != self.latents:
            raise ParameterError(
                f"latents should be {self.latents}, the size of the correlation matrix, got {latents}."
            )

    def extra_repr(self) -> str:
        """Size and largest correlation: a matrix would not fit on a line."""
        learn = ", learn=True" if self.learn else ""
        if self.latents == 1:
            return f"1 factor{learn}"
        below = self.correlation.detach().tril(-1).flatten()
        return f"{self.latents} factors, largest correlation {float(below[below.abs().argmax()]):.3g}{learn}"


def check_correlation(correlation: Any) -> Float[Tensor, "latents latents"]:
    """Return a correlation matrix as float64, exactly symmetric and with ones on the diagonal.

    Raises
    ------
    ParameterError
        It is not square, not finite, not symmetric, has a diagonal other than 1, or is not positive definite.

    Examples
    --------
    >>> check_correlation([[1, 2], [2, 1]])
    Traceback (most recent call last):
    ...
    probae.errors.ParameterError: correlation should be positive definite, got a smallest eigenvalue of -1: a factor
    that is a function of the others needs no column of its own.
    """
    try:
        source = correlation.numpy(force=True) if isinstance(correlation, Tensor) else np.asarray(correlation)
        if source.dtype.kind == "c":
            raise TypeError
        matrix = torch.from_numpy(np.array(source, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        raise ParameterError(
            f"correlation should be a square matrix of numbers, got a {type(correlation).__name__} that is none."
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ParameterError(f"correlation should be a square matrix, got shape {tuple(matrix.shape)}.")
    if not matrix.isfinite().all():
        raise ParameterError("correlation should hold finite numbers, got nan or infinity in it.")
    if (matrix - matrix.mT).abs().max() > ASYMMETRY:
        raise ParameterError(
            "correlation should be symmetric: use (R + R.T) / 2 if both halves are right to rounding."
        )
    worst = float(matrix.diagonal()[(matrix.diagonal() - 1).abs().argmax()])
    if abs(worst - 1) > ASYMMETRY:
        raise ParameterError(
            f"correlation should have ones on its diagonal, got {worst:g}: scale a covariance to unit variances "
            "and put the standard deviations into the loadings."
        )
    below = ((matrix + matrix.mT) / 2).tril(-1)
    matrix = below + below.mT + torch.eye(len(below), dtype=torch.float64)
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    if smallest < SMALLEST_EIGENVALUE:
        raise ParameterError(
            f"correlation should be positive definite, got a smallest eigenvalue of {smallest:g}: a factor that is a "
            "function of the others needs no column of its own."
        )
    return matrix
