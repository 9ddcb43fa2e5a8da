r"""Do the data support the last factor? The likelihood ratio of k factors against k - 1.

Maximum likelihood loadings of too many factors have full rank, so their rank cannot say. Under k - 1 true factors the
ratio has no chi-square law, but it is at most the ratio of any covariance against k - 1 factors, which has one, on

    ((D - k + 1)^2 - (D + k - 1)) / 2    degrees of freedom        (diagonal noise)

so its tail bounds the p-value (asymptotic; the factors need not be normal, see Amemiya & Anderson, 1990). Where the
bound does not decide, covariances of the fitted k - 1 factors are drawn (Wishart) and both models fitted to each.

Data that do not support a factor may still be too few to exclude it. So where k - 1 factors are not refuted, the
opposite is tested too: a k-th factor whose best scores would correlate by c = 1/2 with it, a column w of the loadings
with

    w' Psi^-1 w = c^2 / (1 - c^2) = 1/3,    orthogonal to the others in that metric,

which meets all features alike, with random signs. Rates: two factors of which the second has .41 for that value
(p = 4, n = 300, isotropic noise, 200 runs): one refuted .50, the second refuted .025. Two factors fitted as three
(p = 10, n = 1,000, 40 runs): two refuted 0, the third refuted 1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
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
HALF = 0.5  # correlation of a factor and its best scores below which it is no loss
HALF_REPLICATES = 99
ENOUGH = 5  # hits that end the draws: from there on neither .01 of 199 is reached nor .05 of 99
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
        Simulated covariances, 0 where the bound decides. They end at the fifth that exceeds the statistic; p is
        then 5 over their number (Besag & Clifford, 1991).
    p_half : float or None
        That there is a k-th factor with which its best scores correlate by 1/2, by simulation; None where k - 1
        factors are refuted.

    Examples
    --------
    >>> print(RankTest(3, 12.3, 0.25, 4, 0.01).describe())
    3 factors against 2: likelihood ratio 12.30, p = 0.25 (Monte Carlo, 4 covariances); a last factor that its \
    scores correlate with by 0.5: p = 0.01.
    """

    factors: int
    statistic: float
    p_value: float
    replicates: int
    p_half: float | None = None

    def supported(self, alpha: float = 0.01) -> bool:
        """Whether the data refute that one factor fewer suffices."""
        return self.p_value < alpha

    def refuted(self, alpha: float = 0.05) -> bool:
        """Whether the data refute a last factor with which its scores correlate by 1/2."""
        return self.p_half is not None and self.p_half <= alpha

    def describe(self) -> str:
        """Say the result in a sentence."""
        drawn = f"{self.replicates} covariance{'s' * (self.replicates > 1)}"
        kind = f"Monte Carlo, {drawn}" if self.replicates else "at most; asymptotic"
        half = ""
        if self.p_half is not None:
            half = f"; a last factor that its scores correlate with by {HALF:g}: p = {self.p_half:.2g}"
        return (
            f"{self.factors} factor{'s' * (self.factors > 1)} against {self.factors - 1}: likelihood ratio "
            f"{self.statistic:.2f}, p = {self.p_value:.2g} ({kind}){half}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "factors": self.factors,
            "statistic": self.statistic,
            "p": self.p_value,
            "replicates": self.replicates,
            "kind": "Monte Carlo" if self.replicates else "asymptotic bound",
            "p_half": self.p_half,
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
    fewer = _parameters(statistics, factors - 1, model.noise, seed)
    generator = torch.Generator().manual_seed(seed)

    def drawn(column: Tensor) -> float:
        loadings = torch.cat([fewer[0], column], 1)
        root = torch.linalg.cholesky(loadings @ loadings.mT + torch.diag(fewer[1]))
        covariance = _wishart(root, statistics.count, generator)
        other = SufficientStatistics.from_covariance(covariance, count=statistics.count)
        return _ratio(other, factors, model.noise, seed)

    none = torch.zeros(features, 1, dtype=torch.float64)
    p_value, replicates = _tail(lambda: drawn(none) >= statistic, REPLICATES)
    found = RankTest(factors, statistic, p_value, replicates)
    if found.supported():
        return found
    half, _ = _tail(lambda: drawn(_half_seen(*fewer, generator)) <= statistic, HALF_REPLICATES)
    return replace(found, p_half=half)


def _tail(hit: Callable[[], bool], replicates: int) -> tuple[float, int]:
    """Return the Monte Carlo p-value of a statistic, and the number of draws: they end where enough exceed it."""
    hits = 0
    for drawn in range(1, replicates + 1):
        hits += hit()
        if hits == ENOUGH:
            return hits / drawn, drawn
    return (hits + 1) / (replicates + 1), replicates


def _half_seen(loadings: Tensor, noise: Tensor, generator: torch.Generator) -> Float[Tensor, "features 1"]:
    """Draw a column whose scores correlate by 1/2 with its factor, and that the other columns take no part of."""
    scale = noise.sqrt()[:, None]
    others = torch.linalg.qr(loadings / scale).Q
    column = 2.0 * torch.randint(0, 2, (len(noise), 1), generator=generator, dtype=torch.float64) - 1
    column = column - others @ (others.mT @ column)
    return scale * column / column.norm() * HALF / math.sqrt(1 - HALF**2)


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


def _parameters(
    statistics: SufficientStatistics, factors: int, noise: str, seed: int
) -> tuple[Float[Tensor, "features factors"], Float[Tensor, " features"]]:
    """Return the loadings and noise variances of the fitted factors, or of columns without any."""
    if factors:
        loadings, variances, _ = _fit(statistics, factors, noise, seed)._gaussian_parameters()
        return loadings, variances
    variances = statistics.variances
    if noise == "isotropic":
        variances = variances.mean().expand(len(variances))
    return variances.new_empty(len(variances), 0), variances


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
