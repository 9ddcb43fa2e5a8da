r"""How well a Gaussian factor model fits: the likelihood ratio test and the indices made of it.

With T = 2 (log L of the saturated model - log L of the model), its degrees of freedom f and the same of the baseline,

    RMSEA = sqrt(max(T - f, 0) / (f (n - 1)))                          Steiger & Lind (1980); Browne & Cudeck (1992)
    CFI   = 1 - max(T - f, 0) / max(T_b - f_b, T - f, 0)               Bentler (1990)
    TLI   = (T_b / f_b - T / f) / (T_b / f_b - 1)                      Tucker & Lewis (1973)
    SRMR  = root mean square of (s_ij - sigma_ij) / sqrt(s_ii s_jj), i <= j
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, warn
from probae.factors import satorra_bentler
from probae.factors.discrepancy import Likelihoods, likelihoods
from probae.factors.fit_indices_table import FitIndices, ScaledTest
from probae.factors.rmsea import close_fit, p_value, rmsea, rmsea_interval
from probae.factors.structure import Structure, structure_of
from probae.inference import EM, Fit, MaximumLikelihood

OTHER = 1e-3  # of diag(Sigma^{-1} S) from 1: a likelihood that has converged leaves less
SCALED_LIMIT = 3000  # parameters beyond which the scaled test, whose time grows as their cube, is left out
NAN = math.nan


def fit_indices(run: Fit, x: Any, *, weights: Any = None) -> FitIndices:
    """Test a Gaussian factor model against the saturated one and compute the usual indices of fit.

    Parameters
    ----------
    run : Fit
        Of factor analysis, probabilistic PCA or a confirmatory model; rotated or not, which changes nothing.
    x : table (N, D), or SufficientStatistics
        The data of the fit. With missing entries the saturated model is fitted to them as well. The scaled test
        needs complete rows.
    weights : vector (N,), optional
        The row weights of the fit; only the scaled test then has a known law.

    Returns
    -------
    FitIndices

    Raises
    ------
    NotExactError, ParameterError
        The fit is of another model.
    DataError
        As `check_data`.

    Warns
    -----
    ConvergenceWarning
        The fit is not at the maximum of the likelihood of x: other data, or a search that had not ended.

    Notes
    -----
    The baseline has uncorrelated features, of one variance where the noise is isotropic. Bartlett's factor is
    n - 1 - (2 D + 5) / 6 - 2 K / 3 for factor analysis [1]_ and Lawley's for probabilistic PCA [2]_, which tests that
    the last D - K eigenvalues are equal. A fit by least squares is judged at its own parameters, whose likelihood is
    lower, so its statistic is too large. On a boundary (a Heywood case) the law of the statistic is not chi-square.

    References
    ----------
    .. [1] Bartlett, M. S. (1951). The effect of standardization on a chi-square approximation in factor analysis.
       Biometrika 38, 337-344.
    .. [2] Lawley, D. N. (1956). Tests of significance for the latent roots of covariance and correlation matrices.
       Biometrika 43, 128-136.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> indices = pa.fit_indices(run, data.x)
    >>> round(indices.chi_square, 3), indices.degrees_of_freedom, round(indices.cfi, 3)
    (22.897, 12, 0.988)
    """
    structure = structure_of(run, "fit_indices")
    found = likelihoods(run, x, weights)
    if isinstance(run.method, MaximumLikelihood | EM):
        _warn_other_data(structure, found)
    parameters = count_parameters(structure)
    features = structure.layout.features
    freedom = features * (features + 3) // 2 - parameters
    baseline_freedom = features * (features + 1) // 2 - (1 if structure.layout.isotropic else features)
    bounded = math.isfinite(found.saturated)
    T = max(2 * (found.saturated - found.model), 0.0) if bounded else NAN
    T_b = max(2 * (found.saturated - found.baseline), 0.0) if bounded else NAN
    corrected = T / found.count * bartlett_factor(structure, found) if bounded else NAN
    penalty = -2 * found.model
    n = found.count
    return FitIndices(
        count=n,
        parameters=parameters,
        log_likelihood=found.model,
        saturated_log_likelihood=found.saturated,
        baseline_log_likelihood=found.baseline,
        chi_square=T,
        degrees_of_freedom=freedom,
        p_value=p_value(T, freedom),
        bartlett=corrected,
        bartlett_p_value=p_value(corrected, freedom),
        baseline_chi_square=T_b,
        baseline_degrees_of_freedom=baseline_freedom,
        rmsea=rmsea(T, freedom, n - 1),
        rmsea_interval=rmsea_interval(T, freedom, n - 1),
        close_fit=close_fit(T, freedom, n - 1),
        rmsea_n=rmsea(T, freedom, n),
        cfi=_cfi(T - freedom, T_b - baseline_freedom),
        tli=_tli(T / freedom, T_b / baseline_freedom) if freedom > 0 and baseline_freedom > 0 else NAN,
        srmr=_srmr(structure, found.covariance),
        aic=penalty + 2 * parameters,
        bic=penalty + math.log(n) * parameters,
        sample_size_adjusted_bic=penalty + math.log((n + 2) / 24) * parameters,
        scaled=_scaled(structure, found, T, T_b, freedom, baseline_freedom),
        note=_note(structure, found, freedom),
    )


def count_parameters(structure: Structure) -> int:
    """Number of free parameters, the means among them and rotations not."""
    layout = structure.layout
    K = layout.latents
    free = int(layout.loadings.sum()) + layout.features + (1 if layout.isotropic else layout.features)
    if not structure.rotatable:
        return free + layout.correlated * (K * (K - 1) // 2)
    used = min(K, layout.features)
    return free - layout.features * (K - used) - used * (used - 1) // 2


def bartlett_factor(structure: Structure, found: Likelihoods) -> float:
    """Factor that takes F to a statistic closer to chi-square; NaN for a confirmatory model."""
    n, D, K = found.count, structure.layout.features, structure.layout.latents
    if not structure.rotatable:
        return NAN
    if not structure.layout.isotropic:
        return n - 1 - (2 * D + 5) / 6 - 2 * K / 3
    rest = D - K
    if rest < 2 or found.covariance is None:
        return NAN
    values = torch.linalg.eigvalsh(found.covariance)
    noise = values[:rest].mean()
    leading = float((noise / (values[rest:] - noise)).square().sum())
    return n - 1 - K - (2 * rest**2 + rest + 2) / (6 * rest) + leading


def _warn_other_data(structure: Structure, found: Likelihoods) -> None:
    """Warn where mean or diag(Sigma^{-1} S) is not what it is at every maximum of a likelihood: that of x, and 1."""
    if found.covariance is None or found.mean is None or not bool(structure.layout.noise.all()):
        return
    variance = found.covariance.diagonal()
    shift = (found.mean - structure.mean).abs() - OTHER * variance.sqrt()
    ratio = (structure.inverse() * found.covariance).sum(1)[variance > 0]
    off = ratio.mean() - 1 if structure.layout.isotropic else ratio - 1
    if bool((shift > 0).any()) or float(off.abs().max()) > OTHER:
        warn(
            "The fit is not at the maximum of the likelihood of x: pass the data it was fitted to, or let it converge.",
            ConvergenceWarning,
        )


def _cfi(excess: float, baseline_excess: float) -> float:
    if math.isnan(excess):
        return NAN
    worst = max(baseline_excess, excess, 0.0)
    return 1 - max(excess, 0.0) / worst if worst > 0 else 1.0


def _tli(ratio: float, baseline_ratio: float) -> float:
    return (baseline_ratio - ratio) / (baseline_ratio - 1) if baseline_ratio != 1 else NAN


def _srmr(structure: Structure, covariance: Tensor | None) -> float:
    if covariance is None:
        return NAN
    sd = covariance.diagonal().sqrt()
    residual = (covariance - structure.covariance) / torch.outer(sd, sd)
    rows, columns = torch.tril_indices(len(sd), len(sd))
    return float(residual[rows, columns].square().mean().sqrt())


def _scaled(
    structure: Structure, found: Likelihoods, T: float, T_b: float, freedom: int, baseline_freedom: int
) -> ScaledTest | None:
    if found.rows is None or math.isnan(T) or freedom <= 0 or structure.layout.size > SCALED_LIMIT:
        return None
    isotropic = structure.layout.isotropic
    units = structure.variance.sqrt()
    if isotropic:  # one unit for all features: its baseline knows no other
        units = units.mean().expand(len(units))
    rows = found.rows / units  # fourth powers of large numbers would leave the range of float64
    c = satorra_bentler.trace_of_model(structure.scaled(units), rows, found.weights) / freedom
    c_b = satorra_bentler.trace_of_baseline(rows, found.weights, isotropic) / baseline_freedom
    if not (c > 0 and c_b > 0):  # rows that are not those of the fit
        return None
    excess, baseline_excess = T - c * freedom, T_b - c_b * baseline_freedom
    tli = 1 - (excess / freedom) / (baseline_excess / baseline_freedom) if baseline_excess > 0 else NAN
    return ScaledTest(
        factor=c,
        statistic=T / c,
        p_value=p_value(T / c, freedom),
        baseline_factor=c_b,
        cfi=_cfi(excess, baseline_excess),
        tli=tli,
        rmsea=math.sqrt(max(excess, 0.0) / (freedom * (found.count - 1))),
    )


def _note(structure: Structure, found: Likelihoods, freedom: int) -> str:
    if math.isinf(found.saturated):
        return (
            f"the likelihood of a free covariance has no bound with {found.count} rows of "
            f"{structure.layout.features} features that are collinear or too many, so there is no test against it."
        )
    if freedom < 0:
        return "the model has more parameters than the covariance has entries: nothing is left to test."
    if not bool(structure.layout.noise.all()):
        return (
            "a noise variance stands on its floor, where the law of the statistic is not exactly chi-square."
        )
    return ""
