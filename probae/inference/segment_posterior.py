r"""The posterior of Gaussian factors whose variances are those of the row's segment.

.. math:: z_n \sim N(0, \operatorname{diag}(v_{u(n)})), \qquad x_n = \mu + W z_n + \varepsilon_n
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data, ParameterError, check_data
from probae.inference.segment_labels import Segments
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.models.marginal import solve_sources
from probae.models.pyro_context import local_parameters


@dataclass(frozen=True, eq=False)
class SegmentPosterior:
    """Posterior of the factors given x and the segment of each row.

    Attributes
    ----------
    model : LinearFactorModel
        Scaled so that the variance of each factor is 1 on average over the rows of the fit.
    variances : Tensor (S, K)
        Variance of each factor in each segment.
    levels : Segments
        The segments, in the order of `variances`.
    """

    model: LinearFactorModel
    variances: Float[Tensor, "segments latents"]
    levels: Segments

    def __post_init__(self) -> None:
        shape = (len(self.levels.labels.unique()), self.model.latents)
        sound = isinstance(self.variances, Tensor) and tuple(self.variances.shape) == shape
        if not sound or not bool((self.variances.isfinite() & (self.variances > 0)).all()):
            raise ParameterError(
                f"variances should be {shape} numbers above 0, one for each segment and factor."
            )

    @local_parameters
    def __call__(self, x: Any, segments: Any = None) -> dist.TorchDistribution:
        """Return p(z | x, u); without noise z is a function of x, and the segments are not needed.

        Raises
        ------
        ParameterError
            If the model has noise and no segments are given.
        """
        if self.model.noise == "none":
            return self.model.posterior(x)
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        place = self._places(data, segments)
        location = torch.empty(len(data.values), self.model.latents, dtype=torch.float64)
        roots = torch.empty(*self.variances.shape, self.model.latents, dtype=torch.float64)
        for level, rows, covariance, centred in self._blocks(data, place):
            scale = self.variances[level].sqrt()
            location[rows] = covariance.posterior_mean(centred) * scale
            roots[level] = scale.unsqueeze(1) * covariance.posterior_scale_tril
        return dist.MultivariateNormal(
            location.to(data.dtype), scale_tril=roots[place].to(data.dtype), validate_args=False
        )

    @local_parameters
    def log_likelihood(self, x: Any, segments: Any = None) -> Float[Tensor, " samples"]:
        """Return log p(x | u) per row in nats.

        Raises
        ------
        ParameterError
            If no segments are given.
        """
        data = check_data(x, features=self.model.features, names=self.model.feature_names)
        place = self._places(data, segments)
        if self.model.noise == "none":
            loadings, _, mean = self.model._gaussian_parameters()
            sources, variance = solve_sources(data.values, loadings, mean), self.variances[place]
            value = dist.Normal(0.0, variance.sqrt(), validate_args=False).log_prob(sources).sum(1)
            return (value - torch.linalg.slogdet(loadings).logabsdet).to(data.dtype)
        value = torch.empty(len(data.values), dtype=torch.float64)
        for _, rows, covariance, centred in self._blocks(data, place):
            value[rows] = covariance.log_density(centred)
        return value.to(data.dtype)

    def context(self, segments: Any) -> Float[Tensor, "samples latents"]:
        """Return the variance of each factor in each row, as the Pyro program of the model takes it."""
        labels = Segments.of(segments)
        return self.variances[self.levels.positions(labels, len(labels))]

    def _places(self, data: Data, segments: Any) -> Tensor:
        if segments is None:
            raise ParameterError(
                "The variances of the factors depend on the segment of the row: pass the labels as well, as in "
                "fit.posterior(x, segments) or fit.posterior.log_likelihood(x, segments)."
            )
        return self.levels.positions(segments, len(data.values))

    def _blocks(self, data: Data, place: Tensor) -> Iterator[tuple[int, Tensor, LowRankCovariance, Tensor]]:
        """Walk over segments: which, its rows, the covariance there, and the centred rows."""
        loadings, noise, mean = self.model._gaussian_parameters()
        for level, variance in enumerate(self.variances):
            rows = (place == level).nonzero().squeeze(1)
            covariance = LowRankCovariance.factor(loadings * variance.sqrt(), noise)
            yield level, rows, covariance, data.values[rows] - mean
