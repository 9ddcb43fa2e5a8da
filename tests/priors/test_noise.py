"""Every law of the registry with Gaussian noise added: density, score and information."""

from math import inf, pi, sqrt

import numpy as np
import pytest
import torch

from probae.checks import NotExactError, ParameterError
from probae.priors import Gaussian, Independent, Laplace, MultivariateStudentT, Scaled, StudentT, Uniform

# kappa - 1 of the noisy Laplace law as the table prints it, three digits
TABLE = {
    0.001: 0.904, 0.01: 0.727, 0.03: 0.576, 0.1: 0.365, 0.25: 0.204, 0.5: 0.105, 1: 0.0417, 2: 0.0114,
    4: 0.00198, 9: 0.00015,
}  # fmt: skip


@pytest.mark.parametrize("variance", [1e-4, 0.09, 10.0])
def test_density_is_the_convolution(law, variance):
    y = [0.0, 0.004, -0.7, 1.8, -6.0, 30.0]
    expected = [law.noisy_log_density(point, variance) for point in y]
    found = law.prior.noisy_log_prob(torch.tensor(y, dtype=torch.float64), variance).tolist()
    # a log density of size L is itself known to L times the precision of float64
    errors = [abs(a - b) / max(1, abs(b) * 1e-5) for a, b in zip(found, expected, strict=True)]
    assert max(errors) < 1e-8, (found, expected)


def test_density_has_mass_one(law):
    u = np.arange(-10, 10, 0.01)
    y, width = torch.from_numpy(np.sinh(u)), torch.from_numpy(0.01 * np.cosh(u))
    # the trapezoid rule is exact to rounding for a law smoothed over .5; the tail of t3 beyond 1e4 holds 1e-12
    assert float(law.prior.noisy_log_prob(y, 0.25).detach().exp() @ width) == pytest.approx(1, abs=1e-9)


def test_small_noise_moves_the_density_by_half_its_curvature(law, points):
    """log f = log p + v/2 p'' / p + O(v^2), and p'' / p = psi^2 - psi'."""
    z = points[points.abs() > 0.1]
    z = (z[z.abs() < 1.7] if law.name == "uniform" else z).clone().requires_grad_()
    psi = law.prior.score(z)
    slope = (
        torch.autograd.grad(psi.sum(), z, allow_unused=True)[0] if psi.requires_grad else torch.zeros_like(z)
    )
    curvature = (psi.square() - slope).detach()
    moved = (law.prior.noisy_log_prob(z, 1e-6) - law.prior.log_prob(z)).detach() / 1e-6
    # quadrature is good to 2e-11, thus 2e-5 here; the next order is 1e-6 times squares of the curvature
    torch.testing.assert_close(moved, 0.5 * curvature, rtol=1e-2, atol=1e-4)


def test_score_is_the_derivative_of_the_density(law, points):
    for variance in (0.01, 2.0):
        y = points.clone().requires_grad_()
        score = law.prior.noisy_score(y, variance)
        h = 1e-4 * sqrt(variance)
        with torch.no_grad():
            above, below = (
                law.prior.noisy_log_prob(y + h, variance),
                law.prior.noisy_log_prob(y - h, variance),
            )
            # h^2 of a third derivative of size 1 / sd^3, plus 4e-11 / 2h: below 1e-5
            torch.testing.assert_close(score, -(above - below) / (2 * h), rtol=1e-5, atol=1e-5)
        (by_autograd,) = torch.autograd.grad(law.prior.noisy_log_prob(y, variance).sum(), y)
        torch.testing.assert_close(score.detach(), -by_autograd, rtol=1e-8, atol=1e-8)


def test_density_obeys_the_heat_equation(law, points):
    """df / dv = f'' / 2, that is d log f / dv = (psi^2 - psi') / 2, with psi the noisy score."""
    y = points.clone().requires_grad_()
    v = torch.full_like(y, 0.4).requires_grad_()
    (by_variance,) = torch.autograd.grad(law.prior.noisy_log_prob(y, v).sum(), v)
    score = law.prior.noisy_score(y, v)
    (slope,) = torch.autograd.grad(score.sum(), y)
    expected = 0.5 * (score.detach().square() - slope)
    torch.testing.assert_close(by_variance, expected, rtol=1e-7, atol=1e-7)


def test_derivatives_exist_at_zero(law):
    y = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    score = law.prior.noisy_score(y, 0.01)
    (slope,) = torch.autograd.grad(score.sum(), y)
    assert abs(float(score.detach())) < 1e-8  # the laws are even
    h = 1e-3  # the next order is h^2 / v = 1e-4 of the slope; 1e-9 of the score is 1e-6 of the difference
    with torch.no_grad():
        difference = law.prior.noisy_score(torch.tensor([h], dtype=torch.float64), 0.01) / h
    assert float(slope) == pytest.approx(float(difference), rel=1e-3, abs=1e-5)


