"""Indices of fit against published numbers, lavaan, and their own definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_wine

import probae as pa
from probae import FactorAnalysis, ProbabilisticPCA, fit, fit_indices
from probae.checks import ConvergenceWarning
from probae.factors.rmsea import close_fit, rmsea_interval

# R 4.2.2, lavaan 0.6-14: fitMeasures(cfa(HS, HolzingerSwineford1939[, paste0("x", 1:9)], std.lv = TRUE,
# meanstructure = TRUE)); scaled and robust measures with estimator = "MLM"; SRMR: "srmr_bentler_nomean" to 3 digits
LAVAAN = {
    "chi_square": 85.30552177,
    "p_value": 8.502553106e-09,
    "baseline_chi_square": 918.8515893,
    "cfi": 0.9305596518,
    "tli": 0.8958394777,
    "log_likelihood": -3737.744927,
    "saturated_log_likelihood": -3695.092166,
    "aic": 7535.489853,
    "bic": 7646.703161,
    "sample_size_adjusted_bic": 7551.560223,
    "rmsea_n": 0.09212148451,
}
SCALED = {
    "factor": 1.054824956,
    "statistic": 80.87173258,
    "p_value": 4.416272803e-08,
    "baseline_factor": 1.164138470,
    "cfi": 0.9315921903,
    "tli": 0.8973882854,
}
ROBUST_RMSEA = 0.09112752162  # divisor n
# the table with holes of conftest.py, missing = "fiml"
FIML = {
    "chi_square": 66.55507907,
    "baseline_chi_square": 776.3658548,
    "cfi": 0.9425215536,
    "tli": 0.9137823305,
    "rmsea_n": 0.07675149299,
    "log_likelihood": -3410.634715,
    "saturated_log_likelihood": -3377.357175,
    "aic": 6881.269430,
    "bic": 6992.482738,
}


def test_confirmatory_model_as_lavaan_has_it(confirmatory, holzinger):
    found = fit_indices(confirmatory, holzinger)
    assert (found.degrees_of_freedom, found.baseline_degrees_of_freedom, found.parameters) == (24, 36, 30)
    for name, value in LAVAAN.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-7), name
    assert found.srmr == pytest.approx(0.065, abs=5e-4)
    assert found.rmsea == pytest.approx(0.09228, abs=1e-5)  # divisor n - 1
    assert math.isnan(found.bartlett)


def test_interval_of_the_rmsea_as_lavaan_has_it(confirmatory, holzinger):
    """rmsea.ci.lower, rmsea.ci.upper, rmsea.pvalue, all with divisor n."""
    found = fit_indices(confirmatory, holzinger)
    low, high = rmsea_interval(found.chi_square, 24, 301)
    assert (low, high) == (pytest.approx(0.07141849044, rel=1e-7), pytest.approx(0.1136780168, rel=1e-7))
    assert close_fit(found.chi_square, 24, 301) == pytest.approx(6.612367777e-04, rel=1e-6)
    assert found.rmsea_interval == (
        pytest.approx(low * math.sqrt(301 / 300)),
        pytest.approx(high * math.sqrt(301 / 300)),
    )


def test_scaled_test_as_lavaan_has_it(confirmatory, holzinger):
    found = fit_indices(confirmatory, holzinger).scaled
    for name, value in SCALED.items():  # which lavaan computes at estimates good to six digits
        assert getattr(found, name) == pytest.approx(value, rel=5e-5), name
    assert found.rmsea * math.sqrt(300 / 301) == pytest.approx(ROBUST_RMSEA, rel=5e-6)


def test_missing_entries_as_lavaan_has_them(with_holes, pattern):
    run = fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=True), with_holes)
    found = fit_indices(run, with_holes)
    for name, value in FIML.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6), name
    assert found.scaled is None


def test_nested_models_differ_by_62(confirmatory, three_factors, holzinger):
    free, fixed = fit_indices(three_factors, holzinger), fit_indices(confirmatory, holzinger)
    assert free.chi_square == pytest.approx(22.8967, abs=1e-3)
    assert fixed.chi_square - free.chi_square == pytest.approx(62.4, abs=0.02)
    assert fixed.degrees_of_freedom - free.degrees_of_freedom == 12


@pytest.mark.parametrize(
    ("latents", "statistic", "df", "p"), [(1, 75.1796, 9, 1.456e-12), (2, 6.1066, 4, 0.19133)]
)
def test_ability_as_factanal_has_it(ability, latents, statistic, df, p):
    """R's factanal(covmat = ability.cov, factors = latents): Bartlett's statistic."""
    found = fit_indices(fit(FactorAnalysis(6, latents), ability), ability)
    assert found.bartlett == pytest.approx(statistic, abs=1e-4)
    assert found.degrees_of_freedom == df
    assert found.bartlett_p_value == pytest.approx(p, rel=1e-3)
    assert found.chi_square == pytest.approx(
        found.bartlett * 112 / (111 - 17 / 6 - 2 * latents / 3), rel=1e-12
    )


def test_one_factor_of_holzinger_and_two_of_wine(holzinger):
    found = fit_indices(fit(FactorAnalysis(9, 1), holzinger), holzinger)
    assert (found.bartlett, found.degrees_of_freedom) == (pytest.approx(306.558, abs=1e-3), 27)
    assert found.chi_square / 301 == pytest.approx(1.037422, abs=1e-6)
    x = torch.from_numpy(load_wine().data)
    found = fit_indices(fit(FactorAnalysis(13, 2), x), x)
    assert (found.bartlett, found.degrees_of_freedom) == (pytest.approx(279.683, abs=1e-3), 53)


def test_three_factors_as_psych_has_them(three_factors, holzinger):
    """psych 2.2.9, fa(d, 3, rotate = "none", fm = "ml"): STATISTIC 22.37693056, dof 12, PVAL 0.0335061573."""
    found = fit_indices(three_factors, holzinger)
    assert found.bartlett == pytest.approx(22.37693056, rel=1e-6)
    assert found.bartlett_p_value == pytest.approx(0.0335061573, rel=1e-5)


def test_statistics_say_as_much_as_rows(three_factors, holzinger):
    rows = fit_indices(three_factors, holzinger)
    moments = fit_indices(three_factors, pa.SufficientStatistics.from_data(holzinger))
    assert moments.scaled is None
    for name in ("chi_square", "baseline_chi_square", "srmr", "aic", "cfi"):
        assert getattr(moments, name) == pytest.approx(getattr(rows, name), rel=1e-9)


def test_rotation_changes_nothing(three_factors, holzinger):
    turned = pa.rotated(three_factors, pa.rotate(three_factors, pa.rotation.Quartimin(), oblique=True))
    one, two = fit_indices(turned, holzinger), fit_indices(three_factors, holzinger)
    assert one.parameters == two.parameters
    assert one.chi_square == pytest.approx(two.chi_square, abs=1e-7)
    assert one.scaled.factor == pytest.approx(two.scaled.factor, rel=1e-7)


@pytest.mark.parametrize(("D", "K"), [(9, 1), (9, 3), (12, 4)])
def test_degrees_of_freedom(D, K):
    x = torch.randn(60, D, dtype=torch.float64)
    found = fit_indices(fit(FactorAnalysis(D, K), x, pa.PrincipalAxis(steps=3, tol=0.5)), x)
    assert found.degrees_of_freedom == ((D - K) ** 2 - (D + K)) // 2
    found = fit_indices(fit(ProbabilisticPCA(D, K), x), x)
    assert found.degrees_of_freedom == (D - K + 2) * (D - K - 1) // 2


def test_probabilistic_pca_tests_the_last_roots(holzinger):
    """n F = n (D - K) log(arithmetic / geometric mean of the last D - K roots) (Lawley, 1956)."""
    found = fit_indices(fit(ProbabilisticPCA(9, 3), holzinger), holzinger)
    roots = np.linalg.eigvalsh(np.cov(holzinger.numpy().T, bias=True))[:6]
    statistic = 301 * (6 * math.log(roots.mean()) - np.log(roots).sum())
    assert found.chi_square == pytest.approx(statistic, rel=1e-9)
    assert found.baseline_degrees_of_freedom == 44
    assert found.bartlett < found.chi_square


def test_scaling_factor_is_the_trace_of_the_whole_matrices(three_factors, holzinger):
    """tr(U Gamma) with U and Gamma written out, D (D + 1) / 2 rows each."""
    model, D = three_factors.model, 9
    rows = holzinger - holzinger.mean(0)
    i, j = torch.tril_indices(D, D)
    products = rows[:, i] * rows[:, j]
    gamma = torch.cov(products.T, correction=0)
    A = torch.linalg.inv(model.loadings @ model.loadings.T + torch.diag(model.noise_variance))
    double = torch.where(i == j, 1.0, 2.0).double()
    V = 0.25 * double.unsqueeze(1) * double * (A[i][:, i] * A[j][:, j] + A[i][:, j] * A[j][:, i])

    def half(loadings, noise):
        return (loadings @ loadings.T + torch.diag(noise))[i, j]

    delta = torch.cat(
        [
            part.flatten(1)
            for part in torch.func.jacrev(half, argnums=(0, 1))(model.loadings, model.noise_variance)
        ],
        1,
    )
    inverse = torch.linalg.pinv(delta.T @ V @ delta, rtol=1e-9, hermitian=True)
    U = V - V @ delta @ inverse @ delta.T @ V
    assert fit_indices(three_factors, holzinger).scaled.factor == pytest.approx(
        float((U * gamma).sum()) / 12, rel=1e-7
    )


def test_equal_weights_are_no_weights_and_zeros_leave_rows_out(holzinger):
    run = fit(FactorAnalysis(9, 3), holzinger)
    one, two = fit_indices(run, holzinger), fit_indices(run, holzinger, weights=torch.full((301,), 7.0))
    assert one.scaled.factor == pytest.approx(two.scaled.factor, rel=1e-9)
    chosen = torch.arange(301) % 2 == 0
    weights = chosen.double()
    whole = fit(FactorAnalysis(9, 2), pa.SufficientStatistics.from_data(holzinger, weights=weights))
    part = fit(FactorAnalysis(9, 2), holzinger[chosen])
    one, two = fit_indices(whole, holzinger, weights=weights), fit_indices(part, holzinger[chosen])
    assert one.scaled.statistic == pytest.approx(two.scaled.statistic, rel=1e-5)
    assert one.scaled.p_value == pytest.approx(two.scaled.p_value, rel=1e-4)


def test_weights_without_rows_to_weigh(three_factors, holzinger, with_holes):
    with pytest.raises(pa.DataError, match="from_data"):
        fit_indices(three_factors, pa.SufficientStatistics.from_data(holzinger), weights=torch.ones(301))
    with pytest.raises(pa.DataError, match="missing"):
        fit_indices(three_factors, with_holes, weights=torch.ones(301))


def test_a_perfect_fit(statistics_of):
    W = torch.randn(8, 2, dtype=torch.float64)
    statistics = statistics_of(W @ W.T + torch.diag(torch.rand(8).double() + 0.5), 200)
    found = fit_indices(fit(FactorAnalysis(8, 2), statistics), statistics)
    assert found.chi_square == pytest.approx(0.0, abs=1e-6)
    assert (found.rmsea, found.rmsea_interval[0], found.cfi) == (0.0, 0.0, 1.0)
    assert found.p_value == pytest.approx(1.0)
    assert found.srmr < 1e-6


def test_fewer_rows_than_features_have_no_test():
    x = torch.randn(20, 4, dtype=torch.float64) @ torch.randn(4, 40, dtype=torch.float64)
    x = x + torch.randn(20, 40, dtype=torch.float64)
    found = fit_indices(fit(ProbabilisticPCA(40, 2), x), x)
    assert "no bound" in found.note
    assert all(
        math.isnan(v)
        for v in (found.chi_square, found.p_value, found.rmsea, found.cfi, found.tli, found.srmr)
    )
    assert found.aic == pytest.approx(-2 * found.log_likelihood + 2 * found.parameters)
    assert "no bound" in str(found)


def test_no_degrees_of_freedom_left(holzinger):
    found = fit_indices(fit(FactorAnalysis(3, 1), holzinger[:, :3]), holzinger[:, :3])
    assert found.degrees_of_freedom == 0
    assert math.isnan(found.p_value)
    assert found.scaled is None
    with pytest.warns(pa.UnderidentifiedWarning):
        run = fit(FactorAnalysis(4, 2), holzinger[:, :4])
    assert "more parameters" in fit_indices(run, holzinger[:, :4]).note


def test_printed(three_factors, holzinger, ability):
    text = str(fit_indices(three_factors, holzinger))
    assert [line.split("  ")[0] for line in text.splitlines()[:5]] == [
        "test", "likelihood ratio", "Bartlett's correction", "Satorra-Bentler", "baseline",
    ]  # fmt: skip
    assert "Satorra" not in str(fit_indices(fit(FactorAnalysis(6, 1), ability), ability))


def test_least_squares_are_judged_at_their_own_parameters(three_factors, holzinger):
    """psych does the same; likelihood cannot be above its maximum."""
    run = fit(FactorAnalysis(9, 3), holzinger, pa.MinimumResiduals())
    assert fit_indices(run, holzinger).chi_square > fit_indices(three_factors, holzinger).chi_square


def test_p_values_are_those_of_their_laws(three_factors, holzinger):
    found = fit_indices(three_factors, holzinger)
    assert found.p_value == stats.chi2.sf(found.chi_square, 12)
    for tail, end in zip((0.95, 0.05), found.rmsea_interval, strict=True):
        assert stats.ncx2.cdf(found.chi_square, 12, end**2 * 12 * 300) == pytest.approx(tail, abs=1e-8)


def test_data_of_another_fit_are_noticed():
    x = pa.datasets.holzinger_swineford().x
    for model in (pa.FactorAnalysis(9, 3), pa.ProbabilisticPCA(9, 3)):
        run = pa.fit(model, x)
        pa.fit_indices(run, x)  # a warning would be an error here
        with pytest.warns(ConvergenceWarning, match="pass the data it was fitted to"):
            found = pa.fit_indices(run, x > x.mean(0))
        assert found.scaled is None or found.scaled.factor > 0
        with pytest.warns(ConvergenceWarning):
            assert np.isnan(pa.fit_indices(run, x + 1e10).rmsea_interval[0])
