"""The audit of confirmatory fits: what zeros identify, what data can refute, and how precisely axes are known."""

import json
import warnings

import numpy as np
import pytest
import torch

import probae as pa
from probae import ConfirmatoryFactorAnalysis, LinearFactorModel, SufficientStatistics, Verdict, audit, fit
from probae.commands import pages
from probae.identifiability.structure import structure
from probae.identifiability.zeros import mixing_errors, zeros_test
from probae.priors import CorrelatedGaussian, Laplace

SIMPLE = np.kron(np.eye(3), np.ones((3, 1)))
ANCHORS = np.ones((9, 3))
for row, factor in ((0, 0), (3, 1), (6, 2)):
    ANCHORS[row] = np.eye(3)[factor]
BOTH = np.hstack([np.ones((9, 2)), SIMPLE[:, 2:]])


def truth(pattern=SIMPLE, phi=0.4, seed=0, correlated=True):
    generator = torch.Generator().manual_seed(seed)
    model = ConfirmatoryFactorAnalysis(pattern, correlated)
    drawn = 0.7 + 0.4 * torch.rand(model.pattern.shape, generator=generator, dtype=torch.float64)
    model.loadings = drawn * model.pattern
    model.noise_variance = 0.3 + 0.4 * torch.rand(9, generator=generator, dtype=torch.float64)
    if model.free_correlations:
        k = model.latents
        model.prior = CorrelatedGaussian((1 - phi) * np.eye(k) + phi, learn=True)
    return model


def report(pattern, x, correlated=True, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        return audit(fit(ConfirmatoryFactorAnalysis(pattern, correlated), x), **({"x": x} | given))


@pytest.fixture(scope="module")
def rows():
    return truth().sample(1000, seed=1)


@pytest.fixture(scope="module")
def right(rows):
    return report(SIMPLE, rows)


def test_right_zeros_identify_the_axes(right):
    assert (right.verdict, right.group) == (Verdict.IDENTIFIED_SP, "SP(3)")
    assert "an assumption that these data could have refuted and do not" in right.reasons[0]
    assert right.meaning.startswith("identified up to sign by the zeros of the loadings")
    assert f"VERDICT     IDENTIFIED_SP  SP(3): {right.meaning}." in str(right)
    assert pages.verdict_text(right).startswith(f"**IDENTIFIED_SP**, SP(3): {right.meaning}.")
    assert right.evidence.zeros.test.degrees_of_freedom == 12
    plain = json.loads(json.dumps(right.to_dict()))["zeros"]
    assert (plain["fixed"], plain["flat_directions"], plain["identified_factors"]) == (18, 0, [0, 1, 2])
    assert plain["test"]["degrees_of_freedom"] == 12


def test_wrong_zeros_are_refuted():
    pattern = SIMPLE.copy()
    pattern[2, 1] = pattern[5, 2] = 1
    x = truth(pattern).sample(1000, seed=2)
    wrong = report(SIMPLE, x)
    assert wrong.verdict is Verdict.MISSPECIFIED_FRAME
    assert wrong.evidence.zeros.test.p_value < 1e-6
    assert "refute the zeros" in wrong.reasons[0]
    assert report(pattern, x).verdict is Verdict.IDENTIFIED_SP


def test_zeros_that_no_data_can_refute_are_a_convention(rows):
    """Even for data that have these zeros: any frame could have been chosen so."""
    chosen = report(ANCHORS, rows)
    assert chosen.verdict is Verdict.MODEL_ONLY
    assert chosen.evidence.zeros.test.degrees_of_freedom == 0
    assert chosen.evidence.zeros.test.statistic < 1e-6
    assert "a convention" in chosen.reasons[0]


@pytest.mark.parametrize(
    ("pattern", "correlated", "verdict", "group"),
    [
        (np.ones((9, 3)), False, Verdict.NOT_IDENTIFIED, "O(3)"),
        (np.ones((9, 3)), True, Verdict.NOT_IDENTIFIED, "GL(3)"),
        (BOTH, False, Verdict.PARTIAL, "SP(1) x O(2)"),
        (BOTH, True, Verdict.PARTIAL, "a 4-dimensional subgroup of GL(3)"),
    ],
)
def test_patterns_that_leave_rotations(pattern, correlated, verdict, group, rows):
    found = report(pattern, rows, correlated)
    assert (found.verdict, found.group) == (verdict, group)
    assert "group of" in found.reasons[0]
    if verdict is Verdict.PARTIAL:
        assert "The columns of z[2] are the same under all of them" in found.reasons[1]


def test_doublets_leave_the_noise_open(rows):
    pattern = np.kron(np.eye(2), np.ones((2, 1)))
    found = report(pattern, rows[:, [0, 1, 3, 4]], correlated=False)
    assert found.verdict is Verdict.PSI_NOT_IDENTIFIED
    assert "column 0, column 1, column 2, column 3" in found.reasons[0]
    assert (
        report(pattern, rows[:, [0, 1, 3, 4]]).verdict is Verdict.IDENTIFIED_SP
    )  # correlation makes them known


def test_one_factor_with_zeros():
    pattern = np.ones((9, 1))
    pattern[8] = 0
    model = truth(pattern)
    found = report(pattern, model.sample(300, seed=0))
    assert (found.verdict, found.group) == (Verdict.IDENTIFIED_SP, "SP(1)")


def test_without_rows_the_zeros_stay_an_assumption(rows, right):
    run = fit(ConfirmatoryFactorAnalysis(SIMPLE), rows)
    nothing = audit(run)
    assert nothing.verdict is Verdict.INCONCLUSIVE
    assert "if they hold" in nothing.reasons[0]
    moments = audit(run, SufficientStatistics.from_data(rows))
    assert moments.verdict is Verdict.IDENTIFIED_SP
    one, other = moments.evidence.zeros.test, right.evidence.zeros.test
    assert one.statistic == pytest.approx(other.statistic, abs=1e-6)
    assert "only their moments were given" in str(moments)


def test_dependent_rows_leave_it_open():
    """The pupils of two schools, one after the other: the test counts rows as independent."""
    school = pa.datasets.holzinger_swineford().x
    found = report(SIMPLE, school)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "Dependent rows" in found.reasons[0]
    assert "chi-square 62.41 on 12 degrees of freedom" in found.reasons[0]
    shuffled = school[torch.randperm(len(school), generator=torch.Generator().manual_seed(0))]
    assert report(SIMPLE, shuffled).verdict is Verdict.MISSPECIFIED_FRAME


def test_weak_loadings_leave_the_axes_imprecise():
    """On average the error falls with the square root of the rows: 100 times as many bring it down tenfold."""
    model = truth(phi=0.2)
    model.loadings = 0.35 * model.loadings.detach()
    found = report(SIMPLE, model.sample(150, seed=2))
    assert found.verdict is Verdict.MODEL_ONLY
    assert found.evidence.worst_error > 13
    assert "known only to" in found.reasons[0]
    more = report(SIMPLE, model.sample(15_000, seed=2))
    assert more.verdict is Verdict.IDENTIFIED_SP
    assert more.evidence.worst_error < 3


def test_the_test_of_zeros_has_its_size():
    """200 data sets with the zeros: rejections at .05 within binomial bounds (p < 1e-4 on either side)."""
    model = truth()
    rejected = 0
    for seed in range(200):
        x = model.sample(500, seed=seed)
        statistics = SufficientStatistics.from_data(x)
        run = fit(ConfirmatoryFactorAnalysis(SIMPLE), statistics)
        zeros = audit(run, statistics).evidence.zeros
        rejected += zeros.test.p_value < 0.05
    assert 1 <= rejected <= 24


def test_errors_are_those_of_repeated_samples():
    """Angles between factors over 300 data sets; a standard deviation of 300 values has error 4 per cent."""
    model = truth(phi=0.4)
    angles, stated = [], None
    for seed in range(300):
        statistics = SufficientStatistics.from_data(model.sample(400, seed=seed))
        run = fit(ConfirmatoryFactorAnalysis(SIMPLE), statistics)
        angles.append(torch.rad2deg(torch.acos(run.model.factor_correlation[0, 1])).item())
        stated = stated or mixing_errors(run.model, statistics)[0].cramer_rao
    assert np.std(angles) == pytest.approx(mixing_errors(model, statistics)[0].cramer_rao, rel=0.17)
    assert stated == pytest.approx(np.std(angles), rel=0.3)


def test_sandwich_and_cramer_rao_agree_where_the_model_holds():
    model = truth(ANCHORS)
    x = model.sample(20_000, seed=3)
    for error in mixing_errors(fit(ConfirmatoryFactorAnalysis(ANCHORS), x).model, x):
        assert error.sandwich == pytest.approx(error.cramer_rao, rel=0.05)
        assert error.samples == 20_000


@pytest.mark.filterwarnings("ignore::probae.MissingRowWarning")
def test_missing_entries_are_audited_too(rows):
    x = rows.clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.03] = torch.nan
    found = report(SIMPLE, x)
    assert found.verdict is Verdict.IDENTIFIED_SP
    assert found.evidence.zeros.test.degrees_of_freedom == 12


