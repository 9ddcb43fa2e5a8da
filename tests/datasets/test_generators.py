"""Generated data agree with the truth they return, from one seed, and leave other random states alone."""

import math
import random

import numpy as np
import pytest
import torch
from scipy import stats

from probae import priors
from probae.checks import ParameterError
from probae.datasets import autoregressive, likert, linear_factors

MAKERS = {
    "laplace": lambda n, seed=0: linear_factors(n, 8, 3, seed=seed),
    "gaussian": lambda n, seed=0: linear_factors(n, 8, 3, prior=priors.Gaussian(), seed=seed),
    "uniform": lambda n, seed=0: linear_factors(n, 8, 3, prior=priors.Uniform(), seed=seed),
    "spherical": lambda n, seed=0: linear_factors(n, 8, 3, prior=priors.MultivariateStudentT(5.0), seed=seed),
    "mixed": lambda n, seed=0: linear_factors(
        n, 8, 2, prior=priors.Independent([priors.Laplace(), priors.Gaussian()]), seed=seed
    ),
    "wide": lambda n, seed=0: linear_factors(n, 3, 5, seed=seed),
    "autoregressive": lambda n, seed=0: autoregressive(n, 8, 3, phi=(0.9, 0.5, -0.3), seed=seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_rows_follow_from_the_truth(name):
    """Regressing x on the true z gives W and psi within 4.5 SE: variances psi (Z'Z)^-1 and 2 psi^2 / n."""
    n = 4000
    data = MAKERS[name](n)
    W, psi, z = (data.truth[part] for part in ("loadings", "noise_variance", "z"))
    assert data.x.dtype == torch.float64
    assert data.x.shape == (n, len(W)) == (n, len(data.feature_names))
    inverse = torch.linalg.inv(z.T @ z)
    estimate = data.x.T @ z @ inverse
    error = (psi[:, None] * inverse.diagonal()).sqrt()
    # 24 entries of each kind: 4.5 SE is exceeded by chance in 1 of 6000 tests
    assert ((estimate - W).abs() / error).max() < 4.5
    residual = (data.x - z @ W.T).square().mean(0)
    assert ((residual - psi).abs() / (psi * math.sqrt(2 / n))).max() < 4.5
    assert torch.equal(data.truth["mean"], torch.zeros(len(W), dtype=torch.float64))


@pytest.mark.parametrize("name", [*MAKERS, "likert"])
def test_one_seed_is_one_result(name):
    make = MAKERS.get(name, lambda n, seed=0: likert(n, seed=seed))
    first, again, other = make(200), make(200), make(200, seed=1)
    assert torch.equal(first.x, again.x)
    assert all(torch.equal(first.truth[part], again.truth[part]) for part in first.truth)
    assert not torch.equal(first.x, other.x)
    longer = make(300)
    assert torch.equal(longer.truth["loadings"], first.truth["loadings"])
    assert torch.equal(longer.truth["noise_variance"], first.truth["noise_variance"])


@pytest.mark.parametrize("name", [*MAKERS, "likert"])
def test_callers_random_state_is_untouched_and_unread(name, random_state):
    make = MAKERS.get(name, lambda n, seed=0: likert(n, seed=seed))
    before = random_state()
    data = make(100)
    assert random_state() == before
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    random.seed(2)
    assert torch.equal(data.x, make(100).x)


def test_the_default_model():
    """Standard normal loadings, noise uniform on [.1, .3], Laplace latents of variance 1."""
    data = linear_factors(20_000, 200, 4, seed=2)
    W, psi = data.truth["loadings"], data.truth["noise_variance"]
    assert stats.kstest(W.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(psi.numpy(), stats.uniform(0.1, 0.2).cdf).pvalue > 1e-3
    assert (
        stats.kstest(data.truth["z"][:, 0].numpy(), stats.laplace(scale=1 / math.sqrt(2)).cdf).pvalue > 1e-3
    )


@pytest.mark.parametrize("communality", [0.05, 0.5, 0.95])
def test_communality_is_as_asked(communality):
    data = linear_factors(10, 12, 3, communality=communality, seed=4)
    signal = data.truth["loadings"].square().sum(1)
    psi = data.truth["noise_variance"]
    assert (signal / (signal + psi)).mean().item() == pytest.approx(communality, abs=1e-10)
    ratio = psi / linear_factors(10, 12, 3, seed=4).truth["noise_variance"]
    assert ratio.max().item() == pytest.approx(ratio.min().item())


def test_given_parameters_are_used_and_copied():
    W = torch.eye(3, dtype=torch.float64)
    data = linear_factors(50, 3, 3, loadings=W, noise=0.0)
    assert torch.equal(data.x, data.truth["z"])
    W[0, 0] = 9
    assert data.truth["loadings"][0, 0] == 1
    assert linear_factors(5, 3, 2, noise=[0.1, 0.2, 0.3]).truth["noise_variance"].tolist() == [0.1, 0.2, 0.3]
    kept = linear_factors(50, 3, 3).truth["noise_variance"]
    assert torch.equal(linear_factors(50, 3, 3, loadings=W).truth["noise_variance"], kept)


def test_autoregressive_latents():
    """Variance 1 and autocorrelation phi; Bartlett: SE at most sqrt(2 / n (1 + phi^2) / (1 - phi^2))."""
    phi, n = torch.tensor([0.9, 0.0, -0.6], dtype=torch.float64), 20_000
    data = autoregressive(n, 5, 3, phi=phi, seed=1)
    z = data.truth["z"]
    error = ((1 + phi**2) / (1 - phi**2) * 2 / n).sqrt()
    assert ((z.square().mean(0) - 1).abs() < 4 * error).all()
    assert (((z[1:] * z[:-1]).mean(0) - phi).abs() < 4 * error).all()
    assert torch.equal(data.truth["phi"], phi)
    innovations = (z[1:] - phi * z[:-1]) / (1 - phi**2).sqrt()
    assert min(stats.kstest(column.numpy(), "norm").pvalue for column in innovations.T) > 1e-3
    starts = [autoregressive(1, 2, 1, phi=0.99, seed=s).truth["z"].item() for s in range(200)]
    assert stats.kstest(starts, "norm").pvalue > 1e-3  # stationary from the first row


@pytest.mark.parametrize(
    ("levels", "skew", "expected"),
    [
        (5, True, 0.55 ** np.arange(5) / (0.55 ** np.arange(5)).sum()),
        (5, False, np.array([1, 4, 6, 4, 1]) / 16),
        (2, False, np.array([0.5, 0.5])),
    ],
)
def test_likert_answers(levels, skew, expected):
    """Each item is N(0, 1) before the cut, so its answers have exactly these probabilities."""
    n = 5000
    data = likert(n, 9, 3, levels=levels, skew=skew, seed=3)
    assert data.x.unique().tolist() == list(range(1, levels + 1))
    share = torch.stack([(data.x == level).double().mean(0) for level in range(1, levels + 1)], dim=1).numpy()
    assert (np.abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n)).all()
    skewness = stats.skew(data.x.numpy())
    assert (skewness > 0.8).all() if skew else (np.abs(skewness) < 0.2).all()
    W, psi = data.truth["loadings"], data.truth["noise_variance"]
    assert torch.allclose(W.square().sum(1) + psi, torch.ones(9, dtype=torch.float64))
    # answers rise with the part of x that the factors explain
    explained = data.truth["z"] @ W.T
    assert min(stats.spearmanr(explained[:, d], data.x[:, d]).statistic for d in range(9)) > 0.5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: linear_factors(0, 4, 2), "samples should be a whole number of at least 1"),
        (lambda: linear_factors(9, 4, 2, seed=-1), "seed should be a whole number of at least 0"),
        (lambda: linear_factors(9, 4, 2, communality=1.0), "communality should lie between 0 and 1"),
        (lambda: linear_factors(9, 4, 2, communality=0.5, noise=0.0), "noise should be above 0"),
        (lambda: linear_factors(9, 4, 2, noise=-1.0), "noise should be a finite variance, at least 0"),
        (
            lambda: linear_factors(9, 4, 2, noise=[1.0]),
            r"noise should be one number or 4 of them, got shape \(1,\)",
        ),
        (lambda: linear_factors(9, 4, 2, loadings=torch.ones(2, 4)), r"shape \(4, 2\), got \(2, 4\)"),
        (lambda: autoregressive(9, 4, 2, phi=1.0), "phi should lie strictly between -1 and 1"),
        (lambda: autoregressive(9, 4, 2, phi=[0.5] * 3), "phi should be one number or 2 of them"),
        (lambda: likert(9, levels=1), "levels should be a whole number of at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(make, sentence):
    with pytest.raises(ParameterError, match=sentence):
        make()
