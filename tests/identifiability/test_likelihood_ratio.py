"""Likelihood along a rotation: zero for Gaussian factors, equal to exact answers elsewhere."""

import math

import pytest
import torch

import probae as pa
from probae import priors
from probae.checks import ParameterError
from probae.identifiability.likelihood_ratio import haar_spread, paired_change, rotation_profile
from probae.linalg import givens


@pytest.fixture(scope="module")
def orthogonal_laplace():
    """A Laplace model with orthogonal columns of one length, so that its likelihood is exact at every rotation."""
    generator = torch.Generator().manual_seed(3)
    axes = torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.float64)).Q
    model = pa.LinearFactorModel(6, 2, priors.Laplace(), noise="isotropic")
    model.loadings = 2.0 * axes
    model.noise_variance = torch.tensor(0.4, dtype=torch.float64)
    return model, model.sample(500, seed=4)


def test_gaussian_likelihood_is_flat_over_haar_rotations_and_along_a_plane():
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(pa.FactorAnalysis(9, 3), x)
    assert haar_spread(run.model, x) < 1e-13
    profile = rotation_profile(run, x, plane=(0, 2))
    assert profile.exact
    assert profile.range < 1e-9


def test_paired_ratio_equals_the_exact_likelihood_ratio(orthogonal_laplace):
    model, x = orthogonal_laplace
    angles = torch.tensor([0.1, 0.4, math.pi / 4], dtype=torch.float64)
    change, error = paired_change(model, x, givens(2, 0, 1, angles), seed=0)
    reference, loadings = model.log_likelihood(x), model.loadings.detach().clone()
    for angle, value, sigma in zip(angles, change, error, strict=True):
        model.loadings = loadings @ givens(2, 0, 1, angle)
        exact = (model.log_likelihood(x) - reference).sum()
        # 5 standard errors, and the O(1 / draws) bias of a log of a mean
        assert abs(value - exact) < 5 * sigma + 0.02 * abs(exact)
    model.loadings = loadings


def test_paired_ratio_is_exactly_zero_at_no_rotation_and_at_symmetries(orthogonal_laplace):
    model, x = orthogonal_laplace
    quarter_turn = givens(2, 0, 1, torch.tensor([0.0, math.pi / 2, math.pi], dtype=torch.float64))
    change, _ = paired_change(model, x, quarter_turn, seed=0)
    assert change.abs().max() < 1e-9


def test_spherical_non_gaussian_factors_are_flat_too():
    x = pa.datasets.linear_factors(300, 6, 2, prior=priors.MultivariateStudentT(5.0), seed=1).x
    model = pa.LinearFactorModel(6, 2, priors.MultivariateStudentT(5.0))
    change, _ = paired_change(model, x, givens(2, 0, 1, torch.tensor([0.3, 0.9])), seed=0)
    assert change.abs().max() < 1e-9
    profile = rotation_profile(pa.fit(model, x), x)
    assert profile.exact  # every draw gives the same ratio, 1
    assert profile.range < 1e-9
    assert profile.error.abs().max() == 0


def test_noise_free_ratio_is_the_change_of_variables():
    truth = pa.datasets.linear_factors(400, 3, 3, noise=0.0, seed=2)
    run = pa.fit(pa.IndependentComponents(3, 3), truth.x)
    profile = rotation_profile(run, truth.x, (0, 1), torch.tensor([20.0]))
    before = run.model.log_likelihood(truth.x).sum()
    run.model.loadings = run.model.loadings @ givens(3, 0, 1, math.radians(20.0))
    assert profile.change[0] == pytest.approx(
        float(run.model.log_likelihood(truth.x).sum() - before), rel=1e-9
    )


def test_wrong_plane_is_refused():
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(pa.FactorAnalysis(9, 3), x)
    with pytest.raises(ParameterError, match="two different factors"):
        rotation_profile(run, x, plane=(1, 1))


@pytest.mark.parametrize("along", [rotation_profile, pa.guide_profile, pa.carried_guide])
def test_angles_may_be_a_list_and_have_to_be_some(along):
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(pa.FactorAnalysis(9, 2), x)
    assert along(run, x, degrees=[0, 45]).degrees.tolist() == [0.0, 45.0]
    for wrong in (torch.zeros(0), 45.0, [math.nan], "all"):
        with pytest.raises(ParameterError, match="degrees should be a list of finite angles"):
            along(run, x, degrees=wrong)
