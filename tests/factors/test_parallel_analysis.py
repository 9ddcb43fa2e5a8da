"""Parallel analysis: the law of eigenvalues without factors, and the rate of false alarms."""

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.checks import ParameterError
from probae.factors.number import ParallelAnalysis
from probae.factors.parallel_analysis import gaussian_roots, permuted_roots, reduced_eigenvalues


def correlations(n, p, count, seed):
    generator = np.random.default_rng(seed)
    return np.stack([np.corrcoef(generator.standard_normal((n, p)).T) for _ in range(count)])


@pytest.mark.parametrize(("n", "p"), [(30, 5), (6, 5), (5, 5), (6, 12)])
def test_gaussian_roots_have_the_law_of_correlations_of_rows(n, p):
    """The largest eigenvalue and one correlation: two-sample tests at level 1e-4."""
    drawn = gaussian_roots(1500, n, p, np.random.default_rng(1))
    ours = drawn.swapaxes(1, 2) @ drawn
    rows = correlations(n, p, 1500, 2)
    assert np.einsum("bii->bi", ours) == pytest.approx(1.0)
    for take in (lambda r: np.linalg.eigvalsh(r)[:, -1], lambda r: r[:, 0, 1], lambda r: r[:, p - 2, p - 1]):
        assert stats.ks_2samp(take(ours), take(rows)).pvalue > 1e-4


def test_permuted_roots_are_permutations_of_the_columns():
    rows = np.random.default_rng(0).exponential(size=(20, 3))
    drawn = permuted_roots(4, rows, np.random.default_rng(1))
    centred = rows - rows.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=0)
    assert np.sort(drawn, axis=1) == pytest.approx(np.broadcast_to(np.sort(unit, axis=0), (4, 20, 3)))
    assert not np.allclose(drawn[0], drawn[1])
    aligned = [np.array_equal(np.argsort(one[:, 0]), np.argsort(one[:, 1])) for one in drawn]
    assert not any(aligned)


def test_reduced_eigenvalues_of_holzinger_and_swineford():
    # R 4.2.2 with psych 2.2.9: x of the nine tests; Q <- R <- cor(x); diag(Q) <- smc(R); eigen(Q)$values
    known = [2.71201351041, 1.07198361527, 0.66048000845, -0.0250326260227, -0.0573478225703, -0.102428867309]
    known += [-0.156870164159, -0.176584369739, -0.244599325668]
    R = np.corrcoef(pa.datasets.holzinger_swineford().x.numpy().T)
    assert reduced_eigenvalues(R, np.linalg.inv(R)) == pytest.approx(known, rel=1e-9)


def test_two_columns_have_a_known_percentile():
    """For p = 2 the first eigenvalue is 1 + |r|, and r^2 of n rows is a beta variate (1/2, (n - 2) / 2)."""
    exact = 1 + np.sqrt(stats.beta(0.5, 0.5 * (50 - 2)).ppf(0.95))
    roots = gaussian_roots(40_000, 50, 2, np.random.default_rng(3))
    largest = np.linalg.eigvalsh(roots.swapaxes(1, 2) @ roots)[:, -1]
    assert np.quantile(largest, 0.95) == pytest.approx(exact, abs=0.006)


def test_the_level_and_the_median_are_quantiles_of_the_same_replicates():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    judgement = pa.number_of_factors(x, rules=[ParallelAnalysis(level=0.5)]).judgements[0]
    assert torch.equal(judgement.threshold, judgement.typical)
    higher = pa.number_of_factors(x, rules=[ParallelAnalysis(level=0.99)]).judgements[0]
    assert torch.equal(higher.typical, judgement.typical)
    assert bool((higher.threshold > higher.typical).all())


@pytest.mark.parametrize("permute", [False, True])
@pytest.mark.parametrize("common", [False, True])
def test_false_alarms_come_at_the_level(common, permute):
    """Of 200 samples of noise 5 % should name a factor: 10 +- 3.1."""
    rule = ParallelAnalysis(common=common, permute=permute, replicates=200)
    generator = np.random.default_rng(11)
    named = [
        pa.number_of_factors(generator.standard_normal((60, 6)), rules=[rule], seed=seed).answers[rule.name]
        for seed in range(200)
    ]
    alarms = sum(answer > 0 for answer in named)
    assert 1 <= alarms <= 22  # binomial(200, .05) leaves this in 3 of 10,000 runs


def test_permutation_keeps_skew_columns_at_the_level():
    """Lognormal columns have larger first eigenvalues than Gaussian ones; permuting allows for that."""
    generator = np.random.default_rng(5)
    x = generator.lognormal(0.0, 2.0, (100, 8))
    gaussian, permuted = ParallelAnalysis(replicates=500), ParallelAnalysis(permute=True, replicates=500)
    result = pa.number_of_factors(x, rules=[gaussian, permuted])
    assert float(result.judgement(permuted).threshold[0]) > float(result.judgement(gaussian).threshold[0])


def test_24_psychological_tests_have_three_components_as_in_psych(harman74):
    # R 4.2.2, psych 2.2.9: fa.parallel(Harman74.cor$cov, n.obs = 145, fa = "pc", n.iter = 500, quant = .95)$ncomp: 3
    assert pa.number_of_factors(harman74, rules=[ParallelAnalysis()]).judgements[0].answer == 3


def test_the_number_of_rows_of_a_published_matrix_counts(harman74):
    few, many = (
        pa.number_of_factors(
            pa.SufficientStatistics.from_covariance(harman74.covariance, count=n), rules=[ParallelAnalysis()]
        ).judgements[0]
        for n in (40, 10_000)
    )
    assert bool((few.threshold[:8] > many.threshold[:8]).all())
    assert few.answer < many.answer


def test_more_replicates_are_drawn_in_batches():
    rule = ParallelAnalysis(replicates=150)
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).double()
    judgement = pa.number_of_factors(x, rules=[rule]).judgements[0]
    assert judgement.note == "150 replicates"
    assert len(judgement.values) == 30


@pytest.mark.parametrize("settings", [{"level": 1.0}, {"level": 0.0}, {"replicates": 1}, {"replicates": 2.5}])
def test_settings_are_checked(settings):
    with pytest.raises(ParameterError, match=next(iter(settings))):
        ParallelAnalysis(**settings)
