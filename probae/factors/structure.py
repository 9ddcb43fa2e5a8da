r"""The covariance structure S = W Phi W' + Psi of a fitted model, and which of its entries are free.

Every parameter vector here is laid out in one order: the loadings row by row, the correlations of the factors
(pairs t < u), the noise variances. A `Layout` picks the free ones from that order and names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import NotExactError, ParameterError
from probae.inference import Fit, profile
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian

AT_FLOOR = 1.01 * profile.FLOOR  # a uniqueness up to here, relative to the variance, is a Heywood case


@dataclass(frozen=True, eq=False)
class Layout:
    """Which parameters are free: masks of the loadings (D, K), correlations and noise variances (D,).

    Attributes
    ----------
    loadings : Tensor (D, K), bool
    correlated : bool
        Whether the correlations of the factors are free.
    noise : Tensor (D,), bool
        False where a noise variance stands on its floor.
    isotropic : bool
        Whether all noise variances are one parameter.
    factor_names : tuple of str, or None
    """

    loadings: Bool[Tensor, "features latents"]
    correlated: bool
    noise: Bool[Tensor, " features"]
    isotropic: bool
    factor_names: tuple[str, ...] | None = None

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors, or z[0] and so on."""
        return self.factor_names or tuple(f"z[{k}]" for k in range(self.latents))

    @property
    def features(self) -> int:
        """Number of features D."""
        return self.loadings.shape[0]

    @property
    def latents(self) -> int:
        """Number of factors K."""
        return self.loadings.shape[1]

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Row and column (t, u), t < u, of each correlation between factors."""
        t, u = torch.triu_indices(self.latents, self.latents, offset=1)
        return t, u

    @property
    def free(self) -> Tensor:
        """Indices of the free loadings, correlations and (unless isotropic) noise variances in the full order."""
        correlations = torch.full((len(self.pairs[0]),), self.correlated)
        noise = torch.zeros_like(self.noise) if self.isotropic else self.noise
        return torch.cat([self.loadings.flatten(), correlations, noise]).nonzero().flatten()

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return len(self.free) + self.isotropic

    def reduce(self, values: Tensor) -> Tensor:
        """Keep the free entries of the last axis; derivatives by an isotropic variance are summed."""
        kept = values[..., self.free]
        if not self.isotropic:
            return kept
        return torch.cat([kept, values[..., -self.features :].sum(-1, keepdim=True)], -1)

    def reduce_matrix(self, matrix: Tensor) -> Tensor:
        """Keep the free rows and columns of a symmetric matrix."""
        return self.reduce(self.reduce(matrix).mT)

    def spread(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put one number per free parameter in place: loadings (D, K), correlations (K, K), noise (D,) or ().

        Fixed zeros and the unit variances of the factors get 0, a noise variance on its floor NaN.
        """
        count = int(self.loadings.sum())
        loadings = torch.zeros(self.features, self.latents, dtype=values.dtype)
        loadings[self.loadings] = values[:count]
        correlation = torch.zeros(self.latents, self.latents, dtype=values.dtype)
        if self.correlated:
            pairs = len(self.pairs[0])
            correlation[self.pairs] = values[count : count + pairs]
            correlation = correlation + correlation.mT
            count += pairs
        if self.isotropic:
            return loadings, correlation, values[-1]
        noise = torch.full((self.features,), torch.nan, dtype=values.dtype)
        noise[self.noise] = values[count:]
        return loadings, correlation, noise

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Name the free parameters: "x1 on z[0]", "z[0] with z[1]", "noise of x1"."""
        rows, columns = self.loadings.nonzero(as_tuple=True)
        found = [
            f"{names[i]} on {self.factors[k]}" for i, k in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        if self.correlated:
            pairs = zip(*(part.tolist() for part in self.pairs), strict=True)
            found += [f"{self.factors[t]} with {self.factors[u]}" for t, u in pairs]
        if self.isotropic:
            return (*found, "noise")
        return (*found, *(f"noise of {names[i]}" for i in self.noise.nonzero().flatten().tolist()))


@dataclass(frozen=True, eq=False)
class Structure:
    """Parameters of W Phi W' + Psi with their layout.

    Attributes
    ----------
    loadings : Tensor (D, K)
    correlation : Tensor (K, K)
    noise : Tensor (D,)
    mean : Tensor (D,)
    layout : Layout
    """

    loadings: Float[Tensor, "features latents"]
    correlation: Float[Tensor, "latents latents"]
    noise: Float[Tensor, " features"]
    mean: Float[Tensor, " features"]
    layout: Layout

    @property
    def variance(self) -> Float[Tensor, " features"]:
        """Variance of each feature that the model implies."""
        return self.communalities + self.noise

    @property
    def communalities(self) -> Float[Tensor, " features"]:
        """Part of each variance due to the factors, diag(W Phi W')."""
        return ((self.loadings @ self.correlation) * self.loadings).sum(1)

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """W Phi W' + Psi."""
        return self.loadings @ self.correlation @ self.loadings.mT + self.noise.diag()

    @property
    def rotatable(self) -> bool:
        """Whether no loading is fixed, so that any rotation fits as well."""
        return bool(self.layout.loadings.all())

    def orthogonal(self) -> Structure:
        """Return the same covariance on uncorrelated factors."""
        lower = torch.linalg.cholesky(self.correlation)
        return replace(
            self,
            loadings=self.loadings @ lower,
            correlation=torch.eye(len(lower), dtype=torch.float64),
            layout=replace(self.layout, correlated=False),
        )

    def inverse(
        self, observed: Bool[Tensor, " features"] | None = None
    ) -> Float[Tensor, "features features"]:
        """Inverse covariance of the observed features, zero in the rows and columns of the others."""
        lower = torch.linalg.cholesky(self.correlation)
        keep = torch.ones_like(self.layout.noise) if observed is None else observed
        index = keep.nonzero().flatten()
        whitened = self.loadings[index] @ lower
        factored = LowRankCovariance.factor(whitened, self.noise[index])
        inner = (
            torch.diag(1 / self.noise[index])
            - factored.posterior_map.mT @ (whitened / self.noise[index, None]).mT
        )
        full = torch.zeros(len(keep), len(keep), dtype=torch.float64)
        full[index.unsqueeze(1), index] = (inner + inner.mT) / 2
        return full

    def scaled(self, units: Float[Tensor, " features"]) -> Structure:
        """Return the structure of x / units."""
        return replace(
            self,
            loadings=self.loadings / units.unsqueeze(1),
            noise=self.noise / units.square(),
            mean=self.mean / units,
        )


def structure_of(run: Fit, what: str) -> Structure:
    """Read the structure off a Gaussian fit; ``what`` needs it.

    Raises
    ------
    ParameterError
        `run` is no fit of a linear factor model with noise.
    NotExactError
        Its factors are not Gaussian.
    """
    if not isinstance(run, Fit):
        raise ParameterError(
            f"{what} needs the result of pa.fit, got {type(run).__name__}: fit the model first."
        )
    model = run.model
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"{what} needs a linear factor model, got {type(model).__name__}.")
    if not model.gaussian:
        raise NotExactError(
            f"{what} needs Gaussian factors, got {model.prior!r}: their covariance says it all."
        )
    if model.noise == "none":
        raise ParameterError(f'{what} needs a model with noise, got noise="none".')
    loadings, noise, mean = model._gaussian_parameters()
    free = free_loadings(model)
    correlated = isinstance(model.prior, CorrelatedGaussian)
    communality = ((loadings @ model.factor_correlation) * loadings).sum(1)
    isotropic = model.noise == "isotropic"
    above = (
        torch.ones(len(noise), dtype=torch.bool) if isotropic else noise > AT_FLOOR * (communality + noise)
    )
    return Structure(
        loadings,
        model.factor_correlation,
        noise,
        mean,
        Layout(free, correlated, above, isotropic, getattr(model, "factor_names", None)),
    )


def free_loadings(model: Any) -> Bool[Tensor, "features latents"]:
    """Mask of the loadings that a fit estimates: all but the zeros of a confirmatory model."""
    pattern = getattr(model, "pattern", None)
    if pattern is None:
        return torch.ones(model.features, model.latents, dtype=torch.bool)
    return torch.as_tensor(pattern).bool()


def feature_names(names: Sequence[str] | None, features: int) -> tuple[str, ...]:
    """Names of the features, or "column 0" and so on."""
    return tuple(names) if names else tuple(f"column {i}" for i in range(features))
