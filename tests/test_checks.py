"""Every container gives the same values and names, nothing is modified, and every refusal says what to do."""

import hashlib
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from probae import checks
from probae.checks import (
    CollinearWarning,
    ConstantColumnWarning,
    Data,
    DataError,
    IntegerDataWarning,
    MissingRowWarning,
    ParameterError,
    check_choice,
    check_count,
    check_data,
    check_positive,
    check_table,
    warn_degenerate,
)

ROOT = Path(__file__).parents[1]
NAMES, ROWS = ("a", "b", "c"), ("r0", "r1", "r2", "r3")
VALUES = np.array([[0.5, -1.25, 3.0], [2.0, 0.0, -0.75], [1.5, 8.0, 0.125], [-4.0, 2.5, 1.0]])
NAN, INF = float("nan"), float("inf")


class Annotated:
    """The part of anndata.AnnData that is read: a matrix and the names of its two sides."""

    def __init__(self, x, obs_names, var_names):
        self.X, self.obs_names, self.var_names = x, obs_names, var_names


class Arrow:
    """A table that knows the way to pandas, as pyarrow's does."""

    def to_pandas(self):
        return pd.DataFrame(VALUES, columns=list(NAMES))


class Exotic:
    """Anything with __array__."""

    def __array__(self, dtype=None, copy=None):
        return np.array(VALUES, dtype=dtype)


def read_only():
    x = VALUES.copy()
    x.flags.writeable = False
    return x


def memory_map(folder):
    np.save(folder / "x.npy", VALUES)
    return np.load(folder / "x.npy", mmap_mode="r")


def array_of(shape, dims=("sample", "feature"), **coords):
    return xr.DataArray(np.broadcast_to(1.0, shape).copy(), dims=dims, coords=coords)


