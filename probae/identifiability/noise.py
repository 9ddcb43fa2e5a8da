r"""Is the noise Gaussian (T0)? On the part of x that the factors do not reach, and by the values of each column.

Rates of rejection at level .01, by simulation (runs in brackets):

    T0 size       after factor analysis, Laplace / t5 / mv t5   n=500, 9 features .018 / .013 / .013 (1,000)
                  Laplace / mv t5                               n=2000, 12 features .012 / .010 (500)
    T0 power      Gaussian factors cut, skewed 5-point items    n=300, 9 or 30 features 1.00 (60)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.checks import DataError
from probae.identifiability.data_test import DataTest, checked_rows
from probae.identifiability.spherical import moment_norm

MINIMUM_ROWS = 30
MOMENT_FEATURES = 12  # dimensions up to which all third moments of the noise are tested: their cost is N q^3
FEW_VALUES, FEW_VALUES_ROWS = 10, 50
PILE_ROWS, PILE_SHARE = 10, 0.005


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
    x = checked_rows(x_centred, MINIMUM_ROWS)
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
