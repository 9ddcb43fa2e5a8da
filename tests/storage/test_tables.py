"""Tables: names are kept, missing values are NaN, and what is wrong is named."""

import io
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import probae as pa
from probae.checks import check_data
from probae.io import read_table

NAN = float("nan")


def table(tmp_path, text, suffix=".csv"):
    path = tmp_path / f"table{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def names(x):
    return [str(name) for name in x.features.values] if "features" in x.coords else None


@pytest.mark.parametrize(
    ("text", "expected", "labels"),
    [
        ("a,b\n1,2\n3,4\n", [[1, 2], [3, 4]], ["a", "b"]),
        ("1,2\n3,4", [[1, 2], [3, 4]], None),
        ("a;b\r\n1;2\r\n", [[1, 2]], ["a", "b"]),
        ("a\tb\n1\t2\n", [[1, 2]], ["a", "b"]),
        ("\ufeffa,b\n1,2\n", [[1, 2]], ["a", "b"]),
        ("a,b\n\n1,\n,2\nNA,nan\nNone,?\n", [[1, NAN], [NAN, 2], [NAN, NAN], [NAN, NAN]], ["a", "b"]),
        (" a , b \n1e-3, -2.5E+2 \n", [[0.001, -250]], ["a", "b"]),
        ('"a","b, c"\n1,2\n', [[1, 2]], ["a", "b, c"]),
        ("a\n1\n2\n", [[1], [2]], ["a"]),
        (",a,b\nx,1,2\ny,3,4\n", [[1, 2], [3, 4]], ["a", "b"]),
        ("Unnamed: 0,a\n0,1\n1,3\n", [[1], [3]], ["a"]),
        ("a,b\nx,1,2\ny,3,4\n", [[1, 2], [3, 4]], ["a", "b"]),
        ("0,1,2\n5,6,7\n", [[5, 6, 7]], ["0", "1", "2"]),
        (",0,1\n0,5,6\n", [[5, 6]], ["0", "1"]),
        ("0,1\n1,0\n", [[0, 1], [1, 0]], None),
        ("NA,1\n2,3\n", [[NAN, 1], [2, 3]], None),
        (",1\n2,3\n", [[NAN, 1], [2, 3]], None),
    ],
)
def test_csv_is_read(text, expected, labels, tmp_path):
    x = read_table(table(tmp_path, text))
    assert_array_equal(x.values, np.array(expected, dtype=float))
    assert names(x) == labels
    assert x.dtype == np.float64


def test_row_names_are_kept(tmp_path):
    x = read_table(table(tmp_path, ",a,b\nx,1,2\ny,3,4\n"))
    assert x.samples.values.tolist() == ["x", "y"]
    assert check_data(x).rows == ("x", "y")


def test_the_result_can_be_fitted_with_its_names(tmp_path):
    source = pa.datasets.holzinger_swineford()
    rows = [",".join(source.feature_names), *(",".join(map(repr, row)) for row in source.x.tolist())]
    run = pa.fit(pa.FactorAnalysis(9, 2), read_table(table(tmp_path, "\n".join(rows))))
    assert run.names == source.feature_names
    assert float(run.history[-1]) == float(pa.fit(pa.FactorAnalysis(9, 2), source.x).history[-1])


def test_columns_are_chosen_by_name(tmp_path):
    path = table(tmp_path, "id,a,b\nPasteur,1,2\nGrant,3,4\n")
    x = read_table(path, columns=["b", "a"])
    assert_array_equal(x.values, [[2, 1], [4, 3]])
    assert names(x) == ["b", "a"]
    with pytest.raises(pa.DataError, match=r"no column 'c': it has 'id', 'a', 'b'\."):
        read_table(path, columns=["c"])
    with pytest.raises(pa.DataError, match="no line of names"):
        read_table(table(tmp_path, "1,2\n3,4\n"), columns=["a"])


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("a,b\n1,2\n3,x\n", pa.DataError, r"got 'x' in column 'b', line 3: choose other columns"),
        ("1,2\n3,x\n", pa.DataError, r"got 'x' in column 2, line 2"),
        ('a;b\n"1,5";2\n', pa.DataError, "write decimals with a point"),
        ("a,b\n1,2\n3\n", pa.FileError, "1 cells in line 3, but 2 in the lines above"),
        ("a,b\n1,2\n3,4,5\n", pa.FileError, "3 cells in line 3"),
        ("a,b,c,d\n1,2\n", pa.FileError, "4 names, but 2 cells in line 2"),
        ("a,b\n", pa.FileError, "no rows of numbers"),
        ("", pa.FileError, "is empty"),
        ("\n\n", pa.FileError, "is empty"),
        (b"a,b\n1,\xff\n", pa.FileError, "not UTF-8"),
        ("a,b\n1,\0\n", pa.DataError, "column 'b', line 2"),
        ('a,b\n1,"2\n', pa.FileError, "not readable as CSV near line 2"),
        ("a\n" + "x" * 200_000 + "\n", pa.FileError, "field larger"),
    ],
)
def test_a_bad_csv_is_named(text, error, match, tmp_path):
    with pytest.raises(error, match=match) as caught:
        read_table(table(tmp_path, text))
    assert "table.csv" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_many_lines_are_read_in_blocks(tmp_path):
    values = np.arange(50_000.0).reshape(25_000, 2)
    text = "a,b\n" + "\n".join(f"{a},{b}" for a, b in values) + "\n"
    assert_array_equal(read_table(table(tmp_path, text)).values, values)
    with pytest.raises(pa.DataError, match="column 'b', line 25002"):
        read_table(table(tmp_path, text + "1,two\n"))


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(compressed=False, **arrays):
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array", [np.eye(3), np.eye(2, dtype="f4"), np.array([[1, 2], [3, 4]], order="F"), np.eye(2) > 0]
)
def test_numpy_files_are_read(array, tmp_path):
    assert_array_equal(read_table(table(tmp_path, npy(array), ".npy")).values, array)
    assert_array_equal(read_table(table(tmp_path, npz(z=array), ".npz")).values, array)
    assert_array_equal(read_table(table(tmp_path, npz(True, x=array, other=np.eye(9)), ".npz")).values, array)


