"""T2 to T6 and the test of the last factor inside an audit: what each adds, and what none of them may decide."""

import json
import math
from dataclasses import replace

import pytest
import torch

import probae as pa
from probae import priors
from probae.identifiability.report import Verdict
from probae.matching import match_columns

pytestmark = pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")
PARTS = ("gaussian", "held_out_rotation", "directions", "robust_directions", "split_likelihood", "curvature")


def factors(prior, seed, samples=1000, features=8, latents=2):
    return pa.datasets.linear_factors(samples, features, latents, prior=prior, seed=seed).x


@pytest.fixture(scope="module")
def laplace():
    x = factors(priors.Laplace(), 1)
    return pa.audit(pa.fit(pa.LinearFactorModel(8, 2, priors.Laplace()), x), x)


def test_every_test_stands_in_the_report_and_in_the_dict(laplace):
    found = json.loads(json.dumps(laplace.to_dict()))["data"]
    assert all(found[part] is not None for part in PARTS)
    for name in ("T2", "T3", "T4", "T5", "T6", "2 factors against 1"):
        assert name in str(laplace)


def test_what_is_not_finite_is_none_in_the_dict(laplace):
    """An e-value of 0, as of a law whose support the other half of the rows leaves, has the logarithm -inf."""
    data = laplace.evidence.data
    none = replace(data, split=replace(data.split, log_e_values=(-math.inf, -math.inf)))
    found = replace(laplace, evidence=replace(laplace.evidence, data=none)).to_dict()
    assert found["data"]["split_likelihood"]["log_e_value"] is None
    json.dumps(found, allow_nan=False)


def test_laplace_factors_pass_them_all(laplace):
    data = laplace.evidence.data
    assert laplace.verdict is Verdict.IDENTIFIED_SP
    assert max(data.gaussian.p_value, data.split.p_value) < 0.01
    assert (
        data.held_out.gain > 4 * data.held_out.error
    )  # in one plane its p-value has a floor of (angle error) / 45
    assert data.directions.count() == data.robust.count() == 2
    assert data.curvature.worst.sign == 1
    assert laplace.evidence.rank.supported()


def test_tails_without_axes_are_named_and_decide_nothing():
    """Elliptical factors reject T2, T4 and T5, and have no axes."""
    x = factors(priors.MultivariateStudentT(5.0), 2)
    for prior, verdict in ((None, Verdict.NOT_IDENTIFIED), (priors.Laplace(), Verdict.MODEL_ONLY)):
        model = pa.FactorAnalysis(8, 2) if prior is None else pa.LinearFactorModel(8, 2, prior)
        report = pa.audit(pa.fit(model, x), x)
        assert report.evidence.data.gaussian.p_value < 0.01
        assert report.verdict is verdict
        assert "tails without axes" in report.reasons[-1]


def test_gaussian_scores_are_not_fitted_twice_more():
    x = factors(priors.Gaussian(), 3)
    data = pa.audit(pa.fit(pa.LinearFactorModel(8, 2, priors.Laplace()), x), x).evidence.data
    assert data.gaussian.p_value > 0.01
    assert data.split is None
    assert data.curvature is None
    assert not data.tails_without_axes


@pytest.mark.parametrize("prior", [None, priors.Laplace()])
def test_one_factor_too_many_is_named(prior):
    """Its loadings have full rank all the same: the likelihood ratio against one fewer tells."""
    x = factors(prior or priors.Gaussian(), 4, samples=1000)
    model = pa.FactorAnalysis(8, 3) if prior is None else pa.LinearFactorModel(8, 3, prior)
    report = pa.audit(pa.fit(model, x), x)
    assert report.evidence.loadings.rank == 3
    assert report.verdict is Verdict.RANK_DEFICIENT
    assert "Fit 2." in report.reasons[0]
    assert report.meaning == "the data do not support as many factors"


