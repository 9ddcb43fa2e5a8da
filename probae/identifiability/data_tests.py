r"""What the data themselves say: rotation information (T1), Gaussian noise (T0), independent rows.

The scores y = (W' Psi^-1 W)^-1 W' Psi^-1 (x - mu) = z + N(0, G^-1), G = W' Psi^-1 W, carry all that x says of z. If z
is spherical, every plane of equally noisy scores is elliptical and T_3, T_4 of `spherical` are chi2(2) there; a plane
that rejects has axes. T_l does not change when the plane is turned within itself.

Rates of rejection at level .01, by simulation (runs in brackets):

    T1 size       one plane, Gaussian / multivariate t5 / t3    n=200  .008 / .007 / .010  (4,000)
                                                                n=500  .010 / .010 / .009  (10,000)
                                                                n=2000 .010 / .006 / .014  (3,000)
                  multivariate t5 with G^-1 = diag(.05, 2)      n=2000 .003 (1,000; not equalised .076)
                                                                n=20,000 .005 (200; not equalised .96)
    T1 power      all 3 planes of 3 Laplace factors (400)       noise .3: n=1000 .74, n=2000 .998
                                                                noise .4, .5: n=2000 .97, .89
                  the same with h = 1 (500)                     noise .3, .5: n=2000 .28, .03
                  after factor analysis, communality .5 (300)   n=2000: 12 features .97, 10 features .91
                  one equalised Laplace plane (300)             n=2000: noise (.2, .6) .98, (.05, 1) .86
    T0 size       after factor analysis, Laplace / t5 / mv t5   n=500, 9 features .018 / .013 / .013 (1,000)
                  Laplace / mv t5                               n=2000, 12 features .012 / .010 (500)
    T0 power      Gaussian factors cut, skewed 5-point items    n=300, 9 or 30 features 1.00 (60)
    rows, size    3 scores, Gaussian / Laplace / t3             n=60  .004 / .007 / .005  (2,000)
                                                                n=200 .008 / .009 / .004  (2,000)
    rows, power   autoregressive .8, .47, .32                   n=300 1.00 (100)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import DataError
from probae.identifiability.spherical import (
    harmonic_statistic,
    moment_norm,
    plane_harmonics,
    spherize,
)
from probae.identifiability.structure import connected, describe_blocks

__all__ = [
    "DataTest",
    "NoiseCheck",
    "PlaneTest",
    "RotationInformation",
    "RowDependence",
    "discrete_columns",
    "noise_check",
    "rotation_information",
    "row_dependence",
]

MINIMUM_ROWS = 30
SPREAD = 0.2  # spread of the noise variances of a plane, in units of the factors' variance, that is equalised
SPREAD_ROWS = 9.0  # and, because the effect grows as n spread^2, the same spread times sqrt(2000)
COPIES, COPIED_ROWS = (
    8,
    200_000,
)  # noise copies that are averaged; fewer when they would exceed this many rows
LARGEST_DEGREE_4 = 12  # latents up to which degree 4 is tested over all of them: its cost is N K^4
MOMENT_FEATURES = 12  # dimensions up to which all third moments of the noise are tested: their cost is N q^3
FEW_VALUES, FEW_VALUES_ROWS = 10, 50
PILE_ROWS, PILE_SHARE = 10, 0.005
POWER_80 = (
    15.65  # noncentrality that T_3 or T_4 finds with probability .8 at level .01 of their Bonferroni pair
)
# Signal per row of a plane of two Laplace factors, by the noise variance of their scores (10^7 rows).
LAPLACE_SIGNAL = {
    0.0: 0.0484,
    0.1: 0.0341,
    0.25: 0.0218,
    0.5: 0.0120,
    1.0: 0.00453,
    2.0: 0.00115,
    4.0: 0.00017,
}


@dataclass(frozen=True)
class DataTest:
    """One test: its statistic, degrees of freedom where it has them, p-value, and how its null law is known."""

    name: str
    statistic: float
    degrees_of_freedom: int | None
    p_value: float
    null: str

    def describe(self) -> str:
        """Say the result in a sentence."""
        freedom = (
            "" if self.degrees_of_freedom is None else f" on {self.degrees_of_freedom} degrees of freedom"
        )
        return f"{self.name}: {self.statistic:.4g}{freedom}, p = {self.p_value:.3g} ({self.null})."


@dataclass(frozen=True)
class PlaneTest:
    """Rotation information in the plane of two scores.

    Attributes
    ----------
    plane : (i, j), the two latents
    statistics : T_3 and T_4, each chi2(2) if the plane is elliptical (asymptotic)
    samples : rows
    equalised : whether the noise of the two scores was equalised; the smaller statistic of both runs is kept
    """

    plane: tuple[int, int]
    statistics: tuple[float, float]
    samples: int
    equalised: bool = False
    degrees_of_freedom: int = 2
    null: str = "asymptotic"

    @property
    def degree_p_values(self) -> tuple[float, float]:
        """p-values of degree 3 (skewness) and degree 4 (tails)."""
        third, fourth = (math.exp(-t / 2) for t in self.statistics)
        return third, fourth

    @property
    def p_value(self) -> float:
        """Bonferroni over the two degrees."""
        return min(1.0, 2 * min(self.degree_p_values))

    @property
    def signal(self) -> float:
        """Effect size: noncentrality per row of the stronger degree, max(0, (T - 2) / n)."""
        return max(0.0, (max(self.statistics) - 2) / self.samples)

    def describe(self) -> str:
        """Say the result in a sentence."""
        third, fourth = self.degree_p_values
        noise = ", noise equalised" if self.equalised else ""
        return (
            f"Plane (z[{self.plane[0]}], z[{self.plane[1]}]): p = {self.p_value:.3g} "
            f"(degree 3 {third:.3g}, degree 4 {fourth:.3g}; {self.null}{noise}), signal {self.signal:.2g} per row."
        )


@dataclass(frozen=True, eq=False)
class RotationInformation:
    """Whether the data know axes: one test for each plane of two latents, and the tests over all latents.

    Attributes
    ----------
    planes : tuple of PlaneTest, in the order (0, 1), (0, 2), ..., (K-2, K-1)
    overall : tuple of DataTest, degree 3 and (up to 12 latents) degree 4 over all latents at once; empty for one
        latent and below ten rows a latent
    latents, samples : counts
    """

    planes: tuple[PlaneTest, ...]
    overall: tuple[DataTest, ...]
    latents: int
    samples: int

    @property
    def smallest(self) -> float:
        """Smallest p-value of a plane."""
        return min((plane.p_value for plane in self.planes), default=1.0)

    @property
    def largest(self) -> float:
        """Largest p-value of a plane: that of the claim that every plane has axes (intersection-union)."""
        return max((plane.p_value for plane in self.planes), default=0.0)

    def every_plane(self, alpha: float = 0.01) -> bool:
        """Whether each plane rejects at level alpha; then so does the claim that some plane is elliptical."""
        return self.largest < alpha

    def some_plane(self, alpha: float = 0.01) -> bool:
        """Whether at least one plane rejects, at familywise level alpha."""
        return bool(self.rejected(alpha))

    def rejected(self, alpha: float = 0.01) -> tuple[tuple[int, int], ...]:
        """Return the planes that reject at familywise level alpha (Holm 1979)."""
        order = sorted(self.planes, key=lambda plane: plane.p_value)
        gates = (alpha / (len(order) - place) for place in range(len(order)))
        passed = itertools.takewhile(lambda pair: pair[0].p_value < pair[1], zip(order, gates, strict=True))
        return tuple(sorted(plane.plane for plane, _ in passed))

    def blocks(self, alpha: float = 0.01) -> tuple[tuple[int, ...], ...]:
        """Group latents joined by planes that do not reject: inside a group the data leave the rotation free."""
        axes = set(self.rejected(alpha))
        return connected(self.latents, {plane.plane for plane in self.planes} - axes)

    def group(self, alpha: float = 0.01) -> str:
        """Name the group that the data leave free, as in ``SP(2) x O(2)``."""
        return describe_blocks(self.blocks(alpha))

    @property
    def power(self) -> str:
        """What could have been found at this number of rows, in a sentence."""
        least = POWER_80 / self.samples
        found = [noise for noise, signal in LAPLACE_SIGNAL.items() if signal >= least]
        laplace = f"two Laplace factors whose scores have noise variance {max(found or [0]):g}"
        clause = f", as of {laplace}" if found else f", more than {laplace} have"
        return (
            f"At {self.samples} rows a plane is found with probability .8 (level .01) if its signal is at least "
            f"{least:.2g} per row{clause}."
        )

    def to_rows(self) -> list[dict[str, object]]:
        """Return the planes as plain numbers, ready for JSON."""
        return [
            {
                "plane": list(plane.plane),
                "p": plane.p_value,
                "p_degree_3": plane.degree_p_values[0],
                "p_degree_4": plane.degree_p_values[1],
                "signal_per_row": plane.signal,
                "equalised": plane.equalised,
            }
            for plane in self.planes
        ]

    def lines(self) -> list[str]:
        """Say the results, weakest planes first, at most six of them."""
        order = sorted(self.planes, key=lambda plane: -plane.p_value)
        shown = [plane.describe() for plane in order[:6]]
        if len(order) > 6:
            shown.append(
                f"... and {len(order) - 6} more planes with smaller p (smallest {self.smallest:.3g})."
            )
        return shown + [test.describe() for test in self.overall]

    def describe(self) -> str:
        """Say the results, one sentence a line."""
        return "\n".join(self.lines()) or "One latent: there is no rotation to test."


@dataclass(frozen=True)
class NoiseCheck:
    """Mardia's skewness and kurtosis of the part of x that the factors do not reach."""

    skewness: DataTest
    kurtosis: DataTest
    dimensions: int

    @property
    def p_value(self) -> float:
        """Bonferroni over skewness and kurtosis."""
        return min(1.0, 2 * min(self.skewness.p_value, self.kurtosis.p_value))

    def describe(self) -> str:
        """Say the result in a sentence."""
        return (
            f"Noise outside the factors ({self.dimensions} dimensions), Gaussian: p = {self.p_value:.3g} "
            f"(skewness {self.skewness.p_value:.3g}, kurtosis {self.kurtosis.p_value:.3g}; {self.skewness.null})."
        )


