"""The quadrature against simulation, against the weak limit, and the stated power against runs of the test."""

import math

import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from probae import priors
from probae.identifiability.data_tests import rotation_information
from probae.identifiability.power import POWER_80, Detectable, detectable, plane_signal
from probae.identifiability.spherical import HALF_WEIGHT
from probae.priors import Prior

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
    for law, prior in (("logistic", priors.Logistic()), ("t5", priors.StudentT(5.0))):
        found = rotation_information(draw(law, 50_000, 2)).planes[0].signal
        expected = plane_signal(prior)
        assert found == pytest.approx(expected, abs=4 * 2 * math.sqrt(expected / 50_000))


class Edgeworth(Prior):
    """The normal density times 1 + g He_4(z) / 24: excess kurtosis g and nothing else."""

    def __init__(self, excess):
        super().__init__()
        self.excess = excess

    def log_prob(self, z):
        return -0.5 * (z.square() + math.log(2 * math.pi)) + torch.log1p(
            self.excess / 24 * (z**4 - 6 * z**2 + 3)
        )

    def distribution(self, latents, like=None):
        return dist.Normal(torch.zeros(latents), 1.0).to_event(1)


def test_weak_kurtosis_has_the_signal_of_its_information():
    """s = e (kappa_i + kappa_j - 2) / 16 with kappa - 1 = g^2 / 6: all its information is of degree 4."""
    r = torch.linspace(0, 12, 20_001, dtype=torch.float64)
    density = r * (-r.square() / 2).exp()
    h = (r / (HALF_WEIGHT * math.sqrt(2 * math.log(2)))).pow(4)
    h = h / (1 + h)
    kept = float(((h * r**4) @ density) ** 2 / ((h.square() @ density) * (r**8 @ density)))
    # to first order in g: the radii have the kurtosis too, which moves the signal by a share of some g
    assert plane_signal(Edgeworth(0.05)) == pytest.approx(kept * 2 * 0.05**2 / 6 / 16, rel=0.05)
    assert 0.8 < kept < 1


def test_gaussian_factors_have_no_signal():
    # linear interpolation of log f over 4,096 points: 1e-4 of the density at most, and its square in the signal
    assert plane_signal(priors.Gaussian()) < 1e-8
    assert plane_signal(priors.Gaussian(), 1.0) < 1e-7


def test_noncentrality_has_the_stated_power():
    critical = -2 * math.log(0.01 / 2)
    assert stats.ncx2.sf(critical, 2, POWER_80) == pytest.approx(0.8, abs=1e-3)


def test_more_rows_find_less():
    few, many = detectable(1000), detectable(10_000)
    for name in ("heavy", "peaked", "light"):
        assert getattr(few, name) > getattr(many, name)
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
    count = rejections(lambda _: rotation_information(law.sample(1000, 2).double()).planes[0].p_value, 40)
    low, high = interval(count, 40)
    assert low <= 0.8 + 0.05  # degree 3 adds a little
    assert high >= 0.8 - 0.05  # T_4 of heavy tails is a little less certain than a noncentral chi-square
