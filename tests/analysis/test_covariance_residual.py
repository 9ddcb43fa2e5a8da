"""The covariance residual: its definition, units, rotations, and what it finds."""

import numpy as np
import pytest
import torch

import probae as pa
from probae import priors
from probae.errors import DataError, ParameterError
from probae.linalg import haar_rotation


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draws(turned=False):
    W = normal(6, 2, seed=5) + 0.1 * normal(3, 40, 6, 2)
    return W @ haar_rotation(2, torch.Generator().manual_seed(1), 120).view(3, 40, 2, 2) if turned else W


X = normal(200, 2, seed=2) @ normal(6, 2, seed=5).T + normal(200, 6, seed=3)


def test_it_is_the_standardized_residual_of_each_draw(sampled):
    W = draws()
    found = pa.covariance_residual(sampled(W), X)
    S = torch.from_numpy(np.cov(X.T.numpy(), bias=True))
    scale = S.diagonal().sqrt()
    residual = (S - W @ W.mT) / torch.outer(scale, scale)
    for place, (i, j) in enumerate(found.pairs.tolist()):
        assert torch.allclose(found.draws[..., place], residual[..., i, j], rtol=0, atol=1e-12)
    assert found.draws.shape == (3, 40, 15)
    assert found.samples == 200
    upper = residual[..., *torch.triu_indices(6, 6, offset=1)]
    assert torch.allclose(found.root_mean_square, upper.square().mean(-1).sqrt(), atol=1e-12)


def test_neither_rotations_nor_units_have_a_part_in_it(sampled):
    one = pa.covariance_residual(sampled(draws()), X).draws
    assert torch.allclose(
        pa.covariance_residual(sampled(draws(turned=True)), X).draws, one, rtol=0, atol=1e-12
    )
    units = torch.logspace(-3, 3, 6).double()
    scaled = pa.covariance_residual(sampled(draws() * units[:, None]), X * units).draws
    assert torch.allclose(scaled, one, rtol=0, atol=1e-12)


def test_moments_are_enough(sampled):
    statistics = pa.SufficientStatistics.from_data(X)
    assert torch.allclose(
        pa.covariance_residual(sampled(draws()), statistics).draws,
        pa.covariance_residual(sampled(draws()), X).draws,
        atol=1e-12,
    )


def test_a_doublet_stands_out(sampled):
    """Features 0 and 1 share noise of variance 1, which the factors of the draws do not carry."""
    shared = X.clone()
    shared[:, :2] += normal(200, 1, seed=7)
    found = pa.covariance_residual(sampled(draws(), names=tuple("abcdef")), shared)
    worst = int(found.mean.abs().argmax())
    assert found.labels[worst] == "a, b"
    lower, _ = found.interval(0.9)
    assert float(lower[worst]) > 2 * found.sampling_error
    assert str(found).splitlines()[1].strip().startswith("a, b")


def test_the_variance_of_the_factors_decides_whether_w_w_is_what_they_explain(sampled):
    """Independent Laplace factors of variance 1 explain W W'; Gaussian ones of variance 4 do not."""
    gaussian = pa.covariance_residual(sampled(draws()), X).draws
    assert torch.equal(pa.covariance_residual(sampled(draws(), codes=priors.Laplace()), X).draws, gaussian)
    wide = priors.Scaled(priors.Gaussian(), 2.0)
    with pytest.raises(ParameterError, match="uncorrelated factors of variance 1"):
        pa.covariance_residual(sampled(draws(), codes=wide), X)


def test_wrong_input_is_refused(sampled):
    with pytest.raises(ParameterError, match="needs the fit of a sampler, got Tensor"):
        pa.covariance_residual(draws(), X)
    with pytest.raises(DataError, match="x should have 6 features, got 5"):
        pa.covariance_residual(sampled(draws()), X[:, :5])
    constant = X.clone()
    constant[:, 2] = 1.0
    with pytest.raises(DataError, match="columns that vary, got 1 constant"):
        pa.covariance_residual(sampled(draws()), constant)
    correlated = priors.CorrelatedGaussian(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(ParameterError, match="uncorrelated factors of variance 1"):
        pa.covariance_residual(sampled(draws(), codes=correlated), X)
    with pytest.raises(ParameterError, match="gives one value"):
        pa.covariance_residual(pa.fit(pa.FactorAnalysis(6, 1), X), X)
