"""The Gaussian law of correlated factors."""

import copy
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from probae.checks import NotExactError, ParameterError
from probae.priors import CorrelatedGaussian, Gaussian, Prior

PHI = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]], dtype=torch.float64)


def random_correlation(k, seed):
    a = torch.randn(k, 2 * k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    s = a @ a.T
    return s / torch.outer(s.diagonal().sqrt(), s.diagonal().sqrt())


@pytest.mark.parametrize("learn", [False, True])
@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_log_prob_is_scipys(learn, k, seed):
    phi = random_correlation(k, seed)
    prior = CorrelatedGaussian(phi, learn=learn)
    z = torch.randn(6, k, dtype=torch.float64)
    expected = np.atleast_1d(stats.multivariate_normal(np.zeros(k), phi.numpy()).logpdf(z.numpy()))
    np.testing.assert_allclose(prior.log_prob(z).detach().numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(prior.joint_log_prob(z).detach().numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(prior.correlation.detach().numpy(), phi.numpy(), atol=1e-12)
    np.testing.assert_allclose((prior.factor @ prior.factor.mT).detach().numpy(), phi.numpy(), atol=1e-12)


def test_without_correlations_it_is_the_standard_normal():
    prior, z = CorrelatedGaussian(np.eye(3)), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z), Gaussian().joint_log_prob(z), rtol=1e-14, atol=0)
    torch.testing.assert_close(prior.score(z), z, rtol=1e-14, atol=0)
    assert prior.spherical
    assert [type(law) for law in prior.coordinates(3)] == [Gaussian] * 3


@pytest.mark.parametrize("learn", [False, True])
def test_score_is_the_gradient(learn):
    prior = CorrelatedGaussian(PHI, learn=learn)
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    torch.testing.assert_close(prior.score(z), -slope)


def test_gradient_in_the_correlations():
    prior = CorrelatedGaussian(PHI, learn=True)
    z = torch.randn(4, 3, dtype=torch.float64)

    def value(ratios):
        own = copy.deepcopy(prior)
        del own.ratios
        own.ratios = ratios
        return own.log_prob(z)

    assert torch.autograd.gradcheck(value, (prior.ratios.detach().tril(-1).requires_grad_(),), atol=1e-6)


def test_any_ratios_give_a_correlation_matrix():
    prior = CorrelatedGaussian(PHI, learn=True)
    with torch.no_grad():
        prior.ratios += 3 * torch.randn(3, 3, dtype=torch.float64)
    phi = prior.correlation.detach()
    assert torch.equal(phi.diagonal(), torch.ones(3, dtype=torch.float64))
    assert torch.equal(phi, phi.T)
    assert torch.linalg.eigvalsh(phi)[0] > 0


def test_draws_have_the_correlations():
    """Fisher's z of a sample correlation has standard error (n - 3)^(-1/2)."""
    draws = CorrelatedGaussian(PHI).sample(20_000)
    found = torch.corrcoef(draws.T)
    error = (torch.atanh(found.tril(-1)) - torch.atanh(PHI.tril(-1))).abs().max()
    assert error < 5 / 20_000**0.5
    squared = CorrelatedGaussian(PHI).score(draws).mul(draws).sum(1)  # chi-square with 3 degrees of freedom
    assert stats.kstest(squared.numpy(), stats.chi2(3).cdf).pvalue > 1e-4


def test_prox_minimises():
    prior = CorrelatedGaussian(PHI)
    v = torch.randn(4, 3, dtype=torch.float64)
    z = prior.prox(v, 0.7)
    torch.testing.assert_close(z + 0.7 * prior.score(z), v)
    for wrong in (0.0, -1.0, float("nan"), torch.ones(3)):
        with pytest.raises(ParameterError, match="step should be one finite number above 0"):
            prior.prox(v, wrong)


def test_distribution_is_the_law():
    prior = CorrelatedGaussian(PHI)
    z = prior.sample(4)
    torch.testing.assert_close(prior.distribution(3).log_prob(z), prior.log_prob(z))
    assert prior.distribution(3, like=torch.zeros(1)).sample().dtype == torch.float32
    assert prior.log_prob(z.float()).dtype == prior.score(z.float()).dtype == torch.float32
    assert prior.log_prob(torch.zeros(2, 5, 3)).shape == (2, 5)


def test_flags():
    prior = CorrelatedGaussian(PHI)
    assert (prior.event_dim, prior.spherical, prior.has_scale_mixture, prior.latents) == (1, False, False, 3)
    assert prior.coordinates(3) is None
    assert isinstance(prior, Prior)
    assert repr(prior) == "CorrelatedGaussian(3 factors, largest correlation 0.6)"
    assert repr(CorrelatedGaussian([[1.0]], learn=True)) == "CorrelatedGaussian(1 factor, learn=True)"
    for call in (prior.fisher_information, lambda: prior.noisy_log_prob(torch.zeros(2, 3), 1.0)):
        with pytest.raises(NotExactError, match="is a property of one coordinate"):
            call()


@pytest.mark.parametrize(
    ("correlation", "message"),
    [
        ([[1.0, 0.5]], r"square matrix, got shape \(1, 2\)"),
        ([1.0, 0.5], "square matrix"),
        ([], "square matrix"),
        (np.zeros((0, 0)), "square matrix"),
        ("unit", "square matrix of numbers, got a str"),
        (None, "square matrix"),
        ([[1.0, "a"], ["a", 1.0]], "square matrix of numbers"),
        ([[1.0, 0.5], [0.4, 1.0]], "symmetric"),
        ([[1.0, float("nan")], [float("nan"), 1.0]], "finite numbers"),
        ([[2.0, 0.5], [0.5, 1.0]], "ones on its diagonal, got 2"),
        ([[1.0, 1.0], [1.0, 1.0]], "positive definite"),
        ([[1.0, 1.5], [1.5, 1.0]], "positive definite, got a smallest eigenvalue of -0.5"),
    ],
)
def test_a_wrong_matrix_ends_in_one_sentence(correlation, message):
    with pytest.raises(ParameterError, match=message):
        CorrelatedGaussian(correlation)


def test_the_number_of_factors_is_fixed():
    prior = CorrelatedGaussian(PHI)
    for call in (
        lambda: prior.distribution(2),
        lambda: prior.coordinates(4),
        lambda: prior.sample(5, 2),
        lambda: prior.log_prob(torch.zeros(5, 2)),
        lambda: prior.score(torch.zeros(5, 4)),
    ):
        with pytest.raises(ParameterError, match=re.escape("latents should be 3")):
            call()


def test_tables_of_any_kind_are_taken():
    import pandas as pd

    for kind in (PHI, PHI.numpy(), PHI.tolist(), PHI.float(), pd.DataFrame(PHI.numpy())):
        assert (CorrelatedGaussian(kind).correlation - PHI).abs().max() < 1e-7