PLAIN = {
    "numpy": lambda: VALUES.copy(),
    "fortran": lambda: np.asfortranarray(VALUES),
    "read-only": read_only,
    "negative strides": lambda: VALUES[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda: np.repeat(np.repeat(VALUES, 2, 0), 2, 1)[::2, ::2],
    "big-endian": lambda: VALUES.astype(">f8"),
    "long double": lambda: VALUES.astype(np.longdouble),
    "masked": lambda: np.ma.masked_array(VALUES, mask=False),
    "lists": lambda: VALUES.tolist(),
    "tuple of arrays": lambda: tuple(VALUES),
    "list of tensors": lambda: [torch.tensor(row, requires_grad=True) for row in VALUES],
    "__array__": Exotic,
    "tensor": lambda: torch.tensor(VALUES),
    "tensor that needs a gradient": lambda: torch.tensor(VALUES, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.tensor(VALUES)),
    "transposed tensor": lambda: torch.tensor(VALUES.T.copy()).T,
    "unnamed DataArray": lambda: xr.DataArray(VALUES),
    "unnamed DataFrame": lambda: pd.DataFrame(VALUES),
}
NAMED = {
    "pandas": lambda: pd.DataFrame(VALUES, columns=list(NAMES)),
    "pandas nullable": lambda: pd.DataFrame(VALUES, columns=list(NAMES)).astype("Float64"),
    "pandas sparse": lambda: pd.DataFrame(VALUES, columns=list(NAMES)).astype(pd.SparseDtype(float, 0.0)),
    "polars": lambda: pl.DataFrame(VALUES, schema=list(NAMES)),
    "DataArray": lambda: xr.DataArray(VALUES, dims=("n", "d"), coords={"d": list(NAMES)}),
    "to_pandas": Arrow,
}
FULLY_NAMED = {
    "pandas": lambda: pd.DataFrame(VALUES, columns=list(NAMES), index=list(ROWS)),
    "DataArray": lambda: xr.DataArray(VALUES, dims=("n", "d"), coords={"d": list(NAMES), "n": list(ROWS)}),
    "AnnData": lambda: Annotated(VALUES.copy(), pd.Index(ROWS), pd.Index(NAMES)),
    "AnnData of float32": lambda: Annotated(VALUES.astype("f4"), pd.Index(ROWS), pd.Index(NAMES)),
}


def contents(x):
    """Hash every number and label a container holds, and what can be known of its layout."""
    if isinstance(x, Annotated):
        return contents(x.X), tuple(x.obs_names), tuple(x.var_names)
    if isinstance(x, Arrow | Exotic):
        return None
    if isinstance(x, list | tuple):
        return tuple(contents(row) if hasattr(row, "__len__") else row for row in x)
    if isinstance(x, torch.Tensor):
        return x.detach().numpy().tobytes(), x.stride(), x.requires_grad, x._version
    if isinstance(x, np.ndarray):
        return hashlib.sha256(x.tobytes()).hexdigest(), x.strides, x.dtype, x.flags.writeable
    if isinstance(x, pd.DataFrame | pl.DataFrame):
        return repr(x.to_numpy().tolist()), tuple(x.columns), tuple(x.dtypes)
    if scipy.sparse.issparse(x):
        return x.data.tobytes(), x.indices.tobytes(), x.indptr.tobytes()
    return x.values.tobytes(), x.dims


@pytest.mark.parametrize(
    ("build", "names", "rows"),
    [pytest.param(build, None, None, id=name) for name, build in PLAIN.items()]
    + [pytest.param(build, NAMES, None, id=f"{name} with names") for name, build in NAMED.items()]
    + [pytest.param(build, NAMES, ROWS, id=f"{name} with rows") for name, build in FULLY_NAMED.items()],
)
def test_containers_give_equal_values_and_stay_as_they_were(build, names, rows):
    x = build()
    before = contents(x)
    data = check_data(x)
    assert np.array_equal(data.values.numpy(), VALUES)
    assert (data.names, data.rows, data.missing) == (names, rows, None)
    assert data.values.dtype == torch.float64
    assert data.values.is_contiguous()
    assert not data.values.requires_grad
    data.values.fill_(7.0)  # an own copy: writing to it must not reach the caller
    assert contents(x) == before


def test_memory_map(tmp_path):
    x = memory_map(tmp_path)
    data = check_data(x)
    assert np.array_equal(data.values.numpy(), VALUES)
    data.values.zero_()
    assert np.array_equal(x, VALUES)


def test_no_container_library_is_imported():
    libraries = "('pandas', 'polars', 'xarray', 'anndata')"
    code = f"import sys, probae.checks; print([name for name in {libraries} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name", ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "longdouble"]
)
def test_numpy_dtypes(name):
    x = np.array([[0, 1], [1, 0], [1, 1]], dtype=name)
    data = check_data(x)
    assert data.values.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert data.dtype == (torch.float32 if name in ("f2", "f4") else torch.float64)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float64),
        (torch.uint8, torch.float64),
        (torch.bool, torch.float64),
    ],
)
def test_tensor_dtypes(dtype, result):
    data = check_data(torch.tensor([[0, 1], [1, 0]], dtype=dtype))
    assert data.values.tolist() == [[0, 1], [1, 0]]
    assert data.dtype == result


@pytest.mark.parametrize(
    ("x", "result"),
    [
        (pd.DataFrame({"a": [1.0], "b": [2.0]}, dtype="float32"), torch.float32),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}, dtype="Float32"), torch.float32),
        (pd.DataFrame({"a": [1.0], "b": [2]}), torch.float64),
        (pd.DataFrame({"a": np.float32([1]), "b": [2]}), torch.float64),
        (pd.DataFrame({"a": [True], "b": [2]}), torch.float64),
        (pl.DataFrame({"a": [1.0], "b": [2.0]}, schema={"a": pl.Float32, "b": pl.Float32}), torch.float32),
        (pl.DataFrame({"a": [True], "b": [2]}), torch.float64),
        (np.ma.masked_array([[1, 2]], mask=[[False, False]]), torch.float64),
        (np.ma.masked_array(np.float32([[1, 2]])), torch.float32),
        (xr.DataArray(np.float32([[1, 2]])), torch.float32),
    ],
)
def test_dtype_of_results(x, result):
    data = check_data(x)
    assert data.values.tolist() == [[1.0, 2.0]]
    assert data.dtype == result


