"""SBC: exact posteriors pass, spoiled ones do not, and the tests have their size."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.analysis.uniform_ranks import chi_square, ecdf
from probae.inference import RefinedPosterior


@pytest.fixture(scope="module")
def exact():
    return pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)


def spoiled(run, scale=1.0, shift=0.0):
    """The exact posterior with its sd multiplied, and its mean moved by so many sd."""

    def posterior(x):
        q = run.model.posterior(x)
        return torch.distributions.MultivariateNormal(
            q.mean + shift * q.variance.sqrt(), scale_tril=scale * q.scale_tril
        )

    return replace(run, posterior=posterior)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_posterior_passes(exact, seed):
    """A false alarm has a chance of at most .02."""
    assert pa.simulation_based_calibration(exact, seed=seed).passed


def test_a_narrow_posterior_is_rejected_in_every_latent(exact):
    """sd x .8: power 1 at 1,000 simulations; the ratio is .8 within 5 errors."""
    found = pa.simulation_based_calibration(spoiled(exact, scale=0.8))
    assert found.flagged.all()
    assert ((found.sd_ratio - 0.8).abs() < 5 * found.sd_ratio_error).all()
    assert (found.chi_square[:3] < found.level).all()


def test_a_shifted_posterior_is_rejected_in_every_latent(exact):
    """The mean is .2 sd too high, so z is .2 sd below it: power 1 of the ECDF."""
    found = pa.simulation_based_calibration(spoiled(exact, shift=0.2))
    assert (found.ecdf[:3] < found.level).all()
    assert ((found.shift + 0.2).abs() < 5 * found.shift_error).all()
    assert "3 of 4 quantities flagged" in str(found)


def test_wrong_correlations_alone_are_seen_in_the_log_joint(encoded):
    """Marginals right, codes drawn independently: only log p(x, z), which sees them together, can tell."""
    loadings = torch.tensor([[2.0, 1.8], [2.0, 1.5], [1.8, 2.0]], dtype=torch.float64)
    model = pa.FactorAnalysis(3, 2)
    model.loadings = loadings

    def independent(x):
        q = model.posterior(x)
        return torch.distributions.Independent(torch.distributions.Normal(q.mean, q.variance.sqrt()), 1)

    found = pa.simulation_based_calibration(encoded(model, pa.LinearGaussianEncoder(3, 2), independent))
    assert found.flagged.tolist() == [False, False, True]


def test_the_best_mean_field_of_a_correlated_posterior_is_flagged(encoded):
    """The expected failure: its sd is (M_kk)^{-1/2} where that of the posterior is (M^{-1})_kk^{1/2}."""
    angle = math.pi / 4
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    model = pa.ProbabilisticPCA(4, 2)
    model.loadings = torch.eye(4, 2).double() * torch.tensor([8.0, 2.0]).double().sqrt() @ turn.double()
    model.noise_variance = torch.tensor(0.5).double()
    encoder = pa.MLPEncoder(4, 2, covariance="diagonal").double()
    found = pa.simulation_based_calibration(encoded(model, encoder, RefinedPosterior(encoder, model, 2)))
    M = torch.eye(2) + model.loadings.mT @ model.loadings / 0.5
    ratio = (1 / (M.diagonal() * torch.linalg.inv(M).diagonal())).sqrt()
    assert found.flagged[:2].all()  # not log p(x, z): at the optimum E tr(M S) is K, as under the posterior
    assert ((found.sd_ratio - ratio).abs() < 5 * found.sd_ratio_error).all()


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_a_trained_linear_encoder_passes_on_factor_analysis():
    """Its family holds the posterior, and training comes close enough for 1,000 simulations."""
    model = pa.FactorAnalysis(6, 2)
    x = model.sample(400, seed=0)
    run = pa.fit(pa.FactorAnalysis(6, 2), x, pa.SVI(pa.LinearGaussianEncoder(6, 2), epochs=600, lr=0.03))
    assert pa.simulation_based_calibration(run).passed


def test_non_gaussian_latents(build, encoded):
    """Laplace codes: the posterior by tangents is known to be too narrow or too Gaussian; its ranks are still ranks."""
    model = build(3, 2)
    run = encoded(model, pa.LinearGaussianEncoder(3, 2), pa.VariationalPosterior(model))
    found = pa.simulation_based_calibration(run, simulations=100, draws=19)
    assert found.ranks.min() >= 0
    assert found.ranks.max() <= 19


def test_both_tests_have_their_size():
    """Uniform ranks, 1,000 sets of 200: the share of p-values below .05 and .01 is binomial, within 4 deviations."""
    ranks = torch.from_numpy(np.random.default_rng(1).integers(0, 100, (200, 1000)))
    for p in (chi_square(ranks, 99), ecdf(ranks, 99)):
        for level in (0.05, 0.01):
            low, high = stats.binom.ppf([3e-5, 1 - 3e-5], 1000, level) / 1000
            # chi-square's law is an approximation, for 10 expected in a bin within a fifth
            assert 0.8 * low <= (p < level).double().mean() <= 1.2 * high


def test_seeds_and_the_callers_state(exact):
    state = torch.get_rng_state()
    one, two = (pa.simulation_based_calibration(exact, 100, seed=3) for _ in range(2))
    assert torch.equal(one.ranks, two.ranks)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_what_is_refused(exact):
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.simulation_based_calibration(exact.model)
    with pytest.raises(pa.ParameterError, match="simulations"):
        pa.simulation_based_calibration(exact, simulations=10)
    x = pa.SparseCoding(2, 3).sample(30, seed=0)
    point = pa.fit(pa.SparseCoding(2, 3), x, pa.MAP(steps=2))
    with pytest.raises(pa.ParameterError, match="point mass"):
        pa.simulation_based_calibration(point)
