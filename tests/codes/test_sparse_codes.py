"""Sparse codes: optimality conditions, closed forms, scikit-learn, and the truth of the certificate."""

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.decomposition import sparse_encode

from probae import DataError, ParameterError
from probae.codes import sparse_codes


@pytest.fixture
def as_installed(monkeypatch):
    """Switch the run-time type checks off: what does a user see who passes a wrong type?"""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def problem(rows=20, features=10, atoms=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(features, atoms, generator=generator, dtype=torch.float64)
    dictionary = dictionary / dictionary.norm(dim=0)
    return torch.randn(rows, features, generator=generator, dtype=torch.float64), dictionary


def objective(x, dictionary, z, penalty):
    return 0.5 * (x - z @ dictionary.T).square().sum(1) + penalty * z.abs().sum(1)


def check_conditions(x, dictionary, z, penalty, slack):
    """|A'(x - A z)| <= penalty everywhere, and equal to penalty with the sign of z where z is not zero."""
    correlation = (x - z @ dictionary.T) @ dictionary
    assert (correlation.abs() <= penalty + slack).all()
    active = z != 0
    assert ((correlation - penalty * z.sign()).abs()[active] <= slack).all()


@pytest.mark.parametrize(("features", "atoms"), [(10, 25), (25, 10), (10, 10), (3, 1), (1, 4)])
@pytest.mark.parametrize("penalty", [1e-2, 0.3])
def test_optimality_conditions(features, atoms, penalty):
    """A gap g leaves the residual within sqrt(2 g) of the optimal one: strong convexity in A z."""
    x, dictionary = problem(20, features, atoms)
    codes = sparse_codes(x, dictionary, penalty, tolerance=1e-12, steps=200_000)
    assert (codes.gap <= 1e-12 * (x.square().sum(1) + 1)).all()
    slack = float((2 * codes.gap.max()).sqrt() * dictionary.norm(dim=0).max()) + 1e-12
    assert slack < 1e-5 * max(1.0, penalty)
    check_conditions(x, dictionary, codes.z, penalty, slack)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 20), st.floats(-1.5, 1), st.integers(0, 2**31 - 1))
def test_objective_is_that_of_scikit_learn(features, atoms, exponent, seed):
    """Least-angle regression solves the same problem exactly; the gap says how far this solver may be above it."""
    x, dictionary = problem(6, features, atoms, seed)
    penalty = 10.0**exponent
    codes = sparse_codes(x, dictionary, penalty, tolerance=1e-10, steps=20_000)
    other = sparse_encode(x.numpy(), dictionary.T.numpy(), algorithm="lasso_lars", alpha=penalty)
    theirs = objective(x, dictionary, torch.from_numpy(other), penalty)
    mine = objective(x, dictionary, codes.z, penalty)
    assert (mine <= theirs + codes.gap + 1e-12 * x.square().sum(1)).all()
    assert (codes.gap <= 1e-6 * x.square().sum(1)).all()


def test_codes_equal_scikit_learn_where_they_are_well_determined():
    x, dictionary = problem(30, 12, 8, seed=3)
    codes = sparse_codes(x, dictionary, 0.2, tolerance=1e-14, steps=100_000).z
    other = sparse_encode(x.numpy(), dictionary.T.numpy(), algorithm="lasso_lars", alpha=0.2)
    np.testing.assert_allclose(codes, other, atol=1e-6)


@pytest.mark.parametrize("penalty", [0.05, 0.4])
def test_sc_kkt_residual_below_1e_6_and_codes_of_scikit_learn(penalty):
    """Oracle row sc_kkt: a random overcomplete dictionary; least-angle regression is exact where codes are unique."""
    x, dictionary = problem(50, 12, 30, seed=5)
    codes = sparse_codes(x, dictionary, penalty, tolerance=1e-13)
    check_conditions(x, dictionary, codes.z, penalty, 1e-6)
    other = sparse_encode(x.numpy(), dictionary.T.numpy(), algorithm="lasso_lars", alpha=penalty)
    np.testing.assert_allclose(codes.z, other, rtol=0, atol=1e-6)


def test_sc_orthonormal_map_codes_are_soft_thresholds():
    """Oracle row sc_orthonormal, to 1e-8."""
    x, _ = problem(50, 8)
    U = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    inner = x @ U
    codes = sparse_codes(x, U, 0.4, tolerance=1e-15)
    assert torch.allclose(codes.z, inner.sign() * (inner.abs() - 0.4).clamp_min(0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 5, 23, 200])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gap_bounds_the_distance_to_the_optimum_at_any_stop(steps, dtype):
    x, dictionary = problem(40, 10, 25, seed=1)
    x, dictionary = x.to(dtype), dictionary.to(dtype)
    tolerance = 1e-9 if dtype is torch.float64 else 1e-4
    codes = sparse_codes(x, dictionary, 0.1, steps=steps, tolerance=tolerance)
    best = sparse_codes(x.double(), dictionary.double(), 0.1, tolerance=1e-14, steps=300_000).z
    above = objective(x.double(), dictionary.double(), codes.z.double(), 0.1) - objective(
        x.double(), dictionary.double(), best, 0.1
    )
    rounding = torch.finfo(dtype).eps * x.double().square().sum(1)
    assert (above <= codes.gap.double() + 10 * rounding).all()
    assert (codes.gap >= 0).all()
    assert (codes.iterations <= steps).all()


