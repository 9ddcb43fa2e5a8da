"""Missing entries: integrated out exactly, or refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from probae import DataError, MissingRowWarning
from probae.linalg import haar_rotation
from probae.models import (
    FactorAnalysis,
    IndependentComponents,
    LinearFactorModel,
    SparseCoding,
    marginal,
)


def test_missing_entries_give_the_density_of_the_rest(randomize):
    generator = torch.Generator().manual_seed(8)
    model = randomize(FactorAnalysis(7, 3))
    covariance = (model.loadings @ model.loadings.mT + model.uniquenesses.diag()).detach()
    x = model.sample(200, seed=2)
    mask = torch.rand(200, 7, generator=generator) < torch.rand(200, 1, generator=generator)
    mask[:3] = True
    x[mask] = torch.nan
    with pytest.warns(MissingRowWarning):
        value = model.log_likelihood(x)
    mean = model.mean.detach().numpy()
    for row, missing, actual in zip(x.numpy(), mask.numpy(), value.tolist(), strict=True):
        seen = ~missing
        expected = 0.0
        if seen.any():
            block = covariance.numpy()[np.ix_(seen, seen)]
            expected = stats.multivariate_normal(mean[seen], block).logpdf(row[seen])
        assert actual == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_missing_entries_give_the_posterior_of_the_rest(gaussian_model, assert_close):
    model = gaussian_model
    x = model.sample(6, seed=5)
    x[1, 0] = x[2, 1:] = x[3] = torch.nan
    with pytest.warns(MissingRowWarning, match="row 3"):
        posterior = model.posterior(x)
    loadings = model.loadings.detach().numpy()
    noise = model.noise_variance.detach().expand(model.features).numpy()
    for n, row in enumerate(x.numpy()):
        seen = ~np.isnan(row)
        W = loadings[seen]
        M = np.linalg.inv(model.factor_correlation.numpy()) + W.T @ (W / noise[seen, None])
        mean = np.linalg.solve(M, W.T @ ((row - model.mean.detach().numpy())[seen] / noise[seen]))
        np.testing.assert_allclose(posterior.mean[n], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(posterior.covariance_matrix[n], np.linalg.inv(M), rtol=1e-9, atol=1e-12)
    assert torch.equal(posterior.mean[3], torch.zeros(model.latents, dtype=torch.float64))
    assert_close(posterior.covariance_matrix[3], model.factor_correlation, 1e-14)


def test_joint_leaves_missing_entries_out(noisy_model, assert_close):
    model = noisy_model
    x = model.sample(7, seed=5)
    z = 0.3 * torch.randn(7, model.latents, dtype=torch.float64)
    holes = x.clone()
    holes[0, 0] = holes[2, 1] = torch.nan
    like = model.likelihood(z).base_dist.log_prob(x).detach()
    dropped = torch.zeros(7, dtype=torch.float64)
    dropped[0], dropped[2] = like[0, 0], like[2, 1]
    assert_close(model.log_joint(holes, z), model.log_joint(x, z).detach() - dropped, 1e-10)


def test_missing_entries_where_they_cannot_be_integrated_out_are_refused(randomize):
    x = torch.zeros(2, 4, dtype=torch.float64)
    x[1, 2] = torch.nan
    for query in (SparseCoding(4, 1).log_likelihood, randomize(IndependentComponents(4, 4)).log_likelihood):
        with pytest.raises(DataError, match="NaN at row 1, column 2"):
            query(x)
    with pytest.raises(DataError, match="NaN at row 1, column 2"):
        randomize(LinearFactorModel(4, 4, noise="none")).posterior(x)


def test_missing_entries_of_a_gaussian_model_without_noise(randomize):
    """Integrated out, as the documentation of `log_likelihood` says, or refused; never NaN."""
    model = randomize(LinearFactorModel(3, 3, noise="none"))
    x = torch.tensor([[0.5, torch.nan, 1.0]], dtype=torch.float64)
    covariance, mean = (model.loadings @ model.loadings.mT).detach().numpy(), model.mean.detach().numpy()
    try:
        value = model.log_likelihood(x)
    except DataError:
        return
    expected = stats.multivariate_normal(mean[[0, 2]], covariance[np.ix_([0, 2], [0, 2])]).logpdf([0.5, 1.0])
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("noise", "tolerance"), [(1.0, 1e-12), (1e-2, 1e-12), (1e-4, 1e-11), (1e-6, 1e-10), (1e-8, 1e-8)]
)
def test_small_noise_costs_few_digits(noise, tolerance):
    """Against fifty digits, rows with few and with many entries, each its own pattern."""
    mpmath = pytest.importorskip("mpmath")
    generator = torch.Generator().manual_seed(2)
    model = FactorAnalysis(8, 3)
    model.loadings = 5 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    model.uniquenesses = noise * (0.5 + torch.rand(8, generator=generator, dtype=torch.float64))
    x = model.sample(12, seed=1)
    for row in range(12):
        x[row, torch.randperm(8, generator=generator)[: row % 8]] = torch.nan
    value = model.log_likelihood(x).tolist()
    W, psi = model.loadings.tolist(), model.uniquenesses.tolist()
    with mpmath.workdps(50):
        for row, actual in zip(x.tolist(), value, strict=True):
            seen = [d for d in range(8) if row[d] == row[d]]
            sigma = mpmath.matrix(len(seen), len(seen))
            for i, a in enumerate(seen):
                for j, b in enumerate(seen):
                    inner = mpmath.fsum(mpmath.mpf(u) * v for u, v in zip(W[a], W[b], strict=True))
                    sigma[i, j] = inner + (psi[a] if a == b else 0)
            own = mpmath.matrix([row[d] for d in seen])
            form = (own.T * mpmath.lu_solve(sigma, own))[0]
            exact = -(len(seen) * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(sigma)) + form) / 2
            assert actual == pytest.approx(float(exact), rel=tolerance)


def test_shared_and_single_patterns_are_one_answer(randomize, monkeypatch, assert_close):
    """Rows of a pattern together, or in batches of patterns, or one batch a row."""
    model = randomize(FactorAnalysis(6, 2))
    x = model.sample(300, seed=2)
    x[:150, 2] = x[100:200, 4] = x[290, :5] = torch.nan
    parameters = model._gaussian_parameters()
    answers = []
    for many, block in ((1, 2**19), (10**6, 2**19), (10**6, 30), (64, 2**19)):
        monkeypatch.setattr(marginal, "MANY", many)
        monkeypatch.setattr(marginal, "BLOCK", block)
        location, scale = marginal.gaussian_posterior(x, *parameters)
        answers.append((marginal.gaussian_log_density(x, *parameters), location, scale @ scale.mT))
    for answer in answers[1:]:
        for one, other in zip(answer, answers[0], strict=True):
            assert_close(one, other, 1e-12)


def test_a_row_without_values_says_nothing(gaussian_model):
    x = gaussian_model.sample(3, seed=0)
    x[1] = torch.nan
    with pytest.warns(MissingRowWarning):
        assert gaussian_model.log_likelihood(x)[1] == 0.0
    with pytest.warns(MissingRowWarning):
        posterior = gaussian_model.posterior(x[1:2])
    assert torch.equal(posterior.mean[0], torch.zeros(gaussian_model.latents, dtype=torch.float64))
    prior = gaussian_model.factor_correlation
    assert torch.allclose(posterior.covariance_matrix, prior, rtol=0, atol=1e-14)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), features=st.integers(2, 12), latents=st.integers(1, 4))
def test_rotation_and_order_change_nothing(seed, features, latents):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    psi = 10 ** (3 * torch.rand(features, generator=generator, dtype=torch.float64) - 2)
    mu = torch.randn(features, generator=generator, dtype=torch.float64)
    x = torch.randn(30, features, generator=generator, dtype=torch.float64)
    x[torch.rand(30, features, generator=generator) < 0.4] = torch.nan
    rows, columns = torch.randperm(30, generator=generator), torch.randperm(features, generator=generator)
    base = marginal.gaussian_log_density(x, W, psi, mu)
    turned = marginal.gaussian_log_density(x, W @ haar_rotation(latents, generator), psi, mu)
    moved = marginal.gaussian_log_density(x[rows][:, columns], W[columns], psi[columns], mu[columns])
    assert torch.allclose(turned, base, rtol=1e-9, atol=1e-9)
    assert torch.allclose(moved, base[rows], rtol=1e-9, atol=1e-9)
