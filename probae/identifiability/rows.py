r"""Are the rows independent? The strongest lag of the ranks of each score and of the directions of all, and copies.

Rates of rejection at level .01, by simulation (runs in brackets):

    rows, size    3 scores, Gaussian / Laplace / t3             n=60  .004 / .007 / .005  (2,000)
                                                                n=200 .008 / .009 / .004  (2,000)
    rows, power   autoregressive .8, .47, .32                   n=300 1.00 (100)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import DataError
from probae.identifiability.data_test import ALPHA, DataTest, checked_rows
from probae.identifiability.noise import FEW_VALUES
from probae.identifiability.tyler import spherize

MINIMUM_ROWS = 30
MOST_INFLATION = 1.1  # of products of two scores; that of T1, of three and four, is 1.02 then if they are Gaussian
MOST_REPEATS = 0.05  # copies a row; T1 is 1.05 times too large then, and rejects at .013 for a level of .01


@dataclass(frozen=True)
class RowDependence:
    """Whether a row helps to predict the next ones: the strongest lag of each score and of the directions.

    ``repeats`` is the mean number of copies of a row, 0 where they may be chance (`repeated_rows`).

    ``inflation`` is how much dependence multiplies the variance of a mean of products of two scores: the largest over
    the scores (`variance_inflation`, with standard error ``inflation_error``) and over one following another. A test
    of many rows finds dependence that has no effect.
    """

    tests: tuple[DataTest, ...]
    lags: int
    repeats: float = 0.0
    inflation: float = math.inf
    inflation_error: float = 0.0

    @property
    def p_value(self) -> float:
        """Bonferroni over the scores and the directions."""
        return min(1.0, len(self.tests) * min(test.p_value for test in self.tests))

    @property
    def repeated(self) -> bool:
        """Whether rows are copies of others, often enough to matter."""
        return self.repeats > MOST_REPEATS

    @property
    def dependent(self) -> bool:
        """Whether the tests of axes do not hold for these rows."""
        return self.repeated or (self.p_value < ALPHA and not self.harmless)

    @property
    def harmless(self) -> bool:
        """Whether dependence multiplies variances by less than 1.1, one standard error allowed for."""
        return self.inflation + self.inflation_error < MOST_INFLATION

    @property
    def why(self) -> str:
        """In what way they depend."""
        if self.repeated:
            return f"Repeated rows ({self.repeats:.2g} copies a row)"
        return f"Dependent rows (p = {self.p_value:.2g})"

    def describe(self) -> str:
        """Say the result in a sentence."""
        strongest = min(self.tests, key=lambda test: test.p_value)
        copies = f" Copies of a row: {self.repeats:.2g} on average." if self.repeats else ""
        said = f"Rows independent up to lag {self.lags}: p = {self.p_value:.3g}."
        if self.p_value < ALPHA and self.harmless:
            said += f" Too weak to matter: variances are {self.inflation:.2f} times those of independent rows."
        return f"{said} Strongest: {strongest.describe()}{copies}"


def row_dependence(scores: Float[Tensor, "samples latents"]) -> RowDependence:
    r"""Test that rows are independent, from lag 1 to m = min(10, n // 5).

    For each score the autocorrelations of its ranks, standardised by their exact moments over all orders of the rows,

        mean -(n-l) / (n (n-1)),
        variance (5 n^4 - (5l+9) n^3 + 9 (l-2) n^2 + 2l (5l+8) n + 16 l^2) / (5 (n-1)^2 n^2 (n+1)),

    and the largest of the m (Bonferroni). For the directions u of all scores, which see one score follow another,
    K^2 ||sum_t u_t u_(t-l)'||^2 / (n-l) -> chi2(K^2) for independent rows of any law, and again the largest. Ranks and
    directions are bounded: no tail spoils them.

    Parameters
    ----------
    scores : Tensor (N, K), in the order in which the rows were collected

    Returns
    -------
    RowDependence

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or a constant column.

    Notes
    -----
    The largest lag rather than the sum of squares of all (Ljung & Box 1978): with 60 rows and 3 scores the sum rejected
    independent rows at a rate of .035 for a level of .01, the largest lag at .007; autoregressive rows (.32, n = 300)
    are found at rates .93 and .96. The directions need ten rows a latent, and are left out below that.

    References
    ----------
    Dufour & Roy (1985), J. Econometrics 29:257; Paindaveine (2009), J. Multivariate Analysis 100:1638.

    Examples
    --------
    >>> import torch
    >>> steps = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> row_dependence(steps).p_value > 0.01, row_dependence(steps.cumsum(0)).p_value < 1e-9
    (True, True)
    """
    y = checked_rows(scores, MINIMUM_ROWS)
    samples, latents = y.shape
    lags = min(10, samples // 5)
    ranks = torch.from_numpy(stats.rankdata(y.numpy(), axis=0)) - (samples + 1) / 2
    total = ranks.square().sum(0)
    if bool((total == 0).any()):
        raise DataError(f"scores should vary, got a constant column {int((total == 0).nonzero()[0])}.")
    deviates = torch.stack([_rank_deviate(ranks, total, lag) for lag in range(1, lags + 1)])
    tests = [_strongest_rank(column, index) for index, column in enumerate(deviates.T)]
    inflation = float(variance_inflation(ranks).max())
    if samples >= 10 * latents:
        followed = _followed(spherize(y).directions, lags)
        tests.append(_strongest_direction(followed, latents))
        inflation = max(inflation, 1 + 2 * float((followed - latents**2).sum()) / samples)
    return RowDependence(tuple(tests), lags, inflation=inflation, inflation_error=math.sqrt(2 / samples))


def variance_inflation(y: Float[Tensor, "samples latents"]) -> Float[Tensor, " latents"]:
    r"""Return how much serial dependence multiplies the variance of a mean of products, as of two alike scores.

    For Gaussian scores whose correlations at lag l are r(l) and whose spectrum is S, of mean 1,

        1 + 2 sum_l r(l)^2 = mean_f S(f)^2,   estimated by  mean_f I(f)^2 / (2 (mean_f I(f))^2)

    with the periodogram I at all n / 2 frequencies, because E I^2 = 2 S^2. A drift, blocks of rows and seasons count,
    however long they are. For independent rows the standard error is (2 / n)^(1/2): I is exponential there.

    Parameters
    ----------
    y : Tensor (N, K), three rows or more, in the order in which they were collected; no column constant

    Returns
    -------
    Tensor (K,)
        One number a column, 1 for independent rows; NaN for a constant column.

    References
    ----------
    Bartlett (1946), Supplement J. Royal Statistical Society 8:27, for the sum; Parseval's identity for the rest.

    Examples
    --------
    >>> import torch
    >>> steps = torch.randn(10001, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> [round(float(variance_inflation(y)), 1) for y in (steps, steps[1:] + steps[:-1])]  # 1 and 1 + 2 / 4
    [1.0, 1.5]
    """
    n = len(y)
    periodogram = torch.fft.rfft(y, dim=0).abs().square()[1 : (n - 1) // 2 + 1]
    return periodogram.square().mean(0) / (2 * periodogram.mean(0).square())


def repeated_rows(x: Float[Tensor, "samples features"]) -> float:
    """Return how many other rows are the same as a row, on average; 0 where rounding may have made them so.

    Rows of a continuous law never agree by chance. Where values are rounded they may, but seldom in every column: rows
    count as copies if more pairs of rows agree in all columns than in the finest column alone, and that has more than
    10 values.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> repeated_rows(x), repeated_rows(x.repeat(3, 1)), repeated_rows(x.sign())
    (0.0, 2.0, 0.0)
    """
    finest = min(x.T, key=_pairs)
    if _pairs(finest) == 0 or len(finest.unique()) <= FEW_VALUES:
        return 0.0
    whole = _pairs(x)
    return whole / len(x) if 2 * whole > _pairs(finest) else 0.0


def _pairs(values: Tensor) -> float:
    """Return the number of ordered pairs of equal entries."""
    counts = torch.unique(values, dim=0, return_counts=True)[1].double()
    return float((counts * (counts - 1)).sum())


def _rank_deviate(ranks: Tensor, total: Tensor, lag: int) -> Tensor:
    n = len(ranks)
    found = (ranks[lag:] * ranks[:-lag]).sum(0) / total
    mean = -(n - lag) / (n * (n - 1))
    variance = (
        5 * n**4 - (5 * lag + 9) * n**3 + 9 * (lag - 2) * n**2 + 2 * lag * (5 * lag + 8) * n + 16 * lag**2
    ) / (5 * (n - 1) ** 2 * n**2 * (n + 1))
    return (found - mean) / math.sqrt(variance)


def _strongest_rank(deviates: Tensor, index: int) -> DataTest:
    lag = int(deviates.abs().argmax())
    p = min(1.0, len(deviates) * float(2 * stats.norm.sf(abs(float(deviates[lag])))))
    return DataTest(
        f"Ranks of z[{index}] at lag {lag + 1} (normal deviate)", float(deviates[lag]), None, p, "asymptotic"
    )


def _followed(u: Tensor, lags: int) -> Float[Tensor, " lags"]:
    """Return K^2 ||sum_t u_t u_(t-l)'||^2 / (n-l) for each lag l."""
    n, k = u.shape
    return torch.stack([k * k * (u[lag:].T @ u[:-lag]).square().sum() / (n - lag) for lag in range(1, lags + 1)])


def _strongest_direction(followed: Tensor, latents: int) -> DataTest:
    lag, freedom = int(followed.argmax()), latents * latents
    p = min(1.0, len(followed) * float(stats.chi2.sf(float(followed[lag]), freedom)))
    return DataTest(f"Directions at lag {lag + 1}", float(followed[lag]), freedom, p, "asymptotic")
