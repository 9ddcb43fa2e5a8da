"""Confirmatory factor analysis as a model: the pattern, what it refuses, and that zeros stay zeros."""

import copy
import pickle

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

import probae as pa
from probae import DataError, ParameterError
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel
from probae.models.confirmatory import read_pattern
from probae.priors import CorrelatedGaussian, Gaussian

PATTERN = [[1, 0], [1, 0], [1, 1], [0, 1], [0, 1]]


def correlated(phi=0.4):
    model = ConfirmatoryFactorAnalysis(PATTERN)
    model.prior = CorrelatedGaussian([[1.0, phi], [phi, 1.0]], learn=True)
    return model


def test_it_is_the_linear_model_with_zeros_and_correlations(assert_close):
    model, plain = correlated(), LinearFactorModel(5, 2, prior=CorrelatedGaussian([[1.0, 0.4], [0.4, 1.0]]))
    plain.loadings = model.loadings.detach()
    x = model.sample(7, seed=0)
    assert_close(model.log_likelihood(x), plain.log_likelihood(x), 1e-12)
    assert_close(model.posterior(x).mean, plain.posterior(x).mean, 1e-12)
    assert_close(model.posterior(x).covariance_matrix, plain.posterior(x).covariance_matrix, 1e-12)


def test_covariance_by_hand():
    model = correlated(0.5)
    model.loadings = torch.tensor([[2.0, 0], [1, 0], [1, 1], [0, 3], [0, 1]], dtype=torch.float64)
    covariance = model.marginal().covariance_matrix.detach()
    assert covariance[0, 0] == pytest.approx(4 + 1)
    assert covariance[0, 3] == pytest.approx(2 * 0.5 * 3)
    assert covariance[2, 2] == pytest.approx(1 + 1 + 2 * 0.5 + 1)
    assert model.communalities.tolist() == pytest.approx([4.0, 1.0, 3.0, 9.0, 1.0])


@pytest.mark.parametrize("correlated", [True, False])
def test_degrees_of_freedom(correlated):
    model = ConfirmatoryFactorAnalysis(PATTERN, correlated)
    assert model.degrees_of_freedom == 15 - 6 - 5 - correlated
    assert model.free_correlations == ([(0, 1)] if correlated else [])
    assert isinstance(model.prior, CorrelatedGaussian if correlated else Gaussian)


def test_one_factor_has_no_correlations():
    model = ConfirmatoryFactorAnalysis([[1], [1], [1]])
    assert isinstance(model.prior, Gaussian)
    assert model.degrees_of_freedom == 0


def test_loadings_outside_the_pattern_are_refused():
    model = ConfirmatoryFactorAnalysis(PATTERN)
    before = model.loadings.detach().clone()
    with pytest.raises(ParameterError, match="row 0, column 1 is fixed to zero by the pattern, got 1"):
        model.loadings = torch.ones(5, 2, dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"shape \(5, 2\), got \(2, 5\)"):
        model.loadings = torch.ones(2, 5, dtype=torch.float64)
    assert torch.equal(model.loadings, before)
    model.loadings = 3 * before
    assert torch.equal(model.loadings, 3 * before)


def test_no_optimiser_moves_a_zero():
    """Not even one with momentum and weight decay on the raw parameter."""
    model = correlated()
    x = model.sample(50, seed=1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        (-model.marginal().log_prob(x).sum()).backward()
        optimiser.step()
    assert (model.loadings[~model.pattern] == 0).all()
    assert (model.loadings[model.pattern] != 0).all()
    assert float(model.factor_correlation[0, 1]) != 0.4


def test_stock_pyro_learns_it_within_the_pattern():
    model = ConfirmatoryFactorAnalysis(PATTERN)
    x = correlated().sample(100, seed=2)
    with pyro.settings.context(module_local_params=True):
        svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
        losses = [svi.step(x) for _ in range(30)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert float(model.factor_correlation[0, 1]) != 0
    pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert (model.loadings[~model.pattern] == 0).all()


def test_copies_keep_the_pattern_and_their_own_parameters():
    model = correlated()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.pattern, model.pattern)
        other.loadings = 2 * other.loadings.detach()
        assert torch.equal(2 * model.loadings, other.loadings)
        with pytest.raises(ParameterError, match="fixed to zero"):
            other.loadings = torch.ones(5, 2, dtype=torch.float64)
    assert "pattern" not in model.state_dict()  # an argument of the constructor, so stored only once


def test_rescale_puts_the_model_into_units(assert_close):
    model, units = correlated(), torch.tensor([1.0, 2.0, 0.5, 10.0, 3.0], dtype=torch.float64)
    x = model.sample(6, seed=3)
    scaled = copy.deepcopy(model)
    scaled.rescale(units)
    assert_close(scaled.log_likelihood(x * units), model.log_likelihood(x) - units.log().sum(), 1e-12)
    assert_close(scaled.posterior(x * units).mean, model.posterior(x).mean, 1e-10)


def test_groups_name_features_or_number_them():
    names = ["a", "b", "c", "d"]
    by_name = ConfirmatoryFactorAnalysis.from_groups({"f": ["a", "c"], "g": ["b", "d", "c"]}, names)
    by_number = ConfirmatoryFactorAnalysis.from_groups({"f": [0, 2], "g": range(1, 4)}, 4)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(5, 4)), columns=names)
    for_data = ConfirmatoryFactorAnalysis.for_data(frame, {"f": ["a", "c"], "g": ["b", "d", "c"]})
    from_table = ConfirmatoryFactorAnalysis.from_groups({"f": ["a", "c"], "g": ["b", "d", "c"]}, frame)
    for model in (by_number, for_data, from_table):
        assert torch.equal(model.pattern, by_name.pattern)
        assert model.factor_names == ("f", "g")
    assert by_name.feature_names == for_data.feature_names == tuple(names)
    assert by_number.feature_names is None


