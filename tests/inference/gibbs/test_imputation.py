"""Missing entries: their law given the observed ones, the likelihood of these, and the moments of completed rows."""

import numpy as np
import pytest
import torch

from probae.inference.gibbs.imputation import Imputation

DRAWS = 20_000


def case(rows=5, features=4, latents=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64) + 3.0
    x[0, 1] = x[1, 0] = x[1, 2] = x[3, :3] = torch.nan  # rows 2 and 4 are complete
    loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    noise = 0.2 + torch.rand(features, generator=generator, dtype=torch.float64)
    mean = 3.0 + 0.3 * torch.randn(features, generator=generator, dtype=torch.float64)
    return x, loadings, noise, mean


def conditional(x, loadings, noise, mean, row):
    """Mean and covariance of the missing entries of a row, from the dense normal law."""
    covariance = loadings @ loadings.T + noise.diag()
    seen = ~x[row].isnan()
    weights = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, ~seen])
    centre = mean[~seen] + (x[row, seen] - mean[seen]) @ weights
    return centre, covariance[~seen][:, ~seen] - covariance[~seen][:, seen] @ weights


@pytest.mark.parametrize("features", [4, 6])
def test_rows_are_completed_from_their_conditional_law(features):
    """Five rows, by moments or contrasts: sums over rows of imputed entries, within five standard errors."""
    x, loadings, noise, mean = case(features=features)
    imputation = Imputation(x, DRAWS)
    given = (part.expand(DRAWS, *part.shape) for part in (loadings, noise, mean))
    found = imputation.draw(*given, np.random.default_rng(0))
    filled, spread = x.clone(), torch.zeros(features).double()
    for row in (0, 1, 3):
        centre, cover = conditional(x, loadings, noise, mean, row)
        filled[row, x[row].isnan()] = centre
        spread[x[row].isnan()] += cover.diagonal()
    means = found.mean * 5
    error = (spread / DRAWS).sqrt() + 1e-12
    assert ((means.mean(0) - filled.sum(0)).abs() / error).max() < 5
    # the variance of a normal variable, from draws, has the relative error sqrt(2 / draws)
    assert (means.var(0) / spread.clamp_min(1e-12) - 1)[:3].abs().max() < 5 * (2 / DRAWS) ** 0.5


@pytest.mark.parametrize(("rows", "features"), [(5, 4), (9, 4), (5, 7)])
def test_the_likelihood_is_that_of_the_observed_entries(rows, features):
    """Pattern by pattern against the dense normal law of each row's observed entries; to rounding."""
    x, loadings, noise, mean = case(rows, features)
    imputation = Imputation(x, 1)
    imputation.draw(loadings[None], noise[None], mean[None], np.random.default_rng(0))
    covariance = loadings @ loadings.T + noise.diag()
    dense = torch.zeros((), dtype=torch.float64)
    for row in x:
        seen = ~row.isnan()
        law = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
        dense = dense + law.log_prob(row[seen])
    torch.testing.assert_close(imputation.log_likelihood[0], dense, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("rows", "features"), [(9, 4), (5, 5), (5, 7)])
def test_the_root_has_the_scatter_of_the_completed_rows(rows, features):
    """With a draw of no spread, so that the completed rows are known; more, as many and fewer rows than features."""
    x, loadings, _, mean = case(rows, features)
    noise = torch.full((features,), 1e-30, dtype=torch.float64)
    found = Imputation(x, 1).draw((0.0 * loadings)[None], noise[None], mean[None], np.random.default_rng(0))
    filled = torch.where(x.isnan(), mean, x)
    centred = filled - filled.mean(0)
    torch.testing.assert_close(found.root[0].T @ found.root[0], centred.T @ centred, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.squares[0], centred.square().sum(0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.mean[0], filled.mean(0), rtol=1e-12, atol=1e-12)
