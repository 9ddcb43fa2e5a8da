"""Missing entries filled in: their exact law given the observed ones, which stay as they are."""

import numpy as np
import pandas as pd
import pytest
import torch

from probae import DataError, MissingRowWarning, NotExactError, ParameterError
from probae.models import FactorAnalysis, LinearFactorModel, SparseCoding
from probae.priors import CorrelatedGaussian


def dense(model):
    """Covariance of x."""
    W = model.loadings.detach()
    phi = model.factor_correlation
    return W @ phi @ W.T + model.noise_variance.detach().expand(model.features).diag()


def conditional(model, row):
    """Mean and covariance of the missing entries given the observed ones, by the partitioned covariance."""
    sigma, mu, gone = dense(model), model.mean.detach(), row.isnan()
    weights = torch.linalg.solve(sigma[~gone][:, ~gone], sigma[~gone][:, gone]).T
    mean = mu[gone] + weights @ (row - mu)[~gone]
    return mean, sigma[gone][:, gone] - weights @ sigma[~gone][:, gone]


def with_holes(model, rows=60, share=0.3, seed=1):
    x = model.sample(rows, seed=seed)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share] = torch.nan
    return x[~x.isnan().all(1)]


def test_means_are_those_of_the_partitioned_covariance(gaussian_model, assert_close):
    x = with_holes(gaussian_model)
    filled = gaussian_model.impute(x)
    assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
    for row, full in zip(x, filled, strict=True):
        if row.isnan().any():
            assert_close(full[row.isnan()], conditional(gaussian_model, row)[0], 1e-9)


def test_correlated_factors(randomize, assert_close):
    model = randomize(
        LinearFactorModel(6, 2, prior=CorrelatedGaussian(torch.tensor([[1.0, 0.7], [0.7, 1.0]]).double()))
    )
    x = with_holes(model)
    for row, full in zip(x, model.impute(x), strict=True):
        if row.isnan().any():
            assert_close(full[row.isnan()], conditional(model, row)[0], 1e-9)


@pytest.mark.parametrize("many", [1, 3])
def test_draws_have_the_mean_and_the_covariance_of_the_conditional(randomize, many):
    """Jointly over the missing entries of a row, noise included; 5 standard errors of 20,000 draws."""
    model, count = randomize(FactorAnalysis(6, 2)), 20_000
    row = model.sample(1, seed=3)
    row[0, [1, 2, 5]] = torch.nan
    draws = model.impute(row.repeat(many, 1), draws=count, seed=5)
    assert draws.shape == (count, many, 6)
    mean, covariance = conditional(model, row[0])
    for own in draws.unbind(1):
        part = own[:, [1, 2, 5]]
        assert ((part.mean(0) - mean).abs() < 5 * (covariance.diagonal() / count).sqrt()).all()
        squares = torch.outer(covariance.diagonal(), covariance.diagonal()) + covariance.square()
        assert ((torch.cov(part.T) - covariance).abs() < 5 * (squares / count).sqrt()).all()
    if many > 1:  # rows are drawn apart, though they are alike
        a, b = draws[:, 0, 1], draws[:, 1, 1]
        assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 5 / count**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_observed_entries_come_back_bit_for_bit(dtype, randomize):
    model = randomize(FactorAnalysis(5, 2))
    x = with_holes(model).to(dtype)
    for filled in (model.impute(x), *model.impute(x, draws=2)):
        assert filled.dtype == dtype
        assert filled.isfinite().all()
        assert torch.equal(filled[~x.isnan()], x[~x.isnan()])


def test_a_complete_table_is_returned_as_it_is(randomize):
    model = randomize(FactorAnalysis(5, 2))
    x = model.sample(7, seed=0)
    assert torch.equal(model.impute(x), x)
    assert torch.equal(model.impute(x, draws=3), x.expand(3, 7, 5))


def test_a_row_without_values_is_drawn_from_the_model(randomize):
    model = randomize(FactorAnalysis(3, 1))
    x = torch.full((1, 3), torch.nan, dtype=torch.float64)
    with pytest.warns(MissingRowWarning):
        assert torch.allclose(model.impute(x)[0], model.mean.detach())
    with pytest.warns(MissingRowWarning):
        draws = model.impute(x, draws=20_000)[:, 0]
    sigma = dense(model)
    squares = torch.outer(sigma.diagonal(), sigma.diagonal()) + sigma.square()
    assert ((torch.cov(draws.T) - sigma).abs() < 5 * (squares / 20_000).sqrt()).all()


def test_one_seed_one_result_and_no_trace(randomize, random_state):
    model = randomize(FactorAnalysis(5, 2))
    x = with_holes(model)
    kept, before = x.clone(), random_state()
    one, same, other = (model.impute(x, draws=2, seed=seed) for seed in (4, 4, 5))
    assert random_state() == before
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(x.nan_to_num(), kept.nan_to_num())


def test_means_vary_less_than_what_was_lost(randomize):
    """Why draws exist: filled-in means have less than the variance of the column, draws have it."""
    model = randomize(FactorAnalysis(4, 1))
    x = model.sample(4000, seed=1)
    lost = x[:2000, 0].clone()
    x[:2000, 0] = torch.nan
    means, draws = model.impute(x)[:2000, 0], model.impute(x, draws=1)[0, :2000, 0]
    assert means.var() < 0.95 * lost.var()
    assert draws.var() / lost.var() == pytest.approx(1.0, abs=5 * (2 * 2 / 2000) ** 0.5)


def test_tables_with_names(randomize):
    model = randomize(FactorAnalysis(3, 1))
    model.feature_names = ("a", "b", "c")
    frame = pd.DataFrame([[1.0, np.nan, 0.5]], columns=["a", "b", "c"])
    assert model.impute(frame).isfinite().all()
    with pytest.raises(DataError, match="columns"):
        model.impute(frame[["b", "a", "c"]])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4)), r"shape \(samples, 3\)"),
        (np.zeros(3), "two-dimensional"),
        (np.zeros((0, 3)), "at least 1 row"),
        (np.array([[1.0, np.inf, 0.0]]), "inf at row 0, column 1"),
        (np.array([["a", "b", "c"]]), "real numbers"),
        (None, "table"),
    ],
)
def test_tables_that_cannot_be_filled_in(x, message, as_installed):
    with pytest.raises(DataError, match=message):
        FactorAnalysis(3, 1).impute(x)


def test_settings_and_models_are_checked(as_installed):
    x = np.zeros((1, 3))
    for draws in (0, -1, 1.5, "two", True):
        with pytest.raises(ParameterError, match="draws"):
            FactorAnalysis(3, 1).impute(x, draws=draws)
    with pytest.raises(ParameterError, match="seed"):
        FactorAnalysis(3, 1).impute(x, draws=1, seed=-1)
    with pytest.raises(NotExactError, match="impute of a Gaussian model"):
        SparseCoding(3, 1).impute(x)
    with pytest.raises(ParameterError, match="noise"):
        LinearFactorModel(3, 3, noise="none").impute(x)
