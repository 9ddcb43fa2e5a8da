"""The certificate of lasso codes tells the truth on every kind of dictionary, with and without signs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

from probae.codes import lasso, proximal, sparse_codes
from probae.codes.proximal import proximal_gradient
from probae.codes.rows import RowSolver

KINDS = ("random", "copies", "nearly parallel", "whole numbers", "scales", "zeros")


def draw(kind, rows, features, atoms, seed):
    """Return rows and a dictionary of one kind, with the size of the correlations."""
    random = np.random.default_rng(seed)
    a = random.standard_normal((features, atoms))
    if kind == "copies":
        a[:, random.integers(atoms, size=atoms // 2)] = a[:, random.integers(atoms, size=atoms // 2)]
    elif kind == "nearly parallel":
        a = a[:, :1] + 10.0 ** -random.integers(1, 7) * a
    elif kind == "whole numbers":
        a = np.round(a)
    elif kind == "scales":
        a *= 10.0 ** random.uniform(-4, 4, size=atoms)
    elif kind == "zeros":
        a[:, random.random(atoms) < 0.4] = 0.0
    x = random.standard_normal((rows, features))
    if kind == "whole numbers":
        x = np.round(x)
    return torch.from_numpy(x), torch.from_numpy(a), max(np.abs(x @ a).max(), 1e-3)


def honest_gap(x, a, z, penalty, nonnegative):
    """P(z) - D(theta) from the residual itself, with what rounding may do to it."""
    residual = x - z @ a.T
    correlation = residual @ a
    top = correlation.amax(1) if nonnegative else correlation.abs().amax(1)
    shrink = (penalty / top.clamp_min(1e-300)).clamp_max(1.0)[:, None]
    power = 0.5 * x.square().sum(1)
    primal = 0.5 * residual.square().sum(1) + penalty * z.abs().sum(1)
    dual = power - 0.5 * (x - shrink * residual).square().sum(1)
    # A'r is a sum of terms up to (|x| + |z|_1 |a|) |a|, and the gap multiplies it by z
    size = x.norm(dim=1) + z.abs().sum(1) * a.norm(dim=0).max()
    return primal, primal - dual, 100 * torch.finfo(x.dtype).eps * size.square()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    features=st.integers(1, 12),
    atoms=st.integers(1, 25),
    exponent=st.floats(-3, 0.2),
    nonnegative=st.booleans(),
    warm=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_gap_is_small_and_true(kind, features, atoms, exponent, nonnegative, warm, seed):
    x, a, size = draw(kind, 4, features, atoms, seed)
    penalty = size * 10.0**exponent
    start = torch.from_numpy(np.random.default_rng(seed).standard_normal((4, atoms))) if warm else None
    codes = sparse_codes(x, a, penalty, tolerance=1e-6, nonnegative=nonnegative, start=start)
    primal, gap, rounding = honest_gap(x, a, codes.z, penalty, nonnegative)
    assert (gap <= codes.gap + rounding).all()
    assert (codes.gap <= 1e-6 * torch.maximum(primal, 0.5e-3 * x.square().sum(1)) * (1 + 1e-9)).all()
    assert not nonnegative or (codes.z >= 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(KINDS), st.integers(1, 10), st.integers(1, 20), st.booleans(), st.integers(0, 2**31 - 1)
)
def test_few_rounds_leave_an_honest_gap(kind, features, atoms, nonnegative, seed):
    x, a, size = draw(kind, 4, features, atoms, seed)
    for steps in (1, 2):
        codes = lasso(x, a, 0.05 * size, 1e-12, steps, None, nonnegative)
        _, gap, rounding = honest_gap(x, a, codes.z, 0.05 * size, nonnegative)
        assert (gap <= codes.gap + rounding).all()


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("shape", [(10, 25), (25, 10), (1, 4), (4, 1)])
def test_both_solvers_reach_one_objective(shape, nonnegative):
    """The compiled solver and proximal gradient share no code, and each certifies itself."""
    x, a, size = draw("random", 10, *shape, seed=3)
    one = lasso(x, a, 0.1 * size, 1e-10, 10_000, None, nonnegative)
    two = proximal_gradient(x, a, 0.1 * size, 1e-8, 100_000, None, nonnegative)
    first, second = (honest_gap(x, a, codes.z, 0.1 * size, nonnegative)[0] for codes in (one, two))
    assert (one.gap <= 1e-10 * (1 + x.square().sum(1))).all()
    assert ((first - second).abs() <= one.gap + two.gap + 1e-13 * x.square().sum(1)).all()


def test_nonnegative_codes_are_those_of_scikit_learn():
    """Its objective is 1 / D times ours; a tolerance of 1e-14 on its own gap leaves codes within 1e-6."""
    x, a, _ = draw("random", 10, 15, 9, seed=1)
    codes = sparse_codes(x, a, 0.5, tolerance=1e-14, nonnegative=True).z
    peer = Lasso(0.5 / 15, positive=True, fit_intercept=False, tol=1e-14, max_iter=100_000)
    for n in range(10):
        np.testing.assert_allclose(codes[n], peer.fit(a.numpy(), x[n].numpy()).coef_, rtol=0, atol=1e-6)


def test_nonnegative_codes_tend_to_nonnegative_least_squares():
    x, a, _ = draw("random", 10, 15, 9, seed=2)
    codes = sparse_codes(x, a, 1e-9, tolerance=1e-12, nonnegative=True).z
    # moving the penalty from 0 to p moves z by at most p sqrt(K) / smallest eigenvalue of A'A
    slack = 1e-9 * 3 / float(torch.linalg.eigvalsh(a.T @ a)[0]) + 1e-8
    for n in range(10):
        np.testing.assert_allclose(codes[n], nnls(a.numpy(), x[n].numpy())[0], rtol=0, atol=slack)


def test_a_penalty_above_every_correlation_leaves_no_gap():
    x, a, size = draw("random", 6, 5, 8, seed=0)
    for nonnegative in (False, True):
        codes = sparse_codes(x, a, size * (1 + 1e-9), nonnegative=nonnegative)
        assert (codes.z == 0).all()
        assert (codes.gap == 0).all()
    below = sparse_codes(-a.T.contiguous(), a, 0.01, nonnegative=True)
    assert (below.z.diagonal() == 0).all()  # each row is the opposite of an atom


def test_rows_that_rounding_stopped_go_on_by_proximal_gradient(monkeypatch):
    """Atoms that differ by 1e-9 are copies up to rounding: an exact solve on them is not to be had."""
    x, a, size = draw("random", 6, 10, 5, seed=0)
    a = torch.cat([a, a + 1e-9 * torch.randn(10, 5, dtype=torch.float64)], 1)
    codes = sparse_codes(x, a, 0.05 * size, tolerance=1e-6)
    primal, gap, rounding = honest_gap(x, a, codes.z, 0.05 * size, False)
    assert (gap <= 1e-6 * primal + rounding).all()
    stopped = RowSolver.__call__

    def all_stopped(self, x, start):
        found = stopped(self, x, start)
        return found._replace(iterations=torch.full_like(found.iterations, -1), gap=found.gap + 1)

    monkeypatch.setattr(RowSolver, "__call__", all_stopped)
    again = sparse_codes(x, a[:, :5], 0.05 * size, tolerance=1e-6)
    assert (again.iterations >= 0).all()
    assert (honest_gap(x, a[:, :5], again.z, 0.05 * size, False)[1] <= again.gap + rounding).all()


@pytest.mark.parametrize("penalty", [1e-200, 1e-30, 1e30])
def test_extreme_penalties_leave_no_nan(penalty):
    x, a, _ = draw("random", 4, 5, 3, seed=0)
    codes = sparse_codes(x, a, penalty)
    assert codes.z.isfinite().all()
    assert codes.gap.isfinite().all()
    primal, gap, rounding = honest_gap(x, a, codes.z, penalty, False)
    assert (gap <= codes.gap + rounding).all()


def test_gradients_pass_through_the_codes():
    """With active atoms S: dz_S / dx = (A_S'A_S)^-1 A_S'."""
    x, a, _ = draw("random", 1, 6, 4, seed=0)
    x.requires_grad_()
    z = lasso(x, a, 0.1, 1e-12, 20_000).z[0]
    on = (z != 0).nonzero().flatten()
    slope = torch.stack([torch.autograd.grad(z[j], x, retain_graph=True)[0][0] for j in on])
    expected = torch.linalg.pinv(a[:, on])
    assert torch.allclose(slope, expected, rtol=0, atol=1e-4)


def test_threads_change_no_bit():
    x, a, size = draw("random", 700, 12, 30, seed=0)
    one = lasso(x, a, 0.1 * size, 1e-8, 1000)
    torch.set_num_threads(2)
    try:
        two = lasso(x, a, 0.1 * size, 1e-8, 1000)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one.iterations, two.iterations)
    assert torch.allclose(
        one.z, two.z, rtol=0, atol=1e-12
    )  # the product A'x itself may be split over threads


def test_blocks_change_no_code(monkeypatch):
    x, a, size = draw("random", 300, 12, 30, seed=0)
    together = lasso(x, a, 0.1 * size, 1e-8, 1000).z
    monkeypatch.setattr("probae.codes.blocks.BLOCK", 30 * 70)
    apart = lasso(x, a, 0.1 * size, 1e-8, 1000).z
    assert torch.allclose(together, apart, rtol=0, atol=1e-12)


def test_read_only_and_strided_arrays_will_do():
    x, a, _ = draw("random", 6, 5, 8, seed=0)
    base = sparse_codes(x, a, 0.1).z
    strided = torch.stack([x, x], 2)[:, :, 1], torch.stack([a, a], 2)[:, :, 0]
    assert torch.equal(lasso(*strided, 0.1, 1e-6, 1000).z, base)
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    assert torch.equal(sparse_codes(frozen, a.numpy()[:, ::-1], 0.1).z.flip(1).sign(), base.sign())


def test_soft_threshold_without_negative_codes():
    v = torch.tensor([-2.0, 0.5, 3.0])
    assert torch.equal(proximal.soft_threshold(v, 1.0, True), torch.tensor([0.0, 0.0, 2.0]))
