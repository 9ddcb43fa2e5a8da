"""Do the errors and the tests hold what they promise? Repeated samples, with bounds from the binomial law."""

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae import FactorAnalysis, Sandwich, fit, fit_indices, standard_errors
from probae.rotation import Quartimin

W = torch.tensor(
    [[0.8, 0.0], [0.7, 0.1], [0.6, 0.0], [0.75, -0.1], [0.0, 0.7], [0.1, 0.8], [0.0, 0.6], [-0.1, 0.65]],
    dtype=torch.float64,
)
PHI = torch.tensor([[1.0, 0.4], [0.4, 1.0]], dtype=torch.float64)
PSI = 1 - ((W @ PHI) * W).sum(1)


def sample(count, generator, heavy=False):
    """Rows with mean 0 and covariance W Phi W' + Psi; heavy: scaled row by row, so that kurtosis is everywhere."""
    z = torch.randn(count, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(PHI).T
    x = z @ W.T + torch.randn(count, 8, generator=generator, dtype=torch.float64) * PSI.sqrt()
    if not heavy:
        return x
    chi = torch.randn(count, 7, generator=generator, dtype=torch.float64).square().sum(1, keepdim=True)
    return x * (5 / chi).sqrt()  # multivariate t with 7 degrees of freedom, covariance as before


def covers(found, repetitions, level=0.95, extra=0.0):
    """Whether a share of hits is within four standard errors of the level."""
    return abs(found - level) < 4 * (level * (1 - level) / repetitions) ** 0.5 + extra


def noise_coverage(repetitions, count, heavy, information):
    generator = torch.Generator().manual_seed(5)
    hits = 0.0
    for _ in range(repetitions):
        x = sample(count, generator, heavy)
        errors = standard_errors(fit(FactorAnalysis(8, 2), x), x, information=information)
        lower, upper = errors.interval()
        hits += float(((lower.noise_variance <= PSI) & (PSI <= upper.noise_variance)).double().mean())
    return hits / repetitions


def test_intervals_cover_normal_rows():
    assert covers(noise_coverage(150, 400, False, None), 150, extra=0.01)


def test_only_the_sandwich_covers_heavy_tails():
    plain = noise_coverage(100, 400, True, None)
    robust = noise_coverage(100, 400, True, Sandwich())
    assert plain < 0.88
    assert covers(robust, 100, extra=0.02)


@pytest.mark.slow
def test_errors_of_rotated_loadings_are_their_spread():
    """Oblimin loadings and factor correlations over 300 samples; a spread of 300 numbers is good to 4 %."""
    generator = torch.Generator().manual_seed(6)
    found, errors = [], []
    for _ in range(300):
        x = sample(500, generator)
        run = fit(FactorAnalysis(8, 2), x)
        rotation = pa.rotate(run, Quartimin(), oblique=True, starts=4)
        each = standard_errors(run, x, rotation=rotation)
        order = (W.T @ rotation.loadings).abs().argmax(1)
        sign = torch.sign((rotation.loadings[:, order] * W).sum(0))
        correlation = (rotation.factor_correlation[order][:, order] * sign.outer(sign))[0, 1]
        found.append(torch.cat([(rotation.loadings[:, order] * sign).flatten(), correlation.reshape(1)]))
        errors.append(
            torch.cat([each.loadings[:, order].flatten(), each.factor_correlation[0, 1].reshape(1)])
        )
    ratio = torch.stack(errors).mean(0) / torch.stack(found).std(0)
    assert (ratio - 1).abs().max() < 0.2
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probae.HeywoodWarning")
def test_sizes_of_the_tests():
    """Normal rows: the corrected statistic has its law in 100 rows. Heavy tails: the scaled one rejects as often as it
    says, the plain one far too often."""
    generator = torch.Generator().manual_seed(7)
    small, plain, scaled = [], [], []
    for _ in range(300):
        x = sample(100, generator)
        run = fit(FactorAnalysis(8, 2), x)
        small.append(fit_indices(run, x).bartlett)
        x = sample(500, generator, heavy=True)
        found = fit_indices(fit(FactorAnalysis(8, 2), x), x)
        plain.append(found.p_value)
        scaled.append(found.scaled.p_value)
    assert stats.kstest(small, stats.chi2(13).cdf).pvalue > 1e-3
    assert covers(np.mean(np.array(scaled) > 0.05), 300, extra=0.02)
    assert np.mean(np.array(plain) > 0.05) < 0.8


@pytest.mark.slow
def test_size_of_the_test_of_equal_roots():
    """Lawley's correction in 40 rows of probabilistic PCA."""
    generator = torch.Generator().manual_seed(8)
    plain, corrected = [], []
    for _ in range(400):
        z = torch.randn(40, 2, generator=generator, dtype=torch.float64)
        x = 2 * z @ W[:, :].T + 0.7 * torch.randn(40, 8, generator=generator, dtype=torch.float64)
        found = fit_indices(fit(pa.ProbabilisticPCA(8, 2), x), x)
        plain.append(found.chi_square)
        corrected.append(found.bartlett)
    law = stats.chi2(20).cdf
    assert stats.kstest(corrected, law).pvalue > 1e-3
    assert stats.kstest(plain, law).pvalue < 1e-6