@pytest.mark.parametrize(
    "x",
    [
        [[1.0, NAN], [3.0, 4.0]],
        np.ma.masked_array([[1, 2], [3, 4]], mask=[[False, True], [False, False]]),
        pd.DataFrame([[1, None], [3, 4]]).astype("Int64"),
        pl.DataFrame({"a": [1, 3], "b": [None, 4]}),
        torch.tensor([[1.0, NAN], [3.0, 4.0]], dtype=torch.bfloat16),
    ],
    ids=["nan", "masked", "pandas NA", "polars null", "bfloat16"],
)
def test_missing_values(x):
    data = check_data(x, missing="allow")
    assert data.missing.tolist() == [[False, True], [False, False]]
    assert data.values.isnan().equal(data.missing)
    assert data.values[~data.missing].tolist() == [1, 3, 4]
    with pytest.raises(DataError, match="NaN at row 0, column.*1 of 4 values"):
        check_data(x)


def test_names_are_kept_for_tables_that_have_none():
    assert check_data(VALUES, names=NAMES).names == NAMES
    assert check_data(pd.DataFrame(VALUES), names=list(NAMES)).names == NAMES
    assert check_data(NAMED["polars"](), names=NAMES, features=3).names == NAMES


def test_numbers_as_labels():
    frame = pd.DataFrame(VALUES, columns=[1990, 2000, 2010]).iloc[1:]
    data = check_data(frame)
    assert data.names == ("1990", "2000", "2010")
    assert data.rows == ("1", "2", "3")


