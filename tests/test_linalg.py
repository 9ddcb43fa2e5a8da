"""The factored covariance against dense algebra and 60-digit arithmetic; the laws of Haar and Givens."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import MultivariateNormal

from probae.checks import ParameterError
from probae.linalg import LowRankCovariance, givens, haar_rotation

shapes = st.tuples(st.integers(1, 12), st.integers(1, 14), st.integers(0, 2**31 - 1))


def random_case(features, latents, seed, rows=4):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(features, latents, dtype=torch.float64, generator=generator)
    psi = 0.1 + torch.rand(features, dtype=torch.float64, generator=generator)
    x = torch.randn(rows, features, dtype=torch.float64, generator=generator)
    return W, psi, x


def close(actual, expected, relative=1e-9):
    """Whether they agree relative to the size of the whole array: the claim of a backward-stable method."""
    return bool((actual - expected).abs().max() <= relative * expected.abs().max())


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_agrees_with_dense_algebra(case):
    W, psi, x = random_case(*case)
    S = LowRankCovariance.factor(W, psi)
    dense = W @ W.T + psi.diag()
    M = torch.eye(W.shape[1], dtype=torch.float64) + W.T @ (W / psi[:, None])
    inverse = torch.linalg.inv(dense)
    assert S.log_det.item() == pytest.approx(torch.logdet(dense).item(), rel=1e-9, abs=1e-9)
    assert close(S.capacitance_cholesky, torch.linalg.cholesky(M))
    assert close(S.posterior_map, W.T @ inverse)
    assert close(S.posterior_covariance, torch.linalg.inv(M))
    assert close(S.posterior_scale_tril, torch.linalg.cholesky(torch.linalg.inv(M)))
    assert close(S.posterior_mean(x), x @ inverse @ W)
    assert close(S.solve(x), x @ inverse)
    assert close(S.quadratic_form(x), torch.einsum("nd,de,ne->n", x, inverse, x))
    assert close(S.trace(x.T @ x), S.quadratic_form(x).sum())
    assert close(S.log_density(x), MultivariateNormal(x.new_zeros(x.shape[1]), dense).log_prob(x))


def test_one_variance_for_all_features_equals_the_diagonal():
    W, _, x = random_case(6, 2, 1)
    one = LowRankCovariance.factor(W, torch.tensor(0.3, dtype=torch.float64))
    many = LowRankCovariance.factor(W, torch.full((6,), 0.3, dtype=torch.float64))
    assert torch.equal(one.log_density(x), many.log_density(x))


def test_batch_equals_one_at_a_time():
    cases = [random_case(5, 2, seed) for seed in range(3)]
    W, psi, x = (torch.stack(parts) for parts in zip(*cases, strict=True))
    batch = LowRankCovariance.factor(W, psi)
    for b, (w, p, rows) in enumerate(cases):
        one = LowRankCovariance.factor(w, p)
        assert close(batch.log_density(x)[b], one.log_density(rows), 1e-13)
        assert close(batch.solve(x)[b], one.solve(rows), 1e-13)
        assert close(batch.posterior_scale_tril[b], one.posterior_scale_tril, 1e-13)
        assert close(batch.trace(x.mT @ x)[b], one.trace(rows.T @ rows), 1e-13)


def test_float32_input_is_computed_in_float64():
    W, psi, x = (t.float() for t in random_case(5, 2, 0))
    S = LowRankCovariance.factor(W, psi)
    expected = LowRankCovariance.factor(W.double(), psi.double()).log_density(x.double())
    assert torch.equal(S.log_density(x), expected)


def exact(W, psi, x):
    """Quadratic form, log determinant, posterior mean and S^{-1} x of one row in 60-digit arithmetic."""
    with mpmath.workdps(60):
        w = mpmath.matrix(W.tolist())
        dense = w * w.T + mpmath.diag(psi.tolist())
        row = mpmath.matrix(x.tolist())
        solved = mpmath.lu_solve(dense, row)
        numbers = (row.T * solved)[0], mpmath.log(mpmath.det(dense)), w.T * solved, solved
        as_tensor = [torch.tensor([float(v) for v in n], dtype=torch.float64) for n in numbers[2:]]
        return float(numbers[0]), float(numbers[1]), *as_tensor


@pytest.mark.parametrize(
    "kind", ["generic", "one exact feature", "equal columns", "near-equal columns", "wide"]
)
def test_noise_1e_8_of_the_signal_keeps_six_digits(kind):
    W, psi, x = random_case(6, 8 if kind == "wide" else 3, 7)
    psi = torch.full_like(psi, 1e-8)
    if kind == "one exact feature":
        psi[1:] = 1.0
    if kind in ("equal columns", "near-equal columns"):
        W[:, 1] = W[:, 0] * (1 if kind == "equal columns" else 1 + 1e-9)
    S = LowRankCovariance.factor(W, psi)
    inside = W @ torch.linspace(1, 2, W.shape[1], dtype=torch.float64)
    rows = [inside + 1e-4 * x[1], inside]
    if (
        kind != "near-equal columns"
    ):  # there a row 1e4 sd off the model moves m by 1e-6 when W moves by one rounding
        rows.append(x[0])
    for row in rows:
        quadratic, log_det, mean, solved = exact(W, psi, row)
        assert S.quadratic_form(row[None]).item() == pytest.approx(quadratic, rel=1e-6)
        assert S.log_det.item() == pytest.approx(log_det, rel=1e-9)
        assert close(S.posterior_mean(row[None])[0], mean, 1e-6)
        assert close(S.solve(row[None])[0], solved, 1e-6)
        # rounding x x' costs eps |x|^2 |S^{-1}| = 1e-16 * 10 / 1e-8 = 1e-7 before any algebra starts
        assert S.trace(torch.outer(row, row)).item() == pytest.approx(quadratic, rel=1e-6, abs=1e-6)


def test_equal_columns_without_noise_to_speak_of_still_factor():
    W = torch.ones(4, 2, dtype=torch.float64)
    S = LowRankCovariance.factor(W, torch.tensor(1e-12, dtype=torch.float64))
    # det = psi^3 (psi + 2 * 4); a Cholesky of M = I + 4e12 [[1, 1], [1, 1]] loses its second pivot here
    assert S.log_det.item() == pytest.approx(3 * math.log(1e-12) + math.log(8 + 1e-12), rel=1e-6)
    assert torch.isfinite(S.posterior_scale_tril).all()


def test_gradients():
    W, psi, x = random_case(5, 2, 3)

    def log_density(W, psi):
        return LowRankCovariance.factor(W, psi).log_density(x)

    def rest(W, psi):
        S = LowRankCovariance.factor(W, psi)
        return S.posterior_mean(x), S.posterior_scale_tril, S.trace(x.T @ x), S.solve(x)

    inputs = W.requires_grad_(), psi.requires_grad_()
    assert torch.autograd.gradcheck(log_density, inputs)
    assert torch.autograd.gradcheck(rest, inputs)
    assert torch.autograd.gradgradcheck(log_density, inputs)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_haar_draws_are_orthogonal_and_seeded(k):
    draws = haar_rotation(k, torch.Generator().manual_seed(1), count=50)
    assert close(draws.mT @ draws, torch.eye(k, dtype=torch.float64).expand(50, k, k), 1e-13)
    assert torch.equal(draws, haar_rotation(k, torch.Generator().manual_seed(1), count=50))
    assert haar_rotation(k, torch.Generator().manual_seed(1)).shape == (k, k)


def test_haar_uses_the_global_generator_by_default():
    torch.manual_seed(5)
    first = haar_rotation(3)
    torch.manual_seed(5)
    assert torch.equal(first, haar_rotation(3))
    assert not torch.equal(first, haar_rotation(3))


def test_haar_law():
    """Squared entries are Beta(1/2, (k - 1)/2); signs and determinants are fair; E trace = 0."""
    k, count = 4, 4000
    draws = haar_rotation(k, torch.Generator().manual_seed(2), count=count)
    for row, column in [(0, 0), (3, 3), (1, 2)]:
        entry = draws[:, row, column]
        assert stats.kstest(entry.square().numpy(), stats.beta(0.5, (k - 1) / 2).cdf).pvalue > 1e-3
        assert abs((entry > 0).double().mean() - 0.5) < 4 * 0.5 / math.sqrt(count)
    assert abs((torch.linalg.det(draws) > 0).double().mean() - 0.5) < 4 * 0.5 / math.sqrt(count)
    trace = draws.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs(trace.mean()) < 4 / math.sqrt(count)  # the trace of a Haar matrix has variance 1 (k >= 2)


def test_haar_law_is_invariant_to_a_fixed_rotation():
    """Multiplying by a fixed Q leaves the law of the largest diagonal entry (two independent samples)."""
    draws = haar_rotation(3, torch.Generator().manual_seed(3), count=4000)
    fixed = haar_rotation(3, torch.Generator().manual_seed(4))

    def top(r):
        return r.diagonal(dim1=-2, dim2=-1).amax(-1)

    assert stats.ks_2samp(top(draws[:2000]).numpy(), top(draws[2000:] @ fixed).numpy()).pvalue > 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.data(), st.floats(-7, 7), st.floats(-7, 7))
def test_givens_group_law(k, data, a, b):
    i, j = data.draw(st.permutations(range(k)))[:2]
    product = givens(k, i, j, a) @ givens(k, i, j, b)
    assert close(product, givens(k, i, j, a + b), 1e-14 * 4)
    assert close(givens(k, i, j, -a), givens(k, i, j, a).T, 1e-15)
    assert close(givens(k, j, i, a), givens(k, i, j, a).T, 1e-15)
    assert close(torch.linalg.det(givens(k, i, j, a)), torch.tensor(1.0), 1e-14)


def test_givens_batches_over_angles_and_is_differentiable():
    angles = torch.linspace(0, 1, 6, dtype=torch.float64).reshape(2, 3)
    batch = givens(4, 1, 3, angles)
    assert batch.shape == (2, 3, 4, 4)
    assert torch.equal(batch[1, 2], givens(4, 1, 3, angles[1, 2].item()))
    derivative = torch.autograd.functional.jacobian(lambda t: givens(4, 1, 3, t), torch.tensor(0.0).double())
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[3, 1], expected[1, 3] = 1, -1
    assert torch.equal(derivative, expected)  # the generator of the plane's rotations


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 3), (-1, 1)])
def test_givens_refuses_axes_that_make_no_plane(i, j):
    with pytest.raises(ParameterError, match=r"two different axes in 0\.\.2"):
        givens(3, i, j, 0.1)
