r"""The linear factor model x = mean + W z + noise, with any law of z: over FA, PPCA, ICA and sparse coding."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor

from probae.checks import DataError, NotExactError, ParameterError, check_choice, check_count, check_data
from probae.models.affine import AffineSources, ComplementedSources
from probae.models.base import LatentModel
from probae.models.collapsed import collapsed_log_density
from probae.models.imputation import drawn_entries, expected_entries
from probae.models.marginal import (
    Scores,
    gaussian_log_density,
    gaussian_posterior,
    separable_log_density,
    solve_sources,
)
from probae.models.noise import NOISES, check_noise
from probae.models.pyro_context import local_parameters, point_query
from probae.models.scale_posterior import SharedScalePosterior
from probae.models.shared_scale import WhitenedScores, shared_scale_log_density
from probae.parameter_priors.base import ParameterPrior
from probae.priors import CorrelatedGaussian, Gaussian, MultivariateStudentT, Prior
from probae.statistics import SufficientStatistics

LOG_TWO_PI = math.log(2 * math.pi)


class LinearFactorModel(LatentModel):
    r"""Linear factor model with any law of the factors.

    .. math:: x_n = \mu + W z_n + \varepsilon_n, \quad z_n \sim p(z), \quad \varepsilon_n \sim N(0, \Psi)

    Parameters
    ----------
    features : int
        Columns D of x.
    latents : int
        Factors K.
    prior : Prior
        Law of z with unit variance; ``Gaussian()`` by default.
    noise : {"diagonal", "isotropic", "complement", "none"}
        Shape of Psi. ``"none"`` needs ``latents == features``. ``"complement"`` is sigma^2 (I - W W^+), noise outside
        the span of the loadings alone, and needs fewer non-Gaussian latents than features.

    Attributes
    ----------
    loadings : Tensor (D, K)
    mean : Tensor (D,)
    noise_variance : Tensor (D,) or ()
        Absent when ``noise="none"``.

    Raises
    ------
    ParameterError
        On a wrong size, prior or noise name, ``noise="none"`` with ``latents != features``, or ``noise="complement"``
        with ``latents >= features`` or Gaussian latents.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.LinearFactorModel(6, 2, prior=pa.priors.Laplace(), noise="isotropic")
    >>> model.loadings.shape, model.noise_variance.shape
    (torch.Size([6, 2]), torch.Size([]))
    >>> model.sample(3, seed=0).shape
    torch.Size([3, 6])
    """

    parameter_names: tuple[str, ...] = ("loadings", "noise_variance", "mean")

    @local_parameters
    def __init__(
        self, features: int, latents: int, prior: Prior | None = None, noise: str = "diagonal"
    ) -> None:
        super().__init__(features, latents, Gaussian() if prior is None else prior)
        self.noise = check_choice("noise", noise, NOISES)
        self.parameter_names = (
            ("loadings", "noise_variance", "mean") if noise != "none" else ("loadings", "mean")
        )
        start = torch.Generator().manual_seed(0)
        loadings = torch.randn(features, latents, generator=start, dtype=torch.float64) / latents**0.5
        self.loadings = PyroParam(loadings)
        self.mean = PyroParam(torch.zeros(features, dtype=torch.float64))
        check_noise(noise, features, latents, self.gaussian)
        if noise == "none":
            return
        shape = (features,) if noise == "diagonal" else ()
        self.noise_variance = PyroParam(torch.ones(shape, dtype=torch.float64), constraints.positive)

    @classmethod
    def for_data(cls, x: Any, latents: int) -> Self:
        """Build the model with as many features as ``x`` has columns.

        Parameters
        ----------
        x : array, DataFrame or Tensor (N, D)
        latents : int

        Examples
        --------
        >>> import probae as pa
        >>> pa.FactorAnalysis.for_data([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0]], latents=1).features
        3
        """
        return cls(check_data(x, missing="allow", sparse="allow").values.shape[1], latents)

    @property
    def gaussian(self) -> bool:
        """Whether z is normal, so that every query has a closed form."""
        return isinstance(self.prior, Gaussian | CorrelatedGaussian)

    @property
    def invertible(self) -> bool:
        """Whether z is a function of x: there is no noise, or none in the span of the loadings."""
        return self.noise in ("none", "complement")

    @property
    def factor_correlation(self) -> Float[Tensor, "latents latents"]:
        """Correlations Phi of the factors: the identity, but for a `CorrelatedGaussian` prior."""
        if isinstance(self.prior, CorrelatedGaussian):
            return self.prior.correlation.detach().double()
        return torch.eye(self.latents, dtype=torch.float64)

    @property
    def communalities(self) -> Float[Tensor, "features"]:
        """Variance of each feature that the factors explain, diag(W Phi W'), in squared units of x."""
        return self._standard_parameters()[0].square().sum(1)

    @local_parameters
    def likelihood(self, z: Float[Tensor, "*batch latents"]) -> dist.TorchDistribution:
        r"""Return p(x | z) = N(mean + W z, Psi) with event shape (D,).

        Raises
        ------
        ParameterError
            Without noise, or with noise in the complement alone: x then has no density given z.
        """
        self._require_noise()
        location = self.mean + z @ self.loadings.to(z.dtype).mT
        scale = self.noise_variance.sqrt()
        return dist.Normal(location, scale.expand(self.features), validate_args=False).to_event(1)

    @point_query
    def log_joint(
        self, x: Float[Tensor, "samples features"], z: Float[Tensor, "*draws samples latents"]
    ) -> Float[Tensor, "*draws samples"]:
        r"""Return log p(x, z) per row in nats, NaN entries of x left out.

        .. math:: \log p(z) - \tfrac12 \sum_d \big[(x - \mu - W z)_d^2 / \psi_d + \log 2 \pi \psi_d\big]
        """
        self._require_noise()
        residual = x - self.mean - z @ self.loadings.to(z.dtype).mT
        noise = self.noise_variance.expand(self.features)
        energy = residual.square() / noise
        normalizer = noise.log() + LOG_TWO_PI
        missing = x.isnan()
        if missing.any():
            energy, normalizer = energy.masked_fill(missing, 0.0), normalizer.masked_fill(missing, 0.0)
        return self.prior.joint_log_prob(z) - 0.5 * (energy.sum(-1) + normalizer.sum(-1))

    def program(self, x: Tensor | None, context: Tensor | None) -> Tensor:
        """Sample z and x; where z is a function of x, x comes from the image of the prior and z is deterministic."""
        if not self.invertible:
            return super().program(x, context)
        if x is not None and x.isnan().any():
            raise DataError(
                f'x has missing values, which a program with noise="{self.noise}" cannot leave out: fill them in.'
            )
        if context is not None:
            raise ParameterError(f'context needs a model with noise; this one has noise="{self.noise}".')
        loadings = self.loadings.to(self.mean.dtype)
        x = pyro.sample("x", self._image_of_sources(loadings, self.mean), obs=x)
        pyro.deterministic("z", solve_sources(x, loadings, self.mean), event_dim=1)
        return x

    @point_query
    def marginal(self) -> dist.TorchDistribution:
        r"""Return p(x): N(mean, W Phi W' + Psi), or where z is a function of x the image of the prior.

        Raises
        ------
        NotExactError
            For a non-Gaussian prior with noise.
        """
        loadings, mean = self.loadings.double(), self.mean.double()
        if self.invertible:
            return self._image_of_sources(loadings, mean)
        self._require_gaussian("marginal", "log_likelihood of a Fit, or sample")
        if isinstance(self.prior, CorrelatedGaussian):
            loadings = loadings @ self.prior.factor.to(loadings)
        noise = self.noise_variance.double().expand(self.features)
        return dist.LowRankMultivariateNormal(mean, loadings, noise, validate_args=False)

    @point_query
    def posterior(self, x: Any) -> dist.TorchDistribution:
        r"""Return p(z | x) = N(M^{-1} W' Psi^{-1} (x - mean), M^{-1}) with M = Phi^{-1} + W' Psi^{-1} W.

        NaN entries are integrated out: a row with none observed has the prior as posterior. Without noise in the span
        of W it is the point z = W^+ (x - mean). For `MultivariateStudentT` factors it is a mixture of such laws over
        the scale that the factors share.

        Parameters
        ----------
        x : array, DataFrame or Tensor (N, D)

        Returns
        -------
        Distribution
            Batch shape (N,), event shape (K,), in the dtype of x, computed in float64.

        Raises
        ------
        NotExactError
            For independent non-Gaussian factors with noise.
        DataError
            For rows the model cannot take.

        References
        ----------
        .. [1] Bishop, C. M. (2006). Pattern Recognition and Machine Learning, eq. 12.42.
        """
        if self.invertible:
            data = check_data(x, features=self.features, names=self.feature_names)
            loadings, _, mean = self._gaussian_parameters()
            sources = solve_sources(data.values, loadings, mean)
            return dist.Delta(sources.to(data.dtype), event_dim=1)
        if isinstance(self.prior, MultivariateStudentT):
            data = check_data(x, features=self.features, names=self.feature_names)
            scores = WhitenedScores.of(data.values, *self._gaussian_parameters())
            return SharedScalePosterior(self.prior, scores, data.dtype)
        self._require_gaussian("posterior", "posterior of a Fit, which samples it")
        data = check_data(x, features=self.features, names=self.feature_names, missing="allow")
        location, scale_tril = gaussian_posterior(data.values, *self._standard_parameters())
        if isinstance(self.prior, CorrelatedGaussian):  # z = L z_0, and a product of lower triangles is one
            factor = self.prior.factor.detach().double()
            location, scale_tril = location @ factor.mT, factor @ scale_tril
        return dist.MultivariateNormal(
            location.to(data.dtype), scale_tril=scale_tril.to(data.dtype), validate_args=False
        )

    @point_query
    def log_likelihood(self, x: Any) -> Float[Tensor, "samples"]:
        r"""Return log p(x_n) per row in nats, z integrated out; NaN entries are integrated out too.

        Exact for a Gaussian prior, where z is a function of x, and whenever W' Psi^{-1} W is diagonal: the density is
        then a product of one-dimensional convolutions of the prior with the score noise. For `MultivariateStudentT`
        factors it is one integral over the scale that they share, with a relative error below 1e-12.

        Raises
        ------
        NotExactError
            For independent non-Gaussian factors with noise and correlated score noise.
        """
        exact = self.gaussian and self.noise != "none"
        data = check_data(
            x, features=self.features, names=self.feature_names, missing="allow" if exact else "refuse"
        )
        if self.invertible:
            value = self.marginal().log_prob(data.values).detach()
        elif self.gaussian:
            value = gaussian_log_density(data.values, *self._standard_parameters())
        elif isinstance(self.prior, MultivariateStudentT):
            df = float(self.prior.df.detach())
            value = shared_scale_log_density(data.values, *self._gaussian_parameters(), df)
        else:
            value = self._separable_log_likelihood(data.values)
        return value.to(data.dtype)

    @point_query
    def impute(
        self, x: Any, draws: int | None = None, seed: int = 0
    ) -> Float[Tensor, "*draws samples features"]:
        r"""Fill in the NaN entries of x: their means given the observed entries of the row, or draws of them.

        The means are the best guess entry by entry, and vary too little: an analysis of the filled table would take
        them for measurements. Draws come from p(missing | observed) jointly for the entries of a row, noise
        included; analyse each and pool the answers (multiple imputation). The parameters are taken as known.

        Parameters
        ----------
        x : array, DataFrame or Tensor (N, D)
            Missing entries are taken to be missing at random.
        draws : int, optional
            How many filled tables to draw; without it the means are returned.
        seed : int
            Seed of the draws; the caller's random state is not touched.

        Returns
        -------
        Tensor (N, D), or (draws, N, D)
            In the dtype of x, observed entries as they were.

        Raises
        ------
        NotExactError
            For a non-Gaussian prior.
        ParameterError
            For a model without noise.

        Examples
        --------
        >>> import probae as pa, torch
        >>> model = pa.FactorAnalysis(2, 1)
        >>> model.loadings, model.noise_variance = torch.tensor([[1.0], [2.0]]), torch.ones(2)
        >>> model.impute([[3.0, float("nan")]]).round(decimals=9)          # 2 E[z | x_1 = 3] = 2 * 3 / 2
        tensor([[3., 3.]], dtype=torch.float64)
        >>> model.impute([[3.0, float("nan")]], draws=4).shape
        torch.Size([4, 1, 2])
        """
        self._require_noise()
        self._require_gaussian("impute", "impute of a Gaussian model such as FactorAnalysis")
        data = check_data(x, features=self.features, names=self.feature_names, missing="allow")
        seed = check_count("seed", seed, minimum=0)
        parameters = self._standard_parameters()
        if draws is None:
            return expected_entries(data.values, *parameters).to(data.dtype)
        generator = torch.Generator().manual_seed(seed)
        return drawn_entries(data.values, *parameters, check_count("draws", draws), generator).to(data.dtype)

    @point_query
    def collapsed(self, statistics: SufficientStatistics) -> Float[Tensor, ""]:
        r"""Return the log-likelihood of all rows from their mean and scatter alone, in nats.

        .. math:: -\tfrac n2 \big[D \log 2\pi + \log|\Sigma| + \operatorname{tr} \Sigma^{-1} (S + dd')\big],
                  \quad d = \bar x - \mu

        Raises
        ------
        NotExactError
            For a non-Gaussian prior.
        """
        self._require_gaussian("collapsed", "log_likelihood of the rows")
        loadings, noise, mean = self._standard_parameters()
        return collapsed_log_density(statistics, loadings, None if self.noise == "none" else noise, mean)

    @point_query
    def sufficient_scores(self, x: Float[Tensor, "samples features"]) -> Scores:
        r"""Return y = G^{-1} W' Psi^{-1} (x - mean), G = W' Psi^{-1} W: all that x says of z, y = z + N(0, G^{-1}).

        Raises
        ------
        ParameterError
            If the loadings do not have full column rank (more latents than features, for one).
        """
        self._require_noise()
        return Scores.of(x, *self._gaussian_parameters())

    def with_priors(
        self,
        loadings: ParameterPrior | dist.TorchDistribution | None = None,
        noise_variance: ParameterPrior | dist.TorchDistribution | None = None,
        mean: ParameterPrior | dist.TorchDistribution | None = None,
    ) -> Self:
        """Return a copy in which the named parameters are random.

        Parameters
        ----------
        loadings, noise_variance, mean : ParameterPrior or Pyro distribution, optional
            Laws of :mod:`probae.parameter_priors`, which Gibbs and NUTS know, or any distribution of Pyro.

        Examples
        --------
        >>> import probae as pa, pyro.distributions as dist
        >>> model = pa.FactorAnalysis(4, 1).with_priors(loadings=dist.Normal(0.0, 1.0))
        >>> model.random_parameters
        ['loadings']
        """
        return self._randomized({"loadings": loadings, "noise_variance": noise_variance, "mean": mean})

    @property
    def units(self) -> Literal["each", "common"]:
        """Whether each column of x may have a unit of its own: one noise variance asks for one common to all."""
        return "common" if self.noise in ("isotropic", "complement") else "each"

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put a model of x / units into the units of x."""
        self.loadings = self.loadings.double() * units.unsqueeze(1)
        self.mean = self.mean.double() * units
        if self.noise != "none":
            scale = units if self.noise == "diagonal" else units[0]
            self.noise_variance = self.noise_variance.double() * scale.square()

    def _gaussian_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        noise = self.noise_variance if self.noise != "none" else torch.zeros((), dtype=torch.float64)
        return (
            self.loadings.detach().double(),
            noise.detach().double().expand(self.features),
            self.mean.detach().double(),
        )

    def _standard_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return parameters with the loadings W L of uncorrelated factors z_0, where z = L z_0 and Phi = L L'."""
        loadings, noise, mean = self._gaussian_parameters()
        if isinstance(self.prior, CorrelatedGaussian):
            loadings = loadings @ self.prior.factor.detach().double()
        return loadings, noise, mean

    def _require_gaussian(self, what: str, instead: str) -> None:
        if not self.gaussian:
            raise self._not_exact(what, instead)

    def _require_noise(self) -> None:
        if self.invertible:
            raise ParameterError(
                f'This needs noise, and the model has noise="{self.noise}": x determines z, which is posterior(x).mean.'
            )

    def _image_of_sources(self, loadings: Tensor, mean: Tensor) -> AffineSources | ComplementedSources:
        sources = self.prior.distribution(self.latents, like=mean)
        if self.noise == "none":
            return AffineSources(sources, loadings, mean)
        return ComplementedSources(sources, loadings, mean, self.noise_variance.to(mean))

    def _separable_log_likelihood(self, x: Tensor) -> Float[Tensor, "samples"]:
        """Return log p(x) where the score noise is uncorrelated; columns of zeros reach no feature and drop out."""
        loadings, noise, mean = self._gaussian_parameters()
        used = loadings.abs().amax(0) > 0
        laws = self.prior.coordinates(self.latents)
        if not used.any():
            return gaussian_log_density(x, loadings, noise, mean)
        if laws is None or int(used.sum()) > self.features:
            raise self._not_exact("log_likelihood", "log_likelihood of a Fit, which estimates it")
        scores = Scores.of(x, loadings[:, used], noise, mean)
        if not scores.uncorrelated:
            raise self._not_exact("log_likelihood", "log_likelihood of a Fit, which estimates it")
        return separable_log_density(scores, [law for law, kept in zip(laws, used, strict=True) if kept])

    def _not_exact(self, what: str, instead: str) -> NotExactError:
        return NotExactError(
            f"{what} has no closed form for {self.prior!r} factors with noise: use the {instead}."
        )
