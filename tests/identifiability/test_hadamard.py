"""Hadamard's gap: the identity with the bound of a mean-field guide, its extremes, its oracle."""

import math

import pytest
import torch

import probae as pa
from probae import priors
from probae.checks import ParameterError
from probae.identifiability.guide_profile import best_bound
from probae.identifiability.hadamard import guide_gap, hadamard_gap, standard_precision
from probae.linalg import givens, haar_rotation


def random_model(features, latents, seed, prior=None):
    generator = torch.Generator().manual_seed(seed)
    model = pa.LinearFactorModel(features, latents, prior or priors.Gaussian())
    model.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.noise_variance = 0.2 + torch.rand(features, generator=generator, dtype=torch.float64)
    return model


def columns_at(degrees, length=1.5):
    """A PPCA model with two columns of one length and noise 1: theory's numbers are those of length 1.5."""
    angle = math.radians(degrees)
    model = pa.ProbabilisticPCA(2, 2)
    columns = [[1.0, math.cos(angle)], [0.0, math.sin(angle)]]
    model.loadings = length * torch.tensor(columns, dtype=torch.float64)
    model.noise_variance = torch.tensor(1.0, dtype=torch.float64)
    return model


@pytest.mark.parametrize("seed", range(5))
def test_gap_is_what_the_best_mean_field_bound_misses_of_the_likelihood_in_every_row(seed):
    """One Newton step reaches the optimum of a quadratic bound, so only rounding of numbers of about 10 is left."""
    model = random_model(7, 3, seed)
    x = model.sample(40, seed=seed)
    missing = model.log_likelihood(x) - best_bound(model, x, diagonal=True)
    assert (missing - hadamard_gap(standard_precision(model))).abs().max() < 1e-9
    assert (model.log_likelihood(x) - best_bound(model, x, diagonal=False)).abs().max() < 1e-9


@pytest.mark.parametrize(("degrees", "published"), [(60.0, 19.1), (35.0, 58.2)])
def test_artefact_of_two_columns_is_the_published_one(degrees, published):
    """300 rows. With s = 1.5^2 the range is -log(1 - (s cos / (1 + s))^2) / 2 a row; published to .1."""
    gap = guide_gap(columns_at(degrees), samples=300)
    cosine = 1.5**2 * math.cos(math.radians(degrees)) / (1 + 1.5**2)
    assert gap.artefact == pytest.approx(-150 * math.log(1 - cosine**2), rel=1e-12)
    assert gap.artefact == pytest.approx(published, abs=0.05 + 1e-9)
    assert gap.turn == pytest.approx(45.0)
    assert gap.exact


@pytest.mark.parametrize("seed", range(4))
def test_range_and_best_angle_of_a_plane_are_those_of_a_grid(seed):
    model = random_model(6, 3, 10 + seed)
    precision = standard_precision(model)
    angles = torch.arange(-45.0, 45.0, 0.05, dtype=torch.float64)
    for plane in guide_gap(model, samples=1).planes:
        turn = givens(3, *plane.plane, torch.deg2rad(angles))
        gaps = hadamard_gap(turn.mT @ precision @ turn)
        # a grid of .05 degrees misses an extreme by at most .025 degrees: range * (2 * .025 degrees)^2 of it
        assert float(gaps.max() - gaps.min()) == pytest.approx(plane.range, rel=1e-5)
        off = abs(float(angles[gaps.argmin()]) - plane.degrees)
        assert min(off, 90 - off) < 0.03
        here = float(gaps[(angles.abs()).argmin()] - gaps.min())
        assert here == pytest.approx(plane.here, abs=1e-5 * plane.range)


def test_largest_gap_is_reached_where_all_precisions_are_equal_and_no_haar_rotation_exceeds_it():
    model = random_model(8, 4, 3)
    precision = standard_precision(model)
    vectors = torch.linalg.eigh(precision).eigenvectors
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).double() / 2
    whole = guide_gap(model, samples=1).range
    even = vectors @ signs
    assert hadamard_gap(even.T @ precision @ even) == pytest.approx(whole, rel=1e-10)
    assert hadamard_gap(vectors.T @ precision @ vectors).abs() < 1e-12
    haar = haar_rotation(4, torch.Generator().manual_seed(0), count=500)
    assert float(hadamard_gap(haar.mT @ precision @ haar).max()) <= whole


def test_turning_by_the_angle_that_is_reported_brings_the_gap_to_nothing():
    model = random_model(5, 2, 4)
    [plane] = guide_gap(model, samples=1).planes
    model.loadings = model.loadings.detach() @ givens(2, 0, 1, math.radians(plane.degrees))
    after = guide_gap(model, samples=1)
    assert after.here < 1e-14
    assert abs(after.planes[0].degrees) < 1e-9
    assert after.range == pytest.approx(plane.range, rel=1e-12)  # a property of the orbit, not of the frame


def test_range_does_not_depend_on_the_frame_nor_on_the_units_of_x():
    model, other = random_model(6, 3, 5), random_model(6, 3, 5)
    other.loadings = other.loadings.detach() @ haar_rotation(3, torch.Generator().manual_seed(1))
    other.rescale(torch.tensor([1.0, 10.0, 0.1, 3.0, 1e3, 1e-3], dtype=torch.float64))
    assert guide_gap(other, samples=7).artefact == pytest.approx(guide_gap(model, samples=7).artefact)


def test_orthogonal_columns_of_one_length_leave_a_guide_without_preference():
    """Orthonormal to rounding: 1e-16 of 1, so the range is of the order of its square."""
    model = pa.ProbabilisticPCA(6, 3)
    model.loadings = 2 * torch.linalg.qr(torch.randn(6, 3, dtype=torch.float64)).Q
    model.noise_variance = torch.tensor(0.5, dtype=torch.float64)
    gap = guide_gap(model, samples=1000)
    assert gap.artefact < 1e-9
    assert "axes" not in gap.describe()


def test_gap_of_other_laws_says_that_it_is_of_their_gaussian_twin():
    gap = guide_gap(random_model(6, 2, 0, priors.Laplace()), samples=10)
    assert not gap.exact
    assert gap.range == pytest.approx(guide_gap(random_model(6, 2, 0), samples=10).range, rel=1e-12)
    assert "first order" in gap.describe()


def test_one_factor_and_nearly_no_noise_are_fine_and_no_noise_is_refused():
    assert guide_gap(random_model(4, 1, 0), samples=10).artefact == 0
    model = random_model(6, 3, 6)
    model.noise_variance = torch.full((6,), 1e-12, dtype=torch.float64)
    assert math.isfinite(guide_gap(model, samples=10).artefact)
    with pytest.raises(ParameterError, match="needs noise"):
        guide_gap(pa.IndependentComponents(3, 3), samples=10)
    with pytest.raises(ParameterError, match="positive definite"):
        hadamard_gap(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64))
