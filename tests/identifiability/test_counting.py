"""Counting rules: the polynomial answers against brute force, and the rules on patterns whose answer is known."""

import json

import numpy as np
import pytest
import torch

import probae as pa
from probae import ConfirmatoryFactorAnalysis, FactorAnalysis, NotExactError, ParameterError, counting_rules
from probae.models import LinearFactorModel, ProbabilisticPCA
from probae.priors import Laplace

SIMPLE = np.kron(np.eye(3), np.ones((3, 1)))


@pytest.mark.parametrize(
    ("pattern", "correlated", "freedom", "failing"),
    [
        (SIMPLE, True, 24, set()),
        (SIMPLE, False, 27, set()),
        (np.hstack([np.ones((9, 1)), SIMPLE]), False, 18, set()),
        (
            np.kron(np.eye(2), np.ones((2, 1))),
            True,
            1,
            {"Ledermann", "row deletion", "3-5-7", "three features"},
        ),
        (
            np.kron(np.eye(2), np.ones((2, 1))),
            False,
            2,
            {"Ledermann", "row deletion", "3-5-7", "three features", "rank"},
        ),
        (np.ones((6, 2)), True, 4, {"zeros", "rank"}),
        ([[1], [1]], True, -1, {"t-rule", "Ledermann", "row deletion", "3-5-7", "three features", "rank"}),
    ],
)
def test_rules_of_patterns(pattern, correlated, freedom, failing):
    report = counting_rules(ConfirmatoryFactorAnalysis(pattern, correlated))
    assert {rule.name for rule in report.rules if not rule.holds} == failing
    assert report.degrees_of_freedom == freedom
    assert report.identified == ("rank" not in failing)


def test_rules_of_factor_analysis():
    report = counting_rules(FactorAnalysis(8, 4))  # within the Ledermann bound, too few rows for row deletion
    assert {rule.name for rule in report.rules if not rule.holds} == {"row deletion", "3-5-7", "rank"}
    assert report.nullity.beyond_rotations == 0
    beyond = counting_rules(FactorAnalysis(5, 3))
    assert {rule.name for rule in beyond.rules if not rule.holds} == {
        "t-rule", "Ledermann", "row deletion", "3-5-7", "rank",
    }  # fmt: skip
    assert beyond.degrees_of_freedom == -2


def test_degrees_of_freedom_are_those_of_the_models():
    for model in (ConfirmatoryFactorAnalysis(SIMPLE), ConfirmatoryFactorAnalysis(SIMPLE, correlated=False)):
        assert counting_rules(model).degrees_of_freedom == model.degrees_of_freedom
    assert counting_rules(FactorAnalysis(9, 3)).degrees_of_freedom == ((9 - 3) ** 2 - (9 + 3)) // 2


def test_the_report_names_what_fails():
    names = ["read", "spell", "add", "divide", "shape"]
    groups = {"verbal": ["read", "spell"], "number": ["add", "divide", "shape"]}
    report = counting_rules(ConfirmatoryFactorAnalysis.from_groups(groups, names, correlated=False))
    assert report["3-5-7"].factors == (0,)
    assert report["3-5-7"].sentence == "verbal reaches 2 features, fewer than 3"
    assert report["rank"].features == (0, 1)
    assert "which moves the noise of read, spell" in report["rank"].sentence
    assert report["row deletion"].features == (0, 1)
    text = str(report)
    assert text.startswith("Counting rules at random loadings of this pattern: 5 degrees of freedom")
    assert len(text.splitlines()) == 1 + len(report.rules)
    assert json.loads(json.dumps(report.to_dict()))["nullity"] == 1
    with pytest.raises(KeyError, match="'ledermann' is no rule of this report: t-rule, Ledermann"):
        report["ledermann"]


def test_columns_that_may_be_mixed_are_named():
    pattern = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 0]])
    report = counting_rules(ConfirmatoryFactorAnalysis(pattern))
    assert report["zeros"].factors == (0,)  # the second column may be added to the first, not the other way
    assert "z[0]" in report["zeros"].sentence


def test_a_fit_is_checked_where_it_is():
    """At correlation zero a factor of two features is not identified, though its pattern is for almost all others."""
    pattern = np.kron(np.eye(2), np.ones((2, 1)))
    model = ConfirmatoryFactorAnalysis(pattern)
    assert counting_rules(model).identified
    covariance = torch.eye(4, dtype=torch.float64)
    covariance[0, 1] = covariance[1, 0] = covariance[2, 3] = covariance[3, 2] = 0.5
    statistics = pa.SufficientStatistics.from_covariance(covariance, count=100)
    with pytest.warns(pa.UnderidentifiedWarning):
        run = pa.fit(model, statistics)
    report = counting_rules(run)
    assert report.where == "the fitted loadings"
    assert not report.identified


def test_small_loadings_may_count_as_zeros():
    x = pa.datasets.holzinger_swineford().x
    run = pa.fit(ConfirmatoryFactorAnalysis(SIMPLE), x)
    free = pa.fit(FactorAnalysis(9, 3), x)
    assert counting_rules(run, smallest=0.3)["3-5-7"].holds
    assert counting_rules(free)["3-5-7"].holds
    assert not counting_rules(free, smallest=0.7)["3-5-7"].holds
    for wrong in (0.0, -1.0, "a"):
        with pytest.raises(ParameterError, match="smallest should be a finite number above 0"):
            counting_rules(free, smallest=wrong)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (3, ParameterError, "needs a Fit or a linear factor model, got int"),
        (ProbabilisticPCA(4, 1), ParameterError, "one noise variance for each feature"),
        (LinearFactorModel(5, 2, prior=Laplace()), NotExactError, "Gaussian factors"),
    ],
)
def test_other_models_are_refused(model, error, message):
    with pytest.raises(error, match=message):
        counting_rules(model)
