"""The Gaussian law of the codes given their scales, in both of its forms, against dense algebra."""

import pytest
import torch

from probae import ParameterError
from probae.inference import scale_conditional
from probae.inference.scale_conditional import ScaleConditional


def problem(features, latents, rows=6):
    """Loadings, diagonal noise, scales over ten orders of magnitude, rows; and S and S V'y by dense inverses."""
    W = torch.randn(features, latents, dtype=torch.float64)
    psi = torch.rand(features, dtype=torch.float64) + 0.2
    tau = 10 ** torch.empty(rows, latents, dtype=torch.float64).uniform_(-5, 2)
    x = torch.randn(rows, features, dtype=torch.float64)
    precision = torch.diag_embed(1 / tau) + W.T @ (W / psi[:, None])
    covariance = torch.linalg.inv(precision)
    return W, psi, tau, x, covariance, (covariance @ (W.T @ (x / psi).T).T[..., None])[..., 0]


SIZES = [(5, 2), (4, 4), (3, 7), (1, 3)]


@pytest.mark.parametrize(("features", "latents"), SIZES)
def test_moments_are_those_of_the_dense_precision(features, latents):
    W, psi, tau, x, covariance, mean = problem(features, latents)
    law = ScaleConditional(W, psi)
    found = law.moments(tau, law.whiten(x))
    close = {"rtol": 1e-8, "atol": 1e-11}
    assert torch.allclose(found.mean, mean, **close)
    assert torch.allclose(found.variance, covariance.diagonal(dim1=1, dim2=2), **close)
    assert torch.allclose(found.covariance, covariance.sum(0), **close)
    assert torch.allclose(law.covariance(tau), covariance, **close)
    assert torch.allclose(found.log_det, tau.log().sum(1) - covariance.logdet(), rtol=1e-8)


@pytest.mark.parametrize("table", [0, 10**6])
def test_the_table_of_products_changes_nothing_but_the_time(table, monkeypatch):
    W, psi, tau, x, covariance, mean = problem(4, 9)
    monkeypatch.setattr(scale_conditional, "TABLE", table)
    law = ScaleConditional(W, psi)
    assert (law.table is None) == (table == 0)
    found = law.moments(tau, law.whiten(x))
    assert torch.allclose(found.mean, mean, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("features", "latents"), SIZES)
def test_draws_have_the_mean_and_the_covariance(features, latents):
    """40,000 draws of one row; each moment within 5 standard errors: sd sqrt(1/n), and sd sd sqrt(2/n) at most."""
    W, psi, tau, x, covariance, mean = problem(features, latents, rows=1)
    law, n = ScaleConditional(W, psi), 40_000
    drawn = law.draw(tau.expand(n, -1), law.whiten(x).expand(n, -1))
    sd = covariance[0].diagonal().sqrt()
    assert torch.allclose(drawn.mean, mean.expand(n, -1), rtol=1e-8, atol=1e-11)
    assert ((drawn.z.mean(0) - mean[0]).abs() < 5 * sd / n**0.5).all()
    error = (torch.cov(drawn.z.T).reshape(latents, latents) - covariance[0]).abs()
    assert (error < 5 * torch.outer(sd, sd) * (2 / n) ** 0.5).all()


@pytest.mark.parametrize(("features", "latents"), [(5, 2), (3, 7)])
def test_a_scale_of_zero_switches_a_code_off(features, latents):
    """T = 0 is the limit of a spike; nothing divides by it."""
    W, psi, tau, x, *_ = problem(features, latents)
    tau[:, 0] = 0.0
    law = ScaleConditional(W, psi)
    found, drawn = law.moments(tau, law.whiten(x)), law.draw(tau, law.whiten(x))
    assert (found.mean[:, 0] == 0).all()
    assert (drawn.z[:, 0] == 0).all()
    less = ScaleConditional(W[:, 1:], psi)
    assert torch.allclose(found.mean[:, 1:], less.moments(tau[:, 1:], less.whiten(x)).mean, rtol=1e-8)


def test_rows_are_cut_so_that_the_matrices_fit(monkeypatch):
    law = ScaleConditional(torch.randn(3, 7), torch.tensor(1.0))
    monkeypatch.setattr(scale_conditional, "BLOCK", 9 * 10)
    blocks = [(rows.start, rows.stop) for rows in law.blocks(25)]
    assert blocks == [(0, 10), (10, 20), (20, 30)]
    assert [rows.start for rows in law.blocks(25, copies=2)] == [0, 5, 10, 15, 20]


def test_noise_out_of_range_is_one_sentence():
    law = ScaleConditional(torch.ones(2, 3, dtype=torch.float64), torch.tensor(1e-300, dtype=torch.float64))
    with pytest.raises(ParameterError, match="noise variance is too small"):
        law.moments(torch.ones(1, 3, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
