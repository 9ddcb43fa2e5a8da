"""Three gains on data whose answer is known: independent, elliptical and Gaussian factors."""

import json
import math

import pytest
import torch

import probae as pa
from probae import ParameterError, fit, likelihood_gains
from probae.identifiability.likelihood_gains import Gain
from probae.linalg import haar_rotation
from probae.models import IndependentComponents, LinearFactorModel
from probae.priors import Gaussian, Laplace, MultivariateStudentT, StudentT

MIXING = torch.tensor([[2.0, 0.5, 0.3], [0.4, 1.0, -0.6], [-0.5, 0.2, 1.5]], dtype=torch.float64)


def rows(prior, count=4000, seed=0):
    model = LinearFactorModel(3, 3, prior=prior, noise="none")
    model.loadings = MIXING
    x = model.sample(count, seed=seed)
    return x[: count // 2], x[count // 2 :]


def test_independent_sources_gain_by_their_axes():
    train, test = rows(Laplace())
    gains = likelihood_gains(fit(IndependentComponents(3, 3), train), train, test)
    # a Laplace law over a Gaussian one of its variance: log(2 pi e) / 2 - 1 - log(2) / 2 nats, for three sources
    divergence = 3 * (0.5 * math.log(2 * math.pi * math.e) - 1 - 0.5 * math.log(2))
    assert abs(gains.gaussian.nats - divergence) < 5 * gains.gaussian.error
    assert gains.rotation.nats > 4 * gains.rotation.error
    assert gains.elliptical.nats > 4 * gains.elliptical.error
    assert 0.5 < gains.share


def test_elliptical_rows_gain_nothing_by_axes():
    train, test = rows(MultivariateStudentT(4.0))
    gains = likelihood_gains(fit(IndependentComponents(3, 3, StudentT(4.0)), train), train, test)
    assert gains.gaussian.nats > 4 * gains.gaussian.error
    assert gains.elliptical.nats < -2 * gains.elliptical.error
    assert gains.rotation.nats < 0.2 * gains.gaussian.nats
    assert gains.df == pytest.approx(4.0, abs=1.0)
    assert "a law without axes fits better" in str(gains)


def test_gaussian_rows_lose_by_a_sparse_law():
    train, test = rows(Gaussian())
    gains = likelihood_gains(fit(IndependentComponents(3, 3), train), train, test)
    assert gains.gaussian.nats < -4 * gains.gaussian.error
    assert math.isnan(gains.share)
    assert "no gain to explain" in str(gains)


def test_numbers_are_those_of_the_definition():
    """Means of differences of rows; the rotations are those of the seed, applied to the loadings."""
    train, test = rows(Laplace(), 600)
    run = fit(IndependentComponents(3, 3), train)
    gains = likelihood_gains(run, train, test, rotations=4, seed=7)
    own = run.log_likelihood(test)
    gaussian = own - fit(LinearFactorModel(3, 3, noise="none"), train).log_likelihood(test)
    assert gains.gaussian.nats == pytest.approx(gaussian.mean().item(), rel=1e-9)
    assert gains.gaussian.error == pytest.approx((gaussian.std() / 300**0.5).item(), rel=1e-9)
    lost = []
    for rotation in haar_rotation(3, torch.Generator().manual_seed(7), count=4):
        turned = IndependentComponents(3, 3)
        turned.loadings, turned.mean = run.model.loadings @ rotation, run.model.mean
        lost.append(own - turned.log_likelihood(test))
    lost = torch.stack(lost)
    assert gains.rotation.nats == pytest.approx(lost.mean().item(), rel=1e-9)
    error = math.hypot((lost.mean(0).std() / 300**0.5).item(), (lost.mean(1).std() / 4**0.5).item())
    assert gains.rotation.error == pytest.approx(error, rel=1e-9)
    assert gains.level == pytest.approx(own.mean().item())


def test_with_noise_the_rotations_share_the_draws():
    """A Laplace fit with noise: the axes gain, and a spherical law gains nothing at all by turning."""
    data = pa.datasets.linear_factors(1200, 6, 2, prior=Laplace(), communality=0.8, seed=1)
    train, test = data.x[:600], data.x[600:]
    gains = likelihood_gains(fit(LinearFactorModel(6, 2, Laplace()), train), train, test, rotations=20)
    assert gains.rotation.nats > 2 * gains.rotation.error
    spherical = fit(LinearFactorModel(6, 2, MultivariateStudentT(4.0, learn=True)), train)
    gains = likelihood_gains(spherical, train, test)
    assert gains.rotation == Gain(0.0, 0.0)
    assert abs(gains.elliptical.nats) < 1e-6


def test_report_is_plain_json():
    train, test = rows(Laplace(), 400)
    gains = likelihood_gains(fit(IndependentComponents(3, 3), train), train, test, rotations=3)
    content = json.loads(json.dumps(gains.to_dict()))
    assert content["gaussian"]["nats"] == gains.gaussian.nats
    assert content["rotations"] == 3


def test_what_has_no_axes_to_compare_is_refused():
    train, test = rows(Laplace(), 200)
    with pytest.raises(ParameterError, match="needs a Fit of a linear factor model"):
        likelihood_gains(IndependentComponents(3, 3), train, test)
    with pytest.raises(ParameterError, match="at least two factors"):
        likelihood_gains(fit(LinearFactorModel(3, 1, noise="isotropic"), train), train, test)
    segmented = fit(LinearFactorModel(3, 3, noise="none"), train, pa.SegmentedLikelihood([0, 1] * 50))
    with pytest.raises(ParameterError, match="with segments"):
        likelihood_gains(segmented, train, test)