SPARSE = scipy.sparse.csr_matrix(VALUES)
BAD = {
    "1-D": ([1.0, 2.0], {}, r"shape \(2,\).*reshape\(1, -1\).*reshape\(-1, 1\)"),
    "pandas Series": (pd.Series([1.0, 2.0]), {}, r"shape \(2,\)"),
    "3-D": (np.zeros((4, 2, 2)), {}, r"shape \(4, 2, 2\).*reshape\(len\(x\), -1\)"),
    "3-D DataArray": (array_of((2, 2, 2), dims=("a", "b", "c")), {}, "two-dimensional"),
    "0-D tensor": (torch.tensor(1.0), {}, r"shape \(\)"),
    "number": (3.0, {}, "got a float"),
    "None": (None, {}, "got a NoneType"),
    "file name": ("x.csv", {}, "got a str"),
    "generator": ((row for row in VALUES), {}, "got a generator"),
    "dictionary": ({"a": [1, 2]}, {}, "got a dict.*DataFrame"),
    "empty list": ([], {}, "two-dimensional"),
    "empty rows": ([[], []], {}, "at least 1 feature"),
    "0 rows": (np.zeros((0, 3)), {}, r"at least 1 row, got shape \(0, 3\)"),
    "0 columns": (np.zeros((3, 0)), {}, "at least 1 feature"),
    "empty DataFrame": (pd.DataFrame(), {}, "at least 1 feature"),
    "empty polars": (pl.DataFrame({"a": []}, schema={"a": pl.Float64}), {}, "at least 1 row"),
    "too few rows": (VALUES, {"minimum_rows": 5}, r"at least 5 rows, got shape \(4, 3\).*fewer latents"),
    "wrong width": (
        np.zeros((301, 8)),
        {"features": 9},
        r"^x should have shape \(samples, 9\), got \(301, 8\): the model was built for 9 features\.$",
    ),
    "fewer columns than names": (VALUES, {"names": ["a", "b"]}, r"shape \(samples, 2\), got \(4, 3\)"),
    "missing column": (NAMED["pandas"](), {"names": ["a", "b", "d"]}, "lacks 'd' and has 'c' instead"),
    "extra column": (NAMED["polars"](), {"names": ["a", "b"]}, "got 'c' as well: drop"),
    "other order": (NAMED["DataArray"](), {"names": ["a", "c", "b"]}, "got 'b' where 'c' belongs: reorder"),
    "repeated names": (
        pd.DataFrame(VALUES, columns=["a", "b", "a"]),
        {},
        "distinct column names, got 'a' 2 times",
    ),
    "repeated after printing": (pd.DataFrame(VALUES, columns=["1", 1, 2]), {}, "got '1' 2 times"),
    "repeated names given": (VALUES, {"names": ["a", "a", "b"]}, "distinct"),
    "ragged": ([[1.0, 2.0], [3.0]], {}, "equal length"),
    "ragged tensors": ([torch.zeros(2), torch.zeros(3)], {}, "equal length"),
    "None inside": ([[1.0, 2.0], [None, 4.0]], {}, "got None at row 1, column 0.*nan"),
    "text inside": ([[1.0, "x"], [2.0, 3.0]], {}, "dtype <U"),
    "strings": (np.array([["1", "2"]]), {}, r"dtype <U1: convert it, as in x.astype\(float\)"),
    "bytes": (np.array([[b"1", b"2"]]), {}, r"dtype \|S1"),
    "object numbers": (np.array([[1, 2.0]], dtype=object), {}, "dtype object"),
    "fractions": ([[Fraction(1, 2), 1]], {}, r"Fraction\(1, 2\) at row 0, column 0"),
    "complex": (np.zeros((2, 2), complex), {}, "complex128.*x.imag"),
    "complex tensor": (torch.zeros(2, 2, dtype=torch.complex64), {}, "complex64"),
    "times": (np.zeros((2, 2), "datetime64[s]"), {}, "datetime64.*unit"),
    "time differences": (np.zeros((2, 2), "timedelta64[s]"), {}, "timedelta64"),
    "record array": (np.zeros((2, 2), dtype=[("u", float)]), {}, "dtype"),
    "masked text": (np.ma.masked_array([["u"]]), {}, "dtype <U1"),
    "pandas category": (pd.DataFrame({"u": [1.0], "g": pd.Categorical(["x"])}), {}, "category in column 'g'"),
    "pandas text": (pd.DataFrame({"u": [1.0], "g": ["x"]}), {}, "in column 'g'.*drop it"),
    "pandas object": (
        pd.DataFrame({"u": [1.0], "g": pd.Series([1], dtype=object)}),
        {},
        "object in column 'g'",
    ),
    "pandas times": (pd.DataFrame({"t": pd.to_datetime(["2020-01-01"])}), {}, "datetime64.*in column 't'"),
    "pandas time zone": (pd.DataFrame({"t": pd.to_datetime(["2020-01-01"], utc=True)}), {}, "in column 't'"),
    "pandas complex": (pd.DataFrame({"u": [1j]}), {}, "complex128 in column 'u'"),
    "pandas unnamed text": (pd.DataFrame([[1.0, "x"]]), {}, "in column 1"),
    "polars text": (pl.DataFrame({"u": [1.0], "g": ["x"]}), {}, "String in column 'g'"),
    "polars category": (pl.DataFrame({"g": ["x"]}, schema={"g": pl.Categorical}), {}, "in column 'g'"),
    "polars date": (pl.DataFrame({"g": [1]}).cast({"g": pl.Date}), {}, "Date in column 'g'"),
    "polars lazy": (pl.LazyFrame({"u": [1.0]}), {}, r"x\.collect\(\)"),
    "xarray Dataset": (xr.Dataset({"u": array_of((2, 2))}), {}, r"x\['name'\]"),
    "xarray text": (xr.DataArray([["u"]]), {}, "dtype <U1"),
    "AnnData without X": (Annotated(None, ROWS, NAMES), {}, "NoneType"),
    "sparse": (SPARSE, {}, "sparse csr_matrix: use x.toarray.., or a model with Gaussian"),
    "sparse AnnData": (Annotated(SPARSE, ROWS, NAMES), {}, "sparse csr_matrix"),
    "sparse text": (scipy.sparse.coo_array(np.zeros((2, 2), complex)), {"sparse": "allow"}, "complex"),
    "sparse NaN": (
        scipy.sparse.coo_array([[0, 0], [0, NAN]]),
        {"sparse": "allow"},
        "got nan at row 1, column 1",
    ),
    "sparse infinity": (
        scipy.sparse.csc_array([[0, INF]]),
        {"sparse": "allow"},
        "got inf at row 0, column 1",
    ),
    "sparse width": (SPARSE, {"sparse": "allow", "features": 2}, r"\(samples, 2\), got \(4, 3\)"),
    "sparse tensor": (torch.eye(2).to_sparse(), {}, "to_dense"),
    "tensor without values": (torch.zeros(2, 2, device="meta"), {}, "meta device"),
    "NaN": (
        pd.DataFrame({"a": [NAN] + [0.0] * 99, "b": [1.0] * 100}),
        {},
        r"NaN at row 0, column 'a' \(1 of 200 values\)",
    ),
    "NaN in a named row": (
        pd.DataFrame({"a": [0.0, NAN], "b": [NAN, NAN]}, index=["u", "v"]),
        {},
        r"row 0 \('u'\), column 'b' \(3 of 4 values\): use a model that integrates missing values out",
    ),
    "infinity": (
        [[0.0, 1.0], [2.0, INF]],
        {"names": ["a", "b"]},
        r"inf at row 1, column 'b' \(1 of 4 values\)",
    ),
    "minus infinity": ([[-INF, 1.0]], {}, "-inf at row 0, column 0"),
    "infinity among NaN": (
        [[NAN, 1.0], [-INF, 1.0]],
        {"missing": "allow"},
        "-inf at row 1.*never treated as missing",
    ),
    "out of range": ([[1.0, -2e150]], {}, r"out of range with -2e\+150 at row 0, column 1.*divide"),
    "out of range among NaN": ([[NAN, 2e150]], {"missing": "allow"}, "out of range"),
    "long double overflow": (np.array([[np.longdouble("1e400")]]), {}, "inf at row 0"),
    "float16 overflow": (np.array([[np.inf]], dtype="f2"), {}, "inf at row 0"),
}


