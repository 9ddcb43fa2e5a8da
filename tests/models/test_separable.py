"""Exact likelihoods of non-Gaussian latents, against closed forms and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from probae import NotExactError, SufficientStatistics
from probae.models import (
    LinearFactorModel,
    SparseCoding,
)
from probae.priors import (
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    Scaled,
    SpikeSlab,
    StudentT,
    Uniform,
)


def laplace_evidence(x, b, s):
    """log of the density of Laplace(0, b) + N(0, s^2) at x."""
    left = -x / b + special.log_ndtr(x / s - s / b)
    right = x / b + special.log_ndtr(-x / s - s / b)
    return s**2 / (2 * b**2) - np.log(2 * b) + np.logaddexp(left, right)


def test_orthonormal_dictionary_evidence_is_a_sum_of_closed_forms(assert_close):
    """x = c U z + e with U (D, K) orthonormal: K Laplace-Gaussian convolutions and D - K pure noises."""
    for features, latents in ((4, 4), (6, 3)):
        U = torch.linalg.qr(torch.randn(features, features, dtype=torch.float64))[0]
        model, c, s = SparseCoding(features, latents), 1.7, 0.6
        model.loadings = c * U[:, :latents]
        model.noise_variance = torch.tensor(s**2, dtype=torch.float64)
        x = 3 * torch.randn(40, features, dtype=torch.float64)
        inside, outside = (x @ U[:, :latents]).numpy(), (x @ U[:, latents:]).numpy()
        expected = laplace_evidence(inside, c / math.sqrt(2), s).sum(1) + stats.norm(scale=s).logpdf(
            outside
        ).sum(1)
        assert_close(model.log_likelihood(x), torch.from_numpy(expected), 1e-10)


@pytest.mark.parametrize(
    "prior",
    [
        Laplace(),
        StudentT(4),
        Logistic(),
        GeneralizedNormal(0.8),
        GeneralizedNormal(5.0),
        SpikeSlab(),
        Uniform(),
        Scaled(Laplace(), 3.0),
        Independent([StudentT(5)]),
    ],
    ids=repr,
)
def test_one_latent_likelihood_equals_quadrature(prior, randomize):
    """One latent has uncorrelated score noise, so log p(x) is the log of the integral of p(x, z)."""
    model = randomize(LinearFactorModel(4, 1, prior=prior), seed=2)
    x = model.sample(1, seed=1)
    exact = model.log_likelihood(x)
    centre = model.sufficient_scores(x).values[:, 0]
    for row, value, middle in zip(x, exact, centre, strict=True):

        def integrand(z, row=row, value=value):
            point = torch.tensor([[z]], dtype=torch.float64)
            return math.exp((model.log_joint(row[None], point) - value).item())

        edges = sorted({0.0, middle.item(), *(s * e for s in (-1, 1) for e in (3**0.5, 0.5, 4.0, 40.0))})
        parts = [
            integrate.quad(integrand, a, b, epsabs=1e-11, epsrel=1e-11)[0]
            for a, b in zip(edges, edges[1:], strict=False)
        ]
        assert sum(parts) == pytest.approx(1.0, abs=1e-8)


def test_separable_likelihood_with_diagonal_noise_and_unequal_laws():
    """W' Psi^-1 W diagonal by construction: the density is the product of what each score says."""
    model = LinearFactorModel(5, 2, prior=Independent([Laplace(), GeneralizedNormal(4.0)]))
    psi = torch.tensor([0.2, 0.5, 0.9, 0.3, 0.6], dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0]
    lengths = torch.tensor([3.0, 1.5], dtype=torch.float64)
    model.loadings = psi.sqrt()[:, None] * U * lengths
    model.noise_variance = psi
    x = model.sample(3, seed=3)
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)  # trapezium error ~ step^2 at the Laplace kink
    z = torch.cartesian_prod(grid, grid)
    for row, value in zip(x, model.log_likelihood(x), strict=True):
        step = (grid[1] - grid[0]).item()
        parts = [
            model.log_joint(row.expand(len(block), -1), block).logsumexp(0) for block in z.split(400_000)
        ]
        integral = torch.stack(parts).logsumexp(0).item() + 2 * math.log(step)
        assert value.item() == pytest.approx(integral, abs=5 * step**2)


def test_correlated_score_noise_has_no_closed_form(randomize):
    model = randomize(LinearFactorModel(5, 2, prior=Laplace()))
    x = model.sample(7, seed=5)
    for query in (lambda: model.log_likelihood(x), lambda: model.posterior(x), model.marginal):
        with pytest.raises(NotExactError, match="no closed form"):
            query()
    with pytest.raises(NotExactError, match="no closed form"):
        model.collapsed(SufficientStatistics.from_data(x))


def test_overcomplete_likelihood_names_an_alternative(randomize):
    model = randomize(SparseCoding(4, 7))
    with pytest.raises(NotExactError):
        model.log_likelihood(model.sample(7, seed=5))


def test_an_empty_column_of_loadings_leaves_pure_noise(assert_close):
    """A code that reaches no feature changes nothing: x is N(mean, Psi)."""
    model = SparseCoding(4, 1)
    model.loadings = torch.zeros(4, 1, dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64)
    assert_close(model.log_likelihood(x), torch.from_numpy(stats.norm.logpdf(x.numpy()).sum(1)), 1e-12)