@dataclass(frozen=True)
class RowDependence:
    """Whether a row helps to predict the next ones: the strongest lag of each score and of the directions."""

    tests: tuple[DataTest, ...]
    lags: int

    @property
    def p_value(self) -> float:
        """Bonferroni over the scores and the directions."""
        return min(1.0, len(self.tests) * min(test.p_value for test in self.tests))

    def describe(self) -> str:
        """Say the result in a sentence."""
        strongest = min(self.tests, key=lambda test: test.p_value)
        return f"Rows independent up to lag {self.lags}: p = {self.p_value:.3g}. Strongest: {strongest.describe()}"


def rotation_information(
    scores: Float[Tensor, "samples latents"],
    noise_covariance: Float[Tensor, "latents latents"] | None = None,
    *,
    seed: int = 0,
) -> RotationInformation:
    r"""Test each plane of scores, and all of them together, for axes (T1).

    In a plane, after its own centring and whitening,

        T_l = 2 |sum_n h(r_n) exp(i l phi_n)|^2 / sum_n h(r_n)^2  ->  chi2(2),   l = 3, 4

    under every elliptical law. Spherical factors with unequally noisy scores are not elliptical: where the eigenvalues
    of the plane's block of G^-1 spread by more than min(.2, 9 / sqrt(n)), the test is repeated on scores made equally
    noisy by added noise N(0, g_max I - block), and the smaller statistic is kept. The added noise is averaged out: f_n
    is the mean of h exp(i l phi) over 8 copies of row n (fewer beyond 25,000 rows), and T_l = s' C^-1 s with
    s = sum f_n, C = sum f_n f_n' in real coordinates.

    Parameters
    ----------
    scores : Tensor (N, K)
        Sufficient scores y = z + noise of factors of unit variance; planes are those of the columns as they come.
    noise_covariance : Tensor (K, K), optional
        G^-1 = (W' Psi^-1 W)^-1. Without it no noise is equalised.
    seed : int
        Seed of the added noise.

    Returns
    -------
    RotationInformation

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or columns that follow from the others.
    FitError
        A plane whose rows have no shape: see `tyler_shape`.

    Notes
    -----
    Assumes Gaussian noise (`noise_check`) and independent rows (`row_dependence`). All K (K - 1) / 2 planes are tested
    one after the other, each in some 15 passes over the rows. The degrees are combined by Bonferroni: for symmetric
    factors, which speak in degree 4 only, that finds more than the sum of both (every plane of Laplace factors at noise
    .5: .90 against .86), for exponential ones a little less (n = 500: .84 against .92).

    Examples
    --------
    >>> import torch
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> found = rotation_information(priors.Laplace().sample(500, 3).double())
    >>> found.every_plane(), found.group()
    (True, 'SP(3)')
    >>> found = rotation_information(priors.MultivariateStudentT(5.0).sample(500, 3).double())
    >>> found.some_plane(), found.group()
    (False, 'O(3)')
    """
    y = _rows(scores, MINIMUM_ROWS)
    samples, latents = y.shape
    block = None if noise_covariance is None else noise_covariance.detach().to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    planes = []
    for i, j in itertools.combinations(range(latents), 2):
        noise = None if block is None else block[[i, j]][:, [i, j]]
        planes.append(_plane((i, j), y[:, [i, j]], noise, generator))
    overall = _overall(y, block, generator) if latents > 1 and samples >= 10 * latents else ()
    return RotationInformation(tuple(planes), overall, latents, samples)