@pytest.mark.parametrize(("x", "options", "sentence"), BAD.values(), ids=BAD.keys())
def test_refusals(x, options, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        check_data(x, **options)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert ": " in text  # what is needed and what came: what to do


def test_unreadable_object():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no way")

    with pytest.raises(DataError, match="got a Broken: numpy reports no way"):
        check_data(Broken())


@pytest.mark.parametrize("option", ["missing", "sparse"])
def test_wrong_options(option):
    with pytest.raises(ParameterError, match=f"{option} should be 'refuse' or 'allow', got 'drop'"):
        check_data(VALUES, **{option: "drop"})


@pytest.mark.parametrize(
    "x",
    [np.full((2, 2), 1e150), np.full((2, 2), -1e150), np.full((2, 2), 5e-324), np.zeros((1, 1)), VALUES[:1]],
)
def test_extremes_that_are_accepted(x):
    assert np.array_equal(check_data(x).values.numpy(), x)


@pytest.mark.parametrize(
    "kind", ["csr_matrix", "csc_matrix", "coo_array", "lil_array", "dok_array", "bsr_array"]
)
def test_sparse(kind):
    x = getattr(scipy.sparse, kind)(VALUES.astype("f4"))
    data = check_data(x, sparse="allow", features=3, names=NAMES)
    assert data.values.format == "csr"
    assert data.values.dtype == np.float64
    assert np.array_equal(data.values.toarray(), VALUES)
    assert (data.dtype, data.names) == (torch.float32, NAMES)


def test_sparse_stays_as_it_was():
    x = scipy.sparse.csr_array(([1.0, 2.0, 3.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    repeated = scipy.sparse.csr_array((np.ones(3), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    for matrix in (x, repeated):
        before = contents(matrix)
        data = check_data(matrix, sparse="allow")
        data.values.data[:] = 7.0
        assert contents(matrix) == before


def test_row_without_values_is_kept_and_warned_of():
    x = [[1.0, 2.0], [NAN, NAN], [NAN, 3.0]]
    with pytest.warns(MissingRowWarning, match=r"1 row without any observed value \(row 1\): kept") as caught:
        data = check_data(x, missing="allow")
    assert data.values.shape == (3, 2)
    assert len(caught) == 1


def test_one_row_may_miss_a_value():
    assert check_data([[1.0, NAN]], missing="allow").missing.tolist() == [[False, True]]


def test_column_without_values_is_refused_for_fitting():
    data = check_data([[1.0, NAN], [2.0, NAN]], missing="allow", names=["a", "b"])
    with pytest.raises(DataError, match="observed value in every column, got none in column 'b'"):
        warn_degenerate(data)


def warned(x, **options):
    """Return the class and text of each warning a fit would give of these data."""
    data = check_data(x, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_degenerate(data)
    return [(warning.category, str(warning.message)) for warning in caught]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_good_data_are_not_warned_of():
    assert warned(noise(5000, 40)) == []
    assert warned(noise(3, 200)) == []
    assert warned(VALUES[:1]) == []
    assert warned(1e6 + noise(50, 5)) == []
    assert warned(scipy.sparse.csr_array(np.ones((4, 3))), sparse="allow") == []


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e149, 1e-300])
def test_constant_columns(constant):
    x = noise(50, 4)
    x[:, 1] = x[:, 3] = constant
    ((category, text),) = warned(x, names=list("abcd"))
    assert category is ConstantColumnWarning
    assert "columns 'b', 'd'" in text
    x[::2, 1] = NAN
    assert warned(x, names=list("abcd"), missing="allow") == [(category, text)]


def test_a_column_that_moves_once_is_not_constant():
    x = noise(30_000, 3)
    x[:, 1] = 0.5
    x[29_999, 1] = 0.75
    assert warned(x) == []


@pytest.mark.parametrize("rows", [4, 50, 5000])
@pytest.mark.parametrize("factor", [1.0, -2.0, 1e8])
def test_collinear_columns(rows, factor):
    x = noise(rows, 6)
    x[:, 4] = 3.0 + factor * x[:, 1]
    ((category, text),) = warned(x, names=list("abcdef"))
    assert category is CollinearWarning
    assert "(column 'b' and column 'e')" in text


def test_collinear_columns_that_rarely_move():
    x = noise(30_000, 3)
    x[:, 1] = x[:, 2] = 0.5
    x[[20_001, 20_003], 1:] = [[0.75], [1.25]]
    ((category, text),) = warned(x)
    assert category is CollinearWarning
    assert "(column 1 and column 2)" in text


def test_collinear_threshold():
    x = noise(4000, 2)
    e = noise(4000, seed=1)
    # corr(u, u + s e) = 1 - s^2 / 2 up to sampling error of a few per cent: 1 - 5e-11 and 1 - 5e-8 here
    assert [c for c, _ in warned(np.c_[x, x[:, 0] + 1e-5 * e])] == [CollinearWarning]
    assert warned(np.c_[x, x[:, 0] + 3e-4 * e]) == []


def test_collinear_columns_with_missing_values():
    x = noise(200, 4)
    x[::7, 2] = NAN
    x[:, 0] = 1.0 - x[:, 2]
    assert [c for c, _ in warned(x, missing="allow")] == [CollinearWarning]


def test_many_collinear_columns_are_cut_short():
    ((_, text),) = warned(noise(100, 1) * np.arange(1, 51) + 0.5)
    assert text.count(" and column ") == 5
    assert "; and more" in text


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, float])
def test_small_counts_get_a_hint(dtype):
    x = np.random.default_rng(0).integers(0, 2, size=(60, 3)).astype(dtype)
    ((category, text),) = warned(x)
    assert category is IntegerDataWarning
    assert "columns 0, 1, 2" in text


def test_hint_only_for_small_counts():
    rng = np.random.default_rng(0)
    counts, large, signed = rng.poisson(3.0, 80), rng.poisson(100.0, 80), rng.integers(-3, 4, 80)
    late = np.r_[rng.poisson(3.0, 5000), 0.5]
    ((_, text),) = warned(np.c_[counts, large, signed, rng.normal(size=80)])
    assert "in column 0:" in text
    assert warned(np.c_[late, noise(5001)]) == []


def test_warnings_point_at_the_line_outside_the_package():
    # in its own process: the type checks of the tests add frames of their own
    code = "from probae.checks import check_data\ncheck_data([[float('nan')], [1]], missing='allow')"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "<string>:2: MissingRowWarning: x has 1 row" in result.stderr


def test_check_table_reads_no_value():
    table = check_table([[NAN, INF]])
    assert np.array_equal(table.array, [[NAN, INF]], equal_nan=True)
    x = VALUES.copy()
    assert np.shares_memory(check_table(x).array, x)
    assert np.shares_memory(check_table(torch.from_numpy(x)).array, x)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_missing_mask_is_where_the_nan_are(rows, columns, seed, share):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns))
    hole = rng.random(size=x.shape) < share
    x[hole] = NAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingRowWarning)
        data = check_data(x, missing="allow")
    assert (data.missing is None) == (not hole.any())
    assert np.array_equal(data.values.numpy(), x, equal_nan=True)
    if hole.any():
        assert np.array_equal(data.missing.numpy(), hole)
        row, column = np.argwhere(hole)[0]
        with pytest.raises(
            DataError, match=rf"row {row}, column {column} \({hole.sum()} of {x.size} values\)"
        ):
            check_data(x)