def test_too_many_factors_are_compared_with_any_covariance(rows):
    """Two factors of four features are beyond the Ledermann bound: the covariance itself is the alternative."""
    pattern = np.kron(np.eye(2), np.ones((2, 1)))
    run = fit(ConfirmatoryFactorAnalysis(pattern), rows[:, [0, 1, 3, 4]])
    test = audit(run, rows[:, [0, 1, 3, 4]]).evidence.zeros.test
    assert (test.against, test.degrees_of_freedom) == ("any covariance", 1)
    holes = rows[:, [0, 1, 3, 4]].clone()
    holes[0, 0] = torch.nan
    found = audit(run, holes)
    assert found.evidence.zeros.test is None
    assert zeros_test(run.model, holes, found.evidence.zeros.nullity, 0) is None
    assert found.verdict is Verdict.INCONCLUSIVE


def test_an_oblique_frame_of_unrestricted_factors_is_not_identified(rows):
    phi = CorrelatedGaussian([[1.0, 0.4, 0.4], [0.4, 1.0, 0.4], [0.4, 0.4, 1.0]])
    run = fit(LinearFactorModel(9, 3, prior=phi), rows)
    found = audit(run, rows)
    assert (found.verdict, found.group) == (Verdict.NOT_IDENTIFIED, "O(3)")
    assert any("conjugate of O(k)" in reason for reason in found.reasons)
    assert found.evidence.invariance < 1e-12
    assert pa.rotation_profile(run, rows).range < 1e-8
    shape = structure(phi, 3)
    assert (shape.null_dimension, shape.equal_scales, shape.identified) == (3, False, False)
    assert structure(CorrelatedGaussian(np.eye(2)), 2).equal_scales


def test_non_gaussian_factors_are_noted(rows):
    """Zeros that leave a rotation, data whose factors are not Gaussian: another model would be identified."""
    x = pa.datasets.linear_factors(2000, 9, 2, prior=Laplace(), communality=0.9, seed=0).x
    found = report(np.ones((9, 2)), x, correlated=False)
    assert found.verdict is Verdict.NOT_IDENTIFIED
    assert any("non-Gaussian factors would be identified" in reason for reason in found.reasons)