def test_gap_holds_in_float32_where_the_residual_cancels():
    """The certificate is computed from A'A, where a residual far smaller than x cancels."""
    x, dictionary = problem(40, 10, 8, seed=2)
    planted = torch.randn(40, 8, dtype=torch.float64)
    x32, a32 = (planted @ dictionary.T).float(), dictionary.float()
    penalty = 1e-4
    codes = sparse_codes(x32, a32, penalty, tolerance=1e-4)
    best = sparse_codes(x32.double(), a32.double(), penalty, tolerance=1e-9, steps=20_000).z
    above = objective(x32.double(), a32.double(), codes.z.double(), penalty) - objective(
        x32.double(), a32.double(), best, penalty
    )
    assert (
        above <= codes.gap.double() * (1 + 1e-6) + 1e-9 * objective(x32.double(), a32.double(), best, penalty)
    ).all()


def test_the_requested_gap_is_reached_or_reported():
    x, dictionary = problem(40, 10, 25, seed=1)
    codes = sparse_codes(x, dictionary, 0.1, tolerance=1e-8)
    value = objective(x, dictionary, codes.z, 0.1)
    assert (codes.gap <= 1e-8 * torch.maximum(value, 0.5e-3 * x.square().sum(1)) * (1 + 1e-9)).all()
    short = sparse_codes(x, dictionary, 0.1, tolerance=1e-8, steps=2)
    assert (short.gap > 1e-8 * value).any()
    assert (short.iterations == 2).any()


def test_finished_rows_do_not_depend_on_the_others():
    x, dictionary = problem(12, 10, 25)
    x[3] *= 100
    together = sparse_codes(x, dictionary, 0.1, tolerance=1e-10)
    for n in (0, 3, 11):
        alone = sparse_codes(x[n : n + 1], dictionary, 0.1, tolerance=1e-10)
        assert torch.allclose(alone.z[0], together.z[n], rtol=1e-8, atol=1e-10)
        assert alone.iterations[0] == together.iterations[n]


def test_rows_of_zeros_have_codes_of_zeros_at_once():
    x, dictionary = problem(4)
    x[1] = 0
    codes = sparse_codes(x, dictionary, 0.1)
    assert (codes.z[1] == 0).all()
    assert (codes.gap[1], codes.iterations[1]) == (0, 0)
    assert codes.z.isfinite().all()


def test_a_large_penalty_gives_zeros():
    """Codes vanish from penalty = max |A'x| on."""
    x, dictionary = problem(6)
    edge = (x @ dictionary).abs().max(1).values
    for n in range(6):
        assert (sparse_codes(x[n : n + 1], dictionary, float(edge[n]) * (1 + 1e-9)).z == 0).all()
        assert (sparse_codes(x[n : n + 1], dictionary, float(edge[n]) * 0.99, tolerance=1e-10).z != 0).any()


def test_atoms_of_zeros_are_never_used():
    x, dictionary = problem(6, 5, 8)
    dictionary[:, 3] = 0
    codes = sparse_codes(x, dictionary, 0.1)
    assert (codes.z[:, 3] == 0).all()
    none = sparse_codes(x, torch.zeros_like(dictionary), 0.1)
    assert (none.z == 0).all()
    assert torch.allclose(none.gap, torch.zeros(6, dtype=torch.float64), atol=1e-12)


def test_copies_of_an_atom_reach_the_optimum_of_one():
    x, dictionary = problem(6, 5, 8)
    doubled = torch.cat([dictionary, dictionary], 1)
    single, both = (sparse_codes(x, a, 0.1, tolerance=1e-12, steps=100_000) for a in (dictionary, doubled))
    one, two = objective(x, dictionary, single.z, 0.1), objective(x, doubled, both.z, 0.1)
    assert torch.allclose(one, two, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e140])
