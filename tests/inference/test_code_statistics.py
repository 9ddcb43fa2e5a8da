"""Statistics of the codes, and the parameters that are best for them."""

import pytest
import torch

from probae.inference.code_statistics import CodeParameters, CodeStatistics
from probae.inference.shape_step import improve_shape
from probae.priors import Laplace, MultivariateStudentT, StudentT


def problem():
    x, z = torch.randn(50, 4, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    root = torch.randn(3, 3, dtype=torch.float64)
    return x, z, root @ root.T


def value(parts, x, z, covariance):
    """E log p(x | z) per row, written out."""
    W, psi, mean = parts
    residual = (x - z @ W.T - mean).square().mean(0) + ((W @ covariance) * W).sum(1) / len(x)
    return -0.5 * (residual / psi + (2 * torch.pi * psi.expand(4)).log()).sum()


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_gradient_vanishes_at_the_maximum(isotropic):
    x, z, covariance = problem()
    statistics = CodeStatistics.of(x, z, covariance)
    best = statistics.maximize(isotropic, 1e-6)
    points = [part.clone().requires_grad_() for part in best]
    height = value(points, x, z, covariance)
    assert height.item() == pytest.approx(statistics.log_likelihood(best), rel=1e-12)
    for gradient in torch.autograd.grad(height, points):
        assert gradient.abs().max() < 1e-12


def test_sums_add_and_scale():
    x, z, _ = problem()
    whole, parts = (
        CodeStatistics.of(x, z),
        CodeStatistics.of(x[:20], z[:20]) + CodeStatistics.of(x[20:], z[20:]),
    )
    for name in ("count", "second", "cross", "power"):
        one, two = (torch.as_tensor(getattr(s, name)) for s in (whole, parts))
        assert torch.allclose(one, two, rtol=1e-12)
    scale = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    assert torch.allclose(whole.rescaled(scale).second, CodeStatistics.of(x, z / scale).second, rtol=1e-12)
    assert torch.allclose(whole.rescaled(scale).cross, CodeStatistics.of(x, z / scale).cross, rtol=1e-12)
    turn = torch.randn(3, 3, dtype=torch.float64)
    assert torch.allclose(whole.remixed(turn).second, CodeStatistics.of(x, z @ turn.T).second, rtol=1e-12)
    assert torch.allclose(whole.remixed(turn).cross, CodeStatistics.of(x, z @ turn.T).cross, rtol=1e-12)
    assert torch.allclose(whole.times(2.0).maximize(True, 0.0).loadings, whole.maximize(True, 0.0).loadings)


def test_fewer_rows_than_codes_give_the_smallest_of_the_answers():
    x, z = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    best = CodeStatistics.of(x, z).maximize(isotropic=True, floor=1e-3)
    extended = torch.cat([z, torch.ones(2, 1, dtype=torch.float64)], 1)
    exact = torch.linalg.pinv(extended) @ x
    assert torch.allclose(torch.cat([best.loadings, best.offset[:, None]], 1), exact.T, atol=1e-8)
    assert best.noise.item() == 1e-3


def test_parameters_are_named():
    assert CodeParameters._fields == ("loadings", "noise", "offset")


@pytest.mark.parametrize("build", [StudentT, MultivariateStudentT])
def test_the_degrees_of_freedom_are_found(build):
    """Of 40,000 vectors: within 5 standard errors, from the curvature of the likelihood in log(nu - 2)."""
    z = build(5.0).sample(40_000, 2).double()
    prior = build(12.0, learn=True)
    heights = [prior.joint_log_prob(z).mean().item()]
    for _ in range(40):
        improve_shape(prior, z)
        heights.append(prior.joint_log_prob(z).mean().item())
    assert all(b >= a for a, b in zip(heights[:-1], heights[1:], strict=True))
    parameter = prior.freedom.log_excess
    (slope,) = torch.autograd.grad(prior.joint_log_prob(z).sum(), parameter, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, parameter)
    error = (-curvature).rsqrt().item()
    assert error < 0.05
    assert parameter.item() == pytest.approx(torch.tensor(3.0).log().item(), abs=5 * error)


def test_a_fixed_shape_stays():
    prior = StudentT(7.0)
    improve_shape(prior, torch.randn(100, 2))
    improve_shape(Laplace(), torch.randn(100, 2))
    assert prior.df.item() == 7.0