def noise_check(
    x_centred: Float[Tensor, "samples features"],
    loadings: Float[Tensor, "features latents"],
    noise_variance: Float[Tensor, ""] | Float[Tensor, " features"],
) -> NoiseCheck | None:
    r"""Test that the noise is Gaussian, on the part of x that the factors do not reach (T0).

    With Q an orthonormal basis of the complement of Psi^-1/2 W, e = Q' Psi^-1/2 (x - mu) is Gaussian noise whatever the
    law of z. With e standardised by its own covariance and q = D - K,

        b_1 = ||mean e^(x)3||^2,  n c b_1 / 6 -> chi2(q (q+1) (q+2) / 6),  c = (q+1)(n+1)(n+3) / (n ((n+1)(q+1) - 6))
        b_2 = mean ||e||^4,       mean q (q+2)(n-1)/(n+1),
                                  variance 8 q (q+2)(n-3)(n-q-1)(n-q+1) / ((n+1)^2 (n+3)(n+5))

    Beyond 12 dimensions the skewness and kurtosis of each feature's residual (I - P) Psi^-1/2 (x - mu), P the
    projection on Psi^-1/2 W, are turned into normal deviates a (D'Agostino 1970; Anscombe & Glynn 1983), whose
    correlations are rho^3 and rho^4 for residuals of correlation rho, and a' (rho^l)^-1 a -> chi2.

    Parameters
    ----------
    x_centred : Tensor (N, D)
    loadings : Tensor (D, K)
    noise_variance : Tensor () or (D,), all above 0

    Returns
    -------
    NoiseCheck or None
        None when D <= K: the factors then reach every direction and nothing is left to look at.

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, a noise variance that is not above 0, or features that follow
        from the others.

    References
    ----------
    Mardia (1970), Biometrika 57:519; Mardia (1974), Sankhya B 36:115.

    Examples
    --------
    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> z, W = torch.randn(500, 2, generator=g).double(), torch.randn(8, 2, generator=g).double()
    >>> noise = torch.empty(500, 8, dtype=torch.float64).exponential_(generator=g) - 1
    >>> print(noise_check(z @ W.T + noise, W, torch.tensor(1.0, dtype=torch.float64)).describe())
    Noise outside the factors (6 dimensions), Gaussian: p = ...e-190 (skewness ...e-190, kurtosis ...e-116; asymptotic).
    """
    features, latents = loadings.shape
    if features <= latents:
        return None
    dimensions = features - latents
    x = _rows(x_centred, MINIMUM_ROWS)
    scale = noise_variance.detach().to(torch.float64).expand(features).sqrt()
    if not bool((scale > 0).all()):
        raise DataError(
            f"noise_variance should be above 0, got {float(noise_variance.min()):g}: see HeywoodWarning."
        )
    whitened = loadings.detach().to(torch.float64) / scale[:, None]
    x = (x - x.mean(0)) / scale
    if dimensions <= MOMENT_FEATURES:
        basis = torch.linalg.qr(whitened, mode="complete").Q[:, latents:]
        return _mardia(x @ basis)
    basis = torch.linalg.qr(whitened).Q
    return _by_feature(x - (x @ basis) @ basis.T, torch.eye(features).to(basis) - basis @ basis.T, dimensions)


