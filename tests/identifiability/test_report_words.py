"""What a report says where there is little to say: no bootstrap, no noise check, one factor, a constant column."""

import math
from dataclasses import replace

import pytest
import torch

import probae as pa
from probae import priors
from probae.identifiability.decision import Verdict
from probae.identifiability.given import given_fit
from probae.identifiability.planes import PlaneTest, RotationInformation
from probae.identifiability.precision import AngleError, describe_worst, known_to
from probae.identifiability.structure import structure
from probae.identifiability.verdict import decide

GAUSSIAN, LAPLACE, T5 = priors.Gaussian(), priors.Laplace(), priors.StudentT(5.0)
MIXED = priors.Independent([LAPLACE, T5])


def rows(prior, latents=3, samples=300, features=8, **settings):
    return pa.datasets.linear_factors(samples, features, latents, prior=prior, seed=0, **settings).x


def report(prior, x, latents=3, **settings):
    return pa.audit(pa.fit(pa.LinearFactorModel(x.shape[1], latents, prior), x), x, **settings)


def autoencoder(x):
    method = pa.SVI(pa.MLPEncoder(x.shape[1], 2), epochs=2)
    return pa.fit(pa.Autoencoder(x.shape[1], 2), x, method)


def confirmatory(x):
    pattern = torch.zeros(8, 2, dtype=torch.bool)
    pattern[:4, 0] = pattern[4:, 1] = True
    return pa.fit(pa.ConfirmatoryFactorAnalysis(pattern), x)


