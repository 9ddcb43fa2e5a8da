r"""Do the data support the last factor? The likelihood ratio of k factors against k - 1.

Maximum likelihood loadings of too many factors have full rank, so their rank cannot say. Under k - 1 true factors the
ratio has no chi-square law, but it is at most the ratio of any covariance against k - 1 factors, which has one, on

    ((D - k + 1)^2 - (D + k - 1)) / 2    degrees of freedom        (diagonal noise)

so its tail bounds the p-value (asymptotic; the factors need not be normal, see Amemiya & Anderson, 1990). Where the
bound does not decide, covariances of the fitted k - 1 factors are drawn (Wishart) and both models fitted to each.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import ParameterError, check_count, check_data, check_features
from probae.inference import MaximumLikelihood
from probae.inference.fit import fit
from probae.models import FactorAnalysis, LinearFactorModel, ProbabilisticPCA
from probae.statistics import SufficientStatistics

__all__ = ["RankTest", "rank_test"]

REPLICATES = 199
DECIDED = 1e-3  # a bound below this needs no simulation
STARTS = 4  # of every fit, observed or drawn: a local maximum then costs power, not level


@dataclass(frozen=True)
class RankTest:
    """Likelihood ratio of k factors against one fewer.

    Attributes
    ----------
    factors : int
        k.
    statistic : float
        2 (log L_k - log L_{k-1}), nats.
    p_value : float
        That k - 1 factors suffice: a bound, or by simulation.
    replicates : int
        Simulated covariances, 0 where the bound decides. They end at the first that exceeds the statistic, from which
        on no level below .01 is reached; p is then 1 over their number (Besag & Clifford, 1991).

    Examples
    --------
    >>> print(RankTest(3, 12.3, 0.25, 4).describe())
    3 factors against 2: likelihood ratio 12.30, p = 0.25 (Monte Carlo, 4 covariances).
    """

    factors: int
    statistic: float
    p_value: float
    replicates: int

    def supported(self, alpha: float = 0.01) -> bool:
        """Whether the data refute that one factor fewer suffices."""
        return self.p_value < alpha

    def describe(self) -> str:
        """Say the result in a sentence."""
        drawn = f"{self.replicates} covariance{'s' * (self.replicates > 1)}"
        kind = f"Monte Carlo, {drawn}" if self.replicates else "at most; asymptotic"
        return (
            f"{self.factors} factors against {self.factors - 1}: likelihood ratio {self.statistic:.2f}, "
            f"p = {self.p_value:.2g} ({kind})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "factors": self.factors,
            "statistic": self.statistic,
            "p": self.p_value,
            "replicates": self.replicates,
            "kind": "Monte Carlo" if self.replicates else "asymptotic bound",
        }


def rank_test(model: LinearFactorModel, x: Any, *, seed: int = 0) -> RankTest | None:
    """Test that one factor fewer explains the covariance of x as well.

    Both models are fitted as Gaussian ones, whatever the law of the factors. None where the test does not exist: noise
    of another kind, more factors than the noise leaves room for, or no more complete rows than features.

    Parameters
    ----------
    model : LinearFactorModel
        Says how many factors, and whether the noise is isotropic or diagonal.
    x : array, DataFrame, Tensor (N, D), or SufficientStatistics
    seed : int

    Raises
    ------
    ParameterError
        ``model`` is no linear factor model.
    DataError
        Rows or statistics of another number of features.

    References
    ----------
    .. [1] Amemiya, Y. & Anderson, T. W. (1990). Asymptotic chi-square tests for a large class of factor analysis
       models. Annals of Statistics 18, 1453-1463.
    .. [2] Besag, J. & Clifford, P. (1991). Sequential Monte Carlo p-values. Biometrika 78, 301-304.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = rank_test(pa.FactorAnalysis(9, 3), x)
    >>> found.supported(), found.replicates
    (True, 0)
    """
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"rank_test needs a linear factor model, got {type(model).__name__}.")
    seed = check_count("seed", seed, minimum=0)
    statistics = _complete(model, x)
    features, factors = model.features, model.latents
    spare = _spare(features, factors - 1, model.noise)
    room = (
        model.noise in ("diagonal", "isotropic")
        and factors < features
        and _spare(features, factors, model.noise) >= 0
    )
    if (
        not room
        or statistics is None
        or statistics.count <= features + 1
        or not bool((statistics.variances > 0).all())
    ):
        return None
    statistic = _ratio(statistics, factors, model.noise, seed)
    bound = float(stats.chi2.sf(statistic, spare))
    if bound < DECIDED:
        return RankTest(factors, statistic, bound, 0)
    root = torch.linalg.cholesky(_covariance(statistics, factors - 1, model.noise, seed))
    generator = torch.Generator().manual_seed(seed)
    for replicate in range(1, REPLICATES + 1):
        drawn = _wishart(root, statistics.count, generator)
        other = SufficientStatistics.from_covariance(drawn, count=statistics.count)
        if _ratio(other, factors, model.noise, seed) >= statistic:
            return RankTest(factors, statistic, 1 / replicate, replicate)
    return RankTest(factors, statistic, 1 / (REPLICATES + 1), REPLICATES)


def _spare(features: int, factors: int, noise: str) -> int:
    """Return the degrees of freedom of any covariance against so many factors."""
    free = features * factors - factors * (factors - 1) // 2 + (1 if noise == "isotropic" else features)
    return features * (features + 1) // 2 - free


def _complete(model: LinearFactorModel, x: Any) -> SufficientStatistics | None:
    if isinstance(x, SufficientStatistics):
        check_features(x.features, model.features)
        return x
    rows = check_data(x, features=model.features, missing="allow").values
    rows = rows[~rows.isnan().any(1)]
    return SufficientStatistics.from_data(rows) if len(rows) > 1 else None


def _ratio(statistics: SufficientStatistics, factors: int, noise: str, seed: int) -> float:
    both = [_level(statistics, k, noise, seed) for k in (factors, factors - 1)]
    return max(2 * (both[0] - both[1]), 0.0)


def _level(statistics: SufficientStatistics, factors: int, noise: str, seed: int) -> float:
    """Return the largest log-likelihood of so many Gaussian factors, in nats."""
    count, features = statistics.count, statistics.features
    if factors:
        return float(_fit(statistics, factors, noise, seed).collapsed(statistics))
    variances = statistics.variances
    variances = variances.mean().expand(features) if noise == "isotropic" else variances
    return -0.5 * count * float(features * (math.log(2 * math.pi) + 1) + variances.log().sum())


def _covariance(
    statistics: SufficientStatistics, factors: int, noise: str, seed: int
) -> Float[Tensor, "features features"]:
    """Return the covariance of the fitted factors, or of columns without any."""
    if factors:
        marginal = _fit(statistics, factors, noise, seed).marginal()
        found: Tensor = marginal.covariance_matrix.detach()
        return found
    variances = statistics.variances
    return torch.diag(variances.mean().expand(len(variances)) if noise == "isotropic" else variances)


def _fit(statistics: SufficientStatistics, factors: int, noise: str, seed: int) -> LinearFactorModel:
    kind = ProbabilisticPCA if noise == "isotropic" else FactorAnalysis
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of noise at its floor, in models that are only compared
        run = fit(kind(statistics.features, factors), statistics, MaximumLikelihood(starts=STARTS), seed=seed)
    model: LinearFactorModel = run.model
    return model


def _wishart(root: Tensor, count: int, generator: torch.Generator) -> Float[Tensor, "features features"]:
    """Draw the covariance of n normal rows from the root of theirs (Bartlett, 1933)."""
    features = len(root)
    lower = torch.randn(features, features, generator=generator, dtype=torch.float64).tril(-1)
    half = 0.5 * (count - 1 - torch.arange(features, dtype=torch.float64))
    lower += torch.diag((2 * torch._standard_gamma(half, generator=generator)).sqrt())
    drawn = root @ lower
    return drawn @ drawn.mT / count