def test_codes_scale_with_x(scale):
    x, dictionary = problem(6)
    base = sparse_codes(x, dictionary, 0.1, tolerance=1e-10)
    codes = sparse_codes(x * scale, dictionary, 0.1 * scale, tolerance=1e-10)
    assert torch.allclose(codes.z / scale, base.z, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_codes_scale_against_the_dictionary(scale):
    x, dictionary = problem(6)
    base = sparse_codes(x, dictionary, 0.1, tolerance=1e-10)
    codes = sparse_codes(x, dictionary * scale, 0.1 * scale, tolerance=1e-10)
    assert torch.allclose(codes.z * scale, base.z, rtol=1e-6, atol=1e-9)


def test_float32_in_float32_out():
    x, dictionary = problem(10)
    exact = sparse_codes(x.float().double(), dictionary.float().double(), 0.1, tolerance=1e-10)
    for tolerance in (1e-6, 1e-4):
        codes = sparse_codes(x.float(), dictionary.float(), 0.1, tolerance=tolerance)
        assert codes.z.dtype == codes.gap.dtype == torch.float32
        assert codes.iterations.dtype == torch.int64
    codes = sparse_codes(x.float(), dictionary.float(), 0.1, tolerance=1e-10)
    assert torch.allclose(codes.z.double(), exact.z, atol=1e-6)


def test_arguments_are_not_changed():
    x, dictionary = problem(5)
    start = torch.ones(5, 25, dtype=torch.float64)
    copies = [t.clone() for t in (x, dictionary, start)]
    sparse_codes(x, dictionary, 0.1, start=start)
    assert all(torch.equal(a, b) for a, b in zip(copies, (x, dictionary, start), strict=True))


def test_a_warm_start_saves_iterations_and_keeps_the_answer():
    x, dictionary = problem(10)
    cold = sparse_codes(x, dictionary, 0.1, tolerance=1e-10)
    warm = sparse_codes(x, dictionary, 0.1, tolerance=1e-10, start=cold.z)
    assert (warm.iterations == 0).all()
    far = sparse_codes(x, dictionary, 0.1, tolerance=1e-10, start=torch.full_like(cold.z, 50.0))
    assert torch.allclose(
        objective(x, dictionary, far.z, 0.1), objective(x, dictionary, cold.z, 0.1), rtol=1e-8
    )


def test_one_row_against_a_smooth_solver():
    """z = u - v with u, v >= 0 makes the lasso a bounded quadratic, solved here by L-BFGS-B."""
    x, dictionary = problem(1, 6, 9, seed=4)
    a, row = dictionary.numpy(), x[0].numpy()

    def value(w):
        residual = row - a @ (w[:9] - w[9:])
        slope = a.T @ residual
        return 0.5 * residual @ residual + 0.2 * w.sum(), np.concatenate([0.2 - slope, 0.2 + slope])

    answer = minimize(
        value,
        np.zeros(18),
        jac=True,
        bounds=[(0, None)] * 18,
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000},
    )
    codes = sparse_codes(x, dictionary, 0.2, tolerance=1e-13, steps=100_000)
    assert objective(x, dictionary, codes.z, 0.2).item() == pytest.approx(answer.fun, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dictionary": torch.zeros(3, 4)}, DataError, r"dictionary should have shape \(10, atoms\)"),
        ({"dictionary": torch.full((10, 4), torch.nan)}, DataError, "NaN"),
        ({"x": torch.full((2, 10), torch.inf)}, DataError, "inf at row 0"),
        ({"x": torch.zeros(10)}, DataError, "two-dimensional"),
        ({"x": torch.zeros(0, 10)}, DataError, "at least 1 row"),
        ({"x": [["a"] * 10]}, DataError, "real numbers"),
        ({"penalty": 0.0}, ParameterError, "penalty should be a finite number above 0"),
        ({"penalty": -1.0}, ParameterError, "penalty should be a finite number above 0"),
        ({"penalty": float("nan")}, ParameterError, "penalty should be a finite number above 0"),
        ({"penalty": "0.1"}, ParameterError, "penalty should be a finite number above 0"),
        ({"tolerance": 0.0}, ParameterError, "tolerance should be a finite number above 0"),
        ({"steps": 0}, ParameterError, "steps should be a whole number of at least 1"),
        ({"steps": 2.5}, ParameterError, "steps should be a whole number of at least 1"),
        ({"start": torch.zeros(2, 3)}, DataError, "start"),
        ({"start": torch.full((5, 25), torch.nan)}, DataError, "start"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(changes, error, message, as_installed):
    x, dictionary = problem(5)
    arguments = {"x": x, "dictionary": dictionary, "penalty": 0.1} | changes
    with pytest.raises(error, match=message):
        sparse_codes(**arguments)


def test_tables_of_other_kinds():
    x, dictionary = problem(5)
    base = sparse_codes(x, dictionary, 0.1)
    for kind in (x.numpy(), x.tolist(), np.asfortranarray(x.numpy())):
        assert torch.equal(sparse_codes(kind, dictionary.numpy(), 0.1).z, base.z)
