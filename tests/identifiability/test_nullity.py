"""Flat directions of the covariance, against the theory's table and against the groups that make them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae import ConfirmatoryFactorAnalysis, FactorAnalysis, NotExactError, ParameterError, fisher_nullity
from probae.identifiability import nullity as module
from probae.models import IndependentComponents, LinearFactorModel
from probae.priors import CorrelatedGaussian, Laplace


def model_with(loadings, noise="diagonal", prior=None, seed=0):
    """A Gaussian model with the given loadings and random noise."""
    generator = torch.Generator().manual_seed(seed)
    model = LinearFactorModel(*loadings.shape, prior=prior, noise=noise)
    model.loadings = loadings
    drawn = 0.1 + torch.rand(model.noise_variance.shape, generator=generator, dtype=torch.float64)
    model.noise_variance = drawn
    return model


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotations(k):
    return k * (k - 1) // 2


# expected nullity: k (k - 1) / 2 where the noise is identified; what is left over beyond the Ledermann bound
TABLE = [
    (10, 3, 3, True),
    (7, 3, 3, True),
    (6, 3, 3, True),
    (8, 4, 6, True),
    (20, 6, 15, True),
    (50, 8, 28, True),
    (3, 1, 0, True),
    (9, 5, 10, True),
    (5, 3, 5, False),
    (4, 2, 2, False),
    (2, 1, 1, False),
    (9, 6, 18, False),
]


@pytest.mark.parametrize(("features", "factors", "expected", "identified"), TABLE)
def test_factor_analysis_has_the_nullity_of_the_table(features, factors, expected, identified):
    found = fisher_nullity(model_with(normal(features, factors)))
    assert found.dimension == expected
    assert found.rotations.dimension == rotations(factors)
    assert (found.beyond_rotations == 0) == identified
    assert (found.features == ()) == identified
    assert found.conclusive
    assert found.parameters == features * factors + features


def test_doublets_and_rank_deficient_loadings():
    """A factor on two features: one more; on three: none. Rank r: r (r - 1) / 2 + p (k - r)."""
    two, three, repeated = normal(10, 3), normal(10, 3), normal(10, 3)
    two[2:, 2] = 0
    three[3:, 2] = 0
    repeated[:, 2] = repeated[:, 1]
    assert fisher_nullity(model_with(two)).dimension == 4
    assert fisher_nullity(model_with(two)).features == (0, 1)
    assert fisher_nullity(model_with(three)).dimension == 3
    assert fisher_nullity(model_with(repeated)).dimension == 11
    low = normal(10, 4)
    low[:, 2:] = low[:, :2] @ normal(2, 2, seed=1)
    assert fisher_nullity(model_with(low)).dimension == 21


@pytest.mark.parametrize(("factors", "expected"), [(9, 36), (10, 46), (2, 1)])
def test_isotropic_noise(factors, expected):
    assert fisher_nullity(model_with(normal(10, factors), "isotropic")).dimension == expected


def test_fixed_correlations_keep_the_conjugate_group():
    phi = CorrelatedGaussian([[1.0, 0.5], [0.5, 1.0]])
    found = fisher_nullity(model_with(normal(8, 2), prior=phi))
    assert (found.dimension, found.rotations.dimension, found.rotations.blocks) == (1, 1, ((0, 1),))


def confirmatory(pattern, correlated=True, seed=0):
    pattern = torch.as_tensor(np.asarray(pattern, dtype=bool))
    model = ConfirmatoryFactorAnalysis(pattern, correlated)
    model.loadings = pattern * (0.5 + normal(*pattern.shape, seed=seed).abs())
    if model.free_correlations:
        rows = normal(pattern.shape[1], 20, seed=seed + 1) + 0.7
        rows = rows / rows.norm(dim=1, keepdim=True)
        model.prior = CorrelatedGaussian(rows @ rows.T, learn=True)
    return model


SIMPLE = np.kron(np.eye(3), np.ones((3, 1)))
BOTH = np.hstack([np.ones((9, 2)), SIMPLE[:, 2:]])


@pytest.mark.parametrize(
    ("pattern", "correlated", "rotations", "beyond", "blocks", "fixed"),
    [
        (SIMPLE, True, 0, 0, ((0,), (1,), (2,)), (0, 1, 2)),
        (SIMPLE, False, 0, 0, ((0,), (1,), (2,)), (0, 1, 2)),
        (np.ones((9, 3)), False, 3, 0, ((0, 1, 2),), ()),
        (np.ones((9, 3)), True, 6, 0, ((0, 1, 2),), ()),
        (BOTH, False, 1, 0, ((0, 1), (2,)), (2,)),
        (BOTH, True, 4, 0, ((0, 1, 2),), (2,)),  # the third column may be added to the other two
        (np.hstack([np.ones((9, 1)), SIMPLE]), False, 0, 0, ((0,), (1,), (2,), (3,)), (0, 1, 2, 3)),
        (np.kron(np.eye(2), np.ones((2, 1))), True, 0, 0, ((0,), (1,)), (0, 1)),
        (np.kron(np.eye(2), np.ones((2, 1))), False, 0, 2, ((0,), (1,)), (0, 1)),
        ([[1], [1]], True, 0, 1, ((0,),), (0,)),
    ],
)
def test_what_zeros_leave(pattern, correlated, rotations, beyond, blocks, fixed):
    found = fisher_nullity(confirmatory(pattern, correlated))
    assert (found.rotations.dimension, found.beyond_rotations) == (rotations, beyond)
    assert (found.rotations.blocks, found.rotations.fixed) == (blocks, fixed)
    assert found.conclusive


def test_orthogonal_anchors_leave_no_rotation_but_signs():
    """An echelon of zeros fixes uncorrelated factors (K (K - 1) / 2 zeros); correlated ones need twice as many."""
    echelon = np.tril(np.ones((9, 3)))
    assert fisher_nullity(confirmatory(echelon, correlated=False)).dimension == 0
    assert fisher_nullity(confirmatory(echelon, correlated=True)).dimension == 3


def test_the_two_factor_model_of_two_features_each_needs_the_correlation():
    """Identified for almost all parameters, not at correlation zero: there the derivatives lose two directions."""
    model = confirmatory(np.kron(np.eye(2), np.ones((2, 1))))
    assert fisher_nullity(model).dimension == 0
    model.prior = CorrelatedGaussian(np.eye(2), learn=True)
    assert fisher_nullity(model).beyond_rotations == 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1), st.integers(2, 4), st.booleans())
def test_nullity_is_that_of_the_numerical_derivative(seed, factors, correlated):
    """Ranks of central differences of the covariance over the same parameters, by numpy."""
    rng = np.random.default_rng(seed)
    pattern = rng.random((8, factors)) < 0.6
    pattern[rng.permutation(8)[:factors], range(factors)] = True
    model = confirmatory(pattern, correlated, seed=seed % 1000)
    parts = module.Parts.of(model)

    def covariance(theta):
        loadings, phi, noise = parts.layout.unpack(theta)
        return (loadings @ phi @ loadings.T + np.diag(noise))[np.tril_indices(8)]

    theta = parts.layout.pack(parts.loadings, parts.correlation, parts.noise)
    steps = 1e-5 * np.eye(len(theta))
    jacobian = np.array([(covariance(theta + step) - covariance(theta - step)) / 2e-5 for step in steps])
    jacobian /= np.linalg.norm(jacobian, axis=1, keepdims=True)
    rank = int((np.linalg.svd(jacobian, compute_uv=False) > 1e-7).sum())
    found = fisher_nullity(model)
    if found.smallest_other > 1e-6:
        assert found.dimension == len(theta) - rank
    assert found.rotations.dimension <= found.dimension


def test_large_models_by_cross_products(monkeypatch):
    """The same counts when the Jacobian would be too large to hold."""
    direct = [fisher_nullity(model_with(normal(20, 6))), fisher_nullity(model_with(normal(9, 6)))]
    monkeypatch.setattr(module, "LARGEST", 0)
    products = [fisher_nullity(model_with(normal(20, 6))), fisher_nullity(model_with(normal(9, 6)))]
    for one, other in zip(direct, products, strict=True):
        assert (one.dimension, one.features) == (other.dimension, other.features)
        assert one.smallest_other == pytest.approx(other.smallest_other, rel=1e-6)


def test_a_heywood_noise_is_held_fixed():
    model = model_with(normal(8, 2))
    noise = model.noise_variance.detach().clone()
    noise[3] = 1e-9
    model.noise_variance = noise
    found = fisher_nullity(model)
    assert (found.boundary, found.dimension, found.parameters) == ((3,), 1, 8 * 2 + 7)


def test_units_change_nothing():
    model = model_with(normal(10, 3))
    before = fisher_nullity(model)
    model.rescale(10.0 ** torch.linspace(-6, 6, 10, dtype=torch.float64))
    after = fisher_nullity(model)
    assert after.dimension == before.dimension
    assert after.smallest_other == pytest.approx(before.smallest_other, rel=1e-8)


def test_models_without_a_gaussian_covariance_are_refused():
    with pytest.raises(NotExactError, match="Counting rules read the covariance of Gaussian factors"):
        fisher_nullity(LinearFactorModel(6, 2, prior=Laplace()))
    with pytest.raises(NotExactError, match="Counting rules read"):
        fisher_nullity(IndependentComponents(3, 3))
    with pytest.raises(ParameterError, match='noise="none"'):
        fisher_nullity(LinearFactorModel(3, 3, noise="none"))
    model = FactorAnalysis(4, 1)
    model.loadings = torch.full((4, 1), torch.nan, dtype=torch.float64)
    with pytest.raises(ParameterError, match="should be finite"):
        fisher_nullity(model)
