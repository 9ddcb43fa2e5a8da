"""Rules on maximum likelihood fits: against factanal, against definitions, and at their level."""

import math

import numpy as np
import pytest
import torch

import probae as pa
from probae.checks import ParameterError
from probae.factors.number import AIC, BIC, HeldOutLikelihood, SequentialChiSquare
from probae.factors.sample import open_sample
from probae.factors.sequence import degrees_of_freedom, factor_fits, ledermann_bound


def test_24_psychological_tests_as_factanal(harman74):
    # R 4.2.2: factanal(covmat = Harman74.cor$cov, n.obs = 145, factors = k)$STATISTIC, $dof; k = 1 ... 5
    known = [
        (622.9065234, 252),
        (420.2351925, 229),
        (295.5912506, 207),
        (226.6838448, 186),
        (186.820307, 166),
    ]
    result = pa.number_of_factors(harman74, rules=[SequentialChiSquare()])
    for one, (chi_square, degrees) in zip(result.fits[1:], known, strict=False):
        assert one.chi_square == pytest.approx(chi_square, rel=1e-5)
        assert one.degrees == degrees
    # its 157.3178198 with 6 is of a uniqueness held at .005, where the likelihood still rises
    assert result.fits[6].chi_square < 157.3178198
    assert result.answers == {"sequential chi-square": 5}  # p .022 with 4, .128 with 5


def test_no_factors_is_bartlett_s_test_of_sphericity(harman74):
    # R 4.2.2, psych 2.2.9: cortest.bartlett(Harman74.cor$cov, n = 145), chi square 1545.861863 on 276
    result = pa.number_of_factors(harman74, rules=[SequentialChiSquare()], largest=1)
    assert result.fits[0].chi_square == pytest.approx(1545.861863, rel=1e-9)
    assert result.fits[0].degrees == 276
    x = pa.datasets.holzinger_swineford().x
    # cortest.bartlett(cor(x), n = 301): 904.097051037 on 36
    assert pa.number_of_factors(x, rules=[BIC()]).fits[0].chi_square == pytest.approx(904.097051037, rel=1e-9)


def test_likelihoods_are_those_of_the_fits():
    x = pa.datasets.holzinger_swineford().x
    result = pa.number_of_factors(x, rules=[BIC(), AIC()], largest=3)
    for one in result.fits[1:]:
        run = pa.fit(pa.FactorAnalysis(9, one.factors), x)
        assert one.log_likelihood == pytest.approx(float(run.log_likelihood(x).sum()), rel=1e-10)
        covariance = run.model.loadings @ run.model.loadings.T
        units = torch.outer(x.std(0, correction=0), x.std(0, correction=0))
        assert torch.allclose(torch.tensor(one.loadings @ one.loadings.T), covariance / units, atol=1e-8)
        q = 9 * (one.factors + 2) - one.factors * (one.factors - 1) // 2
        assert one.bic == pytest.approx(q * math.log(301) - 2 * one.log_likelihood)
        assert one.aic == pytest.approx(2 * q - 2 * one.log_likelihood)
    normal = torch.distributions.Normal(x.mean(0), x.std(0, correction=0))
    assert result.fits[0].log_likelihood == pytest.approx(float(normal.log_prob(x).sum()), rel=1e-12)
    assert [one.parameters + one.degrees for one in result.fits] == [9 + 45] * 4


def test_rmsea_and_cfi_are_of_the_ratio_without_correction():
    """With T = 2 (log L_saturated - log L): RMSEA^2 = (T - df) / (n df), CFI = 1 - (T - df) / (T_0 - df_0)."""
    x = pa.datasets.holzinger_swineford().x
    one = pa.number_of_factors(x, rules=[BIC()], largest=3).fits[3]
    S = torch.cov(x.T, correction=0)
    saturated = torch.distributions.MultivariateNormal(x.mean(0), S).log_prob(x).sum()
    independent = torch.distributions.Normal(x.mean(0), S.diagonal().sqrt()).log_prob(x).sum()
    T, T0 = 2 * float(saturated - one.log_likelihood), 2 * float(saturated - independent)
    assert one.rmsea == pytest.approx(math.sqrt((T - 12) / (301 * 12)), rel=1e-6)
    assert one.cfi == pytest.approx(1 - (T - 12) / (T0 - 36), rel=1e-6)


def test_bound_and_degrees():
    for p in range(3, 60):
        k = ledermann_bound(p)
        assert degrees_of_freedom(p, k) >= 0 > degrees_of_freedom(p, k + 1)


@pytest.mark.parametrize(("k", "samples"), [(0, 400), (1, 150)])
def test_bartlett_s_correction_keeps_the_level_with_few_rows(k, samples):
    """Of samples of 40 rows of 6 columns with k factors, 5 % should be rejected."""
    generator = np.random.default_rng(7)
    rejected = 0
    for _ in range(samples):
        x = generator.standard_normal((40, 6))
        if k:
            x = 0.6 * x + 0.8 * generator.standard_normal((40, 1))
        rejected += factor_fits(open_sample(x, 0, k))[k].p_value < 0.05
    assert abs(rejected / samples - 0.05) < 3.3 * math.sqrt(0.05 * 0.95 / samples)


def test_held_out_differences_are_paired_row_by_row():
    x = pa.datasets.holzinger_swineford().x
    best, near = HeldOutLikelihood(), HeldOutLikelihood(standard_errors=1.0)
    result = pa.number_of_factors(x, rules=[best, near], largest=4)
    assert torch.equal(result.judgement(best).values, result.judgement(near).values)
    assert result.answers[near.name] <= result.answers[best.name]
    assert "nats per row" in result.judgement(best).note
    assert result.judgement(best).counts.tolist() == [0, 1, 2, 3, 4]


def test_held_out_rows_are_left_out():
    """With as many folds as thirds of the rows, the mean is close to the fitted one and below it."""
    x = pa.datasets.holzinger_swineford().x[:60]
    result = pa.number_of_factors(x, rules=[HeldOutLikelihood(folds=20), BIC()], largest=2)
    held = result.judgements[0].values
    fitted = torch.tensor([one.log_likelihood / 60 for one in result.fits])
    assert bool((held < fitted).all())
    assert float((fitted - held).max()) < 1.0


def test_noise_has_no_factors_out_of_sample():
    x = torch.randn(100, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    result = pa.number_of_factors(x, rules=[HeldOutLikelihood(), HeldOutLikelihood(standard_errors=1.0)])
    assert set(result.answers.values()) == {0}


def test_too_few_rows_for_the_folds():
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    note = pa.number_of_factors(x, rules=[HeldOutLikelihood()]).judgements[0].note
    assert "5 folds need at least 15 rows, got 10" in note


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SequentialChiSquare(level=0.0), "level should be between 0 and 1"),
        (lambda: HeldOutLikelihood(folds=1), "folds should be a whole number of at least 2"),
        (lambda: HeldOutLikelihood(standard_errors=-1.0), "standard_errors should be a finite number"),
        (lambda: HeldOutLikelihood(standard_errors=math.nan), "standard_errors should be a finite number"),
    ],
)
def test_settings_are_checked(make, sentence):
    with pytest.raises(ParameterError, match=sentence):
        make()
