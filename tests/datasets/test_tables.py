"""The tables against published summaries, and against an independent maximum-likelihood fit."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis

from probae.datasets import ability_cov, holzinger_swineford


def maximum_likelihood(x, latents):
    fit = FactorAnalysis(latents, svd_method="lapack", tol=1e-10, max_iter=20_000).fit(x)
    return fit.noise_variance_ / x.var(0), fit.score(x)


def test_holzinger_swineford_shape_and_groups():
    """301 pupils, 156 of them at Pasteur and 145 at Grant-White (Joreskog 1969 uses these 145)."""
    data = holzinger_swineford()
    assert data.x.shape == (301, 9)
    assert data.x.dtype == torch.float64
    assert data.feature_names == tuple(f"x{i}" for i in range(1, 10))
    assert data.extra["school"].count("Pasteur") == 156
    assert data.extra["school"].count("Grant-White") == 145
    assert data.extra["sex"].unique().tolist() == [1, 2]
    grade = data.extra["grade"]
    assert grade.isnan().sum() == 1
    assert grade[~grade.isnan()].unique().tolist() == [7, 8]
    assert data.truth is None
    assert "Holzinger" in data.source


def test_holzinger_swineford_means():
    """Intercepts of x1 to x9 as lavaan's tutorial prints them on its page about mean structures."""
    published = [4.936, 6.088, 2.250, 3.061, 4.341, 2.186, 4.186, 5.527, 5.374]
    assert holzinger_swineford().x.mean(0).tolist() == pytest.approx(published, abs=5.1e-4)


def test_holzinger_swineford_has_the_known_maximum_likelihood_solution():
    """Three factors: own fit, statsmodels and scikit-learn agree on these to four decimals."""
    uniquenesses, likelihood = maximum_likelihood(holzinger_swineford().x.numpy(), 3)
    expected = [0.5125, 0.7487, 0.5428, 0.2792, 0.2429, 0.3052, 0.5022, 0.4685, 0.5432]
    assert uniquenesses == pytest.approx(expected, abs=1e-3)
    assert likelihood == pytest.approx(-12.314088, abs=1e-5)
    assert maximum_likelihood(holzinger_swineford().x.numpy(), 1)[1] == pytest.approx(-12.794765, abs=1e-5)


@pytest.mark.parametrize(
    ("latents", "published"),
    [
        (1, [0.535, 0.853, 0.748, 0.910, 0.232, 0.280]),
        (2, [0.455, 0.589, 0.218, 0.769, 0.052, 0.334]),
    ],
)
def test_ability_cov_has_the_published_uniquenesses(latents, published):
    """As R's `factanal(latents, covmat = ability.cov)` prints them, on rows whose covariance is the table."""
    table = ability_cov()
    assert table.count == 112
    assert len(table.names) == 6
    assert torch.equal(table.covariance, table.covariance.T)
    rows = np.random.default_rng(0).standard_normal((table.count, 6))
    orthonormal = np.linalg.qr(rows - rows.mean(0))[0] * np.sqrt(table.count)
    x = orthonormal @ np.linalg.cholesky(table.covariance.numpy()).T
    assert np.allclose(np.cov(x.T, bias=True), table.covariance)
    assert maximum_likelihood(x / x.std(0), latents)[0] == pytest.approx(published, abs=2e-3)
