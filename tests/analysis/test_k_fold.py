"""k_fold and k_fold_entries: fits by hand, dense algebra, and what they refuse."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.analysis.k_fold import entry_folds, predicted, predicted_entries, row_folds


def test_folds_are_fits_to_the_rest_predicting_the_fold(factors):
    model = pa.FactorAnalysis(6, 2)
    x = factors().sample(60, seed=1)
    found = pa.k_fold(model, x, folds=3, seed=4)
    labels, _, _ = row_folds(3, 60, 4)
    for fold in range(3):
        run = pa.fit(model, x[labels != fold], seed=4)
        by_hand = run.model.log_likelihood(x[labels == fold])
        assert torch.allclose(found.pointwise[labels == fold], by_hand, atol=1e-12)


def test_draws_of_the_parameters_are_averaged_over(factors, normal_mean):
    """With a flat prior on the mean alone a held row is N(mean of the rest, S (1 + 1 / N_rest)).

    4,000 draws: the log of a mean of densities whose logs have a deviation of sqrt(x' S^-1 x / N) below .8 is off by
    less than .8 / sqrt(4000) * 5 = .07 but for rounding of the tails.
    """
    model = factors()
    x = model.sample(80, seed=1)
    found = pa.k_fold(model, x, normal_mean(), folds=4)
    labels, _, _ = row_folds(4, 80, 0)
    rest = torch.stack([x[labels != fold].mean(0) for fold in range(4)])[labels]
    covariance = model.marginal().covariance_matrix.detach() * (1 + 1 / 60)
    exact = stats.multivariate_normal(cov=covariance.numpy()).logpdf((x - rest).numpy())
    assert np.abs(found.pointwise.numpy() - exact).max() < 0.07


def test_one_fold_for_each_row_is_leave_one_out(factors, normal_mean):
    model = factors()
    x = model.sample(20, seed=1)
    left_out = pa.loo(pa.fit(model, x, normal_mean()), x)
    found = pa.k_fold(model, x, normal_mean(), folds=20)
    # both have errors near the Monte Carlo error of the first
    assert ((found.pointwise - left_out.pointwise).abs() < 8 * left_out.monte_carlo_error + 0.01).all()


def test_groups_are_left_out_together(factors):
    model, x = pa.ProbabilisticPCA(6, 1), factors().sample(40, seed=1)
    groups = ["b"] * 10 + ["a"] * 30
    found = pa.k_fold(model, x, folds=groups)
    run = pa.fit(model, x[10:])
    assert torch.allclose(found.pointwise[:10], run.model.log_likelihood(x[:10]), atol=1e-12)
    assert found.scheme == pa.k_fold(model, x, folds=np.array(groups)).scheme
    assert found.scheme.startswith("2 groups of rows")


def test_encoders_start_afresh_in_every_fold(factors):
    """The caller's encoder is not trained, and a fold does not see what another has learnt."""
    x = factors().sample(60, seed=1)
    encoder = pa.LinearGaussianEncoder(6, 2)
    before = [value.clone() for value in encoder.parameters()]
    method = pa.SVI(encoder, epochs=20)
    with pytest.warns(pa.checks.ConvergenceWarning):
        found = pa.k_fold(pa.FactorAnalysis(6, 2), x, method, folds=2)
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    labels, _, _ = row_folds(2, 60, 0)
    with pytest.warns(pa.checks.ConvergenceWarning):
        run = pa.fit(pa.FactorAnalysis(6, 2), x[labels != 1], method)
    assert torch.allclose(found.pointwise[labels == 1], run.model.log_likelihood(x[labels == 1]), atol=1e-12)


def test_where_p_of_x_is_estimated_its_error_is_kept(build, hidden, encoded):
    """A linear Gaussian model that hides it: the estimate is within 5 errors of the closed form, and has errors."""
    model = build(3, 1, prior=pa.priors.Gaussian())
    x = model.sample(20, seed=0)
    value, error = predicted(encoded(hidden(model), pa.LinearGaussianEncoder(3, 1)), x, 0)
    assert (error > 0).any()
    assert ((value - model.log_likelihood(x)).abs() < 5 * error + 1e-3).all()


def test_entries_are_predicted_by_the_conditional_normal(factors):
    """log p(held | rest) of every row by dense algebra: N(m_h + S_ho S_oo^-1 (x_o - m_o), S_hh - S_ho S_oo^-1 S_oh)."""
    model, method = pa.ProbabilisticPCA(6, 2), pa.EM(tol=1e-4)
    x = factors().sample(40, seed=1)
    x[0, 2] = torch.nan
    found = pa.k_fold_entries(model, x, method, folds=2)
    labels = entry_folds(~x.isnan(), 2, 0)
    expected = torch.zeros(40, dtype=torch.float64)
    for fold in range(2):
        run = pa.fit(model, x.masked_fill(labels == fold, torch.nan), method)
        law = run.model.marginal()
        mean, covariance = law.mean.numpy(), law.covariance_matrix.numpy()
        for n in range(40):
            held = ((labels[n] == fold) & ~x[n].isnan()).numpy()
            seen = ((labels[n] != fold) & ~x[n].isnan()).numpy()
            gain = covariance[np.ix_(held, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
            centre = mean[held] + gain @ (x[n].numpy() - mean)[seen]
            spread = covariance[np.ix_(held, held)] - gain @ covariance[np.ix_(seen, held)]
            expected[n] += stats.multivariate_normal(centre, spread).logpdf(x[n].numpy()[held])
    assert torch.allclose(found.pointwise, expected, atol=1e-9)


def test_entries_under_draws_average_the_conditional_densities(factors, normal_mean):
    """With all draws one point they are the conditional densities of that point, and not a ratio of averages."""
    model = factors()
    x = model.sample(6, seed=1)
    rest = x.clone()
    rest[:, :2] = torch.nan
    means = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    run = dataclasses.replace(pa.fit(model, x, normal_mean()), draws={"mean": means})
    found = predicted_entries(run, x, rest)
    each = []
    for mean in means[0]:
        model.mean = mean
        each.append((model.log_likelihood(x) - model.log_likelihood(rest)).detach())
    assert torch.allclose(found, torch.stack(each).logsumexp(0) - np.log(2), atol=1e-12)


def test_the_entries_of_a_row_are_spread_over_the_folds():
    """7 observed entries of each row over 3 folds: 2 or 3 in each; no fold is the same column of all rows."""
    seen = torch.ones(200, 8, dtype=torch.bool)
    seen[:, 3] = False
    labels = entry_folds(seen, 3, 0)
    assert (labels[:, 3] == -1).all()
    counts = torch.stack([(labels == fold).sum(1) for fold in range(3)])
    assert counts.min() == 2
    assert counts.max() == 3
    columns = torch.stack([(labels == fold).sum(0) for fold in range(3)])[:, [0, 1, 2, 4, 5, 6, 7]]
    assert columns.min() > 200 / 3 - 5 * (200 * 2 / 9) ** 0.5  # binomial, five deviations


def test_entries_tell_factors_from_variances(factors):
    """One factor of two: what the second says of entries is lost."""
    x = factors(8, 2, 0.3).sample(150, seed=1)
    one, two = (pa.k_fold_entries(pa.ProbabilisticPCA(8, k), x, pa.EM(tol=1e-4), folds=3) for k in (1, 2))
    found = pa.compare({"one": one, "two": two})
    assert found.names[0] == "two"
    assert found.difference[1] < -3 * found.difference_error[1]


def test_tables_of_any_kind(factors):
    import pandas as pd

    x = factors().sample(30, seed=1).numpy()
    frame = pd.DataFrame(x, columns=list("abcdef"))
    by_name = pa.k_fold(pa.FactorAnalysis(6, 1), frame, folds=2)
    assert torch.equal(by_name.pointwise, pa.k_fold(pa.FactorAnalysis(6, 1), x, folds=2).pointwise)
    single = pa.k_fold(pa.FactorAnalysis(6, 1), x.astype(np.float32), folds=2)
    assert torch.allclose(single.pointwise, by_name.pointwise, atol=1e-4)


def test_what_is_refused(factors):
    model = pa.FactorAnalysis(6, 1)
    x = factors().sample(30, seed=1)
    with pytest.raises(pa.ParameterError, match="has seen all rows"):
        pa.k_fold(pa.fit(model, x), x)
    with pytest.raises(pa.ParameterError, match="folds should be at most"):
        pa.k_fold(model, x, folds=31)
    with pytest.raises(pa.ParameterError, match="at least 2"):
        pa.k_fold(model, x, folds=1)
    with pytest.raises(pa.ParameterError, match="one of at least 2 groups for each of 30 rows"):
        pa.k_fold(model, x, folds=[0, 1])
    with pytest.raises(pa.ParameterError, match="probae model"):
        pa.k_fold("FA", x)
    with pytest.raises(pa.NotExactError, match="use k_fold"):
        pa.k_fold_entries(pa.SparseCoding(6, 8), x)
    with pytest.raises(pa.DataError, match="features"):
        pa.k_fold(model, x[:, :3])
