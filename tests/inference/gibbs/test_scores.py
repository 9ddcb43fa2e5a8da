"""Z'Z and Z'X drawn from the scatter have the law of those of scores drawn row by row."""

import numpy as np
import pytest
import torch

from probae.inference.gibbs.rows import contrasts, root_of
from probae.inference.gibbs.scores import bartlett, draw_scores, log_density, map_of, remainder

DRAWS = 40_000


def case(rows, features, latents, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    noise = 0.2 + torch.rand(features, generator=generator, dtype=torch.float64)
    return x, loadings, noise


def row_by_row(x, loadings, noise, seed=1):
    """Z'Z and Z'X of explicit scores: Bayes' rule for each row."""
    latents = loadings.shape[1]
    cover = torch.linalg.inv(torch.eye(latents).double() + loadings.T @ (loadings / noise[:, None]))
    mean = x @ (loadings / noise[:, None]) @ cover
    generator = torch.Generator().manual_seed(seed)
    error = torch.randn(DRAWS, len(x), latents, generator=generator, dtype=torch.float64)
    z = mean + error @ torch.linalg.cholesky(cover).T
    return z.mT @ z, z.mT @ x


def from_scatter(root, rows, loadings, noise, seed=2):
    generator = np.random.default_rng(seed)
    loadings, noise = loadings.expand(DRAWS, -1, -1), noise.expand(DRAWS, -1)
    rest = remainder(generator, (DRAWS,), loadings.shape[-1], rows - len(root))
    return draw_scores(map_of(loadings, noise, root), root, rest, generator)


def moments(square, cross):
    """First and second moments of the entries, each draw a row."""
    entries = torch.cat([square.flatten(1), cross.flatten(1)], 1)
    mean = entries.mean(0)
    apart = entries - mean
    return torch.cat([entries, (apart[:, :, None] * apart[:, None]).flatten(1)], 1)


def largest_z(a, b):
    """Largest difference of two means, in its own standard errors."""
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    return float(((a.mean(0) - b.mean(0)) / error.clamp_min(1e-12)).abs().max())


@pytest.mark.parametrize("rows", [6, 4, 3, 2, 1])
@pytest.mark.parametrize("flat", [False, True])
def test_they_have_the_moments_of_explicit_scores(rows, flat):
    """Of 4 features and 2 factors: n above, at and below both. Of 156 moments one has |z| > 5 with probability 1e-4."""
    x, loadings, noise = case(rows + flat, 4, 2)
    x = contrasts(x - x.mean(0)) if flat else x  # a flat mean leaves the n - 1 contrasts
    root = root_of(x.T @ x) if rows >= 4 else x
    ours = moments(*from_scatter(root, rows, loadings, noise))
    theirs = moments(*row_by_row(x, loadings, noise))
    assert largest_z(ours, theirs) < 5


def test_a_remainder_with_too_many_degrees_of_freedom_is_seen():
    """The test above can fail: n in place of n - rank degrees."""
    x, loadings, noise = case(6, 4, 2)
    ours = moments(*from_scatter(root_of(x.T @ x), 6 + 4, loadings, noise))
    assert largest_z(ours, moments(*row_by_row(x, loadings, noise))) > 20


def test_constant_columns_leave_a_root_too():
    """A column of zeros makes the scatter singular; the law of the scores is that without it."""
    x, loadings, noise = case(6, 4, 2)
    x[:, 3] = 0.0
    ours = moments(*from_scatter(root_of(x.T @ x), 6, loadings, noise))
    assert largest_z(ours, moments(*row_by_row(x, loadings, noise))) < 5


def test_the_density_is_that_of_the_rows():
    """Woodbury against the dense normal law."""
    x, loadings, noise = case(6, 4, 2)
    where = map_of(loadings[None], noise[None], root_of(x.T @ x))
    distance = (x.square() / noise).sum() - where.fitted.square().sum()
    covariance = loadings @ loadings.T + noise.diag()
    dense = torch.distributions.MultivariateNormal(torch.zeros(4).double(), covariance).log_prob(x).sum()
    found = log_density(where, noise[None], distance[None], 6)
    torch.testing.assert_close(found[0], dense, rtol=1e-12, atol=1e-12)


def test_bartlett_factors_have_the_moments_of_wishart_matrices():
    """E A A' = f I, Var = f for off-diagonal entries and 2 f on the diagonal, for any real f > k - 1."""
    freedom, size = 5.5, 3
    factor = bartlett(np.random.default_rng(0), np.full(DRAWS, freedom), size)
    square = factor @ factor.mT
    eye = torch.eye(size).double()
    # the fourth moments of a Wishart entry are below 20 f^2: four standard errors of mean and variance
    assert (square.mean(0) - freedom * eye).abs().max() < 4 * (2 * freedom / DRAWS) ** 0.5
    assert (square.var(0) - freedom * (1 + eye)).abs().max() < 4 * (20 * freedom**2 / DRAWS) ** 0.5


def test_contrasts_keep_the_scatter_and_drop_the_mean():
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = contrasts(x + 5.0)
    centred = x - x.mean(0)
    assert found.shape == (6, 3)
    torch.testing.assert_close(found.T @ found, centred.T @ centred, rtol=1e-12, atol=1e-12)
