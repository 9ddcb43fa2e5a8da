"""One factor fewer: a bound that holds, draws of covariances with their law, size, and the cases of theory."""

import json
import math

import pytest
import torch

import probae as pa
from probae import ParameterError, priors
from probae.checks import DataError
from probae.identifiability import rank_test as module
from probae.identifiability.rank_test import RankTest, rank_test


def rows(latents, seed, prior=None, samples=500, features=8):
    prior = priors.Gaussian() if prior is None else prior
    return pa.datasets.linear_factors(samples, features, latents, prior=prior, seed=seed).x


def weak_second_factor(samples, seed, strength=1 / 3):
    """Two factors of four features with noise 1, the second of which has w'w = strength."""
    columns = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    columns[:, 1] *= math.sqrt(strength) / 2
    return pa.datasets.linear_factors(
        samples, 4, 2, prior=priors.Gaussian(), seed=seed, loadings=columns, noise=1.0
    ).x


@pytest.mark.parametrize("prior", [priors.Gaussian(), priors.Laplace()])
def test_factors_that_exist_are_supported_by_the_bound_alone(prior):
    found = rank_test(pa.LinearFactorModel(8, 2, prior), rows(2, 0, prior))
    assert found.supported()
    assert found.replicates == 0
    assert "asymptotic" in found.describe()


@pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")
def test_a_factor_too_many_is_not_supported():
    """Case 19: the fit has full rank and the usual flat directions, so only this test can tell."""
    x = rows(2, 1)
    run = pa.fit(pa.FactorAnalysis(8, 3), x)
    assert pa.fisher_nullity(run.model).dimension == 3
    found = rank_test(run.model, x)
    assert not found.supported()
    assert found.replicates > 0
    assert found.refuted()
    assert json.loads(json.dumps(found.to_dict()))["kind"] == "Monte Carlo"


def test_the_ratio_is_below_that_of_any_covariance():
    x = rows(2, 2)
    statistics = pa.SufficientStatistics.from_data(x)
    log_det = float(torch.logdet(statistics.covariance))
    saturated = -0.5 * 500 * (8 * (math.log(2 * math.pi) + 1) + log_det)
    for factors in (1, 2, 3):
        fewer = module._level(statistics, factors - 1, "diagonal", 0)
        assert rank_test(pa.FactorAnalysis(8, factors), x).statistic <= 2 * (saturated - fewer) + 1e-6


def test_isotropic_noise_has_the_ratio_of_its_eigenvalues():
    """2 (log L_k - log L_{k-1}) in closed form (Tipping & Bishop, 1999): sums of logarithms of eigenvalues."""
    x = rows(2, 3)
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)

    def level(k):
        return -0.5 * 500 * float(values[:k].log().sum() + (8 - k) * values[k:].mean().log())

    found = rank_test(pa.ProbabilisticPCA(8, 2), x)
    assert found.statistic == pytest.approx(2 * (level(2) - level(1)), rel=1e-6)
    assert rank_test(pa.ProbabilisticPCA(8, 1), x).statistic == pytest.approx(
        2 * (level(1) - level(0)), rel=1e-6
    )


def test_covariances_are_drawn_from_their_law():
    """Mean (n - 1) / n Sigma; entries have variance (s_ii s_jj + s_ij^2) / n, so 4 standard errors of 4,000 draws."""
    sigma = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
    root, generator = torch.linalg.cholesky(sigma), torch.Generator().manual_seed(0)
    drawn = torch.stack([module._wishart(root, 40, generator) for _ in range(4000)])
    spread = ((torch.outer(sigma.diagonal(), sigma.diagonal()) + sigma**2) / 40).sqrt()
    assert ((drawn.mean(0) - sigma * 39 / 40).abs() < 4 * spread / 4000**0.5).all()
    assert torch.allclose(
        drawn.std(0), spread * (39 / 40) ** 0.5, rtol=4 * 0.02
    )  # kurtosis of chi-square included


def test_there_is_no_test_without_room():
    x = rows(1, 4, features=5)
    assert rank_test(pa.FactorAnalysis(5, 3), x) is None
    assert rank_test(pa.IndependentComponents(5, 5), x) is None
    assert rank_test(pa.FactorAnalysis(5, 1), x[:6]) is None
    with pytest.raises(ParameterError, match="needs a linear factor model, got int"):
        rank_test(3, x)
    with pytest.raises(DataError, match="have 5 features, the model was built for 6"):
        rank_test(pa.FactorAnalysis(6, 2), pa.SufficientStatistics.from_data(x))
    assert not RankTest(2, 1.0, 0.5, 2).supported()


def test_few_rows_refute_neither_one_factor_nor_a_second():
    """What the data leave open is not said: 60 rows of two factors, the second of which explains little."""
    found = rank_test(pa.ProbabilisticPCA(4, 2), weak_second_factor(60, 0))
    assert not found.supported()
    assert not found.refuted()
    assert found.p_half > 0.05
    assert found.to_dict()["p_half"] == found.p_half


def test_a_factor_half_seen():
    """Scores correlate by 1/2 with a factor if w' Psi^-1 w / (1 + w' Psi^-1 w) = 1/4; the others take no part."""
    model = pa.fit(pa.FactorAnalysis(8, 2), rows(2, 0)).model
    noise, loadings = model.noise_variance.detach(), model.loadings.detach()
    column = module._half_seen(loadings, noise, torch.Generator().manual_seed(0))[:, 0]
    strength = float((column.square() / noise).sum())
    assert strength / (1 + strength) == pytest.approx(0.25, rel=1e-12)
    assert torch.allclose(loadings.mT @ (column / noise), torch.zeros(2).double(), atol=1e-12)


def test_a_tail_ends_where_no_level_is_reached():
    hits = iter([False, True, False, True, True, False, True, True, True])
    assert module._tail(lambda: next(hits), 99) == (5 / 8, 8)
    assert module._tail(lambda: False, 19) == (0.05, 19)


@pytest.mark.slow
def test_size_is_that_of_the_level():
    """A factor too many is supported in at most .01 of tables: 4 or more of 100 have probability .02."""
    found = [
        rank_test(pa.FactorAnalysis(6, 2), rows(1, seed, samples=300, features=6)) for seed in range(100)
    ]
    assert sum(one.supported() for one in found) <= 4


@pytest.mark.slow
def test_a_factor_half_seen_is_refuted_at_the_level():
    """A second factor of exactly that strength is refuted in at most .05: 11 or more of 100 have probability .01."""
    found = [rank_test(pa.ProbabilisticPCA(4, 2), weak_second_factor(300, seed)) for seed in range(100)]
    assert sum(one.refuted() for one in found) <= 10
