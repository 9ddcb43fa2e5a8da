"""Missing entries: integrated out exactly, or refused."""

import numpy as np
import pytest
import torch
from scipy import stats

from probae import DataError, MissingRowWarning
from probae.models import (
    FactorAnalysis,
    IndependentComponents,
    LinearFactorModel,
    SparseCoding,
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


def test_missing_entries_give_the_posterior_of_the_rest(gaussian_model, close):
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
    close(posterior.covariance_matrix[3], model.factor_correlation, 1e-14)


def test_joint_leaves_missing_entries_out(noisy_model, close):
    model = noisy_model
    x = model.sample(7, seed=5)
    z = 0.3 * torch.randn(7, model.latents, dtype=torch.float64)
    holes = x.clone()
    holes[0, 0] = holes[2, 1] = torch.nan
    like = model.likelihood(z).base_dist.log_prob(x).detach()
    dropped = torch.zeros(7, dtype=torch.float64)
    dropped[0], dropped[2] = like[0, 0], like[2, 1]
    close(model.log_joint(holes, z), model.log_joint(x, z).detach() - dropped, 1e-10)


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