def test_random_states_stay(random_state):
    before = random_state()
    warn_degenerate(check_data(noise(50, 4)))
    assert random_state() == before


@pytest.mark.parametrize("value", [1, 7, np.int32(7), np.uint8(1), torch.tensor(3)])
def test_counts(value):
    count = check_count("latents", value)
    assert type(count) is int
    assert count == int(value)


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, True, np.True_, "3", None, NAN, [1], torch.tensor(1.0)])
def test_wrong_counts(value):
    with pytest.raises(ParameterError, match="^latents should be a whole number of at least 1, got"):
        check_count("latents", value)


def test_smallest_count():
    assert check_count("warmup", 0, minimum=0) == 0
    with pytest.raises(ParameterError, match=r"^chains should be a whole number of at least 2, got 1\.$"):
        check_count("chains", 1, minimum=2)


@pytest.mark.parametrize(
    "value", [1, 1e-300, np.float32(0.5), np.int64(3), Fraction(1, 2), torch.tensor(0.5)]
)
def test_positive_numbers(value):
    number = check_positive("lr", value)
    assert type(number) is float
    assert number == float(value)


@pytest.mark.parametrize(
    "value", [0, -0.0, -1, NAN, INF, True, "1", b"1", None, [1.0], 1j, 10**400, torch.ones(2), np.ones(2)]
)
def test_wrong_positive_numbers(value):
    with pytest.raises(ParameterError, match="^lr should be a finite number above 0, got"):
        check_positive("lr", value)


