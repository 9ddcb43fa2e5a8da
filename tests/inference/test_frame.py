"""A frame for loadings that may rotate: one point of each orbit, and the volume that makes its integrals those of W."""

import math

import pytest
import torch

from probae.inference.frame import Frame
from probae.linalg import haar_rotation

D, K = 5, 3


def weights(latents=K, seed=0):
    return torch.randn(D, latents, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def aligned(loadings, reference):
    u, _, v = torch.linalg.svd(loadings.mT @ reference)
    return loadings @ (u @ v)


def test_the_space_holds_the_loadings_closest_to_the_weights_by_rotation():
    frame = Frame(weights(), fixed=True)
    assert frame.basis.shape == (D * K, D * K - 3)
    torch.testing.assert_close(frame.basis.T @ frame.basis, torch.eye(D * K - 3).double())
    loadings = aligned(
        weights(seed=1) @ haar_rotation(K, generator=torch.Generator().manual_seed(2)), weights()
    )
    back = frame.loadings(frame.coordinates(loadings[None]))
    torch.testing.assert_close(back[0], loadings)
    assert bool(frame.holds(loadings[None]))
    assert not bool(frame.holds(-loadings[None]))


def test_the_volume_is_the_product_of_sums_of_eigenvalues():
    frame = Frame(weights(), fixed=True)
    loadings = aligned(weights(seed=1), weights())[None]
    values = torch.linalg.eigvalsh(weights().T @ loadings[0])
    own = torch.linalg.eigvalsh(weights().T @ weights())
    pairs = torch.triu_indices(K, K, 1)
    expected = (values[pairs[0]] + values[pairs[1]]).log().sum()
    # O(3): two copies of SO(3), whose volume with rotations measured in radians is 8 pi^2
    constant = math.log(2 * 8 * math.pi**2) - 0.5 * (own[pairs[0]] + own[pairs[1]]).log().sum()
    torch.testing.assert_close(frame.log_volume(loadings)[0], expected + constant)


@pytest.mark.parametrize("latents", [1, 2, 3])
def test_a_density_of_loadings_integrates_to_1_in_the_frame(latents):
    """N(0, I) loadings by importance sampling from a wider normal law in the frame."""
    frame = Frame(weights(latents), fixed=True)
    size, draws, spread = frame.basis.shape[1], 200_000, 1.3
    theta = spread * torch.randn(draws, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    loadings = frame.loadings(theta)
    target = -0.5 * loadings.square().sum((1, 2)) - 0.5 * D * latents * math.log(2 * math.pi)
    log_q = -0.5 * (theta / spread).square().sum(1) - size * math.log(spread * math.sqrt(2 * math.pi))
    ratio = (target + frame.log_volume(loadings) - log_q).exp() * frame.holds(loadings)
    # five standard errors of a mean of positive numbers
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / draws**0.5
    assert ratio.std() / draws**0.5 < 0.02


def test_a_free_frame_has_every_loading():
    frame = Frame(weights(), fixed=False)
    loadings = weights(seed=1)[None]
    assert torch.equal(frame.loadings(frame.coordinates(loadings)), loadings)
    assert frame.log_volume(loadings).item() == 0.0
    assert bool(frame.holds(-loadings))