def discrete_columns(x: Float[Tensor, "samples features"]) -> tuple[int, ...]:
    r"""Return the columns whose values cannot be a continuous signal plus Gaussian noise.

    A continuous column has no two equal values. What is returned has, in 50 rows or more, at most 10 different values,
    or at least 10 rows and .5 % of all rows at its smallest or at its largest value, a floor or a ceiling. NaN is
    skipped.

    Notes
    -----
    Gaussian factors and noise on 9 features, share of runs in which T1 (axes chosen by independent component analysis)
    wrongly rejects some plane at level .01, and T0 the noise (60 runs at n = 1,000; 24 to 30 at n = 10,000):

        5 levels on +-2 sd       T1 .57, T0 .00; n = 10,000: 1.00, .40
        40 levels on +-2 sd      T1 .10, T0 .02; n = 10,000: .90, .43
        clamped at +-2.33 sd     T1 .00, T0 .02; n = 10,000: .29, .17
        rounded to 1 sd          T1 .07, T0 .05; n = 10,000: .08, .38     (9 to 11 values)
        rounded to .5 sd         T1 .00, T0 .00; n = 10,000: .00, .00     (16 to 18 values)

    So a floor or a ceiling makes axes where there are none, and T0 does not always see it when it is symmetric;
    rounding does no harm before the step is near a standard deviation, where hardly more than 10 values are left.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> x[:, 1] = x[:, 1].round()
    >>> x[:, 2] = x[:, 2].clamp(max=1.5)
    >>> discrete_columns(x)
    (1, 2)
    """
    return tuple(i for i, column in enumerate(x.detach().T) if _discrete(column[~column.isnan()]))


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
    y = _rows(scores, MINIMUM_ROWS)
    samples, latents = y.shape
    lags = min(10, samples // 5)
    ranks = torch.from_numpy(stats.rankdata(y.numpy(), axis=0)) - (samples + 1) / 2
    total = ranks.square().sum(0)
    if bool((total == 0).any()):
        raise DataError(f"scores should vary, got a constant column {int((total == 0).nonzero()[0])}.")
    deviates = torch.stack([_rank_deviate(ranks, total, lag) for lag in range(1, lags + 1)])
    tests = [_strongest_rank(column, index) for index, column in enumerate(deviates.T)]
    if samples >= 10 * latents:
        tests.append(_directions(spherize(y).directions, lags))
    return RowDependence(tuple(tests), lags)


def _rows(x: Tensor, minimum: int) -> Tensor:
    if x.ndim != 2 or len(x) < minimum:
        raise DataError(f"The test needs a table of at least {minimum} rows, got shape {tuple(x.shape)}.")
    if not bool(torch.isfinite(x).all()):
        raise DataError("The test needs finite values, got NaN or infinity: leave those rows out.")
    return x.detach().to(torch.float64)


def _plane(
    plane: tuple[int, int], pair: Tensor, noise: Tensor | None, generator: torch.Generator
) -> PlaneTest:
    statistics = [_statistic(f) for f in _harmonics(pair)]
    added = None if noise is None else _equaliser(noise, len(pair))
    if added is not None:
        copies = max(1, min(COPIES, COPIED_ROWS // len(pair)))
        noisy = pair + _normal(generator, copies, *pair.shape) @ added
        means = (f.reshape(copies, -1, 2).mean(0) for f in _harmonics(noisy.reshape(-1, 2)))
        statistics = [min(t, _studentised(f)) for t, f in zip(statistics, means, strict=True)]
    return PlaneTest(plane, (statistics[0], statistics[1]), len(pair), equalised=added is not None)


def _harmonics(pair: Tensor) -> tuple[Tensor, Tensor]:
    sphere = spherize(pair)
    return plane_harmonics(sphere, 3), plane_harmonics(sphere, 4)


def _statistic(f: Tensor) -> float:
    return float(2 * f.sum(0).square().sum() / f.square().sum())


def _studentised(f: Tensor) -> float:
    """Allow for what averaging over copies leaves: a covariance that need not be a multiple of I."""
    total = f.sum(0)
    return float(total @ torch.linalg.solve(f.T @ f, total))


def _equaliser(noise: Tensor, samples: int) -> Tensor | None:
    """Return the symmetric root of g_max I - noise, or None when its largest eigenvalue is too small to matter."""
    values, vectors = torch.linalg.eigh(noise)
    lacking = values[-1] - values
    if float(lacking[0]) <= min(SPREAD, SPREAD_ROWS / math.sqrt(samples)):
        return None
    return (vectors * lacking.clamp_min(0).sqrt()) @ vectors.T


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _overall(y: Tensor, noise: Tensor | None, generator: torch.Generator) -> tuple[DataTest, ...]:
    clouds = [y]
    added = None if noise is None else _equaliser(noise, len(y))
    if added is not None:
        clouds.append(y + _normal(generator, *y.shape) @ added)
    spheres = [spherize(cloud) for cloud in clouds]
    degrees = (3, 4) if y.shape[1] <= LARGEST_DEGREE_4 else (3,)
    tests = []
    for degree in degrees:
        statistic, freedom = min(harmonic_statistic(sphere, degree) for sphere in spheres)
        name = f"All {y.shape[1]} latents, degree {degree}"
        p = float(stats.chi2.sf(statistic, freedom))
        tests.append(DataTest(name, statistic, freedom, p, "asymptotic"))
    return tuple(tests)


def _mardia(e: Tensor) -> NoiseCheck:
    n, q = e.shape
    root, failed = torch.linalg.cholesky_ex(e.T @ e / n)
    if int(failed):
        raise DataError("The noise should have full rank, got columns of x that follow from the others.")
    e = torch.linalg.solve_triangular(root, e.T, upper=False).T
    small = (q + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (q + 1) - 6))
    skewness, freedom = small * moment_norm(e, 3) / n / 6, q * (q + 1) * (q + 2) // 6
    fourth = float(e.square().sum(1).square().mean())
    mean = q * (q + 2) * (n - 1) / (n + 1)
    variance = 8 * q * (q + 2) * (n - 3) * (n - q - 1) * (n - q + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    deviate = (fourth - mean) / math.sqrt(variance)
    return NoiseCheck(
        DataTest(
            "Mardia's skewness", skewness, freedom, float(stats.chi2.sf(skewness, freedom)), "asymptotic"
        ),
        DataTest(
            "Mardia's kurtosis (normal deviate)",
            deviate,
            None,
            float(2 * stats.norm.sf(abs(deviate))),
            "asymptotic",
        ),
        q,
    )


def _by_feature(residuals: Tensor, projection: Tensor, dimensions: int) -> NoiseCheck:
    variance = projection.diagonal()
    kept = variance > 1e-6  # a feature without noise of its own has no residual
    rho = projection[kept][:, kept] / (variance[kept].sqrt() * variance[kept].sqrt()[:, None])
    values = residuals[:, kept].numpy()
    tests = [
        _quadratic(name, transform(values, axis=0).statistic, rho.pow(power))
        for name, transform, power in (
            ("Skewness of the features' residuals", stats.skewtest, 3),
            ("Kurtosis of the features' residuals", stats.kurtosistest, 4),
        )
    ]
    return NoiseCheck(tests[0], tests[1], dimensions)


def _quadratic(name: str, deviates: np.ndarray, correlation: Tensor) -> DataTest:
    """Return a' C^-1 a on the directions where C is not singular (two residuals may be one)."""
    values, vectors = torch.linalg.eigh(correlation)
    sound = values > 1e-6
    along = torch.from_numpy(deviates) @ vectors[:, sound]
    statistic, freedom = float((along.square() / values[sound]).sum()), int(sound.sum())
    return DataTest(name, statistic, freedom, float(stats.chi2.sf(statistic, freedom)), "asymptotic")


def _discrete(values: Tensor) -> bool:
    if len(values) < FEW_VALUES_ROWS:
        return False
    counts = torch.unique(values, return_counts=True)[1]
    pile = int(max(counts[0], counts[-1]))
    return len(counts) <= FEW_VALUES or pile >= max(PILE_ROWS, PILE_SHARE * len(values))


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


def _directions(u: Tensor, lags: int) -> DataTest:
    n, k = u.shape
    found = [k * k * float((u[lag:].T @ u[:-lag]).square().sum()) / (n - lag) for lag in range(1, lags + 1)]
    lag = max(range(lags), key=found.__getitem__)
    p = min(1.0, lags * float(stats.chi2.sf(found[lag], k * k)))
    return DataTest(f"Directions at lag {lag + 1}", found[lag], k * k, p, "asymptotic")