def claiming(shape, descr="<f8", body=b""):
    """Return an array file whose header says more than there is."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


def archive(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, raw in files.items():
            made.writestr(f"{name}.npy", raw)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "suffix", "match"),
    [
        (npy(np.array([[{}]]), allow_pickle=True), ".npy", "Python objects"),
        (npz(x=np.array([[{}]], dtype=object)), ".npz", "Python objects"),
        (claiming((10**9, 10**9)), ".npy", "claims"),
        (claiming((3, 3)), ".npy", "claims"),
        (claiming((-3, 3)), ".npy", None),
        (npy(np.eye(3))[:-1], ".npy", "claims"),
        (npy(np.zeros(3)), ".npy", "two-dimensional"),
        (npy(np.array([["a"]])), ".npy", "two-dimensional"),
        (b"", ".npy", "not a readable numpy"),
        (b"\x93NUMPY\x09\x00", ".npy", "not a readable numpy"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr'", ".npy", "not a readable numpy"),
        (npz(a=np.eye(2), b=np.eye(2)), ".npz", "one array, or one named 'x', got 'a', 'b'"),
        (archive(), ".npz", "got nothing"),
        (archive(x=claiming((10**6, 10**6))), ".npz", "claims"),
        (archive(x=b"no array"), ".npz", "not a readable numpy"),
        (archive(x=claiming((2**26, 5), "|u1", bytes(5 * 2**26))), ".npz", "would grow"),
        (b"PK\x03\x04", ".npz", "archive"),
        (npz(x=np.eye(50))[:-40], ".npz", "archive"),
        (b"PAR1", ".parquet", None),
        (b"x", ".xlsx", "save the table as CSV"),
        (b"x", "", "save the table as CSV"),
    ],
)
def test_a_bad_array_file_is_refused(raw, suffix, match, tmp_path):
    with pytest.raises((pa.FileError, pa.DataError), match=match):
        read_table(table(tmp_path, raw, suffix))


def test_damaged_archives_are_refused(tmp_path):
    """But for damage to bytes that say nothing of the numbers, such as a date: these are then as they were."""
    x = np.random.default_rng(0).normal(size=(20, 3))
    raw = npz(True, x=x)
    chance, refused = np.random.default_rng(1), 0
    for _ in range(200):
        damaged = bytearray(raw)
        damaged[chance.integers(len(raw))] ^= 1 << chance.integers(8)
        try:
            found = read_table(table(tmp_path, bytes(damaged), ".npz"))
        except (pa.FileError, pa.DataError):
            refused += 1
        else:
            np.testing.assert_array_equal(np.asarray(found), x)
    assert refused > 100  # most of the file is numbers, under a checksum


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")

    def absent(*arguments):
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pandas, "read_parquet", absent)
    with pytest.raises(pa.FileError, match="needs pandas and pyarrow"):
        read_table(table(tmp_path, b"PAR1", ".parquet"))
    monkeypatch.setattr(
        pandas, "read_parquet", lambda _: pandas.DataFrame({"a": [1.0, None], "t": ["x", "y"], "b": [1, 2]})
    )
    assert names(read_table(table(tmp_path, b"PAR1", ".parquet"), columns=["b", "a"])) == ["b", "a"]
    with pytest.raises(pa.DataError, match="column 't'"):
        read_table(table(tmp_path, b"PAR1", ".parquet"))


@pytest.mark.parametrize("place", ["", "no such file.csv", "folder.csv"])
def test_a_missing_table_is_a_file_error(place, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(pa.FileError):
        read_table(tmp_path / place)
