"""Draws of an approximation are weighted wherever an average over draws predicts something, and the result says so."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import probae as pa
from probae.analysis.k_fold import row_folds
from probae.analysis.row_statistics import Mean
from probae.analysis.weighted_draws import draw_weights

# Of S draws that are c times as wide in D dimensions S (sqrt(2 c^2 - 1) / c^2)^D are effective: 4,000 draws at 1.5 in 6
# dimensions are worth 1,320, so that averages are known to 1 / sqrt(1320) = .028 of their standard deviation.
WIDER, EFFECTIVE = 1.5, 1320


def predictive(model, x, rest):
    """log N(x; mean of the rest, S (1 + 1 / N)): a flat prior on the mean alone."""
    covariance = model.marginal().covariance_matrix.detach() * (1 + 1 / len(rest))
    return MultivariateNormal(rest.mean(0), covariance).log_prob(x)


@pytest.fixture(name="model")
def model_fixture(factors):
    return factors()


@pytest.fixture(name="wide")
def wide_fixture(model, normal_mean):
    return pa.fit(model, model.sample(60, seed=1), normal_mean(wider=WIDER))


def test_weights_are_those_of_importance_sampling(wide):
    """Weighted moments are those of the posterior, N(0, 1 / c^2) in units of q; their errors 1 / sqrt(effective)."""
    weights = draw_weights(wide)
    assert float(weights.log.logsumexp(0)) == pytest.approx(0.0, abs=1e-12)
    assert float(1 / (2 * weights.log).exp().sum()) == pytest.approx(EFFECTIVE, rel=0.2)
    means = wide.draws["mean"].flatten(0, 1)
    share = weights.log.exp().unsqueeze(1)
    centre = (share * means).sum(0)
    ratio = (share * (means - centre).square()).sum(0) / means.var(0) * WIDER**2
    assert ((ratio - 1).abs() < 5 * (2 / EFFECTIVE) ** 0.5).all()
    assert weights.k_hat < 0.5  # p / q is bounded


def test_draws_of_the_posterior_weigh_the_same(model, normal_mean):
    weights = draw_weights(pa.fit(model, model.sample(60, seed=1), normal_mean(draws=10)))
    assert weights.log.exp().tolist() == pytest.approx([1 / 40] * 40)
    assert weights.notes == ()


def test_new_rows_have_the_density_of_the_posterior(model, wide, normal_mean):
    """By draws the density of a row deviates from its mean by sqrt(17 / 60) of it at most: 5 x .53 x .028."""
    x, new = model.sample(60, seed=1), model.sample(40, seed=2)
    exact = predictive(model, new, x)
    for run in (wide, pa.fit(model, x, normal_mean())):
        assert (pa.log_predictive_density(run, new) - exact).abs().max() < 0.08


def test_folds_are_predicted_by_the_posterior_of_the_others(model, normal_mean):
    x = model.sample(80, seed=1)
    found = pa.k_fold(model, x, normal_mean(wider=WIDER), folds=4)
    labels, _, _ = row_folds(4, 80, 0)
    for fold in range(4):
        exact = predictive(model, x[labels == fold], x[labels != fold])
        assert (found.pointwise[labels == fold] - exact).abs().max() < 0.08
    assert sum("weighted towards it" in note for note in found.notes) == 1


def test_sets_are_simulated_from_the_posterior(model, wide):
    """Means of simulated sets vary by S / N for the posterior and S / N for the rows; unweighted by 2.25 + 1.

    400 sets, whose draws are worth 1 / (1 / 400 + 1 / 1320) = 307: the variance is known to sqrt(2 / 307) = .08.
    """
    check = pa.posterior_predictive_check(wide, model.sample(60, seed=1), [Mean()], sets=400)
    variance = 2 * model.marginal().covariance_matrix.diagonal().detach() / 60
    assert ((check["mean"].replicated.var(0) / variance - 1).abs() < 5 * 0.08).all()
    assert "weighted towards it" in str(check)


def test_what_no_weights_repair_is_said(model, wide):
    """Log weights with a standard deviation of 10: a handful of 4,000 draws holds all the weight."""
    run = dataclasses.replace(
        wide, sample_stats={"log_weight": 10 * torch.randn(4, 1000, dtype=torch.float64)}
    )
    x = model.sample(60, seed=1)
    with pytest.warns(pa.ProbaeWarning, match="no weights bring back"):
        pa.log_predictive_density(run, x)
    assert "no weights bring back" in str(pa.posterior_predictive_check(run, x, [Mean()], sets=20))
    assert any("no weights bring back" in note for note in pa.loo(run, x).notes)


def test_few_weights_have_no_tail(model, normal_mean):
    run = pa.fit(model, model.sample(60, seed=1), normal_mean(draws=4, wider=WIDER))
    assert math.isnan(draw_weights(run).k_hat)
    assert draw_weights(run).notes == (
        "the draws come from an approximation of the posterior and were weighted towards it.",
    )


def test_a_tree_says_that_arviz_does_not_weigh(wide, model):
    tree = pa.to_datatree(wide, model.sample(10, seed=1), draws=4)
    assert "approximation q" in tree["posterior"].attrs["weights"]
    assert tree["sample_stats"]["log_weight"].shape == (4, 1000)
