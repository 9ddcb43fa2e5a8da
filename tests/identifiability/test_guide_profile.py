"""Likelihood and bounds along an angle: flat where they must be, peaked where the guide says so."""

import math

import pytest
import torch

import probae as pa
from probae import priors
from probae.checks import ParameterError
from probae.identifiability.guide_profile import best_bound, guide_profile
from probae.identifiability.turned_models import turned, turns
from probae.linalg import givens

GRID = torch.arange(-45.0, 46.0, 15.0)


def columns_at(degrees, prior, features=2):
    angle = math.radians(degrees)
    model = pa.LinearFactorModel(features, 2, prior, noise="isotropic")
    columns = torch.zeros(features, 2, dtype=torch.float64)
    columns[:2] = 1.5 * torch.tensor([[1.0, math.cos(angle)], [0.0, math.sin(angle)]])
    model.loadings = columns
    model.noise_variance = torch.tensor(1.0, dtype=torch.float64)
    return model


@pytest.mark.parametrize(("degrees", "published"), [(60.0, 19.1), (35.0, 58.2)])
def test_gaussian_factors_have_a_flat_likelihood_and_a_peaked_mean_field_bound(degrees, published):
    """Rounding of 300 rows of about 4 nats each stays below 1e-9; the bounds stop within 1e-9 a row."""
    model = columns_at(degrees, priors.Gaussian())
    profile = guide_profile(model, model.sample(300, seed=1), degrees=GRID)
    ranges = profile.ranges
    assert ranges["likelihood"] < 1e-9
    assert max(ranges["full"], ranges["clean"]) < 300 * 1e-9
    assert ranges["mean-field"] == pytest.approx(published, abs=0.05 + 1e-6)
    assert (
        profile.mean_field + profile.gap - profile.gap[3]
    ).abs().max() < 300 * 1e-9  # 0 degrees is the fourth
    assert abs(profile.best["mean-field"]) == 45
    assert profile.best["likelihood"] == profile.best["clean"] == 0
    assert profile.exact


def test_laplace_factors_have_one_frame_and_a_mean_field_bound_has_another():
    """The mean likelihood falls by some .015 nats a row at 45 degrees, the mean-field bound rises by .04."""
    model = columns_at(60.0, priors.Laplace())
    profile = guide_profile(model, model.sample(1000, seed=3), degrees=GRID)
    assert abs(profile.best["likelihood"]) <= 15
    assert abs(profile.best["full"]) <= 15
    assert abs(profile.best["clean"]) <= 15
    assert abs(profile.best["mean-field"]) == 45
    assert not profile.exact


def test_bounds_are_in_order_and_the_full_one_is_that_of_the_gaussian_posterior():
    """The two ascents stop within 1e-8 and 1e-9 nats a row of the same maximum, and may stop early by some of that."""
    model = columns_at(35.0, priors.Laplace(), features=3)
    x = model.sample(30, seed=0)
    exact = pa.log_evidence(model, x, pa.Quadrature()).value
    full, independent = best_bound(model, x, diagonal=False), best_bound(model, x, diagonal=True)
    assert (exact > full - 1e-7).all()
    assert (full > independent - 1e-7).all()
    assert (full - pa.GaussianPosterior(model).bound(x)).abs().max() < 1e-5


def test_paired_likelihood_agrees_with_quadrature_at_a_frame_with_unequal_scales():
    """Factors of standard deviations 1 and 3 turn by L R L^-1; 5 standard errors of the draws."""
    prior = priors.Independent([priors.Laplace(), priors.Scaled(priors.Laplace(), 3.0)])
    model = pa.LinearFactorModel(4, 2, prior, noise="isotropic")
    model.loadings = torch.tensor([[1.0, 0.2], [0.3, 0.5], [0.8, 0.1], [0.0, 0.4]]).double()
    model.noise_variance = torch.tensor(0.5, dtype=torch.float64)
    x = model.sample(25, seed=2)
    angle = torch.tensor([10.0])
    paired = guide_profile(model, x, degrees=angle)
    exact = guide_profile(model, x, degrees=angle, estimator=pa.Quadrature())
    assert abs(paired.likelihood - exact.likelihood) < 5 * paired.error
    assert exact.error < 1e-5


def test_known_unequal_variances_and_correlations_are_flat_under_their_own_group():
    """Case 8: W R itself would change p(x); W L R L^-1 must not."""
    unequal = priors.Independent([priors.Gaussian(), priors.Scaled(priors.Gaussian(), 2.0)])
    correlated = priors.CorrelatedGaussian([[1.0, 0.6], [0.6, 1.0]])
    for prior in (unequal, correlated):
        model = pa.LinearFactorModel(5, 2, prior)
        model.loadings = torch.randn(5, 2, dtype=torch.float64)
        x = model.sample(50, seed=1)
        profile = guide_profile(model, x, degrees=GRID)
        assert profile.likelihood.abs().max() < 1e-8
        assert profile.full.abs().max() < 1e-6
    [matrix] = turns(model, givens(2, 0, 1, torch.tensor([0.5])))
    assert torch.allclose(
        turned(model, matrix).marginal().covariance_matrix, model.marginal().covariance_matrix
    )


def test_large_tables_of_non_gaussian_factors_are_read_in_part():
    model = columns_at(60.0, priors.Laplace())
    profile = guide_profile(model, model.sample(3000, seed=0), degrees=torch.tensor([45.0]))
    assert profile.samples == 1000


def test_what_cannot_be_turned_is_refused():
    model = columns_at(60.0, priors.Gaussian())
    with pytest.raises(ParameterError, match="two different factors"):
        guide_profile(model, model.sample(5, seed=0), (0, 0))
    with pytest.raises(ParameterError, match="needs noise"):
        guide_profile(pa.IndependentComponents(2, 2), torch.zeros(5, 2))
    with pytest.raises(ParameterError, match="linear factor model"):
        guide_profile("model", torch.zeros(5, 2))