def test_noisy_laplace_carries_the_information_of_the_table():
    for variance, excess in TABLE.items():
        last_digit = 10.0 ** (np.floor(np.log10(excess)) - 2)
        last_digit = max(last_digit, 1e-5)  # .00015 has two digits
        kappa = Laplace().noisy_fisher_information(variance)
        assert kappa - 1 == pytest.approx(excess, abs=0.51 * last_digit)


def test_information_falls_with_noise_and_stays_above_one(law):
    base = law.variance * law.prior.fisher_information()
    values = [base, *(law.prior.noisy_fisher_information(law.variance * v) for v in (1e-3, 0.1, 3.0))]
    assert min(values) >= 1 - 1e-9
    assert all(after <= before + 1e-9 for before, after in zip(values[:-1], values[1:], strict=True))


def test_information_at_high_noise_follows_the_kurtosis():
    """kappa - 1 = kurtosis^2 / (6 (1 + v)^4) + O((1 + v)^-6), with kurtosis 3 for Laplace and -6/5 for Uniform."""
    for prior, kurtosis in ((Laplace(), 3.0), (Uniform(), -1.2)):
        excess = prior.noisy_fisher_information(30.0) - 1
        assert excess == pytest.approx(kurtosis**2 / (6 * 31**4), rel=0.1)


def test_noisy_uniform_information_by_another_route():
    """kappa of Uniform + N(0, v) from f' in closed form, on a fine even grid."""
    v, b = 0.05, sqrt(3)
    y = np.linspace(-6, 6, 24_001)
    bell = lambda e: np.exp(-(e**2) / (2 * v)) / sqrt(2 * pi * v)  # noqa: E731
    slope = (bell(y + b) - bell(y - b)) / (2 * b)
    density = np.exp(Uniform().noisy_log_prob(torch.from_numpy(y), v).numpy())
    information = (1 + v) * np.sum(slope**2 / density) * (y[1] - y[0])
    assert Uniform().noisy_fisher_information(v) == pytest.approx(information, rel=1e-8)


def test_published_value_of_the_normal_laplace_law():
    prior = Scaled(Laplace(), sd=sqrt(2))  # scale 1
    y = torch.tensor(1.3, dtype=torch.float64)
    assert float(prior.noisy_log_prob(y, 0.25)) == pytest.approx(-1.8729957804, abs=5e-11)


def test_gaussian_stays_gaussian():
    y = torch.linspace(-5, 5, 11, dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, sqrt(3.5)).log_prob(y)
    torch.testing.assert_close(Gaussian().noisy_log_prob(y, 2.5), expected)
    torch.testing.assert_close(Gaussian().noisy_score(y, 2.5), y / 3.5)
    assert Gaussian().noisy_fisher_information(2.5) == 1


def test_variance_broadcasts(law):
    y = torch.tensor([[-1.0], [0.2], [3.0]], dtype=torch.float64)
    v = torch.tensor([0.1, 1.0], dtype=torch.float64)
    both = law.prior.noisy_log_prob(y, v)
    assert both.shape == (3, 2)
    torch.testing.assert_close(both[:, 1:], law.prior.noisy_log_prob(y, 1.0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        law.prior.noisy_score(y, v)[:, 1:], law.prior.noisy_score(y, 1.0), rtol=1e-7, atol=1e-7
    )


def test_empty_and_endless_points(law):
    assert law.prior.noisy_log_prob(torch.zeros(0, dtype=torch.float64), 1.0).shape == (0,)
    y = torch.tensor([inf, -inf, float("nan"), 1.0], dtype=torch.float64)
    value = law.prior.noisy_log_prob(y, 1.0)
    assert value[2].isnan()
    assert value[3].isfinite()
    assert not value[:2].isfinite().any()


@pytest.mark.parametrize("wrong", [0.0, -1.0, inf, float("nan")])
def test_variance_has_to_be_positive(law, wrong):
    with pytest.raises(ParameterError, match="variance should be (finite and|a finite number) above 0"):
        law.prior.noisy_log_prob(torch.zeros(2, dtype=torch.float64), wrong)
    with pytest.raises(ParameterError, match="variance should be (finite and|a finite number) above 0"):
        law.prior.noisy_fisher_information(wrong)


def test_joint_laws_have_no_noisy_coordinate():
    prior = MultivariateStudentT(df=5)
    z = torch.zeros(2, 3, dtype=torch.float64)
    for call in (
        lambda: prior.noisy_log_prob(z, 1.0),
        lambda: prior.noisy_score(z, 1.0),
        lambda: prior.noisy_fisher_information(1.0),
        lambda: prior.fisher_information(),
        lambda: Independent([Laplace()]).fisher_information(),
    ):
        with pytest.raises(NotExactError, match="is a property of one coordinate"):
            call()


def test_noisy_score_keeps_no_graph_nobody_asked_for():
    y = torch.zeros(3, dtype=torch.float64)
    assert not StudentT(df=5).noisy_score(y, 1.0).requires_grad
    assert StudentT(df=5, learn=True).noisy_score(y, 1.0).requires_grad
    with torch.no_grad():
        assert not StudentT(df=5, learn=True).noisy_score(y, 1.0).requires_grad
