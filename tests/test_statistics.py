"""Count, mean and scatter against extended precision, merging, streaming, and matrices in place of rows."""

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae import moments
from probae.checks import DataError, ParameterError
from probae.statistics import SufficientStatistics

from_data = SufficientStatistics.from_data
from_covariance = SufficientStatistics.from_covariance
NAN, INF = float("nan"), float("inf")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def exact(x):
    """Mean and scatter by two passes in extended precision."""
    wide = np.asarray(x).astype(np.longdouble)
    centred = wide - wide.mean(axis=0)
    return wide.mean(axis=0).astype(float), (centred.T @ centred).astype(float)


def scale(scatter):
    """Root of the product of two diagonal entries: what an entry of a scatter is to be compared with."""
    root = np.sqrt(np.diag(scatter))
    return np.outer(root, root)


def assert_equal(found, x, tolerance):
    """Compare with extended precision, relative to the spread of each pair of columns."""
    mean, scatter = exact(x)
    assert found.count == len(x)
    assert found.features == np.shape(x)[1]
    # a mean carries the rounding of values of its own size, so it is known to that or to the spread
    spread = np.sqrt(np.diag(scatter) / len(x))
    assert (np.abs(found.mean.numpy() - mean) <= 1e-15 * np.abs(mean) + tolerance * spread).all()
    assert (np.abs(found.scatter.numpy() - scatter) <= tolerance * scale(scatter)).all()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(moments, "BLOCK", 64)


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_equal_to_extended_precision(rows, small_blocks):
    found = from_data(noise(rows, 5) @ noise(5, 5, seed=1) + 3.0)
    # n products of relative error 1.1e-16 each, in sums of at most a few hundred terms before they are merged
    assert_equal(found, noise(rows, 5) @ noise(5, 5, seed=1) + 3.0, 1e-13)
    assert found.mean.dtype == found.scatter.dtype == torch.float64
    assert torch.equal(found.scatter, found.scatter.T)


def test_offset_that_drowns_raw_sums(small_blocks):
    x = 1e6 + noise(20_000, 4)
    _, scatter = exact(x)
    raw = x.T @ x - len(x) * np.outer(x.mean(0), x.mean(0))
    # raw sums hold 1e12 per row at a relative 1.1e-16, against a variance of 1: digits are lost
    assert np.abs(raw / scale(scatter) - scatter / scale(scatter)).max() > 1e-6
    assert_equal(from_data(x), x, 1e-12)
    assert_equal(SufficientStatistics.from_batches(x[i : i + 100] for i in range(0, 20_000, 100)), x, 1e-12)


@pytest.mark.parametrize("first", [0.0, 1e9, -1e9])
def test_a_first_row_far_away(first, small_blocks):
    x = noise(500, 3)
    x[0] = first
    assert_equal(from_data(x), x, 1e-12)


def test_drifting_data(small_blocks):
    x = noise(5000, 3) + np.linspace(0, 1e6, 5000)[:, None]
    assert_equal(from_data(x), x, 1e-12)


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i8", "f2", "f4", "longdouble", ">f8"])
def test_accumulates_in_float64(dtype, small_blocks):
    x = np.round(40 * noise(3000, 4)).clip(-100, 100)
    x = (np.abs(x) if dtype in ("u1", "bool") else x).astype(dtype)
    assert_equal(from_data(x), x, 1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32, torch.bool])
def test_tensors(dtype, small_blocks):
    x = torch.tensor(np.round(noise(300, 3) * 8)).to(dtype)
    assert_equal(from_data(x), x.double().numpy(), 1e-13)
    if dtype.is_floating_point:
        assert torch.equal(from_data(x.clone().requires_grad_()).scatter, from_data(x).scatter)


@pytest.mark.parametrize(
    "build",
    [np.asfortranarray, lambda x: x[::-1][::-1], np.ndarray.tolist, pd.DataFrame, pl.DataFrame, torch.tensor],
    ids=["fortran", "strides", "lists", "pandas", "polars", "tensor"],
)
def test_containers(build, small_blocks):
    x = noise(100, 3)
    before = x.tobytes()
    assert torch.equal(from_data(build(x)).scatter, from_data(x).scatter)
    assert x.tobytes() == before


