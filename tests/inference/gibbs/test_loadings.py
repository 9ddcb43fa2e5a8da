"""Loadings given the scores: rows of W are independent normal variables, whatever shape their variances come in."""

import numpy as np
import pytest
import torch

from probae.inference.gibbs.loadings import draw_loadings, draw_loadings_by_axes
from probae.inference.gibbs.scores import Scores

DRAWS, D, K = 20_000, 4, 2


def by_axes(scores, noise, variance, generator):
    """Loadings in the frame of the scores that were given."""
    loadings, _, axes = draw_loadings_by_axes(scores, noise, variance, generator)
    return loadings @ axes.mT


@pytest.mark.parametrize("draw", [by_axes, draw_loadings])
@pytest.mark.parametrize(
    "noise", [torch.full((1,), 0.7), torch.linspace(0.5, 2.0, D)], ids=["one noise", "D noises"]
)
@pytest.mark.parametrize(
    "variance", [torch.full((1, 1), 0.8), torch.linspace(0.5, 2.0, D)[:, None]], ids=["one", "D"]
)
def test_rows_have_their_normal_law_and_are_independent(draw, noise, variance):
    """Means within five standard errors, covariances of all D K entries within five of theirs."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, K, generator=generator, dtype=torch.float64)
    x = torch.randn(6, D, generator=generator, dtype=torch.float64)
    noise, variance = noise.double(), variance.double()
    scores = Scores((z.T @ z).expand(DRAWS, K, K), (z.T @ x).expand(DRAWS, K, D))
    found = draw(scores, noise.expand(DRAWS, len(noise)), variance, np.random.default_rng(0))
    psi, v = noise.expand(D), variance.expand(D, 1)
    precision = (z.T @ z) / psi[:, None, None] + torch.eye(K).double() / v[:, :, None]
    mean = torch.linalg.solve(precision, (x.T @ z / psi[:, None])[..., None])[..., 0]
    cover = torch.block_diag(*torch.linalg.inv(precision))
    size = cover.diagonal()
    assert ((found.mean(0) - mean).flatten().abs() / (size / DRAWS).sqrt()).max() < 5
    # the variance of a product of normal variables is s_i^2 s_j^2 + s_ij^2
    error = ((torch.outer(size, size) + cover.square()) / DRAWS).sqrt()
    assert ((found.flatten(1).T.cov() - cover).abs() / error).max() < 5
