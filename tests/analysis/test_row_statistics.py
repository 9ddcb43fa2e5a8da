"""Statistics of rows against scipy, numpy and pandas, and what is done with missing entries."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import probae as pa
from probae.analysis.row_statistics import (
    SRMR,
    STATISTICS,
    Correlations,
    ExcessKurtosis,
    MardiaKurtosis,
    MardiaSkewness,
    Mean,
    Own,
    Skewness,
    StandardDeviation,
)

NONE = torch.empty(0, 0, dtype=torch.float64)


@pytest.fixture(name="x")
def rows():
    """Skewed rows of four correlated columns, some far from zero, one entry in ten missing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    x = x.exp() @ torch.randn(4, 4, generator=generator, dtype=torch.float64) + torch.tensor(
        [0.0, 5.0, -50.0, 1e3]
    )
    return x.masked_fill(torch.rand(80, 4, generator=generator) < 0.1, torch.nan)


def test_moments_are_those_of_the_observed_entries(x):
    frame = x.numpy()
    expected = {
        Mean(): np.nanmean(frame, 0),
        StandardDeviation(): np.nanstd(frame, 0),
        Skewness(): stats.skew(frame, nan_policy="omit"),
        ExcessKurtosis(): stats.kurtosis(frame, nan_policy="omit"),
    }
    for statistic, value in expected.items():
        assert np.allclose(statistic.value(x, NONE), np.asarray(value), rtol=1e-10), statistic.name


def test_correlations_are_those_of_the_rows_that_have_both(x):
    found = Correlations().value(x, NONE)
    expected = pd.DataFrame(x.numpy()).corr().to_numpy()[np.tril_indices(4, -1)]
    assert np.allclose(found, expected, atol=1e-10)
    assert Correlations().labels("abcd") == ("a, b", "a, c", "b, c", "a, d", "b, d", "c, d")


@pytest.mark.parametrize(("samples", "features"), [(100, 3), (12, 5)])
def test_mardia_by_the_sum_over_pairs(samples, features):
    """Both ways of computing the skewness: by third moments, and by pairs where these are fewer."""
    x = torch.randn(samples, features, dtype=torch.float64).exp()
    centred = (x - x.mean(0)).numpy()
    inverse = np.linalg.inv(centred.T @ centred / samples)
    products = centred @ inverse @ centred.T
    assert float(MardiaSkewness().value(x, NONE)) == pytest.approx((products**3).mean(), rel=1e-10)
    assert float(MardiaKurtosis().value(x, NONE)) == pytest.approx((np.diag(products) ** 2).mean(), rel=1e-10)


def test_mardia_takes_complete_rows_and_no_note_of_units(x):
    complete = x[~x.isnan().any(1)]
    for statistic in (MardiaSkewness(), MardiaKurtosis()):
        value = statistic.value(complete, NONE)
        assert torch.equal(statistic.value(x, NONE), value)
        mixed = complete @ torch.randn(4, 4, dtype=torch.float64) + 3
        assert torch.allclose(statistic.value(mixed, NONE), value, rtol=1e-6)  # affine invariance


def test_srmr_is_that_of_the_fit_indices():
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(pa.FactorAnalysis(9, 2), x)
    found = SRMR().value(x, run.model.marginal().covariance_matrix)
    moments = pa.SufficientStatistics.from_data(x)
    assert float(found) == pytest.approx(pa.fit_indices(run, moments).srmr, abs=1e-10)


@pytest.mark.parametrize("level", [3.0, 0.1])  # the mean of .1 is rounded, and deviations from it are not 0
def test_a_constant_column_has_no_value_and_the_others_keep_theirs(x, level):
    constant = x.clone()
    constant[:, 1] = level
    kept = torch.tensor([True, False, True, True])
    for statistic in (Skewness(), ExcessKurtosis()):
        found = statistic.value(constant, NONE)
        assert found[1].isnan()
        assert torch.equal(found[kept], statistic.value(x, NONE)[kept])
    pairs = Correlations().value(constant, NONE)
    assert pairs.isnan().tolist() == [True, False, True, False, True, False]
    assert MardiaSkewness().value(constant, NONE).isnan().all()
    assert MardiaKurtosis().value(x[:4], NONE).isnan().all()  # fewer rows than columns


def test_functions_of_ones_own_get_a_copy():
    x = torch.ones(3, 2, dtype=torch.float64)

    def spoil(rows):
        rows[:] = 0
        return np.float64(2.0)

    assert Own(spoil).value(x, NONE).tolist() == [2.0]
    assert (x == 1).all()
    assert Own(spoil).name == "spoil"
    with pytest.raises(pa.ParameterError, match="should give a number"):
        Own(str).value(x, NONE)


def test_names_are_different():
    assert len({one.name for one in STATISTICS}) == len(STATISTICS)
