"""Corruption by neighbours, and reconstruction at a draw."""

from dataclasses import dataclass

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

import probae as pa


def test_rows_shown_are_the_nearest_each_as_often():
    rows = torch.tensor([[0.0], [1.0], [2.0], [50.0], [60.0]], dtype=torch.float64)
    noise = pa.NearbyRow(rows, neighbours=3)
    shown = noise(torch.zeros(6000, 1, dtype=torch.float64)).flatten()
    share = torch.stack([(shown == value).double().mean() for value in (0.0, 1.0, 2.0)])
    assert float(share.sum()) == 1.0
    # binomial standard error sqrt(2 / 9 / 6000) = .0061
    torch.testing.assert_close(share, torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.025, rtol=0)


def test_one_neighbour_of_the_rows_themselves_changes_nothing():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pa.NearbyRow(x, 1)(x), x)


def test_bad_settings_end_in_one_sentence():
    with pytest.raises(pa.DataError, match="at least 4 rows"):
        pa.NearbyRow(torch.zeros(3, 2), neighbours=4)
    with pytest.raises(pa.ParameterError, match="neighbours"):
        pa.NearbyRow(torch.zeros(3, 2), neighbours=0)


def test_a_draw_of_a_code_without_spread_is_the_reconstruction_at_its_mean():
    x = torch.randn(20, 5, dtype=torch.float64)
    model, encoder = pa.Autoencoder(5, 3), pa.BinaryCodeEncoder(5, 3, noise_std=1e-9).double()
    sampled = pa.SampledReconstruction()(model, encoder, x)
    torch.testing.assert_close(sampled, pa.Reconstruction()(model, encoder, x))


@dataclass(frozen=True)
class Fixed:
    """An encoder that gives one law whatever it is shown."""

    law: torch.distributions.Distribution

    def __call__(self, x):
        return self

    def rsample_and_log_prob(self):
        z = self.law.rsample()
        return z, self.law.log_prob(z)


def test_reconstruction_is_the_evidence_and_the_divergence_at_the_exact_posterior():
    """E log p(x | z) = log p(x) + KL(p(z | x), p(z))."""
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(pa.ProbabilisticPCA(9, 2), x)
    posterior = run.posterior(x[:4])
    law = MultivariateNormal(posterior.mean, posterior.covariance_matrix)
    draws = torch.stack([pa.SampledReconstruction()(run.model, Fixed(law), x[:4]) for _ in range(4000)])
    kl = kl_divergence(law, MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()))
    expected = run.model.log_likelihood(x[:4]) + kl
    assert ((draws.mean(0) - expected).abs() <= 4 * draws.std(0) / 4000**0.5).all()


def test_a_fit_with_both_is_saved_and_loaded(tmp_path):
    x = pa.datasets.holzinger_swineford().x
    method = pa.SVI(
        pa.BinaryCodeEncoder(9, 4, hidden=(8,)),
        epochs=3,
        objective=pa.SampledReconstruction(),
        regularizers=(pa.Denoising(pa.NearbyRow(x, 3)),),
    )
    with pytest.warns(pa.ProbaeWarning):
        run = pa.fit(pa.Autoencoder(9, 4), x, method)
    pa.save(run, tmp_path / "run")
    again = pa.load(tmp_path / "run")
    assert torch.equal(again.posterior.encoder.bits(x), run.posterior.encoder.bits(x))
    noise = again.method.regularizers[0].noise
    assert noise.neighbours == 3
    assert torch.equal(noise.rows, x)


@pytest.mark.parametrize(("dtype", "offset"), [(torch.float32, 1e4), (torch.float64, 1e8)])
def test_rows_far_from_zero_are_still_nearest_to_themselves(dtype, offset):
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype) + offset
    assert torch.equal(pa.NearbyRow(x, 1)(x), x)
