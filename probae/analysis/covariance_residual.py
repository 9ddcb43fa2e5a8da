r"""What the factors leave of the covariance: the posterior of S - W W' - Psi, in units of correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.draws_source import read_source
from probae.checks import DataError, ParameterError
from probae.inference import Fit
from probae.inference.intervals import quantile_interval
from probae.models import LinearFactorModel
from probae.statistics import SufficientStatistics

__all__ = ["CovarianceResidual", "covariance_residual"]


@dataclass(frozen=True, eq=False)
class CovarianceResidual:
    r"""Posterior of the standardised residual :math:`(S - W W' - \Psi)_{ij} / \sqrt{S_{ii} S_{jj}}` of each pair.

    Attributes
    ----------
    draws : Tensor (chain, draw, pairs)
    pairs : Tensor (pairs, 2)
        Columns i < j.
    names : tuple of str
        Of the features.
    samples : int
        Rows that S is of.

    Examples
    --------
    >>> residual = CovarianceResidual(torch.zeros(1, 4, 1).double(), torch.tensor([[0, 1]]), ("a", "b"), 100)
    >>> residual.labels, residual.sampling_error
    (('a, b',), 0.1)
    """

    draws: Float[Tensor, "chains draws pairs"]
    pairs: Tensor
    names: tuple[str, ...]
    samples: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The two features of each pair."""
        return tuple(f"{self.names[i]}, {self.names[j]}" for i, j in self.pairs.tolist())

    @property
    def mean(self) -> Float[Tensor, " pairs"]:
        """Posterior mean of each residual."""
        return self.draws.mean((0, 1))

    @property
    def sampling_error(self) -> float:
        """1 / sqrt(n), about the standard error of a correlation near 0: how large residuals of a true model are."""
        return self.samples**-0.5

    @property
    def root_mean_square(self) -> Float[Tensor, "chains draws"]:
        """Posterior of the root mean square over the pairs (SRMR without the diagonal)."""
        return self.draws.square().mean(-1).sqrt()

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of equal-tailed intervals of each residual."""
        return quantile_interval(self.draws, level)

    def __str__(self) -> str:
        size = self.root_mean_square.flatten()
        order = self.mean.abs().argsort(descending=True)[:10].tolist()
        lower, upper = self.interval()
        width = max(len(self.labels[i]) for i in order)
        lines = [
            f"Residual correlations, {len(self.pairs)} pairs of {self.samples} rows: root mean square "
            f"{float(size.mean()):.3f} (sd {float(size.std(correction=0)):.3f}); "
            f"sampling error {self.sampling_error:.3f}"
        ]
        for i in order:
            ends = f"90 % {float(lower[i]):+.3f} to {float(upper[i]):+.3f}"
            lines.append(f"  {self.labels[i]:<{width}}  {float(self.mean[i]):+.3f}  {ends}")
        return "\n".join(lines)


def covariance_residual(run: Fit, x: Any) -> CovarianceResidual:
    r"""Return the posterior of the covariance that the factors leave unexplained.

    .. math:: r_{ij} = \frac{(S - W W' - \Psi)_{ij}}{\sqrt{S_{ii} S_{jj}}}, \quad i < j

    S is the covariance of x about its mean. Pairs whose residual is far from 0 share what the factors do not carry:
    one factor too few, or a doublet. No rotation has a part in it.

    Parameters
    ----------
    run : Fit
        Of a sampler, with uncorrelated factors of variance 1.
    x : array, DataFrame, Tensor (N, D) or SufficientStatistics
        The rows of the fit, complete.

    Raises
    ------
    ParameterError, DataError
        For a fit without draws, or x of another width, with missing or constant columns.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(500, 6, 2, noise=0.4, seed=0).x
    >>> residual = pa.covariance_residual(pa.fit(pa.FactorAnalysis(6, 2), x, pa.Gibbs()), x)
    >>> residual.draws.shape, bool((residual.mean.abs() < 2 * residual.sampling_error).all())
    (torch.Size([4, 2000, 15]), True)
    """
    if not isinstance(run, Fit):
        raise ParameterError(f"covariance_residual needs the fit of a sampler, got {type(run).__name__}.")
    draws = read_source(run, "covariance_residual").draws["loadings"]
    model: LinearFactorModel = run.model
    if not _unit_covariance(model):
        raise ParameterError(
            f"covariance_residual needs uncorrelated factors of variance 1, got {model.prior!r}."
        )
    statistics = x if isinstance(x, SufficientStatistics) else SufficientStatistics.from_data(x)
    if len(statistics.mean) != model.features:
        raise DataError(f"x should have {model.features} features, got {len(statistics.mean)}.")
    covariance = statistics.scatter / statistics.count
    scale = covariance.diagonal().sqrt()
    if not bool((scale > 0).all()):
        raise DataError(
            f"x should have columns that vary, got {int((scale == 0).sum())} constant: leave them out."
        )
    first, second = torch.triu_indices(model.features, model.features, offset=1)
    standard = draws / scale.unsqueeze(-1)
    explained = torch.empty(*draws.shape[:2], len(first), dtype=draws.dtype)
    for block in torch.arange(len(first)).split(max(1, 2**22 // draws[..., 0, :].numel())):
        explained[..., block] = (standard[:, :, first[block]] * standard[:, :, second[block]]).sum(-1)
    correlation = covariance[first, second] / (scale[first] * scale[second])
    names = run.names or tuple(str(d) for d in range(model.features))
    return CovarianceResidual(
        correlation - explained, torch.stack([first, second], 1), names, statistics.count
    )


def _unit_covariance(model: LinearFactorModel) -> bool:
    """Whether the factors are uncorrelated and of variance 1, so that W W' is what they explain."""
    prior, latents = model.prior, model.latents
    if not prior.spherical and prior.coordinates(latents) is None:
        return False
    variance = prior.distribution(latents).variance.double()
    return bool(torch.allclose(variance, torch.ones_like(variance), rtol=1e-6))
