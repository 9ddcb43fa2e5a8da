"""The planner against the published tables, and against itself backwards."""

import json
import math

import pytest

from probae import noise_for_angle, plan_angles, priors
from probae.checks import ParameterError


@pytest.mark.parametrize(
    ("law", "five", "one"),
    [
        (priors.GeneralizedNormal(0.8), 20, 509),
        (priors.Laplace(), 66, 1641),
        (priors.StudentT(3.0), 66, 1641),
        (priors.GeneralizedNormal(4.0), 177, 4426),
        (priors.StudentT(5.0), 263, 6566),
        (priors.Logistic(), 680, 16_988),
        (priors.GeneralizedNormal(1.5), 686, 17_143),
        (priors.StudentT(10.0), 1138, 28_451),
        (priors.StudentT(30.0), 10_111, 252_776),
    ],
    ids=repr,
)
def test_rows_without_noise_are_those_of_the_table(law, five, one):
    (row,) = plan_angles(law, noise=[0.0]).rows
    assert row.samples_for[0] == pytest.approx(five, rel=1e-3, abs=1.0)  # as printed, to whole rows
    assert row.samples_for[1] == pytest.approx(one, rel=1e-3, abs=1.0)


@pytest.mark.parametrize(
    ("noise", "five", "one", "degrees"),
    [
        (0.001, 73, 1816, 1.35),
        (0.01, 90, 2258, 1.50),
        (0.03, 114, 2851, 1.69),
        (0.1, 180, 4493, 2.12),
        (0.25, 322, 8061, 2.84),
        (0.5, 623, 15_570, 3.95),
        (1.0, 1575, 39_381, 6.28),
        (2.0, 5750, 143_753, 12.0),
        (4.0, 33_109, 8.3e5, None),
        (9.0, 451_794, 1.1e7, None),
    ],
)
def test_rows_with_noise_are_those_of_the_table(noise, five, one, degrees):
    (row,) = plan_angles(priors.Laplace(), noise=[noise]).rows
    assert row.samples_for[0] == pytest.approx(five, rel=2e-3, abs=1.0)
    assert row.samples_for[1] == pytest.approx(one, rel=0.03 if noise >= 4 else 2e-3, abs=1.0)  # two digits
    if degrees is not None:
        assert row.degrees == pytest.approx(degrees, abs=0.03 if noise >= 2 else 0.006)


def test_features_average_the_noise():
    (many,) = plan_angles(priors.Laplace(), noise=[2.0], features=8).rows
    (one,) = plan_angles(priors.Laplace(), noise=[0.25]).rows
    assert many.samples_for == pytest.approx(one.samples_for)
    assert many.decibels == pytest.approx(-3.0103, abs=1e-4)


@pytest.mark.parametrize("law", [priors.Laplace(), priors.SpikeSlab()], ids=repr)
def test_most_noise_is_the_inverse_of_the_rows(law):
    (row,) = plan_angles(law, noise=[0.3], features=4, degrees=[0.1]).rows
    noise = noise_for_angle(law, 0.1, round(row.samples_for[0]), features=4)
    assert noise == pytest.approx(0.3, rel=2e-3)  # rows were rounded to whole ones


def test_no_noise_at_all_where_rows_do_not_suffice():
    assert noise_for_angle(priors.StudentT(30.0), 1.0, 1000) == 0.0


def test_scale_of_a_law_does_not_count():
    wide = plan_angles(priors.Scaled(priors.Laplace(), 3.0), noise=[0.0, 0.2]).rows
    unit = plan_angles(priors.Laplace(), noise=[0.0, 0.2]).rows
    assert [row.degrees for row in wide] == pytest.approx([row.degrees for row in unit], rel=1e-9)


def test_unequal_laws_are_between_the_equal_ones_and_one_may_be_gaussian():
    laws = (priors.Laplace(), priors.Gaussian())
    degrees = [plan_angles(*pair, noise=[0.1]).rows[0].degrees for pair in (laws, laws[:1], laws[1:])]
    assert degrees[1] < degrees[0] < degrees[2] == math.inf
    assert degrees[0] == plan_angles(*laws[::-1], noise=[0.1]).rows[0].degrees


def test_a_law_without_finite_information_needs_next_to_no_rows():
    plan = plan_angles(priors.Uniform(), noise=[0.0, 0.01])
    assert plan.rows[0].samples_for == (0.0, 0.0)
    assert plan.rows[1].samples_for[0] > 0
    assert plan.to_rows()[0]["kappa"] == [None, None]


def test_table_says_what_it_cannot_give():
    unbounded = str(plan_angles(priors.Uniform(), noise=[0.0]))
    assert unbounded.splitlines()[2].split()[-2:] == ["-", "-"]
    assert "there is no bound" in unbounded
    assert "there is no bound" not in str(plan_angles(priors.Laplace(), noise=[0.0]))


def test_table_shows_the_information_of_both_laws():
    pair = str(plan_angles(priors.Gaussian(), priors.Laplace(), noise=[0.0]))
    assert "0, 1 " in pair  # kappa - 1 of both laws: the smaller alone says nothing of the angle


def test_table_prints_and_goes_into_json():
    plan = plan_angles(priors.Laplace(), features=3, noise=[0.0, 1.0, 30.0], samples=200)
    assert json.loads(json.dumps(plan.to_rows()))[1]["noise"] == 1.0
    text = str(plan)
    assert "saturated: an error above 13 degrees means nothing." in text
    assert "Laplace(), 3 features" in text
    assert "asymptotic" in text


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plan_angles(priors.MultivariateStudentT(5.0)), "law of one factor"),
        (lambda: plan_angles("laplace"), "law of one factor"),
        (lambda: plan_angles(priors.Laplace(), noise=[-1.0]), "noise"),
        (lambda: plan_angles(priors.Laplace(), noise=[]), "at least one"),
        (lambda: plan_angles(priors.Laplace(), degrees=[0.0]), "degrees"),
        (lambda: plan_angles(priors.Laplace(), features=0), "features"),
        (lambda: noise_for_angle(priors.Laplace(), 5.0, 0), "samples"),
        (lambda: plan_angles(priors.Laplace(), degrees=5.0), "list of numbers"),
        (lambda: plan_angles(priors.Laplace(), noise=0.1), "list of numbers"),
    ],
)
def test_refuses_what_is_no_plan(call, match):
    with pytest.raises(ParameterError, match=match):
        call()
