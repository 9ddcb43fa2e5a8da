"""The quadrature against simulation, against the weak limit, and the stated power against runs of the test."""

import math

import pytest
import torch
from scipy import stats

from probae import priors
from probae.identifiability.data_tests import rotation_information
from probae.identifiability.power import POWER_80, Detectable, detectable, plane_signal
from probae.identifiability.spherical import HALF_WEIGHT

# T_4 / n of 10^7 rows of two Laplace factors, by the noise variance of their scores
SIMULATED = {0.0: 0.0484, 0.1: 0.0341, 0.25: 0.0218, 0.5: 0.0120, 1.0: 0.00453, 2.0: 0.00115, 4.0: 0.00017}


@pytest.mark.parametrize("noise", SIMULATED)
def test_signal_of_laplace_factors_is_that_of_ten_million_rows(noise):
    expected = SIMULATED[noise]
    # T is close to noncentral chi2(2): the s.e. of T / n is 2 sqrt(signal / n) and its mean is 2 / n above the signal;
    # half a unit of the last digit given, up to .00005
    error = 4 * 2 * math.sqrt(expected / 1e7) + 2e-7 + 5e-5
    assert plane_signal(priors.Laplace(), noise) == pytest.approx(expected, abs=error)


def test_signal_is_that_of_the_test(draw):
    for law in ("uniform", "t5"):
        found = rotation_information(draw(law, 50_000, 2)).planes[0].signal
        expected = plane_signal({"uniform": priors.Uniform(), "t5": priors.StudentT(5.0)}[law])
        assert found == pytest.approx(expected, abs=4 * 2 * math.sqrt(expected / 50_000))


@pytest.mark.parametrize("law", [priors.GeneralizedNormal(1.98), priors.GeneralizedNormal(2.02)])
def test_weak_factors_have_the_signal_of_their_information(law):
    """s = e (kappa_i + kappa_j - 2) / 16 where only the fourth degree carries information, as weak kurtosis does."""
    r = torch.linspace(0, 12, 200_001, dtype=torch.float64)
    density = r * (-r.square() / 2).exp()
    median = math.sqrt(2 * math.log(2))
    h = (r / (HALF_WEIGHT * median)).pow(4)
    h = h / (1 + h)
    kept = ((h * r**4) @ density) ** 2 / ((h.square() @ density) * (r**8 @ density))
    kurtosis = kurtosis_of(law)
    assert plane_signal(law) == pytest.approx(float(kept) * (kurtosis**2 / 6) * 2 / 16, rel=0.1)
    assert kept < 1


def kurtosis_of(law):
    shape = float(law.exponent())
    gamma = math.gamma
    return gamma(5 / shape) * gamma(1 / shape) / gamma(3 / shape) ** 2 - 3


def test_gaussian_factors_have_no_signal():
    # linear interpolation of log f over 4,096 points: 1e-4 of the density at most, and its square in the signal
    assert plane_signal(priors.Gaussian()) < 1e-8
    assert plane_signal(priors.Gaussian(), 1.0) < 1e-7


def test_noncentrality_has_the_stated_power():
    critical = -2 * math.log(0.01 / 2)
    assert stats.ncx2.sf(critical, 2, POWER_80) == pytest.approx(0.8, abs=1e-3)


def test_more_rows_find_less_and_more_noise_hides_more():
    few, many, noisy = detectable(1000), detectable(10_000), detectable(10_000, 1.0)
    for name in ("heavy", "peaked", "light"):
        assert getattr(few, name) > getattr(many, name)
        assert getattr(noisy, name) > getattr(many, name)
    # where information is weak the signal is proportional to kappa - 1, and so is what n rows find
    assert detectable(10**6).heavy == pytest.approx(detectable(10**7).heavy * 10, rel=0.1)


def test_result_is_said():
    found = Detectable(0.1, math.inf, 0.2, 0.3, 500)
    assert "Student-t 0.1, peaked generalised normal none, flat generalised normal 0.2" in found.describe()
    assert found.kappa == math.inf
    assert detectable(100, 0.31).noise == 0.4


def test_stated_power_is_reached(rejections, interval):
    """Student-t factors of the stated kappa at n = 1,000 without noise."""
    excess = detectable(1000).heavy  # 6 / ((nu - 2) (nu + 3))
    df = (-1 + math.sqrt(25 + 24 / excess)) / 2
    law = priors.StudentT(df)
    assert law.fisher_information() - 1 == pytest.approx(excess, rel=1e-6)
    count = rejections(lambda _: rotation_information(law.sample(1000, 2).double()).planes[0].p_value, 80)
    low, high = interval(count, 80)
    assert low <= 0.8 + 0.05  # degree 3 adds a little
    assert high >= 0.8 - 0.05  # T_4 of heavy tails is a little less certain than a noncentral chi-square
