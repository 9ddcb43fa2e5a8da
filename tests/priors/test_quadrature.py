"""The panels: where they look, what they cost, and that chunks change nothing."""

import pytest
import torch

from probae.priors import GeneralizedNormal, Logistic, StudentT, quadrature
from probae.priors.normal import log_normal
from probae.priors.quadrature import graded_rule, log_convolution


def log_unit(z):
    return log_normal(z, torch.ones_like(z))


def identity(z):
    return z


@pytest.mark.parametrize("variance", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_gaussian_plus_gaussian_is_gaussian(variance):
    """The panels know nothing of the closed form, at any ratio of the two widths."""
    y = torch.tensor([0.0, 1e-3, -0.5, 3.0, -40.0], dtype=torch.float64)
    v = torch.full_like(y, variance)
    torch.testing.assert_close(
        log_convolution(log_unit, identity, y, v), log_normal(y, 1 + v), rtol=1e-9, atol=1e-9
    )


def test_mass_far_from_the_point_is_found():
    """Light tails pull the mass of the integrand some hundred noise deviations away from y."""
    log_quartic = lambda z: -(z.abs() ** 4) / 4  # noqa: E731
    y, v = torch.tensor([30.0], dtype=torch.float64), torch.tensor([1e-4], dtype=torch.float64)
    found = float(log_convolution(log_quartic, lambda z: z**3, y, v))
    # Laplace's method about the mode m, where y - m = v m^3; its error is of relative size v^2 m^2 / (1 + 3 v m^2)^3
    m = 30.0
    for _ in range(50):
        m -= (m - 30.0 + 1e-4 * m**3) / (1 + 3e-4 * m**2)
    peak = -(m**4) / 4 - (30.0 - m) ** 2 / 2e-4
    assert found == pytest.approx(peak - 0.5 * torch.log1p(torch.tensor(3e-4 * m**2)).item(), abs=2e-5)


def test_chunks_change_nothing(monkeypatch):
    prior = StudentT(df=4, learn=True)
    y = torch.linspace(-20, 20, 50, dtype=torch.float64, requires_grad=True)
    v = torch.linspace(0.01, 5, 50, dtype=torch.float64, requires_grad=True)

    def derivatives():
        value = prior.noisy_log_prob(y, v)
        inputs = [y, v, *prior.parameters()]
        first = torch.autograd.grad(value.sum(), inputs, create_graph=True)
        return [value, *first, *torch.autograd.grad(first[0].square().sum() + first[1].sum(), inputs)]

    whole = derivatives()
    monkeypatch.setattr(quadrature, "CHUNK", 7)
    for a, b in zip(whole, derivatives(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prior", [StudentT(df=3), Logistic(), GeneralizedNormal(shape=0.5)], ids=repr)
def test_memory_is_bounded(prior):
    sizes = []

    def watched(z):
        sizes.append(z.numel())
        return prior.log_prob(z)

    y = prior.sample(2 * quadrature.CHUNK + 1)
    log_convolution(watched, prior.score, y, torch.full_like(y, 0.1))
    # forty panels a point are more than any law needs at a time, whatever the number of points
    assert max(sizes) <= 40 * quadrature.ORDER * quadrature.CHUNK


def test_a_density_that_is_nan_ends():
    y = torch.ones(3, dtype=torch.float64)
    assert bool(log_convolution(lambda z: z * torch.nan, identity, y, y).isnan().all())


def test_graded_rule_integrates_around_every_centre():
    z, weights = graded_rule((-1.0, 2.0), 1e-6, 50.0)
    peaks = (z + 1).abs().sqrt().neg().exp() + (z - 2).abs().sqrt().neg().exp()
    # each is 2 int_0^inf exp(-sqrt r) dr = 4; beyond 48 it holds 2 * 2 (1 + sqrt 48) exp(-sqrt 48) = 0.031 at the most
    assert float(weights @ peaks) == pytest.approx(8, abs=0.07)
    assert float(weights.sum()) == pytest.approx(float(z.max() - z.min()), rel=1e-2)
    assert float(weights @ (-((z - 2) ** 2)).exp()) == pytest.approx(torch.pi**0.5, rel=1e-12)
