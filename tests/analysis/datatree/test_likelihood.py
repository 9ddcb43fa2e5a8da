"""The log-likelihood of each row in the tree of a fit: exact or with its error, and computed when asked for."""

import numpy as np
import pytest

import probae as pa

CHAINS, DRAWS, ROWS, D, K = 2, 30, 25, 5, 2


def test_each_row_has_the_likelihood_of_each_draw(run, tree, frame):
    value = tree["log_likelihood"]["x"]
    for chain, draw in ((0, 0), (1, 17)):
        one = pa.FactorAnalysis(D, K)
        for name in one.parameter_names:
            setattr(one, name, run.draws[name][chain, draw])
        # sums of squares of some tens of nats: 1e2 eps is 2e-14
        expected = one.log_likelihood(frame).numpy()
        np.testing.assert_allclose(value[chain, draw].values, expected, rtol=1e-10, atol=1e-10)
    assert tree["log_likelihood"].attrs["bound"] == "exact"


def counted(monkeypatch):
    """Count the draws and rows that likelihoods are computed for."""
    from probae.analysis import recipes

    asked = []
    real = recipes.of_checked_rows

    def count(model, draws, x):
        asked.append((draws["mean"].shape[1], len(x)))
        return real(model, draws, x)

    monkeypatch.setattr(recipes, "of_checked_rows", count)
    return asked


def test_the_likelihood_is_computed_when_asked_for_and_only_that_part(run, monkeypatch, frame):
    asked = counted(monkeypatch)
    value = pa.to_datatree(run, frame)["log_likelihood"]["x"]
    repr(value)
    assert asked == []
    some = value.isel(draw=slice(3, 5), obs=[7, 2]).values
    assert asked == [(CHAINS * 2, 2)]
    whole = value.values
    assert np.array_equal(value.values, whole)
    assert asked[1:] == [(CHAINS * DRAWS, ROWS)]  # kept from then on
    # blocks of other sizes may round differently
    np.testing.assert_allclose(some, whole[:, 3:5][:, :, [7, 2]], rtol=0, atol=1e-12)


def test_missing_entries_stay_missing_and_are_integrated_out(run, frame, normal):
    holes = frame.mask(normal(ROWS, D, seed=12).numpy() > 1)
    holes.iloc[3] = np.nan
    with pytest.warns(pa.MissingRowWarning):
        tree = pa.to_datatree(run, holes, draws=3)
    assert np.array_equal(tree["observed_data"]["x"].values, holes.to_numpy(), equal_nan=True)
    one = pa.FactorAnalysis(D, K)
    for name in one.parameter_names:
        setattr(one, name, run.draws[name][1, 2])
    found = tree["log_likelihood"]["x"][1, 2].values
    seen = np.arange(ROWS) != 3
    np.testing.assert_allclose(found[seen], one.log_likelihood(holes[seen]).numpy(), rtol=1e-10, atol=1e-10)
    assert found[3] == 0  # a row without values says nothing, and has been warned of once
    assert np.isfinite(tree["posterior_predictive"]["x"].values).all()


def test_an_estimated_likelihood_says_its_draws_and_errors(quiet_fit):
    model = pa.SparseCoding(3, 4)
    x = model.sample(6, seed=0)
    run = quiet_fit(model, x, pa.SVI(pa.LaplaceEncoder(3, 4, hidden=(3,)), epochs=2))
    tree = pa.to_datatree(run, x, draws=3)
    expected = pa.log_evidence(run, x, pa.ImportanceWeighted(1000))
    group = tree["log_likelihood"]
    assert np.array_equal(group["x"][0, 2].values, expected.value.numpy())
    assert group.attrs["importance_draws"] == 1000
    assert group.attrs["bound"] == "lower"
    assert group.attrs["standard_error_max"] == float(expected.standard_error.max())
    assert np.array_equal(
        tree["constant_data"]["log_likelihood_standard_error"].values, expected.standard_error.numpy()
    )


def test_a_likelihood_without_closed_form_is_estimated_for_each_draw(normal, sampler_fit):
    model = pa.LinearFactorModel(4, 2, prior=pa.priors.Laplace())
    run, x = sampler_fit(model, draws=2), normal(6, 4)
    tree = pa.to_datatree(run, x, groups=["log_likelihood"])
    assert tree["log_likelihood"].attrs["importance_draws"] == 100
    for name in model.parameter_names:
        setattr(model, name, run.draws[name][1, 0])
    expected = pa.log_evidence(model, x, pa.Quadrature())
    error = np.sqrt(
        expected.standard_error.numpy() ** 2 + tree["log_likelihood"].attrs["standard_error_max"] ** 2
    )
    assert (np.abs(tree["log_likelihood"]["x"][1, 0].values - expected.value.numpy()) < 5 * error).all()


def test_another_estimator_can_be_had(quiet_fit):
    model = pa.SparseCoding(3, 2)
    x = model.sample(3, seed=0)
    run = quiet_fit(model, x, pa.MAP(steps=2))
    groups = ["log_likelihood"]
    assert (
        pa.to_datatree(run, x, groups=groups)["log_likelihood"].attrs["estimator"] == "Quadrature(points=12)"
    )
    other = pa.to_datatree(run, x, groups=groups, estimator=pa.ImportanceWeighted(500))
    assert other["log_likelihood"].attrs["importance_draws"] == 500


def test_rows_in_doubt_are_warned_of(quiet_fit):
    model = pa.SparseCoding(4, 6)
    run = quiet_fit(model, model.sample(20, seed=0), pa.MAP(steps=2))
    with pytest.warns(pa.ProbaeWarning, match=r"of \d+ of 20 rows is estimated too roughly"):
        tree = pa.to_datatree(run, 4 * model.sample(20, seed=1), estimator=pa.ImportanceWeighted(2))
    assert tree["log_likelihood"].attrs["doubtful_rows"] > 0


def test_a_likelihood_that_cannot_be_had_is_missed_aloud(run, quiet_fit):
    with pytest.warns(pa.ProbaeWarning, match="no log-likelihood.*needs the rows"):
        tree = pa.to_datatree(run)
    assert "needs the rows" in tree.attrs["log_likelihood_missing"]
    assert {"posterior", "sample_stats", "prior", "constant_data"} == set(tree.children)
    model = pa.SparseCoding(4, 6)
    fitted = quiet_fit(model, model.sample(20, seed=0), pa.MAP(steps=2))
    with pytest.warns(pa.ProbaeWarning, match="no log-likelihood.*no closed form"):
        tree = pa.to_datatree(fitted, model.sample(3, seed=1), estimator=pa.Exact())
    assert "no closed form" in tree.attrs["log_likelihood_missing"]
    assert "log_likelihood" not in tree.children
