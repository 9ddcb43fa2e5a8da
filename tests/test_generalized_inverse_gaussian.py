"""Draws of the generalised inverse Gaussian law against scipy's, at every corner of its parameters."""

import pytest
import torch
from scipy import stats

from probae.generalized_inverse_gaussian import draw_generalized_inverse_gaussian

DRAWS = 4000


@pytest.mark.parametrize("order", [-60.0, -3.5, -0.5, 0.0, 0.5, 2.0, 60.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (4.0, 0.01), (0.02, 3.0), (50.0, 80.0)])
def test_draws_have_the_law(order, a, b):
    torch.manual_seed(0)
    draws = draw_generalized_inverse_gaussian(*torch.tensor([order, a, b]).double()[:, None].expand(3, DRAWS))
    law = stats.geninvgauss(order, (a * b) ** 0.5, scale=(b / a) ** 0.5)
    # 28 tests, each of level 1e-4; the distribution function is numerical, so it is asked for on a grid
    grid = torch.quantile(draws, torch.linspace(0.0, 1.0, 201).double()).numpy()
    below = (draws.numpy()[:, None] <= grid).mean(0)
    distance = abs(below - law.cdf(grid)).max()
    assert distance < 2.23 / DRAWS**0.5  # Kolmogorov's law: P(sqrt(n) D > 2.23) = 1e-4


@pytest.mark.parametrize(("order", "sign"), [(2.0, 1), (-2.0, -1)])
def test_without_one_of_its_tails_it_is_a_gamma_law(order, sign):
    torch.manual_seed(1)
    large, none = (torch.full((DRAWS,), rate, dtype=torch.float64) for rate in (6.0, 1e-290))
    given = (large, none) if sign > 0 else (none, large)
    draws = draw_generalized_inverse_gaussian(torch.full((DRAWS,), order), *given)
    # b -> 0: Gamma(order, a / 2); a -> 0: its inverse
    assert stats.kstest(draws.pow(sign).numpy(), stats.gamma(2.0, scale=1 / 3.0).cdf).pvalue > 1e-4


def test_parameters_broadcast_and_the_seed_decides():
    torch.manual_seed(2)
    order, a, b = torch.tensor([-1.0, 3.0])[:, None], torch.tensor([1.0, 2.0, 3.0]), torch.tensor(2.0)
    first = draw_generalized_inverse_gaussian(order, a, b)
    torch.manual_seed(2)
    assert torch.equal(first, draw_generalized_inverse_gaussian(order, a, b))
    assert first.shape == (2, 3)
    assert first.dtype == torch.float64
    assert bool((first > 0).all())
