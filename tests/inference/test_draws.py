"""Draws as a distribution: moments, diagnostics, and what they refuse."""

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats

from probae.checks import NotExactError, ParameterError
from probae.inference import Draws


def draws_of(chains=3, length=40, rows=2, latents=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(chains * length, rows, latents, generator=generator, dtype=torch.float64)
    return Draws(values, chains=chains)


def test_moments_are_those_of_the_empirical_law():
    law = draws_of()
    assert torch.equal(law.mean, law.draws.mean(0))
    assert torch.allclose(law.variance, law.draws.square().mean(0) - law.mean.square(), atol=1e-14)
    assert law.batch_shape == (2,)
    assert law.event_shape == (2,)


def test_chains_are_stored_one_after_the_other():
    law = Draws(torch.arange(6.0).reshape(6, 1, 1), chains=2)
    assert law.by_chain[:, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_diagnostics_are_those_of_arviz_for_each_row_and_latent():
    law = draws_of()
    chains = law.by_chain.numpy()
    for row in range(2):
        for latent in range(2):
            one = np.ascontiguousarray(chains[:, :, row, latent])
            assert float(law.r_hat[row, latent]) == pytest.approx(float(array_stats.rhat(one)))
            assert float(law.effective_sample_size[row, latent]) == pytest.approx(float(array_stats.ess(one)))


def test_r_hat_notices_a_chain_that_is_elsewhere():
    law = draws_of()
    assert law.r_hat.max() < 1.1  # 3 x 40 independent draws: 1 + O(1 / 40)
    moved = law.draws.clone()
    moved[:40, 0, 0] += 3.0
    assert Draws(moved, chains=3).r_hat[0, 0] > 1.5


def test_a_sample_picks_draws_of_its_own_row():
    law = draws_of()
    picked = law.sample((7, 5))
    assert picked.shape == (7, 5, 2, 2)
    for row in range(2):
        known = {tuple(z) for z in law.draws[:, row].tolist()}
        assert {tuple(z) for z in picked[:, :, row].reshape(-1, 2).tolist()} <= known


def test_draws_have_no_density():
    with pytest.raises(NotExactError, match="log_joint"):
        draws_of().log_prob(torch.zeros(2, 2))


@pytest.mark.parametrize(("count", "chains"), [(0, 1), (5, 2)])
def test_draws_divide_into_chains(count, chains):
    with pytest.raises(ParameterError, match="chains of equal length"):
        Draws(torch.zeros(count, 1, 1), chains=chains)
