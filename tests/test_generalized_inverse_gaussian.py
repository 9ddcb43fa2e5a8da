"""Draws of the generalised inverse Gaussian law against SciPy's distribution function and moments."""

import math

import pytest
import scipy.stats
import torch

from probae.checks import ParameterError
from probae.generalized_inverse_gaussian import draw_generalized_inverse_gaussian

DRAWS = 20_000
CRITICAL = 2.23 / DRAWS**0.5  # Kolmogorov: P(sqrt(n) D > 2.23) = 1e-4
# order, a, b: posterior of a stretch at n = 1000, few rows, more features than rows, half-normal noise, nearly a gamma
LAWS = [
    (490.0, 1000.0, 20.0),
    (0.5, 3.0, 2.0),
    (-8.0, 5.0, 30.0),
    (-499.5, 1.0, 300.0),
    (2.0, 1.0, 1e-8),
    (0.0, 1e-3, 1e-3),
    (-0.5, 50.0, 50.0),
]


def draw(order, a, b, count=DRAWS, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw_generalized_inverse_gaussian(
            *(torch.full((count,), value, dtype=torch.float64) for value in (order, a, b))
        )


def distance(draws, order, a, b):
    """Largest difference of the distribution functions of log g, the exact one by the trapezoidal rule.

    SciPy's integrates for each value and warns where it fails.
    """
    logs = draws.log()
    margin = 2 * (logs.max() - logs.min())  # the density has fallen to nothing there
    grid = torch.linspace(float(logs.min() - margin), float(logs.max() + margin), 40_001).double()
    exponent = order * grid - 0.5 * (a * grid.exp() + b * (-grid).exp())
    cumulative = torch.cumulative_trapezoid((exponent - exponent.max()).exp(), grid)
    below = torch.searchsorted(logs.sort().values, grid[1:], right=True) / len(logs)
    return float((cumulative / cumulative[-1] - below).abs().max())


@pytest.mark.parametrize(("order", "a", "b"), LAWS)
def test_the_draws_follow_the_law(order, a, b):
    """Kolmogorov and Smirnov at 20,000 draws; seven laws, so that p < 1e-4 has probability 1e-3 in all."""
    assert distance(draw(order, a, b), order, a, b) < CRITICAL


def test_the_test_can_fail():
    """An order off by a tenth of a standard deviation of log g is seen: 490 against 492."""
    assert distance(draw(490.0, 1000.0, 20.0), 492.0, 1000.0, 20.0) > CRITICAL


def test_the_inverse_has_the_mirrored_law():
    """1 / g of (order, a, b) is g of (-order, b, a): the same uniform numbers give the same draws."""
    found, mirrored = draw(3.0, 2.0, 5.0), draw(-3.0, 5.0, 2.0)
    torch.testing.assert_close(1.0 / found, mirrored, rtol=1e-12, atol=0.0)


def test_many_laws_at_once_are_each_their_own():
    """Means of three laws in one call, within five standard errors."""
    orders, a, b = torch.tensor([[1.0], [4.0], [-6.0]]).double(), torch.tensor(3.0), torch.tensor(2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        found = draw_generalized_inverse_gaussian(orders.expand(3, DRAWS), a, b)
    for one, order in zip(found, (1.0, 4.0, -6.0), strict=True):
        law = scipy.stats.geninvgauss(order, math.sqrt(6.0), scale=math.sqrt(2.0 / 3.0))
        assert one.mean().item() == pytest.approx(law.mean(), abs=5 * law.std() / DRAWS**0.5)


@pytest.mark.parametrize(
    "numbers", [(math.nan, 1.0, 1.0), (1.0, math.inf, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, math.nan)]
)
def test_numbers_without_a_law_are_refused(numbers):
    """No draw would be accepted, for ever."""
    with pytest.raises(ParameterError, match="needs a finite order"):
        draw(*numbers, count=2)


@pytest.mark.parametrize("sign", [1, -1])
def test_without_one_of_its_tails_it_is_a_gamma_law(sign):
    """b of 1e-290: Gamma(order, a / 2); a of 1e-290: the inverse of one."""
    a, b = (6.0, 1e-290)[::sign]
    draws = draw(2.0 * sign, a, b).pow(sign)
    assert scipy.stats.kstest(draws.numpy(), scipy.stats.gamma(2.0, scale=1 / 3.0).cdf).pvalue > 1e-4
