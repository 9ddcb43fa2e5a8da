"""The logarithm of the normal distribution function, deep in its tails."""

import pytest
import torch
from scipy import stats

from probae.priors.normal import log_ndtr, log_normal


def derivatives(x):
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(log_ndtr(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return first.tolist(), second.tolist()


def test_value_and_derivatives_in_the_middle():
    x = [-8.0, -2.5, -1.0, -0.3, 0.0, 0.7, 3.0, 8.0]
    hazard = [stats.norm.pdf(a) / stats.norm.cdf(a) for a in x]
    first, second = derivatives(x)
    assert log_ndtr(torch.tensor(x, dtype=torch.float64)).tolist() == pytest.approx(
        list(stats.norm.logcdf(x))
    )
    assert first == pytest.approx(hazard, rel=1e-12)
    assert second == pytest.approx([-h * (a + h) for a, h in zip(x, hazard, strict=True)], rel=1e-10)


def test_derivative_in_the_left_tail_is_the_asymptotic_series():
    """phi(-t) / Phi(-t) = t + 1/t - 2/t^3 + 10/t^5 - ..., with a next term of 74 / t^7."""
    for t in (60.0, 3000.0, 1e6):
        first, second = derivatives([-t])
        assert first[0] == pytest.approx(t + 1 / t - 2 / t**3 + 10 / t**5, rel=1e-13 + 74 / t**8)
        # -(1 - 1/t^2 + 6/t^4), which the product of two nearly opposite numbers knows to t^2 roundings
        assert second[0] == pytest.approx(-1 + 1 / t**2 - 6 / t**4, rel=1e-15 * t**2 + 50 / t**6)


def test_everything_is_finite_far_to_the_right():
    first, second = derivatives([20.0, 40.0, 300.0, 1e6])
    assert first[0] == pytest.approx(stats.norm.pdf(20.0), rel=1e-12)
    assert first[2:] == second[2:] == [0.0, 0.0]


def test_log_normal_is_the_normal_density():
    e, v = torch.tensor([-1.0, 0.0, 3.0]), torch.tensor([0.1, 1.0, 20.0])
    torch.testing.assert_close(log_normal(e, v), torch.distributions.Normal(0.0, v.sqrt()).log_prob(e))