def test_rows_too_few_to_say_leave_gaussian_factors_their_verdict():
    """Of 60 rows neither one factor nor a second is refuted: the number stays open, and the rotation is free anyway."""
    columns = torch.tensor([[1.0, 0.3], [1.0, -0.3], [1.0, 0.3], [1.0, -0.3]], dtype=torch.float64)
    x = pa.datasets.linear_factors(60, 4, 2, prior=priors.Gaussian(), loadings=columns, noise=1.0).x
    report = pa.audit(pa.fit(pa.ProbabilisticPCA(4, 2), x), x)
    assert not report.evidence.rank.supported()
    assert not report.evidence.rank.refuted()
    assert report.verdict is Verdict.NOT_IDENTIFIED
    assert any("The last factor may be none" in reason for reason in report.reasons)


def test_a_law_that_does_not_see_the_axes_gets_no_verdict_on_them():
    """alpha of Laplace at centred exponential factors is 0: the data show axes that the fit is blind to."""
    g = torch.Generator().manual_seed(2)
    x = (torch.empty(2000, 3, dtype=torch.float64).exponential_(generator=g) - 1) @ torch.randn(
        3, 3, generator=g, dtype=torch.float64
    )
    report = pa.audit(pa.fit(pa.IndependentComponents(3, 3), x), x)
    assert report.evidence.data.information.every_plane()
    assert report.verdict in (Verdict.INCONCLUSIVE, Verdict.MISSPECIFIED_FRAME)
    assert "(T6)" in " ".join(report.reasons)


def test_a_free_mean_gives_that_law_its_axes_back():
    """The mean moves to the medians, where alpha = sqrt 2 (1 - ln 2) = .43: the axes are the true ones."""
    g = torch.Generator().manual_seed(2)
    z = torch.empty(1000, 2, dtype=torch.float64).exponential_(generator=g) - 1
    loadings = torch.randn(7, 2, generator=g, dtype=torch.float64)
    x = z @ loadings.T + 0.4 * torch.randn(1000, 7, generator=g, dtype=torch.float64)
    run = pa.fit(pa.LinearFactorModel(7, 2, priors.Laplace()), x)
    report = pa.audit(run, x)
    assert report.verdict is Verdict.IDENTIFIED_SP
    off = 4 * report.evidence.worst_error  # four standard errors of the angle between true and fitted axes
    cosines = match_columns(loadings, run.model.loadings.detach()).cosines
    assert torch.rad2deg(cosines.clamp_max(1).acos()).max() < off


def test_fewer_rows_than_features_leave_the_exact_test():
    g = torch.Generator().manual_seed(5)
    z = torch.randn(40, 2, generator=g, dtype=torch.float64)
    x = z @ torch.randn(2, 60, generator=g, dtype=torch.float64)
    x += 0.4 * torch.randn(40, 60, generator=g, dtype=torch.float64)
    report = pa.audit(pa.fit(pa.ProbabilisticPCA(60, 2), x), x)
    assert report.verdict is Verdict.NOT_IDENTIFIED
    assert report.evidence.data.gaussian.samples == report.evidence.samples == 40
    assert "Only 40 complete rows" in str(report)


def test_sources_fewer_than_the_features_are_tested_in_their_subspace():
    x = factors(priors.Laplace(), 6, features=5)
    data = pa.audit(pa.fit(pa.IndependentComponents(5, 2), x), x).evidence.data
    assert data.gaussian.latents == data.held_out.latents == 2


def test_a_column_that_follows_from_the_others_ends_no_audit():
    x = torch.as_tensor(factors(priors.Gaussian(), 7))
    x = torch.cat([x, x.sum(1, keepdim=True)], 1)
    report = pa.audit(pa.fit(pa.FactorAnalysis(9, 2), x), x)
    assert report.evidence.data.robust is None
    assert report.verdict is not Verdict.IDENTIFIED_SP


def test_resamples_stand_beside_the_errors_when_asked_for(laplace):
    assert laplace.evidence.inference.bootstrap is None
    x = factors(priors.Laplace(), 1, samples=400)
    report = pa.audit(pa.fit(pa.LinearFactorModel(8, 2, priors.Laplace()), x), x, bootstrap=8)
    found = report.evidence.inference.bootstrap
    assert found.count == 8
    assert found.describe() in str(report)
    assert report.to_dict()["inference"]["bootstrap"] is not None