def test_names():
    frame = pd.DataFrame(noise(10, 2), columns=["u", "v"])
    assert from_data(frame).names == ("u", "v")
    assert from_data(frame.to_numpy()).names is None
    assert (from_data(frame) + from_data(frame.to_numpy())).names == ("u", "v")
    assert SufficientStatistics.from_batches([frame, frame]).names == ("u", "v")


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse(kind):
    x = noise(200, 6) * (np.random.default_rng(1).random((200, 6)) < 0.2)
    assert_equal(from_data(getattr(scipy.sparse, kind)(x)), x, 1e-13)


def test_memory_map_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(moments, "BLOCK", 2**14)  # 128 kB
    x = noise(40_000, 16)  # 5 MB
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tracemalloc.start()
    found = from_data(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**14 * 3  # a block centred, and twice that for what is small
    assert torch.equal(found.scatter, from_data(x).scatter)
    assert type(found.mean) is torch.Tensor


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    st.sampled_from([1e-8, 1.0, 1e8]),
)
def test_merging(sizes, features, seed, offset, unit):
    rng = np.random.default_rng(seed)
    x = unit * (offset * rng.normal(size=features) + rng.normal(size=(sum(sizes), features)))
    a, b, c = (from_data(part) for part in np.split(x, np.cumsum(sizes)[:2]))
    whole = from_data(x)
    # A part keeps its mean in float64, off by eps |mean| / 2, and merging weighs that by the distance of the
    # means; three merges of two rounded means each, on either side of the comparison: the factor 8.
    rounding = 2.2e-16 * whole.mean.abs().numpy()
    reach = np.abs(x - x.mean(axis=0)).max(axis=0)
    cross = np.outer(rounding, reach + rounding)
    bound = 1e-12 * scale(whole.scatter.numpy()) + 8 * len(x) * (cross + cross.T)
    for merged in ((a + b) + c, a + (b + c), c + a + b):
        assert merged.count == whole.count
        assert (np.abs((merged.scatter - whole.scatter).numpy()) <= bound).all()
        assert (np.abs((merged.mean - whole.mean).numpy()) <= 4 * rounding + 1e-14 * reach).all()
    batches = SufficientStatistics.from_batches(np.split(x, [sizes[0]]))
    exactly = 1e-13 * scale(whole.scatter.numpy()) + 2.2e-16 * len(x) * np.outer(reach, reach)
    assert (np.abs((batches.scatter - whole.scatter).numpy()) <= exactly).all()


def test_rows_may_come_in_any_order():
    x = noise(300, 4)
    permuted = from_data(x[np.random.default_rng(1).permutation(300)])
    assert torch.allclose(permuted.scatter, from_data(x).scatter, rtol=0, atol=1e-11)


def test_columns_shift_and_scale():
    x, factor = noise(300, 3), np.array([1e-3, 1.0, 1e4])
    moved = from_data(x * factor + 7.0)
    expected = from_data(x).scatter.numpy() * np.outer(factor, factor)
    assert np.abs(moved.scatter.numpy() / scale(expected) - expected / scale(expected)).max() < 1e-12


def test_data_loader():
    x = torch.tensor(noise(50, 3))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=8)
    assert torch.allclose(SufficientStatistics.from_batches(loader).scatter, from_data(x).scatter, atol=1e-12)