def test_choices():
    assert check_choice("noise", None, ("diagonal", None)) is None
    for value in ("full", 1, [], {}, np.zeros(3), torch.zeros(3)):
        with pytest.raises(ParameterError, match=r"^noise should be 'diagonal', 'isotropic' or 'none', got"):
            check_choice("noise", value, ("diagonal", "isotropic", "none"))
    with pytest.raises(ParameterError, match="^mode should be 'only', got 'other'"):
        check_choice("mode", "other", ["only"])


@pytest.mark.parametrize(
    ("error", "base"),
    [
        ("DataError", ValueError),
        ("ParameterError", ValueError),
        ("NotExactError", NotImplementedError),
        ("FitError", RuntimeError),
        ("FileError", OSError),
    ],
)
def test_errors_are_caught_by_either_name(error, base):
    assert issubclass(getattr(checks, error), (checks.ProbaeError, base))
    assert set(getattr(checks, error).__bases__) == {checks.ProbaeError, base}


def test_every_warning_is_of_the_package():
    found = [w for w in vars(checks).values() if isinstance(w, type) and issubclass(w, Warning)]
    assert len(found) == 13
    assert all(issubclass(w, checks.ProbaeWarning) for w in found)
    assert issubclass(checks.ProbaeWarning, UserWarning)


def test_data_is_frozen():
    data = check_data(VALUES)
    assert isinstance(data, Data)
    with pytest.raises(AttributeError):
        data.names = NAMES
