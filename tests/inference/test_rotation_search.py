"""The search for the best frame of scores: tables, planes, planted rotations."""

import math

import pytest
import torch

from probae import amari_distance
from probae.inference.rotation_search import LawTable, search_rotation, tabulate
from probae.linalg import haar_rotation
from probae.priors import GeneralizedNormal, Laplace, StudentT


@pytest.mark.parametrize("law", [Laplace(), StudentT(4), GeneralizedNormal(4.0)], ids=repr)
def test_the_table_is_the_noisy_density(law):
    """Interpolated in |y| and in the noise variance, to a hundredth of a nat where the mass is."""
    table = LawTable.of(law, 8.0, (0.05, 0.6))
    y = torch.linspace(-5, 5, 401, dtype=torch.float64)
    variances = torch.tensor([0.05, 0.2, 0.41, 0.6], dtype=torch.float64)
    found = table(y.expand(4, -1), variances)
    exact = torch.stack([law.noisy_log_prob(y, float(v)) for v in variances])
    weight = exact.exp()
    assert ((found - exact).abs() * weight).max() < 0.01


def test_the_table_without_noise_is_the_density():
    table = LawTable.of(Laplace(), 8.0, (0.0, 0.0))
    y = torch.linspace(-6, 6, 301, dtype=torch.float64)
    found = table(y[None], torch.zeros(1, dtype=torch.float64))[0]
    assert torch.allclose(found, Laplace().log_prob(y), atol=1e-3)


def test_a_planted_rotation_is_undone():
    z = Laplace().sample(4000, 4)
    noise = 0.05 * torch.eye(4, dtype=torch.float64)
    rotation = haar_rotation(4)
    scores = (z + 0.05**0.5 * torch.randn(4000, 4, dtype=torch.float64)) @ rotation
    found = search_rotation(scores, noise, tabulate(scores, noise, [Laplace()] * 4), seed=0)
    assert torch.allclose(found.rotation.T @ found.rotation, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert amari_distance(torch.eye(4, dtype=torch.float64), rotation @ found.rotation) < 0.03


def test_the_contrast_reported_is_that_of_the_frame():
    """For noise v I the contrast is the exact mean log density of the rotated scores."""
    z = Laplace().sample(1000, 3)
    scores = z + 0.5 * torch.randn(1000, 3, dtype=torch.float64)
    noise = 0.25 * torch.eye(3, dtype=torch.float64)
    found = search_rotation(scores, noise, tabulate(scores, noise, [Laplace()] * 3), seed=0)
    exact = Laplace().noisy_log_prob(scores @ found.rotation, 0.25).sum(1).mean().item()
    assert found.contrast == pytest.approx(exact, abs=0.005)
    turned = Laplace().noisy_log_prob(scores @ found.rotation @ haar_rotation(3), 0.25).sum(1).mean().item()
    assert exact > turned
    assert max(report["contrast"] for report in found.restarts) == pytest.approx(found.contrast)


def test_the_seed_decides_and_nothing_else(random_state):
    scores = Laplace().sample(500, 3)
    noise = torch.zeros(3, 3, dtype=torch.float64)
    before = random_state()
    tables = tabulate(scores, noise, [Laplace()] * 3)
    first, second = (search_rotation(scores, noise, tables, seed=4) for _ in range(2))
    assert torch.equal(first.rotation, second.rotation)
    assert random_state() == before


def test_unequal_laws_may_exchange_their_axes():
    """Sources in the wrong columns: only a turn of ninety degrees puts them right."""
    laws = [Laplace(), GeneralizedNormal(8.0)]
    z = torch.stack([law.sample(3000) for law in laws], 1)
    swapped = z[:, [1, 0]]
    noise = torch.zeros(2, 2, dtype=torch.float64)
    found = search_rotation(swapped, noise, tabulate(swapped, noise, laws), seed=0)
    assert found.rotation.diagonal().abs().max() < math.sin(math.radians(5))
