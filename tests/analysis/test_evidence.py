"""log_evidence: the closed forms, the default, and what it refuses."""

import math

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats

import probae as pa
from probae.analysis.exact import Exact
from probae.analysis.result import Evidence, from_log_weights

ROW = torch.tensor([[1.3]], dtype=torch.float64)


def scalar(scale, noise):
    """One feature, one code of Laplace scale b and noise s: a dictionary of sqrt(2) b, for codes of variance 1."""
    model = pa.SparseCoding(1, 1)
    model.loadings = torch.tensor([[math.sqrt(2) * scale]], dtype=torch.float64)
    model.noise_variance = torch.tensor(noise**2, dtype=torch.float64)
    return model


def test_one_code_of_scale_1_and_noise_half_at_1_3():
    result = pa.log_evidence(scalar(1.0, 0.5), ROW)
    assert result.bound == "exact"
    assert float(result.value) == pytest.approx(-1.872995780, abs=5e-10)  # printed to nine digits
    density = lambda z: stats.laplace.pdf(z) * stats.norm.pdf(1.3, z, 0.5)  # noqa: E731
    total = sum(integrate.quad(density, *ends, epsabs=1e-14)[0] for ends in ((-30, 0), (0, 1.3), (1.3, 30)))
    assert float(result.value) == pytest.approx(math.log(total), abs=1e-10)


def test_orthonormal_dictionary_is_a_sum_of_one_dimensional_evidences(orthonormal):
    model = orthonormal(8)
    x = model.sample(20, seed=1)
    scores = (x - model.mean) @ model.loadings
    single = scalar(2**-0.5, 0.5)
    parts = pa.log_evidence(single, scores.reshape(-1, 1)).value.reshape(20, 8)
    assert torch.allclose(pa.log_evidence(model, x).value, parts.sum(1), atol=1e-12)


def test_gaussian_latents_and_missing_entries_are_exact():
    model = pa.FactorAnalysis(3, 1)
    x = torch.tensor([[0.3, float("nan"), 1.0]], dtype=torch.float64)
    result = pa.log_evidence(model, x)
    covariance = model.loadings @ model.loadings.T + torch.diag(model.noise_variance)
    seen = [0, 2]
    expected = stats.multivariate_normal(cov=covariance.detach().numpy()[np.ix_(seen, seen)]).logpdf(
        x[0, seen]
    )
    assert float(result.value) == pytest.approx(float(expected), abs=1e-12)
    assert result.standard_error.tolist() == [0.0]


def test_a_model_without_noise_is_exact():
    model = pa.IndependentComponents(2, 2)
    x = model.sample(4, seed=0)
    assert pa.log_evidence(model, x).bound == "exact"


def test_default_is_the_best_available(build):
    x = torch.zeros(2, 2, dtype=torch.float64)
    assert pa.log_evidence(build(2, 2), x).estimator == pa.Quadrature()
    assert pa.log_evidence(build(2, 3), x).estimator == pa.AnnealedImportance()
    assert pa.log_evidence(pa.ProbabilisticPCA(2, 1), x).estimator == pa.Exact()


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")  # two steps of MAP
def test_a_fit_a_frame_and_float32(build):
    model = build(2, 3)
    frame = pd.DataFrame(model.sample(30, seed=0).numpy(), columns=["a", "b"]).astype("float32")
    run = pa.fit(pa.SparseCoding(2, 3), frame, pa.MAP(steps=2))
    for estimator in (
        pa.ImportanceWeighted(draws=100),
        pa.AnnealedImportance(steps=5, chains=4),
        pa.Quadrature(points=4),
    ):
        result = pa.log_evidence(run, frame[:2], estimator)
        assert result.value.dtype == result.standard_error.dtype == torch.float32
        assert result.value.isfinite().all()
        with pytest.raises(pa.DataError, match="b"):
            pa.log_evidence(run, frame[["b", "a"]], estimator)


def test_rows_do_not_depend_on_each_other_in_distribution_and_seeds_do(build, random_state):
    model, estimator = build(2, 3), pa.AnnealedImportance(steps=5, chains=4)
    x = model.sample(3, seed=0)
    before = random_state()
    first = pa.log_evidence(model, x, estimator, seed=1)
    assert random_state() == before
    assert torch.equal(first.value, pa.log_evidence(model, x, estimator, seed=1).value)
    assert not torch.equal(first.value, pa.log_evidence(model, x, estimator, seed=2).value)


