"""The affine image of independent sources as a distribution."""

import pytest
import torch

from probae.models.affine import AffineSources
from probae.priors import Laplace


@pytest.fixture
def law():
    loadings = torch.tensor([[2.0, 0.5], [0.3, 1.5]], dtype=torch.float64)
    return AffineSources(Laplace().distribution(2), loadings, torch.tensor([1.0, -1.0], dtype=torch.float64))


def test_shapes(law):
    assert law.batch_shape == ()
    assert law.event_shape == (2,)
    assert law.sample((7,)).shape == (7, 2)
    wide = law.expand((5,))
    assert wide.sample().shape == (5, 2)
    assert wide.log_prob(torch.zeros(5, 2, dtype=torch.float64)).shape == (5,)


def test_density_integrates_to_one(law):
    """Midpoint rule; its error is of the order of the squared step where the density has kinks."""
    step = 0.02
    axis = torch.arange(-14, 14, step, dtype=torch.float64) + step / 2
    grid = torch.cartesian_prod(axis + 1.0, axis - 1.0)
    total = law.log_prob(grid).exp().sum().item() * step**2
    assert total == pytest.approx(1.0, abs=1e-3)


def test_density_is_that_of_torch_for_a_diagonal_map():
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64)
    law = AffineSources(Laplace().distribution(2), scale.diag(), torch.zeros(2, dtype=torch.float64))
    x = torch.randn(9, 2, dtype=torch.float64)
    expected = torch.distributions.Laplace(torch.zeros(2), scale / 2**0.5).log_prob(x).sum(1)
    assert torch.allclose(law.log_prob(x), expected, rtol=1e-12)


def test_mean(law):
    """Within five standard errors of the sample mean, n = 20,000."""
    x = law.sample((20_000,))
    assert ((x.mean(0) - law.mean).abs() < 5 * x.std(0) / 20_000**0.5).all()