WITHOUT_BOOTSTRAP = {
    "no best axes": lambda x: pa.fit(pa.FactorAnalysis(8, 2), x),
    "the segments do": lambda x: pa.fit(
        pa.FactorAnalysis(8, 2), x, pa.SegmentedLikelihood(torch.arange(len(x)) // 150)
    ),
    "the zeros of the loadings do": confirmatory,
    "a decoder that is not linear": autoencoder,
    "one factor": lambda x: pa.fit(pa.LinearFactorModel(8, 1, LAPLACE), x),
}


@pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")
@pytest.mark.parametrize("why", WITHOUT_BOOTSTRAP)
def test_a_bootstrap_that_was_asked_for_and_not_run_is_explained(why):
    x = rows(GAUSSIAN, 2)
    run = WITHOUT_BOOTSTRAP[why](x)
    found = pa.audit(run, x, bootstrap=5)
    sentence = found.to_dict()["inference"]["why_no_bootstrap"]
    assert sentence.startswith("No bootstrap of the axes was run")
    assert why in sentence
    assert sentence in str(found)
    assert "No bootstrap" not in str(pa.audit(run, x))


def test_a_bootstrap_of_thirteen_factors_is_not_run_and_explained():
    run = given_fit(pa.LinearFactorModel(30, 13, LAPLACE), "a test")
    assert "13 factors are too many to search (at most 12)" in str(pa.audit(run, bootstrap=5))


def test_a_bootstrap_that_was_run_needs_no_words():
    found = report(LAPLACE, rows(LAPLACE, 2), 2, bootstrap=5)
    assert found.evidence.inference.bootstrap.count == 5
    assert found.to_dict()["inference"]["why_no_bootstrap"] == ""


def test_factors_of_known_unequal_variances_have_no_axes_to_bootstrap():
    law = priors.Independent([GAUSSIAN, priors.Scaled(GAUSSIAN, 3.0)])
    found = report(law, rows(law, 2), 2, bootstrap=5)
    assert found.evidence.inference.bootstrap is None
    assert "no best axes" in str(found)


def test_order_is_free_among_factors_of_one_law_alone():
    assert structure(LAPLACE, 3).free == "sign and order"
    assert structure(LAPLACE, 1).free == structure(MIXED, 2).free == "sign"
    assert structure(priors.Independent([LAPLACE, LAPLACE, T5]), 3).free == (
        "sign and, among factors of one law, order"
    )


def test_laws_whose_shapes_were_learnt_apart_are_of_one_kind():
    law = priors.Independent([priors.StudentT(3.0, learn=True), priors.StudentT(9.0, learn=True)])
    assert structure(law, 2).modes == 8
    assert structure(priors.Independent([priors.StudentT(3.0), priors.StudentT(9.0)]), 2).modes == 4


def test_identified_factors_of_different_laws_have_their_order():
    x = rows(MIXED, 2, samples=2000)
    found = report(MIXED, x, 2)
    assert found.verdict is Verdict.IDENTIFIED_SP
    assert found.meaning == "identified up to sign, by the model and by the data"
    assert "sign free" in str(found)


def test_laws_chosen_from_scores_follow_the_factors_in_any_order():
    x = rows(MIXED, 2, samples=2000)
    loadings = pa.fit(pa.LinearFactorModel(8, 2, MIXED), x).model.loadings.detach()
    found = pa.audit(loadings, x)
    assert found.evidence.structure.modes == 8
    assert found.meaning == "identified up to sign and order, by the model and by the data"


@pytest.mark.parametrize("law", [GAUSSIAN, LAPLACE])
def test_one_factor_is_said_to_have_a_sign_and_no_tests(law):
    found = report(law, rows(law, 1), 1)
    assert found.verdict is Verdict.IDENTIFIED_SP
    assert found.meaning == "identified up to sign, as one factor is"
    assert "one factor has none to turn" in str(found)


def test_noise_that_fails_its_check_is_named_under_gaussian_factors():
    x = pa.datasets.likert(500, levels=5, seed=0).x
    with pytest.warns(pa.errors.IntegerDataWarning):
        run = pa.fit(pa.FactorAnalysis(x.shape[1], 3), x)
    found = pa.audit(run, x)
    assert found.verdict is Verdict.NOT_IDENTIFIED
    assert any("fails its check (T0): columns 0, 1" in reason for reason in found.reasons)


def test_heavy_tailed_noise_is_named_under_gaussian_factors():
    noise = priors.StudentT(3.0).sample(1000, 8).double()
    found = report(GAUSSIAN, rows(GAUSSIAN, samples=1000) + noise)
    assert any("the part of x that the factors do not reach is not Gaussian" in r for r in found.reasons)


@pytest.mark.parametrize("law", [GAUSSIAN, LAPLACE])
def test_a_constant_column_is_named_in_one_sentence(law):
    x = rows(law).clone()
    x[:, 4] = 3.0
    with pytest.warns(pa.errors.ConstantColumnWarning):
        run = pa.fit(pa.LinearFactorModel(8, 3, law), x)
    found = pa.audit(run, x)
    sentence = "Column 4 of x is constant"
    assert sum(sentence in reason for reason in found.reasons) == 1
    assert "few values" not in str(found)


@pytest.mark.filterwarnings("ignore::probae.errors.HeywoodWarning")
def test_rows_too_few_for_the_tests_are_counted():
    few = report(GAUSSIAN, rows(GAUSSIAN, samples=20))
    assert "20 rows" in str(few).splitlines()[0]
    x = rows(GAUSSIAN, samples=100).clone()
    x[30:, 0] = math.nan
    run = pa.fit(pa.FactorAnalysis(8, 3), x)
    assert "30 complete rows of 100" in str(pa.audit(run, x)).splitlines()[0]


def test_an_angle_without_an_error_is_not_known():
    unknown = AngleError((0, 1), 1.5, math.inf, 1000, effective=math.inf)
    assert "inf" not in describe_worst([unknown])
    assert "not known" in describe_worst([unknown])
    assert known_to(math.inf) == "not known"
    assert "2.00 degrees" in describe_worst([replace(unknown, sandwich=2.0, effective=1.6)])


def test_axes_that_no_data_tell_from_all_others_are_not_called_identified():
    planes = (((0, 1), (40.0, 40.0)), ((0, 2), (1.0, 1.0)), ((1, 2), (1.0, 1.0)))
    information = RotationInformation(tuple(PlaneTest(p, t, 500) for p, t in planes), (), 3, 500)
    x = rows(LAPLACE, samples=500)
    evidence = report(LAPLACE, x).evidence
    found = decide(
        replace(evidence, data=replace(evidence.data, information=information), adaptive_frame=None)
    )
    assert (found.verdict, found.group) == (Verdict.PARTIAL, "O(3)")
    assert "tell none from all the others" in found.meaning


@pytest.mark.parametrize("latents", [4, 5])
@pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")
def test_as_many_gaussian_factors_as_features_leave_the_noise_open(latents):
    """Loadings of lower rank are then the choice of the noise, not a finding about the factors."""
    x = pa.datasets.linear_factors(500, 4, 2, prior=priors.Gaussian(), seed=1).x
    report = pa.audit(pa.fit(pa.FactorAnalysis(4, latents), x), x)
    assert report.evidence.loadings.rank < latents
    assert report.verdict is Verdict.PSI_NOT_IDENTIFIED
