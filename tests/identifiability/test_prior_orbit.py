"""The prior of the loadings along a rotation: closed forms, draws against them, and which axes it explains."""

import dataclasses
import math

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.special
import torch

import probae as pa
from probae import parameter_priors
from probae.identifiability.prior_change import by_draws, prior_change
from probae.identifiability.prior_orbit import prior_orbit
from probae.linalg import givens

ANGLES = torch.arange(-45.0, 46.0, 2.5, dtype=torch.float64)
PATH = givens(2, 0, 1, torch.deg2rad(ANGLES))
HOME = 18  # 0 degrees
SIMPLE = torch.tensor([[0.9, 0.0], [0.7, 0.1], [0.8, 0.0], [0.0, 0.6], [0.05, 0.9], [0.0, 0.7]]).double()


@pytest.fixture(scope="module")
def run():
    """A Gaussian fit with rows; tests put their own prior and loadings in."""
    x = pa.datasets.linear_factors(200, 6, 2, prior=pa.priors.Gaussian(), noise=0.3, seed=0).x
    return pa.fit(pa.FactorAnalysis(6, 2), x), x


def with_prior(run, prior, loadings):
    model = pa.FactorAnalysis(6, 2)
    model.loadings = loadings.clone()
    return dataclasses.replace(run, model=model, program=model.with_priors(loadings=prior))


@pytest.mark.parametrize(
    "prior", [parameter_priors.ARD(2.0, 0.5), parameter_priors.Normal(torch.tensor([[0.5, 2.0]]))]
)
def test_draws_of_hyperparameters_give_the_closed_form(prior):
    """5 of its errors."""
    exact, none = prior_change(prior, SIMPLE, PATH)
    drawn, error = by_draws(prior, SIMPLE @ PATH, HOME, seed=1)
    assert none.max() == 0
    assert ((drawn - exact).abs() <= 5 * error + 1e-9).all()
    assert exact[HOME] == drawn[HOME] == 0


def test_horseshoe_is_the_integral_over_its_scales():
    """Both scales of a lone loading by quadrature: w ~ N(0, (lambda tau)^2), and 6 of them share tau."""
    loadings = torch.tensor([[0.3, -0.2], [0.05, 0.9], [1.2, 0.4]]).double()
    grid = np.linspace(-14, 14, 500)
    scale = np.exp(grid)
    weight = grid - np.log1p(scale**2)  # a half-Cauchy law of log scale, up to a constant

    def log_density(w):
        sd = scale[:, None] * scale  # lambda, tau
        total = weight.copy()
        for value in w.flatten().tolist():
            normal = -0.5 * (value / sd) ** 2 - np.log(sd)
            total += scipy.special.logsumexp(normal + weight[:, None], axis=0)
        return scipy.special.logsumexp(total)

    some = PATH[[0, 10, HOME, 30]]
    exact = np.array([log_density(w) for w in loadings @ some])
    found, error = prior_change(parameter_priors.Horseshoe(), loadings, some)
    assert error.max() == 0
    # the two grids have steps of .06 and .08 in log scale, and smooth integrands: the differences are far smaller
    assert np.abs(found.numpy() - (exact - exact[2])).max() < 1e-4


def test_draws_of_a_horseshoe_give_its_integral():
    """5 of its errors; the draws of its scales mix slowly, which the walk back shows."""
    loadings = SIMPLE + 0.05  # the density has a pole at 0
    exact, _ = prior_change(parameter_priors.Horseshoe(), loadings, PATH)
    drawn, error = by_draws(parameter_priors.Horseshoe(), loadings @ PATH, HOME, seed=3)
    assert ((drawn - exact).abs() <= 5 * error + 1e-9).all()
    assert error.max() < 1.5


def test_any_distribution_of_pyro_is_asked_for_its_density():
    change, _ = prior_change(dist.Laplace(0.0, 0.5), SIMPLE, PATH)
    expected = -2 * ((SIMPLE @ PATH).abs().sum((1, 2)) - SIMPLE.abs().sum())
    assert torch.allclose(change, expected, atol=1e-12)


def test_invariant_priors_say_nothing_and_fits_without_priors_have_none(run):
    fit, x = run
    found = prior_orbit(with_prior(fit, parameter_priors.Normal(2.0), SIMPLE), x)
    assert found.invariant
    assert found.range == 0
    assert not found.explains
    assert prior_orbit(fit, x) is None


def test_one_factor_has_no_rotation_that_a_prior_could_prefer(run):
    _, x = run
    fit = pa.fit(pa.FactorAnalysis(6, 1), x)
    program = fit.model.with_priors(loadings=dist.Laplace(0.0, 1.0))
    assert prior_orbit(dataclasses.replace(fit, program=program), x) is None


@pytest.mark.parametrize(("turn", "explained"), [(0.0, True), (35.0, False)])
def test_a_sparse_prior_explains_its_own_axes_and_no_others(run, turn, explained):
    """The likelihood is flat to rounding; Laplace of scale .1 differs by 10 times the change of sum |W|."""
    fit, x = run
    turned = with_prior(fit, dist.Laplace(0.0, 0.1), SIMPLE @ givens(2, 0, 1, math.radians(turn)))
    found = prior_orbit(turned, x)
    [plane] = found.planes
    assert plane.likelihood < 1e-9
    assert plane.decides
    assert found.explains is explained
    assert abs(abs(plane.degrees) - turn) < 5
    assert "Laplace" in found.describe()
    assert found.to_dict()["planes"][0]["explains"] is explained


def test_deviation_of_the_angle_is_that_of_a_normal_law_for_a_sharp_prior(run):
    """With unequal scales the change is -c sin(t)^2, of deviation 1 / sqrt(2 c)."""
    fit, _ = run
    scale = torch.tensor([[1.0, 0.1]], dtype=torch.float64)
    loadings = torch.tensor([[1.0, 0.0]] * 6).double()
    [plane] = prior_orbit(with_prior(fit, parameter_priors.Normal(scale), loadings)).planes
    c = 0.5 * 6 * (1 / 0.01 - 1)
    assert plane.range == pytest.approx(c, rel=1e-9)
    assert plane.sd == pytest.approx(math.degrees(1 / math.sqrt(2 * c)), rel=0.05)  # a grid of 2.5 degrees


def test_a_law_of_exact_zeros_prefers_them_without_limit(run):
    fit, _ = run
    turned = with_prior(fit, parameter_priors.SpikeSlab(), SIMPLE)
    turned = dataclasses.replace(turned, draws={"loadings": SIMPLE.expand(1, 3, 6, 2)})
    [plane] = prior_orbit(turned).planes
    assert plane.range == math.inf
    assert plane.degrees == 0
    assert plane.explains
    assert prior_orbit(turned).to_dict()["planes"][0]["range_nats"] is None


def test_one_seed_is_one_result_and_the_callers_state_is_kept():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = prior_change(parameter_priors.MultiplicativeGamma(), SIMPLE, PATH, seed=2)
    second, _ = prior_change(parameter_priors.MultiplicativeGamma(), SIMPLE, PATH, seed=2)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_likelihood_of_other_laws_is_paired_and_counted_over_all_rows(run):
    _, x = run
    fit = pa.fit(pa.LinearFactorModel(6, 2, pa.priors.Laplace()), x)
    program = pa.FactorAnalysis(6, 2).with_priors(loadings=dist.Laplace(0.0, 1.0))
    [plane] = prior_orbit(dataclasses.replace(fit, program=program), x).planes
    assert plane.likelihood > 0.1
