"""Simple structure in the rows of whitened loadings: invariant, grows with features, and never runs on few."""

import pytest
import torch

import probae as pa
from probae.identifiability.simple_structure import simple_structure
from probae.linalg import haar_rotation


def model_of(loadings, noise=None):
    model = pa.FactorAnalysis(*loadings.shape)
    model.loadings = loadings
    model.noise_variance = torch.ones(len(loadings), dtype=torch.float64) if noise is None else noise
    return model


def test_evidence_does_not_depend_on_the_frame_nor_on_the_units_of_x():
    """The shape of the rows is found to 1e-9, and the statistics of some 10 follow to 1e-6 of themselves."""
    loadings = torch.randn(60, 3, dtype=torch.float64) ** 3
    found = simple_structure(model_of(loadings)).p_value
    units = torch.rand(60, dtype=torch.float64) + 0.1
    turned = units.unsqueeze(1) * loadings @ haar_rotation(3, torch.Generator().manual_seed(1))
    assert simple_structure(model_of(turned, units.square())).p_value == pytest.approx(found, rel=1e-4)


def test_evidence_grows_with_features():
    loadings = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    few, many = simple_structure(model_of(loadings[:40])), simple_structure(model_of(loadings))
    assert many.p_value < 1e-4 < few.p_value
    assert "grows with features, not with rows" in many.describe()
    assert many.to_dict()["p"] == many.p_value


@pytest.mark.parametrize(
    ("features", "latents", "why"), [(29, 2, "too few"), (35, 4, "40"), (50, 1, "no axes")]
)
def test_few_features_and_one_factor_have_no_test(features, latents, why):
    found = simple_structure(model_of(torch.randn(features, latents, dtype=torch.float64)))
    assert found.p_value == 1
    assert why in found.describe()
    assert found.to_dict()["p"] is None


def test_rows_on_the_axes_themselves_are_named_and_not_tested():
    """Half of the rows on one line through the centre: no shape makes their directions uniform."""
    loadings = torch.zeros(60, 2, dtype=torch.float64)
    loadings[:45, 0] = torch.linspace(-1, 1, 45, dtype=torch.float64)
    loadings[45:, 1] = torch.linspace(-1, 1, 15, dtype=torch.float64)
    found = simple_structure(model_of(loadings))
    assert found.information is None
    assert found.why


@pytest.mark.slow
def test_elliptical_rows_are_rejected_at_the_level_of_the_test():
    """100 runs at level .01: 1 expected, 6 or more with probability 6e-4."""
    generator = torch.Generator().manual_seed(0)
    rejected = 0
    for _ in range(100):
        loadings = torch.randn(60, 3, generator=generator, dtype=torch.float64)
        rejected += simple_structure(model_of(loadings)).p_value < 0.01
    assert rejected < 6
