"""Why learning a dictionary by MAP needs unit-norm atoms and learning by evidence does not (`questions.md` Q7 iii).

One feature, one Laplace code h of scale 1, x = w h + .5 e; the truth is w = 1. With z of unit variance, W = sqrt(2) w.
"""

import math

import pytest
import torch

from probae.models import SparseCoding
from probae.priors import Laplace

WIDTHS = [0.5, 1.0, 2.0, 4.0, 64.0]
NOISE = 0.25


@pytest.fixture(scope="module")
def truth():
    """A grid of x, and p(x) dx at the truth."""
    x = torch.linspace(-40, 40, 16_001, dtype=torch.float64)
    density = (Laplace().noisy_log_prob(x / 2**0.5, NOISE / 2) - 0.5 * math.log(2)).exp() * 0.005
    assert density.sum().item() == pytest.approx(1.0, abs=1e-8)
    return x, density


def model_at(w):
    model = SparseCoding(1, 1)
    model.loadings = torch.full((1, 1), 2**0.5 * w, dtype=torch.float64)
    model.noise_variance = torch.tensor(NOISE, dtype=torch.float64)
    return model


def test_the_map_energy_falls_for_ever(truth):
    """min_h (x - w h)^2 / (2 s^2) + |h| on average: 1.750, .979, .518, .266, .017 and on to zero.

    Those numbers are of simulated rows; the integrals by scipy's quad are 1.75373, .98043, .51873 for the first.
    """
    x, density = truth
    energies = []
    for w in WIDTHS:
        h = (x.abs() - NOISE / w).clamp_min(0) * x.sign() / w
        energies.append((density @ ((x - w * h).square() / (2 * NOISE) + h.abs())).item())
    assert energies == pytest.approx([1.750, 0.979, 0.518, 0.266, 0.017], abs=5e-3)
    assert energies[:3] == pytest.approx([1.75373, 0.98043, 0.51873], abs=3e-5)
    assert all(b < a for a, b in zip(energies[:-1], energies[1:], strict=True))


def test_the_evidence_has_its_peak_at_the_truth(truth):
    """Simulated: -2.0049, -1.7796, -1.9520, -2.3681, -4.8704; by quad -2.007810, -1.781142, -1.952779 for the first."""
    x, density = truth
    values = [(density @ model_at(w).log_likelihood(x[:, None])).item() for w in WIDTHS]
    assert values == pytest.approx([-2.0049, -1.7796, -1.9520, -2.3681, -4.8704], abs=5e-3)
    assert values[:3] == pytest.approx([-2.007810, -1.781142, -1.952779], abs=2e-6)
    assert max(values) == values[1]
    slope = [(density @ model_at(w).log_likelihood(x[:, None])).item() for w in (0.99, 1.0, 1.01)]
    assert slope[1] > slope[0]
    assert slope[1] > slope[2]
