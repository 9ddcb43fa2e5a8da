"""Fits and oracles that the tests of this folder share."""

import pytest
import torch

import probae as pa


@pytest.fixture(scope="session")
def holzinger():
    """Nine tests of 301 pupils."""
    return pa.datasets.holzinger_swineford().x


@pytest.fixture(scope="session")
def three_factors(holzinger):
    """Three exploratory factors of them."""
    return pa.fit(pa.FactorAnalysis(9, 3), holzinger)


@pytest.fixture(scope="session")
def pattern():
    """Three tests to a factor."""
    return torch.eye(3, dtype=torch.bool).repeat_interleave(3, 0)


@pytest.fixture(scope="session")
def confirmatory(holzinger, pattern):
    """Three correlated factors with fixed zeros: the model of lavaan's tutorial."""
    return pa.fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=True), holzinger)


@pytest.fixture(scope="session")
def with_holes(holzinger):
    """The same table with one entry in eleven missing, in 11 patterns."""
    row, column = torch.arange(301).unsqueeze(1), torch.arange(9)
    return torch.where((7 * row + 13 * column) % 11 == 0, torch.nan, holzinger)


@pytest.fixture(scope="session")
def ability():
    """Six tests of 112 people, as a covariance."""
    table = pa.datasets.ability_cov()
    return pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)


def statistics_of(covariance, count):
    """Moments whose maximum likelihood covariance is the given one."""
    return pa.SufficientStatistics(
        count, torch.zeros(len(covariance), dtype=torch.float64), count * covariance
    )


@pytest.fixture(name="statistics_of", scope="session")
def statistics_of_fixture():
    """`statistics_of`, for every test of this folder."""
    return statistics_of