def test_covariance():
    x = noise(30, 3)
    assert np.allclose(from_data(x).covariance, np.cov(x.T, ddof=0), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("ddof", [0, 1])
def test_covariance_round_trip(ddof):
    frame = pd.DataFrame(noise(30, 3), columns=list("abc"))
    found = from_covariance(frame.cov(ddof=ddof), count=30, mean=frame.mean(), ddof=ddof)
    whole = from_data(frame)
    assert torch.allclose(found.scatter, whole.scatter, rtol=1e-13, atol=1e-13)
    assert torch.allclose(found.mean, whole.mean, rtol=1e-13, atol=1e-15)
    assert (found.names, found.count) == (("a", "b", "c"), 30)
    assert torch.equal(from_covariance(np.eye(2), count=5).mean, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("matrix", "options", "sentence"),
    [
        (np.ones((2, 3)), {}, r"square, got shape \(2, 3\)"),
        ([[1.0, 0.5], [0.4, 1.0]], {}, r"symmetric, got 0.5 at \(0, 1\) and 0.4 at \(1, 0\)"),
        ([[1.0, 2.0], [2.0, 1.0]], {}, "no negative eigenvalue, got -1"),
        ([[1.0, NAN], [NAN, 1.0]], {}, "NaN at row 0, column 1"),
        (np.eye(2), {"count": 1}, "count should be at least 2"),
        (np.eye(2), {"count": 2, "ddof": 2}, "more than ddof"),
        (np.eye(2), {"mean": np.zeros(3)}, r"\(samples, 2\), got \(1, 3\)"),
        (np.eye(2), {"mean": [0.0, INF]}, "inf"),
        ([1.0, 2.0], {}, "two-dimensional"),
    ],
)
def test_no_covariance(matrix, options, sentence):
    with pytest.raises(DataError, match=sentence):
        from_covariance(matrix, **{"count": 10, **options})


@pytest.mark.parametrize("options", [{"count": True}, {"count": -3}, {"count": 10, "ddof": -1}])
def test_no_counts(options):
    with pytest.raises(ParameterError, match="whole number"):
        from_covariance(np.eye(2), **options)


def test_covariances_up_to_rounding():
    x = noise(50, 6).astype("f4")
    x[:, 5] = x[:, 0]
    rounded = np.cov(x.T, dtype=np.float32)  # singular, and good to seven digits
    assert from_covariance(rounded, count=50).count == 50
    skewed = np.eye(3)
    skewed[0, 1] = 1e-12
    found = from_covariance(skewed, count=50)
    assert torch.equal(found.scatter, found.scatter.T)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            NAN,
            r"got nan at row 150, column 'b': pass the rows to a model that integrates missing values out\.$",
        ),
        (INF, "got inf at row 150, column 'b': replace it"),
        (-INF, "got -inf at row 150"),
        (1e200, r"got 1e\+200 at row 150, column 'b': replace it; squares"),
    ],
)
def test_values_that_cannot_be_summed(value, sentence, small_blocks):
    x = noise(200, 2)
    x[150, 1] = value
    with pytest.raises(DataError, match=sentence):
        from_data(pd.DataFrame(x, columns=["a", "b"]))
    with pytest.raises(DataError, match=r"at row 150, column 1: "):
        from_data(torch.tensor(x))
    with pytest.raises(DataError):
        SufficientStatistics.from_batches([x[:100], x[100:]])


@pytest.mark.parametrize("value", [NAN, INF, 1e200])
def test_sparse_values_that_cannot_be_summed(value):
    with pytest.raises(DataError, match="at row 1, column 0"):
        from_data(scipy.sparse.csr_array([[1.0, 0.0], [value, 2.0]]))


def test_batches_that_do_not_fit():
    with pytest.raises(DataError, match="got none: an iterator can be read only once"):
        SufficientStatistics.from_batches([])
    with pytest.raises(DataError, match="got 3 and 2 features"):
        SufficientStatistics.from_batches([noise(5, 3), noise(5, 2)])
    named = [pd.DataFrame(noise(5, 2), columns=names) for names in (["a", "b"], ["b", "a"])]
    with pytest.raises(DataError, match="same columns in the same order"):
        SufficientStatistics.from_batches(named)
    with pytest.raises(TypeError):
        from_data(noise(5, 2)) + 1


def test_no_warning_of_numpy_escapes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError):
            from_data([[INF, 1.0], [-INF, 2.0]])
        with pytest.raises(DataError):
            from_data([[1e308, 1.0], [-1e308, 2.0]])
        assert from_data([[1e140], [1e140]]).scatter.item() == 0.0