def test_total_adds_variances():
    value = torch.tensor([1.0, 2.0], dtype=torch.float64)
    result = Evidence(value, torch.tensor([0.3, 0.4], dtype=torch.float64), "lower", Exact())
    assert result.total == 3.0
    assert result.total_standard_error == pytest.approx(0.5)
    assert result.doubtful.tolist() == [False, True]
    assert "1 rows are doubtful" in str(result)


def test_standard_error_of_weights_is_that_of_the_log_of_their_mean():
    """Log-normal weights: E w = 1, and the log of the mean of 80 varies over 4,000 repeats as it says."""
    generator = torch.Generator().manual_seed(0)
    log_weights = 0.5 * torch.randn(4000, 80, generator=generator, dtype=torch.float64) - 0.125
    result = from_log_weights(log_weights + 700.0, "lower", Exact())  # exp(700) would overflow a product
    # cv of w is sqrt(exp(1/4) - 1) = .53, of the mean .06; sd of sd over 4,000 repeats is 1/sqrt(8,000) = 1.1 %
    assert float(result.value.std() / result.standard_error.square().mean().sqrt()) == pytest.approx(
        1, abs=0.05
    )
    assert float(result.value.mean()) == pytest.approx(700.0, abs=3 * 0.06 / 4000**0.5 + 0.06**2)


def test_k_hat_is_the_shape_of_a_pareto_tail():
    """Weights with P(w > t) = t^(-1/k); 5,000 draws, a tail of 200: the standard error of k-hat is (1 + k)/sqrt 200."""
    generator = torch.Generator().manual_seed(0)
    for shape in (0.3, 1.0):
        exponential = torch.empty(20, 5000, dtype=torch.float64).exponential_(generator=generator)
        k_hat = from_log_weights(shape * exponential, "lower", Exact()).k_hat
        # a prior worth 10 draws at 1/2 pulls the estimate by 10 / 210 of its distance
        bias = 10 / 210 * (0.5 - shape)
        assert float(k_hat.mean()) == pytest.approx(shape + bias, abs=4 * (1 + shape) / (200 * 20) ** 0.5)


def test_equal_weights_are_exact():
    result = from_log_weights(torch.full((2, 500), -3.0, dtype=torch.float64), "lower", Exact())
    assert torch.allclose(result.value, torch.full((2,), -3.0, dtype=torch.float64))
    assert result.standard_error.max() < 1e-12
    assert result.k_hat.tolist() == [0.0, 0.0]
    assert torch.allclose(result.effective_sample_size, torch.full((2,), 500.0, dtype=torch.float64))


def test_weights_without_a_tail_are_doubtful_and_quiet():
    """One weight beside 499 that vanish; 200 equal ones beside 300 that are half as large."""
    lone = torch.full((500,), -torch.inf, dtype=torch.float64)
    lone[7] = 3.0
    flat = torch.zeros(500, dtype=torch.float64)
    flat[200:] = -math.log(2)
    result = from_log_weights(torch.stack([lone, flat]), "lower", Exact())
    assert result.k_hat.tolist() == [float("inf"), 0.0]
    assert result.doubtful.tolist() == [True, False]
    assert float(result.effective_sample_size[0]) == pytest.approx(1)


def test_what_it_cannot_do_is_said(build):
    x = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(pa.ParameterError, match="carry a prior"):
        pa.log_evidence(build(2, 3).with_priors(loadings=dist.Normal(0.0, 1.0)), x)
    with pytest.raises(pa.ParameterError, match="model or the result of fit"):
        pa.log_evidence("model", x)
    with pytest.raises(pa.ParameterError, match="estimator"):
        pa.log_evidence(build(2, 3), x, "ais")
    with pytest.raises(pa.NotExactError):
        pa.log_evidence(build(2, 3), x, pa.Exact())
    with pytest.raises(pa.NotExactError, match="AnnealedImportance"):
        pa.log_evidence(build(2, 4), x, pa.Quadrature())
    with pytest.raises(pa.DataError):
        pa.log_evidence(build(2, 3), [[1.0, float("nan")]], pa.AnnealedImportance())
    with pytest.raises(pa.ParameterError, match="noise"):
        pa.log_evidence(pa.IndependentComponents(2, 2), x, pa.AnnealedImportance())
    with pytest.raises(pa.ParameterError, match="noise"):
        pa.log_evidence(pa.IndependentComponents(2, 2), x, pa.Quadrature())
    for wrong in (
        lambda: pa.ImportanceWeighted(draws=0),
        lambda: pa.ImportanceWeighted(proposal="encoder"),
        lambda: pa.AnnealedImportance(chains=1),
        lambda: pa.Quadrature(points=2),
    ):
        with pytest.raises(pa.ParameterError):
            wrong()
