"""Predictive checks: uniform p-values under the truth, small ones for what is wrong, and what is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import probae as pa
from probae.analysis.predictive_result import joint_p_value
from probae.analysis.replicates import covariance_of
from probae.analysis.row_statistics import (
    SRMR,
    ExcessKurtosis,
    MardiaKurtosis,
    Mean,
    StandardDeviation,
)


@pytest.fixture(name="known")
def known_fixture(factors, normal_mean):
    """A fit whose draws are all the true parameters."""

    def build(model, chains=1):
        x = model.sample(10, seed=0)
        run = pa.fit(model, x, normal_mean(draws=4))
        draws = {
            name: getattr(model, name).detach().expand(chains, 1, *getattr(model, name).shape)
            for name in ("loadings", "noise_variance", "mean")
        }
        return dataclasses.replace(run, model=model, draws=draws)

    return build


def test_p_values_are_uniform_when_the_parameters_are_the_true_ones(factors, known):
    """x is then one more simulated set, so its rank among 19 is uniform: chi-square of four bins at .001."""
    model = factors(5, 2)
    run = known(model)
    statistics = [ExcessKurtosis(), SRMR(), MardiaKurtosis()]
    checks = [
        pa.posterior_predictive_check(run, model.sample(40, seed=seed), statistics, sets=20, seed=1000 + seed)
        for seed in range(60)
    ]
    for statistic in statistics:
        found = [check[statistic.name] for check in checks]
        ranks = torch.tensor([float((one.replicated[:19, 0] > one.observed[0]).sum()) for one in found])
        single = torch.histc(ranks, 4, -0.5, 19.5)
        joint = torch.histc(torch.tensor([one.joint_p_value for one in found]), 3, 0.5 / 21, 21.5 / 21)
        assert stats.chisquare(single).pvalue > 1e-3, statistic.name
        assert stats.chisquare(joint).pvalue > 1e-3, statistic.name


def test_heavy_tails_are_found(factors, normal_mean):
    """t3 factors and noise: excess kurtosis of a column is infinite; no simulated set is as far out."""
    model = factors()
    generator = torch.Generator().manual_seed(0)
    mixing = torch.distributions.Chi2(torch.tensor(3.0, dtype=torch.float64))
    scale = (mixing.sample((400, 1)) / 3).rsqrt()
    z = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    error = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    x = model.mean + scale * (z @ model.loadings.mT + error * model.noise_variance.sqrt())
    check = pa.posterior_predictive_check(pa.fit(model, x, normal_mean(100)), x.detach(), sets=150)
    for name in ("excess kurtosis", "Mardia kurtosis", "Mardia skewness"):
        assert check[name].joint_p_value == pytest.approx(1 / 151)
        assert name in check.flagged
    assert (check["excess kurtosis"].p_value < 0.01).all()


def test_a_doublet_is_the_largest_residual_correlation(factors):
    """Columns 1 and 4 share noise of variance .36, of 1.86 each: a residual correlation near .19 = 3.9 / sqrt(400)."""
    model = factors(8, 1, 0.5)
    x = model.sample(400, seed=0)
    shared = torch.randn(400, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    x[:, 1] += 0.6 * shared
    x[:, 4] += 0.6 * shared
    check = pa.posterior_predictive_check(pa.fit(pa.FactorAnalysis(8, 1), x), x, sets=120)
    found = check["correlation"]
    assert found.labels[found.worst] == "1, 4"
    assert found.observed[found.worst] > found.replicated[:, found.worst].max()
    assert check.flagged == ("correlation",)


def test_refits_make_srmr_a_fair_test(factors):
    """Of a true model: held parameters make every simulated SRMR larger than that of the data that were fitted."""
    x = factors(8, 2, 0.5).sample(200, seed=2)
    run = pa.fit(pa.ProbabilisticPCA(8, 2), x)
    held = pa.posterior_predictive_check(run, x, [SRMR()], sets=30)
    fair = pa.posterior_predictive_check(run, x, [SRMR()], sets=30, refit=True)
    assert held["SRMR"].p_value > 0.95
    assert 0.01 < fair["SRMR"].p_value < 0.99
    assert "parametric bootstrap" in fair.notes[0]


def test_sets_have_the_moments_of_their_draws_and_the_missing_entries_of_x(factors, known):
    model = factors()
    x = model.sample(50, seed=1)
    x[:, 2] = x[:, 2].masked_fill(torch.arange(50) % 3 == 0, torch.nan)
    seen = []

    def absent(rows):
        seen.append(rows.isnan())
        return rows.isnan().double().sum()

    check = pa.posterior_predictive_check(known(model), x, [Mean(), StandardDeviation(), absent], sets=400)
    assert all(torch.equal(one, x.isnan()) for one in seen)
    assert float(check["absent"].p_value) == 0.5  # ties count half
    variance = model.marginal().covariance_matrix.diagonal().detach()
    count = (~x.isnan()).sum(0)
    deviation = check["mean"].replicated.mean(0) - model.mean.detach()
    assert (deviation.abs() < 5 * (variance / count / 400).sqrt()).all()
    squares = check["sd"].replicated.square().mean(0) * count / (count - 1)
    assert ((squares / variance - 1).abs() < 5 * (2 / (count - 1) / 400).sqrt()).all()


def test_sets_have_the_factors_of_the_model(normal_mean):
    """Columns of one Laplace factor and little noise have an excess kurtosis near 3.

    That of 400 normal rows has a standard deviation of sqrt(24 / 400) = .24: its median over sets is far below 1.
    """
    model = pa.LinearFactorModel(3, 3, prior=pa.priors.Laplace(), noise="isotropic")
    model.loadings = torch.eye(3, dtype=torch.float64)
    model.noise_variance = torch.tensor(0.01, dtype=torch.float64)
    x = model.sample(400, seed=0)
    draws = {name: getattr(model, name).detach()[None, None] for name in model.parameter_names}
    run = pa.fit(pa.FactorAnalysis(3, 1), x, normal_mean(draws=4))
    run = dataclasses.replace(run, model=model, program=model, draws=draws)
    check = pa.posterior_predictive_check(run, x, [ExcessKurtosis(), SRMR()], sets=100)
    assert (check["excess kurtosis"].replicated.median(0).values > 1).all()
    assert check.flagged == ()


def test_joint_p_values_count_all_entries():
    """50 independent normal entries: the smallest of 50 p-values is below .05 nine times in ten, joint ones are not."""
    generator = torch.Generator().manual_seed(0)
    small = joint = 0
    for _ in range(60):
        pool = torch.randn(100, 50, generator=generator, dtype=torch.float64)
        small += int(((pool[1:] > pool[0]).double().mean(0).sub(0.5).abs() > 0.475).any())
        joint += joint_p_value(pool[0], pool[1:]) < 0.05
    assert small > 45
    assert joint < 12  # binomial (60, .05): beyond with probability 1e-5


def test_one_seed_gives_one_answer_and_leaves_the_random_state(factors, normal_mean, random_state):
    model = factors()
    x = model.sample(40, seed=1)
    run = pa.fit(model, x, normal_mean(100))
    before = random_state()
    first, again, other = (pa.posterior_predictive_check(run, x, sets=20, seed=seed) for seed in (3, 3, 4))
    assert random_state() == before
    assert torch.equal(first["sd"].replicated, again["sd"].replicated)
    assert not torch.equal(first["sd"].replicated, other["sd"].replicated)


def test_nonlinear_models_are_simulated(curved, encoded):
    model = curved(4, 2)
    x = model.sample(100, seed=0)
    check = pa.posterior_predictive_check(encoded(model, pa.MLPEncoder(4, 2)), x, sets=60)
    assert check.flagged == ()
    assert not check["SRMR"].replicated.isnan().any()
    far = pa.posterior_predictive_check(
        encoded(model, pa.MLPEncoder(4, 2)), 3 * x, [StandardDeviation()], sets=100
    )
    assert far.flagged == ("sd",)


@pytest.mark.parametrize(
    "model",
    [
        pa.FactorAnalysis(3, 2),
        pa.ProbabilisticPCA(3, 2),
        pa.SparseCoding(3, 5),
        pa.IndependentComponents(3, 3),
        pa.LinearFactorModel(3, 2, prior=pa.priors.Scaled(pa.priors.Laplace(), 2.0)),
        pa.LinearFactorModel(3, 2, prior=pa.priors.Laplace(), noise="complement"),
    ],
    ids=repr,
)
def test_the_covariance_of_a_model_is_that_of_its_rows(model):
    """50,000 rows, kurtosis at most 6: entries within 5 sqrt(5 s_ii s_jj / 50000)."""
    found = covariance_of(model)
    x = model.sample(50_000, seed=0).double()
    scale = torch.outer(found.diagonal(), found.diagonal()).sqrt()
    assert ((torch.cov(x.T) - found).abs() < 5 * (5 / 50_000) ** 0.5 * scale).all()


def test_priors_are_simulated_from():
    """sd^2 of simulated columns is sum_k w_k^2 + 1 with w ~ N(0, 2^2): its mean is 9, its deviation 8."""
    model = pa.FactorAnalysis(4, 2).with_priors(loadings=dist.Normal(0.0, 2.0))
    x = torch.randn(80, 4, dtype=torch.float64)
    check = pa.prior_predictive_check(model, x, [StandardDeviation(), SRMR()], sets=80)
    squares = check["sd"].replicated.square().mean(0)
    assert ((squares - 9).abs() < 5 * 8.1 / 80**0.5).all()
    assert "means say nothing" in check.notes[0]
    assert check["SRMR"].replicated.median() < 0.3  # each set is held against the covariance it came from


def test_names_and_the_table(factors, known):
    model = factors(4, 1)
    frame = pd.DataFrame(model.sample(50, seed=1).numpy(), columns=["a", "b", "c", "d"])
    check = pa.posterior_predictive_check(known(model), frame, sets=40)
    table = pd.DataFrame(check.table)
    assert list(table.columns) == ["statistic", "entry", "observed", "low", "median", "high", "p"]
    assert len(table) == 4 * 4 + 6 + 3
    assert table[table.statistic == "correlation"].entry.tolist()[0] == "a, b"
    text = str(check)
    assert text.splitlines()[0] == "Posterior predictive check: 40 simulated sets of 50 rows"
    assert "Mardia skewness" in text
    assert not check.notes


def test_single_precision_and_whole_numbers(factors, known):
    model = factors(4, 1)
    x = model.sample(50, seed=1)
    run = known(model)
    single = pa.posterior_predictive_check(run, x.float(), sets=30)
    double = pa.posterior_predictive_check(run, x, sets=30)
    assert torch.allclose(single["sd"].observed, double["sd"].observed, rtol=1e-6)
    whole = pa.posterior_predictive_check(run, x.round().long(), [Mean()], sets=30)
    assert torch.allclose(whole["mean"].observed, x.round().mean(0))


def test_constant_columns_say_nothing_and_the_rest_is_checked(factors, known):
    model = factors(4, 1)
    x = model.sample(50, seed=1)
    x[:, 0] = 1.0
    check = pa.posterior_predictive_check(known(model), x, sets=30)
    assert check["skewness"].p_value.isnan().tolist() == [True, False, False, False]
    assert 0 < check["skewness"].joint_p_value <= 1
    assert np.isnan(check["Mardia kurtosis"].joint_p_value)
    assert "Mardia kurtosis" in str(check)


def test_what_is_refused(factors, known):
    model = factors(4, 1)
    run, x = known(model), model.sample(50, seed=1)
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.posterior_predictive_check(model, x)
    with pytest.raises(pa.ParameterError, match="refit is for fits without draws"):
        pa.posterior_predictive_check(run, x, refit=True)
    with pytest.raises(pa.ParameterError, match="wrap one in"):
        pa.posterior_predictive_check(run, x, torch.mean)
    with pytest.raises(pa.ParameterError, match="should be a RowStatistic"):
        pa.posterior_predictive_check(run, x, ["mean"])
    with pytest.raises(pa.ParameterError, match="different names"):
        pa.posterior_predictive_check(run, x, [torch.mean, torch.mean])
    with pytest.raises(pa.ParameterError, match="sets"):
        pa.posterior_predictive_check(run, x, sets=3)
    with pytest.raises(pa.ParameterError, match="as many numbers"):
        pa.posterior_predictive_check(run, x, [lambda rows: rows[rows > 0]])
    with pytest.raises(pa.ParameterError, match="No parameter of the model carries a prior"):
        pa.prior_predictive_check(model, x)
    with pytest.raises(pa.DataError, match="features"):
        pa.posterior_predictive_check(run, x[:, :2])
    with pytest.raises(pa.ParameterError, match="name should be one of"):
        pa.posterior_predictive_check(run, x, [Mean()], sets=20)["sd"]
