"""Moments that stream by: sections on several processors, roots of wide rows, weights, memory maps, Dask."""

import math
import pickle
import warnings

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probae import FactorAnalysis, ProbabilisticPCA, fit, moments
from probae.checks import DataError, ProbaeWarning
from probae.statistics import SufficientStatistics, is_dask

from_data = SufficientStatistics.from_data


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def exact(x, weights=None):
    """Mean and scatter by two passes in extended precision."""
    wide = np.asarray(x).astype(np.longdouble)
    share = np.ones(len(wide)) if weights is None else np.asarray(weights) * (len(wide) / np.sum(weights))
    mean = (share[:, None] * wide).sum(0) / len(wide)
    return mean.astype(float), ((wide - mean).T @ (share[:, None] * (wide - mean))).astype(float)


@pytest.fixture
def small_sections(monkeypatch):
    monkeypatch.setattr(moments, "BLOCK", 64)
    monkeypatch.setattr(moments, "SECTION", 500)


def test_the_number_of_processors_does_not_matter(small_sections):
    x = noise(5000, 6) + 30.0
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = from_data(x)
        torch.set_num_threads(3)
        together = from_data(x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone.scatter, together.scatter)
    assert torch.equal(alone.mean, together.mean)
    np.testing.assert_allclose(alone.scatter, exact(x)[1], rtol=1e-12, atol=1e-9)


def test_a_bad_value_in_a_late_section_is_named(small_sections):
    x = noise(5000, 6)
    x[4321, 2] = np.inf
    with pytest.raises(DataError, match="got inf at row 4321, column 2"):
        from_data(x)


def test_only_columns_far_from_zero_are_shifted():
    x = noise(2000, 3)
    assert moments._shift(x) is None
    x[:, 1] += 100.0
    shift = moments._shift(x)
    assert shift[0] == shift[2] == 0.0
    assert abs(shift[1] - 100.0) < 1.0


def test_rows_are_not_copied_when_no_shift_is_needed(monkeypatch):
    x = noise(3000, 4)
    seen = []
    original = np.empty
    monkeypatch.setattr(np, "empty", lambda *a, **k: seen.append(a) or original(*a, **k))
    moments.collect(x)
    assert seen == []


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_wide_rows_keep_their_root(offset):
    x = noise(5, 40) + offset
    found = from_data(x)
    assert found.root.shape == (5, 40)
    mean, scatter = exact(x)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(found.scatter, scatter, atol=1e-13 + 1e-9 * (offset > 0))
    np.testing.assert_allclose(found.variances, scatter.diagonal() / 5, rtol=1e-9)
    basis = torch.from_numpy(noise(40, 3))
    np.testing.assert_allclose(found.covariance_times(basis), found.covariance @ basis, atol=1e-12)
    units = torch.from_numpy(np.random.default_rng(0).uniform(0.5, 2, 40))
    scaled, direct = found.scaled(units), from_data(x / units.numpy())
    assert scaled.root is not None
    np.testing.assert_allclose(scaled.scatter, direct.scatter, atol=1e-8)
    assert found.named(map(str, range(40))).names[-1] == "39"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=5),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_roots_merge_into_a_scatter(sizes, features, seed, batches):
    parts = [noise(size, features, seed=seed + i) for i, size in enumerate(sizes)]
    whole = np.concatenate(parts)
    if batches:
        found = SufficientStatistics.from_batches(parts)
    else:
        found = from_data(parts[0])
        for part in parts[1:]:
            found = found + from_data(part)
    mean, scatter = exact(whole)
    assert found.count == len(whole)
    assert (found.root is not None) <= (len(whole) < features)
    np.testing.assert_allclose(found.mean, mean, atol=1e-14)
    np.testing.assert_allclose(found.scatter, scatter, atol=1e-12)


def test_batches_may_reuse_their_memory():
    x = noise(12, 30)
    buffer = np.empty((3, 30))

    def batches():
        for start in range(0, 12, 3):
            buffer[:] = x[start : start + 3]
            yield buffer

    np.testing.assert_allclose(SufficientStatistics.from_batches(batches()).scatter, exact(x)[1], atol=1e-12)


def test_batches_may_be_sparse():
    x = noise(40, 5) * (noise(40, 5, seed=1) > 0)
    found = SufficientStatistics.from_batches([x[:15], scipy.sparse.csr_array(x[15:])])
    np.testing.assert_allclose(found.scatter, exact(x)[1], atol=1e-12)


