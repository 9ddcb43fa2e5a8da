"""loo: where the answer is known in closed form, and what it refuses."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import probae as pa
from probae.analysis.left_out import leave_out


def exact(model, x):
    """Leave-one-out densities with a flat prior on the mean alone: x_n is N(mean of the rest, S (1 + 1 / (N - 1)))."""
    count, covariance = len(x), model.marginal().covariance_matrix.detach()
    rest = (x.sum(0) - x) / (count - 1)
    law = MultivariateNormal(torch.zeros(x.shape[1], dtype=x.dtype), covariance * count / (count - 1))
    return law.log_prob(x - rest)


def test_draws_of_a_normal_mean_give_the_closed_form_of_each_row(factors, normal_mean):
    """Each row within 5 of its Monte Carlo errors: of 100 rows none is beyond by chance (6e-5)."""
    model = factors()
    x = model.sample(100, seed=1)
    found = pa.loo(pa.fit(model, x, normal_mean()), x)
    assert not found.doubtful.any()
    assert ((found.pointwise - exact(model, x)).abs() < 5 * found.monte_carlo_error).all()
    assert found.monte_carlo_error.max() < 0.02  # so the line above says something
    # the in-sample density is that of x_n under N(mean, S (1 + 1 / N))
    covariance = model.marginal().covariance_matrix.detach() * (1 + 1 / len(x))
    seen = MultivariateNormal(x.mean(0), covariance).log_prob(x)
    assert torch.allclose(found.in_sample, seen, atol=0.02)


def test_effective_parameters_of_a_normal_mean_are_its_entries(factors, normal_mean):
    """p_loo is 6 entries: its sum over 200 rows of D chi2 variables with sd sqrt(2 D) has a relative error of .04."""
    model = factors()
    x = model.sample(200, seed=1)
    found = pa.loo(pa.fit(model, x, normal_mean()), x)
    assert found.effective_parameters == pytest.approx(6, rel=4 * (2 / (6 * 200)) ** 0.5 + 0.02)


def test_the_monte_carlo_error_is_that_over_repeated_draws():
    """60 sets of draws for x = 1.5 and mean N(0, .04): the mean of z^2 has a deviation of sqrt(2 / 60) = .18 around 1.

    p(x | rest) has the weights 1 / N(x; m, 1) under N(m; 0, .04): a product of normals, so the rest says
    N(m; -1.5 * .04 / .96, .04 / .96) and predicts with variance 1 + .04 / .96.
    """
    generator = torch.Generator().manual_seed(0)
    means = 0.2 * torch.randn(60, 4, 100, generator=generator, dtype=torch.float64)
    density = -0.5 * (1.5 - means).square() - 0.5 * math.log(2 * math.pi)
    found = leave_out(density.permute(1, 2, 0))
    variance = 1 + 0.04 / 0.96
    exact = -0.5 * (1.5 + 1.5 * 0.04 / 0.96) ** 2 / variance - 0.5 * math.log(2 * math.pi * variance)
    assert float(((found.elpd - exact) / found.error).square().mean()) == pytest.approx(1.0, abs=4 * 0.18)


def test_draws_of_one_point_give_its_log_likelihood(factors, normal_mean):
    """The weights are equal then: elpd = log p(x), no effective parameters, k-hat 0."""
    model = factors()
    x = model.sample(30, seed=1)
    x[0, 1] = torch.nan
    run = dataclasses.replace(
        pa.fit(model, model.sample(30, seed=1), normal_mean()),
        model=model,
        draws={"mean": model.mean.detach().expand(2, 100, -1)},
    )
    found = pa.loo(run, x)
    assert torch.allclose(found.pointwise, model.log_likelihood(x), atol=1e-12)
    assert abs(found.effective_parameters) < 1e-10
    assert (found.k_hat == 0).all()
    assert (found.monte_carlo_error < 1e-12).all()


def test_rows_of_heavy_weights_are_named_and_refits_repair_them(factors, normal_mean):
    """A row at Mahalanobis distance 8 from the mean of 11 others.

    Its log weights have a standard deviation of 8 / sqrt(12) = 2.3: lognormal weights that fail at 4,000 draws.
    Averages over draws without the row are as heavy, sqrt(e^(64 / 11) / 4000) = .29 off, but unbiased.
    """
    model = factors()
    x = model.sample(12, seed=1)
    root = torch.linalg.cholesky(model.marginal().covariance_matrix.detach())
    x[3] = (x.sum(0) - x[3]) / 11 + 8 * root[:, 0]
    run = pa.fit(model, x, normal_mean())
    rough, repaired = pa.loo(run, x), pa.loo(run, x, refit=True)
    assert rough.doubtful.tolist() == [row == 3 for row in range(12)]
    assert any("refit=True" in note for note in rough.notes)
    assert any("fewer than 100" in note for note in rough.notes)
    error = (repaired.pointwise - exact(model, x)).abs()
    assert (error < 5 * repaired.monte_carlo_error).all()
    assert error[3] < 1.2  # 4 standard errors
    kept = ~rough.doubtful
    assert torch.equal(rough.pointwise[kept], repaired.pointwise[kept])


def test_repeated_draws_do_not_make_the_error_smaller():
    """Each draw four times in a row: four times the draws, a quarter of them effective."""
    generator = torch.Generator().manual_seed(0)
    once = torch.randn(4, 500, 1, generator=generator, dtype=torch.float64) * 0.1
    errors = [leave_out(once.repeat_interleave(copies, 1), 1 / copies).error for copies in (1, 4)]
    assert float(errors[1] / errors[0]) == pytest.approx(1.0, abs=0.05)


def test_largest_weights_that_are_equal_still_outweigh_the_others():
    """Of 200 draws 60 % give a density of e^-3 and the others 1: the tail is flat, the mean of 1 / p is not."""
    density = torch.zeros(1, 200, 1, dtype=torch.float64)
    density[:, :120] = -3.0
    found = leave_out(density)
    assert found.elpd.item() == pytest.approx(-math.log(0.6 * math.exp(3) + 0.4), abs=1e-12)
    assert found.k_hat.item() == 0


def test_units_and_order_of_the_rows_do_not_matter(factors, normal_mean):
    model = factors()
    x = model.sample(40, seed=1)
    run = pa.fit(model, x, normal_mean())
    order = torch.randperm(40)
    assert torch.allclose(pa.loo(run, x[order]).pointwise, pa.loo(run, x).pointwise[order], atol=0.02)
    assert pa.loo(run, x[order]).rows != pa.loo(run, x).rows


def test_few_draws_are_said(factors, normal_mean):
    model = factors()
    x = model.sample(120, seed=1)
    assert any("fewer than 1000" in note for note in pa.loo(pa.fit(model, x, normal_mean(50)), x).notes)
    assert pa.loo(pa.fit(model, x, normal_mean()), x).notes == ()
    with pytest.raises(pa.ParameterError, match="at least 100 draws"):
        pa.loo(pa.fit(model, x, normal_mean(5)), x)


def test_draws_from_an_approximation_are_weighted_towards_the_posterior(factors, normal_mean):
    """Draws of the mean with twice its standard deviation and their log weights give the closed form all the same.

    Of 4,000 draws in 6 dimensions 4000 (sqrt(7) / 4)^6 = 340 are effective: an error near .03 of a row, read off.
    """
    model = factors()
    x = model.sample(60, seed=1)
    run = pa.fit(model, x, normal_mean())
    law = MultivariateNormal(x.mean(0), model.marginal().covariance_matrix.detach() / 60)
    wide = MultivariateNormal(law.mean, law.covariance_matrix * 4)
    means = wide.sample((1, 4000))
    weighted = {"log_weight": law.log_prob(means) - wide.log_prob(means)}
    weighted["log_weight"][0, :3] = -torch.inf
    run = dataclasses.replace(run, draws={"mean": means}, sample_stats=weighted)
    found = pa.loo(run, x)
    assert ((found.pointwise - exact(model, x)).abs() < 5 * found.monte_carlo_error).all()
    assert found.monte_carlo_error.max() < 0.15
    assert any("weighted towards it" in note for note in found.notes)
    plain = pa.loo(dataclasses.replace(run, sample_stats=None), x)
    assert abs(plain.total - found.total) > 5  # 6 parameters of four times the variance


def test_gibbs_draws_predict_what_refits_predict():
    """Rows of the heaviest weights among 301, each refitted without: within 5 Monte Carlo errors of both."""
    x = pa.datasets.holzinger_swineford().x
    sampler = pa.Gibbs(draws=3000)
    run = pa.fit(pa.FactorAnalysis(9, 2), x, sampler)
    found = pa.loo(run, x)
    assert not found.doubtful.any()
    for row in found.k_hat.topk(3).indices.tolist():
        without = pa.fit(run.program, torch.cat([x[:row], x[row + 1 :]]), sampler, seed=1)
        exact = pa.log_predictive_density(without, x[row : row + 1])
        gap = abs(float(exact - found.pointwise[row]))
        assert gap < 5 * 2**0.5 * float(found.monte_carlo_error[row])
    # 2 factors, 9 means, 9 uniquenesses and 17 loadings once the rotation is out: 35, as of any regular model
    assert 30 < found.effective_parameters < 45


def test_what_is_refused(factors, normal_mean):
    model = factors()
    x = model.sample(40, seed=1)
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.loo(model, x)
    with pytest.raises(pa.ParameterError, match="use k_fold"):
        pa.loo(pa.fit(model, x), x)
    with pytest.raises(pa.DataError, match="features"):
        pa.loo(pa.fit(model, x, normal_mean()), x[:, :2])
    run = pa.fit(model, x, normal_mean())
    sparse = pa.SparseCoding(6, 8)
    with pytest.raises(pa.NotExactError, match="z of its own"):
        pa.loo(dataclasses.replace(run, model=sparse), x)


def test_the_report_says_what_was_left_out(factors, normal_mean):
    model = factors()
    x = model.sample(120, seed=1)
    text = str(pa.loo(pa.fit(model, x, normal_mean()), x))
    assert text.startswith("elpd (leave one out, 120 rows) = ")
    assert "Pareto k above 0.70: 0 rows" in text