def test_a_frame_names_rows_and_columns():
    frame = pd.DataFrame(PATTERN, index=list("abcde"), columns=["f", "g"])
    for table in (frame, frame.astype(bool), frame.astype(float)):
        model = ConfirmatoryFactorAnalysis(table)
        assert model.feature_names == tuple("abcde")
        assert model.factor_names == model.factor_labels == ("f", "g")
    assert ConfirmatoryFactorAnalysis(PATTERN).factor_labels == ("z[0]", "z[1]")


def test_any_matrix_of_zeros_and_ones_is_taken():
    for kind in (
        np.array(PATTERN),
        np.array(PATTERN, dtype=bool),
        torch.tensor(PATTERN),
        torch.tensor(PATTERN).bool(),
    ):
        assert read_pattern(kind)[0].tolist() == (np.array(PATTERN) == 1).tolist()


def test_a_feature_may_load_on_nothing():
    model = ConfirmatoryFactorAnalysis([[1], [1], [1], [0]])
    assert model.communalities[3] == 0


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ([1, 0, 1], r"shape \(features, factors\), got shape \(3,\)"),
        (np.zeros((0, 2)), r"got shape \(0, 2\)"),
        (np.zeros((2, 2, 1)), r"got shape \(2, 2, 1\)"),
        ([[1, 0], [1, 0]], "1 in every column, got none in column 1"),
        ([[0.5, 1], [1, 0]], "0 and 1 only, got 0.5 at row 0, column 0"),
        ([[1, float("nan")], [1, 0]], "0 and 1 only, got nan at row 0, column 1"),
        ([[1, float("inf")], [1, 0]], "0 and 1 only, got inf"),
        ([[1, -1], [1, 0]], "0 and 1 only, got -1"),
        ([[1, 1, 1]], "at most as many factors as features, got 3 factors of 1 features: is it transposed"),
        ([["x", "y"]], "matrix of 0 and 1"),
        ("x =~ a + b", "matrix of 0 and 1"),
        (None, "matrix of 0 and 1"),
        (3, "matrix of 0 and 1"),
        ([[1, 0], [1]], "matrix of 0 and 1"),
        ([[1j, 0]], "matrix of 0 and 1"),
        ({"f": ["a"]}, "got a mapping: use ConfirmatoryFactorAnalysis.from_groups"),
    ],
)
def test_a_wrong_pattern_ends_in_one_sentence(pattern, message):
    with pytest.raises(ParameterError, match=message):
        ConfirmatoryFactorAnalysis(pattern)


@pytest.mark.parametrize(
    ("groups", "features", "message"),
    [
        ({"f": ["a", "z"]}, ["a", "b"], "has the feature 'z', which is not among the names a, b"),
        ({"f": [0, 2]}, ["a", "b"], "has the feature 2, which is not among"),
        ({"f": [0, -1]}, 3, "has the feature -1"),
        ({"f": [True]}, 3, "has the feature True"),
        ({"f": ["a"]}, 3, "has the feature 'a', which is not among the numbers 0 to 2"),
        ({"f": "ab"}, ["a", "b"], "should be a list of features, got 'ab'"),
        ({"f": []}, ["a", "b"], "got none in column 0"),
        ({}, ["a", "b"], "groups should map each factor"),
        ([["a"]], ["a", "b"], "groups should map each factor"),
        ({"f": ["a"]}, ["a", "a"], "different names"),
        ({"f": ["a"]}, "ab", "names of all features"),
        ({"f": ["a"]}, 0, "names of all features"),
    ],
)
def test_wrong_groups_end_in_one_sentence(groups, features, message):
    with pytest.raises(ParameterError, match=message):
        ConfirmatoryFactorAnalysis.from_groups(groups, features)


def test_other_wrong_settings():
    with pytest.raises(ParameterError, match="correlated should be True or False"):
        ConfirmatoryFactorAnalysis(PATTERN, correlated="yes")
    for names in (["f"], ["f", "f"], "fg", [1, 2]):
        with pytest.raises(ParameterError, match="factor_names should be 2 different names"):
            ConfirmatoryFactorAnalysis(PATTERN, True, names)


def test_columns_in_another_order_are_refused():
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(40, 3)), columns=list("abc"))
    model = ConfirmatoryFactorAnalysis.for_data(frame, {"f": list("abc")})
    with pytest.raises(DataError, match="got 'c' where the pattern has 'a'"):
        pa.fit(model, frame[["c", "b", "a"]])