@pytest.mark.parametrize("build", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_weights(build, offset, small_sections):
    x = noise(300, 4) + offset
    weights = np.random.default_rng(1).integers(0, 4, 300)
    found = from_data(build(x), weights=weights)
    mean, scatter = exact(x, weights)
    assert found.count == 300
    np.testing.assert_allclose(found.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(found.scatter, scatter, rtol=1e-9, atol=1e-9)


def test_whole_weights_are_repeated_rows():
    x, weights = noise(50, 3), np.random.default_rng(1).integers(0, 4, 50)
    repeated = from_data(np.repeat(x, weights, axis=0))
    np.testing.assert_allclose(from_data(x, weights=weights).covariance, repeated.covariance, rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "3 numbers, one for each row"),
        (["a", "b", "c"], "3 numbers"),
        ([1, -1, 1], "none negative"),
        ([0, 0, 0], "not all zero"),
        ([1, np.nan, 1], "finite"),
        ([[1, 1, 1]], "3 numbers"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(DataError, match=message):
        from_data(noise(3, 2), weights=weights)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_maps_keep_their_values(tmp_path, mode, small_sections):
    x = noise(2000, 5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    if mode == "c":
        mapped[7] = 5.0  # in memory only: letting go of these pages would lose it
    before = np.array(mapped)
    assert torch.equal(from_data(mapped[::2]).scatter, from_data(before[::2]).scatter)
    np.testing.assert_array_equal(mapped, before)


@pytest.mark.parametrize("chunks", [(300, 2), (7, 5), (1000, 5), ((0, 400, 600), (5,))])
def test_dask_arrays(chunks):
    x = noise(1000, 5) @ noise(5, 5, seed=1) + 3
    whole = from_data(x)
    with dask.config.set(scheduler="threads", num_workers=2):
        found = from_data(dask.array.from_array(x, chunks=chunks))
    assert found.count == 1000
    scale = whole.scatter.diagonal().sqrt()
    assert ((found.scatter - whole.scatter) / torch.outer(scale, scale)).abs().max() < 1e-12
    assert ((found.mean - whole.mean).abs() / whole.variances.sqrt()).max() < 1e-12


class Frames:
    """What a Dask data frame shows of itself: delayed pandas frames, one for each partition."""

    def __init__(self, frames):
        self.frames = frames

    def __dask_graph__(self):
        return {}

    def to_delayed(self):
        return [dask.delayed(frame) for frame in self.frames]


def test_dask_frames_keep_their_names_and_go_through_fit():
    x = noise(200, 1) + noise(200, 4, seed=1)
    frame = pd.DataFrame(x, columns=list("uvwx"))
    lazy = Frames([frame[:90], frame[90:150], frame[150:]])
    assert is_dask(lazy)
    with dask.config.set(scheduler="synchronous"):
        run = fit(FactorAnalysis(4, 1), lazy)
    assert run.names == ("u", "v", "w", "x")
    expected = fit(FactorAnalysis(4, 1), frame).model.loadings
    np.testing.assert_allclose(run.model.loadings, expected, rtol=1e-6)


def test_dask_says_what_is_wrong():
    x = noise(20, 3)
    x[13, 1] = np.nan
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(DataError, match="got nan"):
            from_data(dask.array.from_array(x, chunks=(5, 3)))
        with pytest.raises(DataError, match="two-dimensional"):
            from_data(dask.array.from_array(x[0], chunks=2))
        with pytest.raises(DataError, match="weights need rows in memory"):
            from_data(dask.array.from_array(x, chunks=5), weights=np.ones(20))
        with pytest.raises(DataError, match="at least 1 row"):
            from_data(dask.array.from_array(x[:0], chunks=5))


def test_statistics_travel():
    for x in (noise(50, 3), noise(3, 50)):
        found = from_data(x)
        again = pickle.loads(pickle.dumps(found))
        assert torch.equal(again.scatter, found.scatter)
        assert repr(again) == repr(found)


def test_statistics_need_one_of_scatter_and_root():
    with pytest.raises(DataError, match="one of the two"):
        SufficientStatistics(3, torch.zeros(2).double())


@pytest.mark.parametrize("model", [FactorAnalysis, ProbabilisticPCA])
def test_fits_through_root_and_scatter_agree(model):
    x = noise(30, 3) @ noise(3, 60, seed=1) + noise(30, 60, seed=2)
    root = from_data(x)
    scatter = SufficientStatistics(root.count, root.mean, root.scatter)
    first, second = fit(model(60, 2), root), fit(model(60, 2), scatter)
    assert float(first.history[-1]) == pytest.approx(float(second.history[-1]), rel=1e-10)
    np.testing.assert_allclose(first.model.loadings, second.model.loadings, atol=1e-5)
    assert float(first.model.collapsed(root)) == pytest.approx(
        float(first.model.collapsed(scatter)), rel=1e-12
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(60, 150), (300, 8), (300, 60)]))
def test_equivariance(seed, shape):
    """Rows permuted: nothing; columns permuted, scaled, shifted: the answer follows (reliability, row 20)."""
    generator = np.random.default_rng(seed)
    samples, features = shape
    loadings = generator.uniform(0.5, 1.5, features)
    x = generator.normal(size=(samples, 1)) * loadings + generator.normal(size=shape)
    base = fit(FactorAnalysis(features, 1), x)
    rows, columns = generator.permutation(samples), generator.permutation(features)
    units, shift = np.exp(generator.normal(size=features)), generator.normal(size=features) * 10
    moved = fit(FactorAnalysis(features, 1), (x * units + shift)[rows][:, columns])
    assert float(moved.history[-1]) + np.log(units).sum() == pytest.approx(float(base.history[-1]), abs=1e-9)
    unit = units[columns]
    found, expected = moved.model.loadings[:, 0].numpy() / unit, base.model.loadings[:, 0].numpy()[columns]
    # a maximum known to 1e-10 nats fixes its place to about the root of that
    np.testing.assert_allclose(found * np.sign(found @ expected), expected, atol=1e-5)
    noise_variance = moved.model.uniquenesses.numpy() / unit**2
    np.testing.assert_allclose(noise_variance, base.model.uniquenesses.numpy()[columns], atol=1e-5)
    np.testing.assert_allclose(
        moved.model.mean.numpy(), (base.model.mean.numpy() * units + shift)[columns], atol=1e-9
    )


def test_sparse_columns_far_from_zero():
    """X'X - N m m' would lose the variation: 1e14 per row at a relative 1e-16, against a variance of one."""
    x = np.c_[noise(400, 2) * (noise(400, 2, seed=1) > 0), 1e7 + noise(400, 1), np.full(400, 0.1)]
    weights = np.random.default_rng(2).integers(0, 3, 400)
    for share in (None, weights):
        found = from_data(scipy.sparse.csr_array(x), weights=share)
        np.testing.assert_allclose(found.scatter, exact(x, share)[1], rtol=1e-8, atol=1e-6)
        assert found.variances[3] == 0


@pytest.mark.parametrize("build", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("shape", [(500, 6), (4, 6)])
def test_a_constant_has_no_variance_left_by_rounding(build, shape):
    x = noise(*shape)
    x[:, 2] = 0.1
    weights = np.random.default_rng(0).uniform(0, 1, len(x))
    for found in (
        from_data(build(x)),
        from_data(build(x), weights=weights),
        from_data(build(x)) + from_data(build(x[:3])),
    ):
        assert found.variances[2] == 0
        assert not found.scatter[2].any()
        assert (found.variances[[0, 1, 3, 4, 5]] > 0).all()


def test_merged_roots_have_as_many_rows_as_the_data():
    x = noise(40, 60)
    found = from_data(x[:1])
    for row in x[1:]:
        found = found + from_data(row[None])
    assert found.root.shape == (40, 60)
    np.testing.assert_allclose(found.scatter, exact(x)[1], atol=1e-11)


@pytest.mark.parametrize(("samples", "features", "latents"), [(300, 400, 5), (10, 50, 12)])
def test_rows_that_span_fewer_dimensions_than_factors(samples, features, latents):
    x = np.repeat(noise(3, features), -(-samples // 3), axis=0)[:samples]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", ProbaeWarning)
        run = fit(FactorAnalysis(features, latents), x)
    assert torch.isfinite(run.model.loadings).all()
    assert torch.isfinite(run.model.uniquenesses).all()
    assert math.isfinite(float(run.history[-1]))
