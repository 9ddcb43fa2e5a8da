"""What an audit says and leaves alone; verdicts of known cases are in test_adversarial, their rates in calibration."""

import json

import pytest
import torch

import probae as pa
from probae import priors
from probae.checks import ParameterError
from probae.identifiability.report import Verdict

LAPLACE = priors.Laplace()


def factors(prior, seed, samples=2000, features=10, **settings):
    return pa.datasets.linear_factors(samples, features, 3, prior=prior, seed=seed, **settings).x


def verdict_of(prior, x):
    features = x.shape[1]
    model = pa.LinearFactorModel(features, 3, prior) if prior is not None else pa.FactorAnalysis(features, 3)
    return pa.audit(pa.fit(model, x), x)


@pytest.fixture(scope="module")
def laplace_under_gaussian():
    x = factors(LAPLACE, 1)
    return pa.fit(pa.FactorAnalysis(10, 3), x), x


def test_gaussian_model_on_laplace_data_says_that_another_model_would_be_identified(laplace_under_gaussian):
    run, x = laplace_under_gaussian
    assert any("non-Gaussian factors would be identified" in reason for reason in pa.audit(run, x).reasons)


def test_gaussian_model_on_gaussian_data_does_not_say_so():
    report = verdict_of(None, factors(priors.Gaussian(), 4))
    assert not any("would be identified" in reason for reason in report.reasons)


def test_without_data_only_the_structure_speaks(laplace_under_gaussian):
    run, _ = laplace_under_gaussian
    report = pa.audit(run)
    assert report.verdict is Verdict.NOT_IDENTIFIED
    assert "not run" in str(report)
    laplace = pa.fit(pa.LinearFactorModel(10, 3, LAPLACE), factors(LAPLACE, 1, samples=500))
    assert pa.audit(laplace).verdict is Verdict.INCONCLUSIVE


def test_report_is_plain_json_and_repeats(laplace_under_gaussian):
    run, x = laplace_under_gaussian
    first, second = (json.dumps(pa.audit(run, x).to_dict()) for _ in range(2))
    assert first == second
    assert json.loads(first)["verdict"] == "NOT_IDENTIFIED"


def test_audit_leaves_the_random_state_and_the_model_alone(laplace_under_gaussian):
    run, x = laplace_under_gaussian
    state, loadings = torch.get_rng_state(), run.model.loadings.clone()
    pa.audit(run, x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(loadings, run.model.loadings)


def test_one_gaussian_factor_is_identified_up_to_sign():
    x = pa.datasets.linear_factors(1000, 6, 1, prior=priors.Gaussian(), seed=3).x
    report = pa.audit(pa.fit(pa.FactorAnalysis(6, 1), x), x)
    assert (report.verdict, report.group) == (Verdict.IDENTIFIED_SP, "SP(1)")


@pytest.mark.filterwarnings("ignore::probae.errors.ConvergenceWarning")
def test_overcomplete_codes_are_not_separable():
    x = pa.datasets.natural_patches(size=4, count=400, seed=0).x
    report = pa.audit(pa.fit(pa.SparseCoding(16, 24), x, pa.MAP(steps=40, penalty=0.05)), x)
    assert report.separable is False
    assert report.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_CONVERGED)


def test_interrupted_fit_gets_no_verdict_on_its_axes(laplace_under_gaussian):
    _, x = laplace_under_gaussian
    with pytest.warns(pa.ConvergenceWarning, match="before it converged"):
        short = pa.fit(pa.FactorAnalysis(10, 3), x, pa.EM(steps=2))
    assert pa.audit(short, x).verdict is Verdict.NOT_CONVERGED


def test_audit_refuses_anything_but_a_fit():
    with pytest.raises(ParameterError, match="needs the result of probae.fit"):
        pa.audit(pa.FactorAnalysis(4, 1), [[0.0] * 4])
