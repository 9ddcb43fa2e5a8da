"""What a caller sees: dtypes, tables, wrong input, simulation."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch

from probae import DataError, NotExactError, ParameterError
from probae.models import (
    FactorAnalysis,
    LinearFactorModel,
    ProbabilisticPCA,
)
from probae.priors import (
    Independent,
    Laplace,
    StudentT,
)


def test_results_come_in_the_dtype_of_x_and_with_float64_digits(gaussian_model):
    x32 = gaussian_model.sample(7, seed=5).float()
    posterior, value = gaussian_model.posterior(x32), gaussian_model.log_likelihood(x32)
    assert posterior.mean.dtype == posterior.covariance_matrix.dtype == value.dtype == torch.float32
    exact = gaussian_model.log_likelihood(x32.double())
    assert exact.dtype == torch.float64
    assert (value.double() / exact - 1).abs().max() < 1e-6  # one rounding to float32 is 6e-8
    assert (posterior.mean.double() - gaussian_model.posterior(x32.double()).mean).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["list", "int", "numpy", "fortran", "float16", "requires_grad", "readonly"])
def test_any_table_is_taken(kind, randomize, assert_close):
    model = randomize(FactorAnalysis(4, 2))
    base = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) % 5
    frozen = base.numpy().copy()
    frozen.flags.writeable = False
    x = {
        "list": base.tolist(),
        "int": base.int(),
        "numpy": base.numpy(),
        "fortran": np.asfortranarray(base.numpy()),
        "float16": base.half(),
        "requires_grad": base.clone().requires_grad_(),
        "readonly": frozen,
    }[kind]
    assert_close(
        model.log_likelihood(x).double(), model.log_likelihood(base), 1e-6 if kind == "float16" else 0
    )


def test_the_callers_x_is_never_changed(model):
    x = model.sample(7, seed=5)
    kept = pickle.dumps(x.numpy())
    for query in (model.log_likelihood, model.posterior, model.sufficient_scores):
        try:
            query(x)
        except (NotExactError, ParameterError):
            continue
    model(x)
    assert pickle.dumps(x.numpy()) == kept


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 5), r"shape \(samples, 4\)"),
        (torch.zeros(4), "two-dimensional"),
        (torch.zeros(0, 4), "at least 1 row"),
        ([["a", "b", "c", "d"]], "real numbers"),
        (torch.full((1, 4), math.inf), "inf at row 0"),
        (None, "table"),
    ],
)
def test_wrong_rows_end_in_one_sentence(x, message):
    model = FactorAnalysis(4, 1)
    for query in (model.log_likelihood, model.posterior):
        with pytest.raises(DataError, match=message):
            query(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FactorAnalysis(0, 1), "features should be a whole number of at least 1"),
        (lambda: FactorAnalysis(4, 0), "latents should be a whole number of at least 1"),
        (lambda: FactorAnalysis(4, 1.5), "latents should be a whole number"),
        (lambda: FactorAnalysis("4", 1), "features should be a whole number"),
        (lambda: LinearFactorModel(4, 1, prior="laplace"), "prior should be a law"),
        (lambda: LinearFactorModel(4, 1, prior=Laplace), "prior should be a law"),
        (lambda: LinearFactorModel(4, 1, noise="full"), "noise should be"),
        (lambda: LinearFactorModel(4, 3, prior=Independent([Laplace(), Laplace()])), "latents should be 2"),
    ],
)
def test_wrong_settings_end_in_one_sentence(build, message, as_installed):
    with pytest.raises(ParameterError, match=message):
        build()


def test_the_prior_is_the_models_own():
    prior = StudentT(5, learn=True)
    model = LinearFactorModel(4, 1, prior=prior)
    assert model.prior is not prior
    assert {p.data_ptr() for p in prior.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())


def test_for_data_reads_the_width():
    assert FactorAnalysis.for_data([[1.0, 2.0, 3.0]], latents=1).features == 3
    assert ProbabilisticPCA.for_data(np.zeros((2, 4)), latents=2).loadings.shape == (4, 2)


def test_sample_is_reproducible_and_leaves_the_random_state(model, random_state):
    before = random_state()
    first, second, other = model.sample(5, seed=1), model.sample(5, seed=1), model.sample(5, seed=2)
    assert random_state() == before
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (5, model.features)
    assert not first.requires_grad
    model.sample(5)
    assert random_state() != before  # without a seed it draws from the caller's generator


def test_sample_has_the_moments_of_the_model(model):
    """Mean and covariance entries within five standard errors, estimated from fourth sample moments."""
    n = 40_000
    x = model.sample(n, seed=0)
    loadings = model.loadings.detach()
    variance = model.prior.distribution(model.latents).variance.detach().expand(model.latents)
    expected = loadings @ (model.factor_correlation * variance) @ loadings.T
    if model.noise != "none":
        noise = model.noise_variance.detach().expand(model.features).diag()
        if model.noise == "complement":
            noise = noise @ (torch.eye(model.features) - loadings @ torch.linalg.pinv(loadings))
        expected = expected + noise
    centred = x - model.mean.detach()
    assert (centred.mean(0).abs() < 5 * (expected.diagonal() / n).sqrt()).all()
    products = centred[:, :, None] * centred[:, None, :]
    error = (products.mean(0) - expected).abs()
    assert (error < 5 * products.std(0) / n**0.5).all()


def test_sample_refuses_a_wrong_size():
    with pytest.raises(ParameterError, match="size should be a whole number of at least 1"):
        FactorAnalysis(3, 1).sample(0)


def test_exact_queries_give_no_warnings(gaussian_model):
    x = gaussian_model.sample(7, seed=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gaussian_model.log_likelihood(x)
        gaussian_model.posterior(x).sample()
    assert caught == []
