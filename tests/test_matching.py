"""Metrics between column sets: exact copies, brute force, invariances, chance levels, refusals."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae.agreement import amari_distance, chance_level, mean_correlation, mean_cosine, tucker_congruence
from probae.checks import DataError, ParameterError
from probae.linalg import givens, haar_rotation
from probae.matching import match_columns, plane_angles, principal_angles, procrustes, rotation_angle


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def signed_permutation(k, random):
    return np.eye(k)[random.permutation(k)] * random.choice([-1.0, 1.0], k)


def copies(count):
    """Seeded (A, rotated copy, its rotation, signed and permuted copy, its matrix) of many shapes."""
    random = np.random.default_rng(0)
    for seed in range(count):
        k = int(random.integers(1, 7))
        A = random.standard_normal((k + int(random.integers(0, 6)), k))
        R = haar_rotation(k, torch.Generator().manual_seed(seed)).numpy()
        P = signed_permutation(k, random)
        yield A, A @ R, R, A @ P, P


def test_copies_are_recovered():
    for A, rotated, R, permuted, P in copies(1000):
        found = procrustes(A, rotated)
        assert found.distance < 1e-12
        assert np.allclose(found.rotation, R.T, atol=1e-9)
        assert np.allclose(found.matched, A, atol=1e-12)
        match = match_columns(A, permuted)
        assert match.distance < 1e-12
        assert np.array_equal(permuted[:, match.order.numpy()] * match.signs.numpy(), match.matched)
        assert np.allclose(match.cosines, 1, atol=1e-12)
        assert np.allclose(np.eye(len(P))[:, match.order.numpy()] * match.signs.numpy(), P.T)
        assert procrustes(A, permuted).distance < 1e-12  # signed permutations are rotations


def test_assignment_equals_search_over_all_signed_permutations():
    random = np.random.default_rng(1)
    for _ in range(200):
        k = int(random.integers(1, 5))
        A, B = random.standard_normal((2, k + 2, k))
        best = min(
            np.linalg.norm(A - B[:, order] * signs)
            for order in itertools.permutations(range(k))
            for signs in itertools.product([-1, 1], repeat=k)
        )
        assert match_columns(A, B).distance == pytest.approx(best / np.linalg.norm(A), rel=1e-12)


def test_rotations_fit_at_least_as_well_as_signed_permutations():
    for seed in range(20):
        A, B = normal(6, 3, seed=seed), normal(6, 3, seed=100 + seed)
        assert procrustes(A, B).distance <= match_columns(A, B).distance


def test_procrustes_is_stationary_and_optimal():
    """At the optimum (B R)' A is symmetric positive semi-definite (the polar factor of B' A)."""
    A, B = normal(7, 4, seed=2), normal(7, 4, seed=3)
    inner = procrustes(A, B).matched.T @ A
    assert torch.allclose(inner, inner.T, atol=1e-12)
    assert torch.linalg.eigvalsh(inner).min() >= -1e-12


@pytest.mark.parametrize("degrees", [1e-6, 0.5, 30.0, 90.0])
def test_principal_angles_of_a_tilted_plane(degrees):
    tilt = givens(5, 1, 4, math.radians(degrees))
    plane = torch.eye(5, dtype=torch.float64)[:, :2]
    angles = principal_angles(plane, tilt @ plane @ normal(2, 2, seed=0))
    assert angles.tolist() == pytest.approx([degrees, 0.0], rel=1e-7, abs=1e-12 if degrees < 1 else 1e-6)


def test_principal_angles_ignore_the_basis_and_allow_other_widths():
    A = normal(6, 3, seed=4)
    assert principal_angles(A, A @ normal(3, 3, seed=5)).max() < 1e-10
    assert principal_angles(A, A[:, :2]).shape == (2,)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(0, 4), st.integers(0, 2**31 - 1))
def test_amari_is_zero_exactly_for_scaled_permutations(k, extra, seed):
    random = np.random.default_rng(seed)
    A = random.standard_normal((k + extra, k))
    scaled = A @ signed_permutation(k, random) * np.exp(random.standard_normal(k))
    mixed = A @ haar_rotation(k, torch.Generator().manual_seed(seed)).numpy()
    assert amari_distance(A, scaled) < 1e-9  # cond(A) * eps, a square Gaussian A may have cond 1e5
    between = amari_distance(A, mixed)
    assert 1e-9 < between <= 1
    assert amari_distance(A * np.exp(random.standard_normal(k)), mixed[:, ::-1] * -2.0) == pytest.approx(
        between
    )


def test_amari_is_one_when_every_column_is_an_even_mixture():
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    assert amari_distance(np.eye(4), hadamard) == pytest.approx(1)
    assert amari_distance(np.ones((3, 1)), -np.ones((3, 1))) == 0
    # the second column of B lies outside the space of A: it matches nothing, row 2 and column 2 count in full
    A, B = np.eye(3)[:, :2], np.eye(3)[:, [0, 2]]
    assert amari_distance(A, B) == pytest.approx((1 + 1) / 4)


def test_amari_by_hand():
    """P = [[1, t], [0, 1]] / column norms, t = 1: rows 1/sqrt2, 0; columns 0, 1; over 2 K (K - 1) = 4."""
    assert amari_distance(np.eye(2), [[1.0, 1.0], [0.0, 1.0]]) == pytest.approx((1 / math.sqrt(2) + 1) / 4)


@pytest.mark.parametrize(("k", "published"), [(2, 0.900), (3, 0.831), (5, 0.730), (8, 0.634), (10, 0.595)])
def test_chance_levels(k, published):
    assert chance_level(k).mean == pytest.approx(
        published, abs=0.005
    )  # two simulations, each with SE <= .0015


def test_chance_of_two_latents_in_closed_form():
    """max(|cos t|, |sin t|) for uniform t: mean 2 sqrt(2) / pi, 95 % quantile cos(.05 * 45 degrees)."""
    mean, upper, error = chance_level(2)
    assert mean == pytest.approx(2 * math.sqrt(2) / math.pi, abs=4 * 0.088 / math.sqrt(4000))
    assert upper == pytest.approx(math.cos(math.radians(0.05 * 45)), abs=0.001)


def test_correlation_of_exact_and_rotated_latents():
    random = np.random.default_rng(2)
    truth = random.laplace(size=(2000, 4))
    P = signed_permutation(4, random)
    exact = mean_correlation(5 + 3 * truth @ P, truth)
    assert (exact.value, exact.corrected) == pytest.approx((1, 1))
    assert np.allclose((truth @ P)[:, exact.order.numpy()] * exact.signs.numpy(), truth)
    rotated = [
        mean_correlation(truth @ haar_rotation(4, torch.Generator().manual_seed(seed)).numpy(), truth)
        for seed in range(100)
    ]
    corrected = np.array([score.corrected for score in rotated])
    # 5 SE; sample correlations of 2000 rows deviate from the identity by .02, which moves the mean by less
    assert abs(corrected.mean()) < 5 * corrected.std() / 10 + 0.02
    above = np.mean([score.value > score.chance.upper for score in rotated])
    assert above < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 100)


def test_correlation_against_numpy():
    z, truth = normal(50, 2, seed=6).numpy(), normal(50, 2, seed=7).numpy()
    corr = np.abs(np.corrcoef(z.T, truth.T)[:2, 2:])
    expected = max(corr[0, 0] + corr[1, 1], corr[0, 1] + corr[1, 0]) / 2
    score = mean_correlation(z, truth)
    assert score.value == pytest.approx(expected, rel=1e-12)
    assert score.per_column.mean().item() == pytest.approx(score.value)


def test_one_latent_has_no_axes_to_score():
    z = normal(20, 1, seed=8)
    assert mean_correlation(z, -z).value == pytest.approx(1)
    assert math.isnan(mean_correlation(z, -z).corrected)
    assert math.isnan(mean_cosine(z, -z).corrected)


def test_mean_cosine():
    A = normal(20, 5, seed=9)
    random = np.random.default_rng(3)
    copy = A.numpy() @ signed_permutation(5, random) * np.exp(random.standard_normal(5))
    assert mean_cosine(A, copy).corrected == pytest.approx(1)
    rotated = [mean_cosine(A, A @ haar_rotation(5, torch.Generator().manual_seed(s + 1))) for s in range(100)]
    values = np.array([score.value for score in rotated])
    assert abs(values.mean() - rotated[0].chance.mean) < 4 * values.std() / 10 + 4 * 0.002
    # orthonormal columns: A' A R = R, so chance is that of the latents themselves
    orthonormal = torch.linalg.qr(A)[0]
    assert mean_cosine(orthonormal, A).chance == pytest.approx(chance_level(5), rel=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 30.0, 179.0])
def test_rotation_angle_of_a_plane_rotation(degrees):
    Q = haar_rotation(5, torch.Generator().manual_seed(0))
    R = Q @ givens(5, 0, 3, math.radians(degrees)) @ Q.T
    assert rotation_angle(R) == pytest.approx(degrees, abs=1e-9)


def test_rotation_angle_adds_planes_in_squares_and_is_the_matrix_logarithm():
    R = givens(4, 0, 1, math.radians(30)) @ givens(4, 2, 3, math.radians(40))
    assert rotation_angle(R) == pytest.approx(50)
    skew = normal(5, 5, seed=10)
    skew = 0.3 * (skew - skew.T)
    expected = math.degrees(torch.linalg.norm(skew).item() / math.sqrt(2))
    assert torch.linalg.eigvals(skew).abs().max() < math.pi  # inside the principal branch
    assert rotation_angle(torch.matrix_exp(skew)) == pytest.approx(expected)
    assert rotation_angle(np.diag([1.0, -1.0])) == pytest.approx(180 / math.sqrt(2))


def test_plane_angles_are_the_skew_matrix_that_made_the_rotation():
    skew = normal(4, 4, seed=12)
    skew = 0.3 * (skew - skew.T)
    found = plane_angles(torch.matrix_exp(skew))
    assert torch.allclose(found, torch.rad2deg(skew), atol=1e-9)
    assert found.square().triu().sum().sqrt().item() == pytest.approx(rotation_angle(torch.matrix_exp(skew)))
    with pytest.raises(DataError, match="determinant 1, got a reflection"):
        plane_angles(np.diag([1.0, -1.0]))
    with pytest.raises(DataError, match="should be an orthogonal matrix"):
        plane_angles(2 * np.eye(3))


def test_tucker_congruence_is_the_cosine_of_columns():
    A, B = normal(6, 2, seed=11), normal(6, 3, seed=12)
    expected = torch.nn.functional.cosine_similarity(A[:, :, None], B[:, None, :], dim=0)
    assert torch.allclose(tucker_congruence(A, 4 * B), expected)


def test_torch_float32_and_numpy_agree():
    A, B = normal(6, 3, seed=13).float().requires_grad_(), normal(6, 3, seed=14).float()
    assert match_columns(A, B).distance == match_columns(A.detach().numpy(), B.numpy()).distance
    assert match_columns(A, B).matched.dtype == torch.float64


ALL = [
    procrustes,
    match_columns,
    principal_angles,
    amari_distance,
    mean_correlation,
    mean_cosine,
    tucker_congruence,
]


@pytest.mark.parametrize("metric", ALL)
def test_bad_pairs_are_refused(metric):
    A = np.random.default_rng(4).standard_normal((5, 3))
    broken = A.copy()
    broken[2, 1] = np.nan
    with pytest.raises(DataError, match="should be finite, got nan at row 2, column 1"):
        metric(A, broken)
    with pytest.raises(DataError, match=r"should have the same .*, got \(5, 3\) and \(4, 3\)"):
        metric(A, A[:4])
    with pytest.raises(DataError, match=r"a matrix with rows and columns, got shape \(5,\)"):
        metric(A, A[:, 0])
    with pytest.raises(DataError, match="a matrix of numbers, got list"):
        metric(A, [["a", "b"]])


def test_nothing_to_compare_is_said():
    A, zero = np.eye(3), np.zeros((3, 3))
    for metric in (procrustes, match_columns, principal_angles):
        with pytest.raises(DataError, match="A should have a value other than zero"):
            metric(zero, A)
    with pytest.raises(DataError, match="B should have a value other than zero"):
        principal_angles(A, zero)
    for metric in (amari_distance, mean_cosine, tucker_congruence):
        with pytest.raises(DataError, match="B should have no zero column, got one at 2"):
            metric(A, np.diag([1.0, 1.0, 0.0]))
    with pytest.raises(DataError, match="A should have 3 independent columns, got rank 2"):
        amari_distance(np.eye(3)[:, [0, 1, 1]], A)
    with pytest.raises(DataError, match="truth should have no constant column, got one at 1"):
        mean_correlation(A, np.array([[1, 0.1, 2], [2, 0.1, 1], [5, 0.1, 4]]))
    with pytest.raises(DataError, match="at least 3 rows"):
        mean_correlation(A[:2], A[:2])
    with pytest.raises(ParameterError, match="latents should be a whole number of at least 1"):
        chance_level(0)
    with pytest.raises(DataError, match="R should be an orthogonal matrix"):
        rotation_angle(2 * A)
