"""Normal variational posteriors: bounds in their order, below the evidence; mean fields are too narrow."""

import math

import pytest
import torch

import probae as pa
from probae.datasets import holzinger_swineford
from probae.inference import LaplaceApproximation, VariationalBayes
from probae.inference.fit import fit
from probae.inference.parameter_coordinates import Coordinates
from probae.models import FactorAnalysis
from probae.parameter_priors import Fixed, InverseGamma, Normal

X = holzinger_swineford().x.double()
MODEL = FactorAnalysis(9, 2)


@pytest.fixture(scope="module")
def runs():
    found = {
        name: fit(MODEL, X, VariationalBayes(name, steps=150)) for name in ("full", "low_rank", "mean_field")
    }
    return found | {"laplace": fit(MODEL, X, LaplaceApproximation(draws=20_000))}


def bound(run):
    """Mean and standard error of log p(x, theta) - log q(theta)."""
    weights = run.sample_stats["log_weight"][0]
    return float(weights.mean()), float(weights.std()) / len(weights) ** 0.5


def test_bounds_are_in_the_order_of_their_families_and_below_the_evidence(runs):
    log_weights = runs["laplace"].sample_stats["log_weight"][0]
    share = log_weights.softmax(0)
    evidence = float(log_weights.logsumexp(0)) - math.log(len(log_weights))
    error = float((share.square().sum() - 1 / len(share)).clamp_min(0).sqrt())
    full, low, field, laplace = (bound(runs[name]) for name in ("full", "low_rank", "mean_field", "laplace"))
    # four standard errors each way
    assert field[0] < low[0] + 4 * math.hypot(field[1], low[1])
    assert low[0] < full[0] + 4 * math.hypot(low[1], full[1])
    assert laplace[0] < full[0] + 4 * math.hypot(laplace[1], full[1])
    assert full[0] < evidence + 4 * math.hypot(full[1], error)
    assert field[0] < full[0] - 0.5  # what independence costs here is no matter of rounding


def test_mean_fields_are_too_narrow_and_full_covariances_are_not(runs):
    weights = runs["laplace"].sample_stats["log_weight"][0].softmax(0)

    def spreads(run, weights=None):
        values = torch.cat([run.draws["noise_variance"], run.draws["loadings"].square().sum(-1)], -1)[0]
        weights = torch.full((len(values),), 1 / len(values)).double() if weights is None else weights
        return (weights @ (values - weights @ values).square()).sqrt()

    exact = spreads(runs["laplace"], weights)
    full, field = spreads(runs["full"]) / exact, spreads(runs["mean_field"]) / exact
    assert field.min() < 0.8
    assert field.median() < full.median() < 1.05
    assert full.min() > 0.85


def test_a_normal_posterior_is_found_exactly():
    """Noise known to 1 in 10,000: with one factor and one feature, log p(x, w) of many rows is nearly normal; all
    families hold that law, so weights are equal but for the rest."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    x = x + 0.8 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    run = fit(FactorAnalysis(3, 1), x, VariationalBayes(steps=80))
    assert run.converged
    weights = run.sample_stats["log_weight"][0]
    # third derivatives of order n, parameters of spread n^{-1/2}: log weights vary by about n^{-1/2} times
    # the number of parameters
    assert weights.std() < 10 / 20_000**0.5


def test_the_bound_is_one_of_a_proper_evidence():
    """One row, features without correlation: the evidence is an integral that the prior alone gives."""
    model = FactorAnalysis(3, 1).with_priors(
        loadings=Normal(0.01), noise_variance=InverseGamma(2000.0, 1999.0), mean=Fixed()
    )
    x = torch.tensor([[1.0, -1.0, 0.5], [0.3, 0.8, -1.2]]).double()
    run = fit(model, x, VariationalBayes(steps=80))
    weights = run.sample_stats["log_weight"][0]
    units = x.std(0, correction=0)
    found = float(weights.logsumexp(0)) - math.log(len(weights)) - 2 * float(units.log().sum())
    # loadings of about 0 and noise of about 1: N(0, I) rows, but for terms of the size of .01^2 and 1 / 2000
    expected = float(-0.5 * x.square().sum() - 3 * math.log(2 * math.pi))
    assert abs(found - expected) < 0.02


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_history_is_the_bound_of_each_step_per_row():
    run = fit(MODEL, X, VariationalBayes(steps=5, draws=10))
    assert run.history.shape == (5,)
    assert run.method.objective_name == "evidence lower bound of the parameters"
    units = X.std(0, correction=0)
    last = float(run.history[-1] + units.log().sum()) * len(X)
    assert abs(last - bound(fit(MODEL, X, LaplaceApproximation()))[0]) < 5.0  # nats; it starts from Laplace


def test_few_steps_warn():
    with pytest.warns(pa.ConvergenceWarning, match="bound still moved"):
        run = fit(FactorAnalysis(9, 3), X, VariationalBayes(steps=4, lr=0.5, draws=10))
    assert not run.converged


def test_an_interrupt_on_the_way_to_the_mode_is_the_end_of_the_fit(monkeypatch):
    def pressed(self, theta):
        raise KeyboardInterrupt

    monkeypatch.setattr(Coordinates, "hessian", pressed)
    run = fit(MODEL, X, VariationalBayes(draws=10))
    assert run.interrupted
    assert run.history.shape == (0,)  # no step of the bound after it
    assert run.draws["loadings"].isfinite().all()


def test_settings_are_checked():
    with pytest.raises(pa.ParameterError, match="covariance"):
        VariationalBayes("diagonal")
    for settings in ({"rank": 0}, {"steps": 0}, {"samples": 1}, {"lr": 0.0}, {"draws": 0}):
        with pytest.raises(pa.ParameterError, match=next(iter(settings))):
            VariationalBayes(**settings)
