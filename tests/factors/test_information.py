"""Closed forms of the information against derivatives taken by torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae.errors import ParameterError
from probae.factors import information
from probae.factors.estimators import bordered_inverse
from probae.factors.structure import Layout, Structure


def build(features, latents, seed, isotropic=False):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = torch.eye(latents, dtype=torch.float64) + 0.3 * normal(latents, latents)
    root = root / root.norm(dim=1, keepdim=True)
    noise = normal(features).square() + 0.3
    layout = Layout(
        torch.ones(features, latents, dtype=torch.bool),
        True,
        torch.ones(features, dtype=torch.bool),
        isotropic,
    )
    if isotropic:
        noise = noise[:1].expand(features)
    return Structure(normal(features, latents), root @ root.T, noise, normal(features), layout), normal(
        7, features
    )


def flat(structure):
    t, u = structure.layout.pairs
    return torch.cat([structure.loadings.flatten(), structure.correlation[t, u], structure.noise])


def covariance_at(structure, theta):
    D, K = structure.loadings.shape
    t, u = structure.layout.pairs
    pairs = len(t)
    W = theta[: D * K].reshape(D, K)
    Phi = torch.eye(K, dtype=torch.float64).index_put((t, u), theta[D * K : D * K + pairs])
    Phi = Phi.index_put((u, t), theta[D * K : D * K + pairs])
    return W @ Phi @ W.T + torch.diag(theta[D * K + pairs :])


def log_density(structure, theta, mean, rows, observed):
    S = covariance_at(structure, theta)[observed][:, observed]
    law = torch.distributions.MultivariateNormal(mean[observed], S, validate_args=False)
    return law.log_prob(rows[:, observed])


sizes = st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(0, 10**6))
CASES = settings(max_examples=12, deadline=None)


@CASES
@given(sizes)
def test_expected_information_is_half_a_trace(size):
    structure, _ = build(*size)
    A = structure.inverse()
    assert torch.allclose(A @ structure.covariance, torch.eye(size[0], dtype=torch.float64), atol=1e-9)
    J = torch.func.jacrev(lambda theta: covariance_at(structure, theta))(flat(structure))
    expected = 0.5 * torch.einsum("ij,jka,kl,lib->ab", A, J, A, J)
    torch.testing.assert_close(information.expected(structure, A), expected, rtol=1e-9, atol=1e-9)


@CASES
@given(sizes, st.booleans())
def test_observed_information_is_minus_the_second_derivative(size, hole):
    structure, rows = build(*size)
    observed = torch.ones(size[0], dtype=torch.bool)
    observed[0] = not hole
    A, zeros = structure.inverse(observed), torch.zeros(size[0], dtype=torch.float64)

    def loss(theta, mean):
        return -log_density(structure, theta, mean, rows, observed).sum()

    filled = rows * observed
    second, total = filled.T @ filled, filled.sum(0)
    theta = flat(structure)
    hessian = torch.func.jacrev(torch.func.grad(loss))(theta, zeros)
    torch.testing.assert_close(
        information.observed(structure, A, second, len(rows)), hessian, rtol=1e-8, atol=1e-8
    )
    cross = torch.func.jacrev(torch.func.grad(loss, argnums=1), argnums=0)(theta, zeros)
    torch.testing.assert_close(information.mean_cross(structure, A, total), cross, rtol=1e-8, atol=1e-8)


@CASES
@given(sizes)
def test_scores_are_the_gradient_of_each_row(size):
    structure, rows = build(*size)
    everything = torch.ones(size[0], dtype=torch.bool)
    zeros = torch.zeros(size[0], dtype=torch.float64)
    gradient = torch.func.jacrev(lambda theta: log_density(structure, theta, zeros, rows, everything))(
        flat(structure)
    )
    found = information.row_scores(structure, structure.inverse(), rows)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-9)


def test_one_noise_variance_collects_the_derivatives_of_all():
    structure, _ = build(5, 2, 3, isotropic=True)
    layout = structure.layout
    full = information.expected(structure, structure.inverse())
    collect = torch.zeros(len(full), layout.size, dtype=torch.float64)
    collect[: layout.size - 1, : layout.size - 1] = torch.eye(layout.size - 1)
    collect[layout.size - 1 :, -1] = 1.0
    assert torch.allclose(layout.reduce_matrix(full), collect.T @ full @ collect)


def test_bordered_inverse_is_the_block_of_the_whole_inverse():
    structure, _ = build(6, 2, 5)
    H = information.expected(structure, structure.inverse())
    C = torch.randn(2, len(H), dtype=torch.float64)  # oblique: a null space of K (K - 1) = 2
    whole = torch.cat([torch.cat([H, C.T], 1), torch.cat([C, torch.zeros(2, 2)], 1)])
    block = torch.linalg.inv(whole)[: len(H), : len(H)]
    V = bordered_inverse(H, C)
    torch.testing.assert_close(V, block, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(V @ H @ V, V, rtol=1e-6, atol=1e-8)
    assert (C @ V).abs().max() < 1e-8


def test_too_few_conditions_leave_the_information_singular():
    structure, _ = build(6, 2, 5)
    H = information.expected(structure, structure.inverse())
    with pytest.raises(ParameterError, match="not identified"):
        bordered_inverse(H, torch.randn(1, len(H), dtype=torch.float64))
