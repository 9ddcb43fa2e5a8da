"""Draws as a distribution: moments, diagnostics, and what they refuse."""

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats

from probae.checks import NotExactError
from probae.inference import Draws


def draws_of(chains=3, length=40, rows=2, latents=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Draws(torch.randn(chains, length, rows, latents, generator=generator, dtype=torch.float64))


def test_moments_are_those_of_the_empirical_law():
    law = draws_of()
    flat = law.flat
    assert flat.shape == (120, 2, 2)
    assert torch.allclose(law.mean, flat.mean(0), atol=1e-15)
    assert torch.allclose(law.variance, flat.square().mean(0) - law.mean.square(), atol=1e-14)
    assert law.batch_shape == (2,)
    assert law.event_shape == (2,)


def test_better_moments_take_the_place_of_those_of_the_draws():
    values, mean, variance = torch.randn(1, 9, 3, 2), torch.zeros(3, 2), torch.ones(3, 2)
    law = Draws(values, mean, variance)
    assert law.mean is mean
    assert law.variance is variance


def test_diagnostics_are_those_of_arviz_for_each_row_and_latent():
    law = draws_of()
    chains = law.draws.numpy()
    for row in range(2):
        for latent in range(2):
            one = np.ascontiguousarray(chains[:, :, row, latent])
            assert float(law.r_hat[row, latent]) == pytest.approx(float(array_stats.rhat(one)))
            assert float(law.effective_sample_size[row, latent]) == pytest.approx(float(array_stats.ess(one)))


def test_r_hat_notices_a_chain_that_is_elsewhere():
    law = draws_of()
    assert law.r_hat.max() < 1.1  # 3 x 40 independent draws: 1 + O(1 / 40)
    moved = law.draws.clone()
    moved[0, :, 0, 0] += 3.0
    assert Draws(moved).r_hat[0, 0] > 1.5


def test_a_sample_picks_draws_of_its_own_row():
    law = draws_of()
    picked = law.sample((7, 5))
    assert picked.shape == (7, 5, 2, 2)
    for row in range(2):
        known = {tuple(z) for z in law.flat[:, row].tolist()}
        assert {tuple(z) for z in picked[:, :, row].reshape(-1, 2).tolist()} <= known


def test_draws_have_no_density():
    with pytest.raises(NotExactError, match="log_joint"):
        draws_of().log_prob(torch.zeros(2, 2))
