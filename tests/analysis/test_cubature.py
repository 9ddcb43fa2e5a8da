"""Quadrature over the latents, against closed forms and an independent integrator."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

import probae as pa
from probae.analysis.cubature import panel_edges
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Scaled,
    SpikeSlab,
    StudentT,
    Uniform,
)


@pytest.mark.parametrize(("features", "latents"), [(1, 2), (3, 2), (1, 3), (4, 3)])
def test_gaussian_latents_have_their_closed_form(build, features, latents):
    model = build(features, latents, Gaussian())
    x = model.sample(3, seed=0)
    result = pa.log_evidence(model, x, pa.Quadrature())
    assert torch.allclose(result.value, model.log_likelihood(x), rtol=0, atol=1e-10)
    assert result.standard_error.max() < 1e-6
    assert result.bound == "numerical"


@pytest.mark.parametrize(
    "prior", [Laplace(), StudentT(4), GeneralizedNormal(0.7), Uniform(), SpikeSlab()], ids=repr
)
def test_orthonormal_dictionary_is_a_product(orthonormal, prior):
    """The rule integrates two coupled latents and knows nothing of the product."""
    model = orthonormal(2, prior=prior)
    x = model.sample(4, seed=0)
    result = pa.log_evidence(model, x, pa.Quadrature())
    assert torch.allclose(result.value, model.log_likelihood(x), rtol=0, atol=1e-7)  # cusp of |z|^.7: 1e-8
    assert ((result.value - model.log_likelihood(x)).abs() <= result.standard_error + 1e-9).all()


@pytest.mark.parametrize("noise", [1e-4, 0.3])
def test_two_latents_of_one_feature_against_scipy(build, noise):
    """More latents than features: p(x) = int p(z_1) f(x - w_1 z_1) dz_1, at low noise with two narrow features."""
    model = build(1, 2, noise_variance=noise)
    (w1, w2), mean = model.loadings.detach()[0].tolist(), float(model.mean.detach())
    x = 0.7
    single = pa.SparseCoding(1, 1)
    single.loadings = torch.tensor([[w2]], dtype=torch.float64)
    single.noise_variance = torch.tensor(noise, dtype=torch.float64)

    def integrand(z):
        rest = torch.tensor([[x - mean - w1 * z]], dtype=torch.float64)
        law = math.exp(-math.sqrt(2) * abs(z)) / math.sqrt(2)
        return law * float(single.log_likelihood(rest).exp())

    knots = sorted([-20.0, 0.0, (x - mean) / w1, 20.0])
    total = sum(
        integrate.quad(integrand, a, b, epsabs=1e-12, epsrel=1e-10, limit=200)[0]
        for a, b in zip(knots[:-1], knots[1:], strict=True)
    )
    result = pa.log_evidence(model, [[x]], pa.Quadrature())
    assert float(result.value) == pytest.approx(math.log(total), abs=1e-7)


def test_three_latents_and_two_features_against_a_grid(build):
    """Midpoint rule 0.1 apart on +-6 with 0 on an edge: relative error 0.1^2 / 24 times p'' / p."""
    model = build(2, 3, noise_variance=0.5)
    x = model.sample(2, seed=0)
    points = torch.arange(-7.95, 8, 0.1, dtype=torch.float64)
    pair = torch.cartesian_prod(points, points)
    result = pa.log_evidence(model, x, pa.Quadrature(points=6))
    for row, value in zip(x, result.value, strict=True):
        parts = [
            model.log_joint(
                row.expand(len(pair), -1), torch.cat([torch.full((len(pair), 1), float(z)), pair], 1)
            ).logsumexp(0)
            for z in points
        ]
        grid = torch.stack(parts).detach().logsumexp(0) + 3 * math.log(0.1)
        # (h^2/24) p''/p sums to about 3 * .01/24 * (2 + |W|^2/psi ~ 10) = .015; tails beyond 8: 1e-5
        assert float(value) == pytest.approx(float(grid), abs=0.02)


def test_integral_over_x_is_one(build):
    """One feature, two latents with laws of their own, one of them of another scale."""
    model = build(1, 2, Independent([StudentT(5), Scaled(Laplace(), sd=0.5)]))
    x = torch.linspace(-60, 60, 4001, dtype=torch.float64).unsqueeze(1)
    density = pa.log_evidence(model, x, pa.Quadrature()).value.exp()
    # trapezium rule on a smooth density: exact to rounding; t_5 beyond 60 / |w|: about (60)^-5
    assert float(density.sum() * 0.03) == pytest.approx(1, abs=1e-5)


def test_columns_of_zeros_do_not_count(build):
    model = build(2, 3)
    loadings = model.loadings.detach().clone()
    loadings[:, 1] = 0.0
    model.loadings = loadings
    smaller = build(2, 2, loadings=loadings[:, [0, 2]])
    smaller.mean = model.mean
    x = model.sample(3, seed=0)
    both = [pa.log_evidence(m, x, pa.Quadrature()).value for m in (model, smaller)]
    assert torch.allclose(*both, atol=1e-12)
    model.loadings = torch.zeros(2, 3, dtype=torch.float64)
    noise = torch.distributions.Normal(model.mean, model.noise_variance.sqrt())
    assert torch.allclose(
        pa.log_evidence(model, x, pa.Quadrature()).value, noise.log_prob(x).sum(1), atol=1e-12
    )


def test_parallel_and_equal_columns(build):
    """W = (w, w): z_1 + z_2 is what counts. The least-squares value of one latent does not exist."""
    column = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    model = build(2, 2, Gaussian(), loadings=torch.cat([column, column], 1))
    x = model.sample(3, seed=0)
    result = pa.log_evidence(model, x, pa.Quadrature())
    assert torch.allclose(result.value, model.log_likelihood(x), atol=1e-9)


def test_a_far_row_keeps_its_accuracy(build):
    model = build(2, 2, Gaussian())
    x = torch.tensor([[300.0, -200.0]], dtype=torch.float64)
    result = pa.log_evidence(model, x, pa.Quadrature())
    assert float(result.value) == pytest.approx(float(model.log_likelihood(x)), rel=1e-9)


def test_panels_meet_every_kink(build):
    model = build(2, 2, Uniform())
    columns = model.loadings.detach()
    normal = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64).unsqueeze(0)
    edges = panel_edges(columns, [Uniform(), Uniform()], torch.zeros(1, 2, dtype=torch.float64), normal)[0]
    for kink in (-math.sqrt(3), math.sqrt(3)):
        assert np.abs(edges.numpy() - kink).min() < 1e-12
    assert (edges.diff() >= 0).all()
