"""A rotated fit is the same fit: likelihood, posterior, moments."""

import numpy as np
import pandas
import pytest
import torch

import probae as pa
from probae import rotation as r
from probae.errors import ConvergenceWarning, NotExactError, ParameterError

WAYS = {
    "varimax": (r.Varimax(), False, False),
    "kaiser": (r.Varimax(), False, True),
    "bifactor": (r.Bifactor(), False, False),
    "quartimin": (r.Quartimin(), True, False),
    "geomin": (r.Geomin(), True, True),
    "promax": (r.Promax(), True, True),
}
MODELS = {
    "factor analysis": pa.FactorAnalysis(9, 3),
    "PPCA": pa.ProbabilisticPCA(9, 3),
    "linear": pa.LinearFactorModel(9, 3),
}


@pytest.fixture(scope="module")
def x():
    return pa.datasets.holzinger_swineford().x


@pytest.fixture(scope="module", params=MODELS)
def run(request, x):
    return pa.fit(MODELS[request.param], x)


@pytest.mark.parametrize("way", WAYS)
def test_likelihood_and_moments_stay_and_factors_turn(run, x, way):
    criterion, oblique, normalize = WAYS[way]
    rotation = pa.rotate(run, criterion, oblique=oblique, normalize=normalize, starts=10)
    turned = pa.rotated(run, rotation)
    assert torch.allclose(turned.model.loadings, rotation.loadings, rtol=0, atol=1e-12)
    assert torch.allclose(turned.log_likelihood(x), run.log_likelihood(x), rtol=0, atol=1e-10)
    one, other = run.model.marginal(), turned.model.marginal()
    assert torch.allclose(one.covariance_matrix, other.covariance_matrix, rtol=0, atol=1e-10)
    back = torch.linalg.inv(rotation.matrix)
    before, after = run.posterior(x), turned.posterior(x)
    assert torch.allclose(after.mean, before.mean @ back.T, rtol=0, atol=1e-9)
    assert torch.allclose(
        after.covariance_matrix, back @ before.covariance_matrix @ back.T, rtol=0, atol=1e-9
    )
    assert torch.allclose(turned.model.factor_correlation, rotation.factor_correlation, rtol=0, atol=1e-12)


def test_missing_entries_are_integrated_out_as_before(run, x):
    holes = x.clone()
    holes[::2, 3] = torch.nan
    turned = pa.rotated(run, pa.rotate(run, r.Quartimin(), oblique=True))
    assert torch.allclose(turned.log_likelihood(holes), run.log_likelihood(holes), rtol=0, atol=1e-10)


def test_orthogonal_rotation_keeps_the_class_and_oblique_has_correlated_factors(run):
    assert type(pa.rotated(run, pa.rotate(run)).model) is type(run.model)
    turned = pa.rotated(run, pa.rotate(run, r.Quartimin(), oblique=True))
    assert isinstance(turned.model.prior, pa.priors.CorrelatedGaussian)
    assert turned.model.noise == run.model.noise


def test_the_fit_that_was_given_is_not_touched_and_the_rest_is_kept(run):
    before = run.model.loadings.clone()
    turned = pa.rotated(run, pa.rotate(run))
    with torch.no_grad():
        turned.model.loadings = turned.model.loadings * 2
    assert torch.equal(run.model.loadings, before)
    assert torch.equal(turned.history, run.history)
    assert (turned.method, turned.seed, turned.converged) == (run.method, run.seed, run.converged)


def test_names_are_kept():
    frame = pandas.DataFrame(pa.datasets.holzinger_swineford().x.numpy(), columns=[f"t{i}" for i in range(9)])
    run = pa.fit(pa.FactorAnalysis(9, 2), frame)
    turned = pa.rotated(run, pa.rotate(run, r.Quartimin(), oblique=True))
    assert turned.names == turned.model.feature_names == tuple(frame.columns)
    assert turned.posterior(frame).mean.shape == (301, 2)


def test_samples_have_the_covariance_of_the_fit(run):
    turned = pa.rotated(run, pa.rotate(run, r.Quartimin(), oblique=True))
    rows = turned.model.sample(200_000, seed=0)
    wanted = run.model.marginal().covariance_matrix
    # standard error of a covariance: about sqrt(2 / n) times the variances
    assert (torch.cov(rows.T) - wanted).abs().max() < 5 * (2 / 200_000) ** 0.5 * wanted.diagonal().max()


def test_one_factor(x):
    run = pa.fit(pa.FactorAnalysis(9, 1), x)
    for oblique in (False, True):
        turned = pa.rotated(run, pa.rotate(run, r.Geomin(), oblique=oblique))
        assert isinstance(turned.model, pa.FactorAnalysis)
        assert torch.allclose(turned.log_likelihood(x), run.log_likelihood(x), rtol=0, atol=1e-10)


def test_what_has_no_rotated_form_is_refused(x):
    run = pa.fit(pa.FactorAnalysis(9, 3), x)
    rotation = pa.rotate(run)
    with pytest.raises(
        ParameterError, match=r"rotation should be what rotate\(run, ...\) gives, got a Varimax"
    ):
        pa.rotated(run, r.Varimax())
    with pytest.raises(ParameterError, match="run should be a fit of a linear factor model"):
        pa.rotated(run.model, rotation)
    other = pa.fit(pa.FactorAnalysis(9, 3), x[:200])
    with pytest.raises(ParameterError, match="should be that of this fit, got one of other loadings"):
        pa.rotated(other, rotation)
    with pytest.raises(ParameterError, match="of other loadings"):
        pa.rotated(pa.fit(pa.FactorAnalysis(9, 2), x), rotation)
    sources = pa.fit(pa.IndependentComponents(2, 2), x[:, :2])
    with pytest.raises(NotExactError, match="exact for fits of uncorrelated Gaussian factors only"):
        pa.rotated(sources, pa.rotate(sources.model.loadings))
    with pytest.warns(ConvergenceWarning):  # two epochs are enough to have an encoder
        encoded = pa.fit(pa.FactorAnalysis(9, 3), x, pa.SVI(pa.LinearGaussianEncoder(9, 3), epochs=2))
    with pytest.raises(NotExactError, match="needs the exact posterior, got that of an encoder"):
        pa.rotated(encoded, pa.rotate(encoded))
    pattern = np.kron(np.eye(3), np.ones((3, 1)))
    confirmed = pa.fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=False), x)
    with pytest.raises(ParameterError, match="zeros of this model fix its axes"):
        pa.rotated(confirmed, pa.rotate(confirmed))


@pytest.mark.parametrize("way", ["varimax", "kaiser", "geomin"])
def test_standard_errors_of_rotated_loadings_follow_the_units_of_x(x, way):
    criterion, oblique, normalize = WAYS[way]
    units = torch.tensor([10.0**i for i in range(-4, 5)], dtype=torch.float64)
    errors = []
    for data in (x, x * units):
        run = pa.fit(pa.FactorAnalysis(9, 3), data)
        rotation = pa.rotate(run, criterion, oblique=oblique, normalize=normalize, starts=10)
        errors.append(pa.standard_errors(run, data, rotation=rotation).loadings)
    assert torch.allclose(errors[1], errors[0] * units.unsqueeze(1), rtol=1e-4, atol=0)
