"""Factor scores: identities, simulated truth, missing entries."""

import dataclasses

import numpy as np
import pytest
import torch

import probae as pa
from probae import bartlett_scores, fit, regression_scores, ten_berge_scores

RULES = (regression_scores, bartlett_scores, ten_berge_scores)


def test_regression_scores_are_the_posterior_mean(confirmatory, with_holes):
    found = regression_scores(confirmatory, with_holes)
    posterior = confirmatory.model.posterior(with_holes)
    torch.testing.assert_close(found.values, posterior.mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.error_covariance, posterior.covariance_matrix, rtol=0, atol=1e-10)


def test_determinacy_as_psych_has_it(three_factors, holzinger):
    """psych 2.2.9, fa(d, 3, rotate = "none", fm = "ml")$R2; with rotate = "oblimin" too."""
    found = regression_scores(three_factors, holzinger)
    np.testing.assert_allclose(found.determinacy**2, [0.8981237348, 0.7316448394, 0.6045086238], rtol=1e-5)
    torch.testing.assert_close(found.minimum_correlation, 2 * found.determinacy**2 - 1)
    x = holzinger / holzinger.std(0, correction=0)
    run = fit(pa.FactorAnalysis(9, 3), x)
    turned = pa.rotated(run, pa.rotate(run, pa.rotation.Quartimin(), oblique=True))
    oblique = regression_scores(turned, x).determinacy.square().sort().values
    np.testing.assert_allclose(oblique, [0.71024690, 0.72282098, 0.89058249], rtol=2e-5)


def test_definitions_written_out(confirmatory, holzinger):
    model = confirmatory.model
    W, Phi, psi = model.loadings, model.factor_correlation, model.noise_variance
    S = W @ Phi @ W.T + torch.diag(psi)
    centred = holzinger - model.mean
    regression = centred @ torch.linalg.solve(S, W @ Phi)
    torch.testing.assert_close(
        regression_scores(confirmatory, holzinger).values, regression, rtol=0, atol=1e-10
    )
    G = W.T @ torch.diag(1 / psi) @ W
    bartlett = centred @ (W / psi.unsqueeze(1)) @ torch.linalg.inv(G)
    found = bartlett_scores(confirmatory, holzinger)
    torch.testing.assert_close(found.values, bartlett, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.error_covariance, torch.linalg.inv(G))


@pytest.mark.parametrize("score", RULES)
def test_covariances_are_those_of_simulated_scores(confirmatory, score):
    """100,000 rows with their true factors: 5 standard errors of a covariance."""
    model, generator = confirmatory.model, torch.Generator().manual_seed(1)
    root = torch.linalg.cholesky(model.factor_correlation)
    z = torch.randn(100_000, 3, generator=generator, dtype=torch.float64) @ root.T
    noise = torch.randn(100_000, 9, generator=generator, dtype=torch.float64) * model.noise_variance.sqrt()
    x = model.mean + z @ model.loadings.T + noise
    found = score(confirmatory, x)
    error = found.values - z
    assert (torch.cov(found.values.T) - found.covariance).abs().max() < 0.04
    assert (error.T @ error / len(z) - found.error_covariance).abs().max() < 0.02
    for k in range(3):
        both = torch.corrcoef(torch.stack([found.values[:, k], z[:, k]]))[0, 1]
        assert both.item() == pytest.approx(found.validity[k].item(), abs=0.01)
    assert (found.validity <= found.determinacy + 1e-12).all()


def test_what_each_score_is_best_at(confirmatory, holzinger):
    regression, bartlett, berge = (score(confirmatory, holzinger) for score in RULES)
    size = [found.error_covariance.diagonal() for found in (regression, bartlett, berge)]
    assert (size[0] <= size[2] + 1e-12).all()
    assert (size[0] <= size[1] + 1e-12).all()
    torch.testing.assert_close(regression.validity, regression.determinacy)
    torch.testing.assert_close(berge.covariance, confirmatory.model.factor_correlation, rtol=0, atol=1e-12)
    Phi = confirmatory.model.factor_correlation
    torch.testing.assert_close(bartlett.covariance - bartlett.error_covariance, Phi, rtol=0, atol=1e-12)


def test_bartlett_scores_of_rows_without_noise_are_the_factors(confirmatory):
    z = torch.randn(20, 3, dtype=torch.float64)
    x = confirmatory.model.mean + z @ confirmatory.model.loadings.T
    torch.testing.assert_close(bartlett_scores(confirmatory, x).values, z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("score", RULES)
def test_a_missing_entry_is_as_if_the_feature_did_not_exist(three_factors, holzinger, score):
    x = holzinger.clone()
    x[7, 4] = torch.nan
    found = score(three_factors, x)
    assert found.error_covariance.shape == (301, 3, 3)
    keep = torch.arange(9) != 4
    model = pa.FactorAnalysis(8, 3)
    model.loadings, model.mean = three_factors.model.loadings[keep], three_factors.model.mean[keep]
    model.noise_variance = three_factors.model.noise_variance[keep]
    alone = score(dataclasses.replace(three_factors, model=model), holzinger[7:8, keep])
    torch.testing.assert_close(found.values[7], alone.values[0])
    torch.testing.assert_close(found.error_covariance[7], alone.error_covariance)
    complete = score(three_factors, holzinger)
    torch.testing.assert_close(found.values[0], complete.values[0])


def test_rows_with_too_few_entries(three_factors, holzinger):
    x = holzinger.clone()
    x[0, 2:] = torch.nan
    with pytest.warns(pa.MissingRowWarning, match="1 row"):
        found = bartlett_scores(three_factors, x)
    assert found.values[0].isnan().all()
    assert found.values[1:].isfinite().all()
    assert found.validity[0].isnan().all()
    assert (regression_scores(three_factors, x).determinacy[0] < found.determinacy[1]).all()
    x[0] = torch.nan
    with pytest.warns(pa.MissingRowWarning, match="prior"):
        empty = regression_scores(three_factors, x)
    assert (empty.values[0] == 0).all()
    assert (empty.determinacy[0] == 0).all()
    torch.testing.assert_close(empty.error_covariance[0], torch.eye(3).double())


def test_scores_come_in_the_dtype_of_x(three_factors, holzinger):
    assert regression_scores(three_factors, holzinger.float()).values.dtype == torch.float32


def test_a_factor_without_loadings_has_no_unbiased_score(holzinger):
    with pytest.warns(pa.UnderidentifiedWarning):
        run = fit(pa.ProbabilisticPCA(4, 5), holzinger[:, :4])
    with pytest.raises(pa.ParameterError, match="regression_scores"):
        bartlett_scores(run, holzinger[:, :4])
    assert regression_scores(run, holzinger[:, :4]).values.isfinite().all()
