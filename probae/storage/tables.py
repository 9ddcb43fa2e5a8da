"""Tables of numbers from the bytes of CSV, numpy and Parquet files."""

from __future__ import annotations

import csv
import io
import itertools
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probae.checks import DataError, FileError, check_table

if TYPE_CHECKING:
    import xarray

MISSING = {"", "na", "n/a", "nan", "null", "none", ".", "?"}  # lower case
UNNAMED = ("", "Unnamed: 0")  # headings of a column of row names
BLOCK = 10_000  # rows turned into numbers at a time: text takes far more memory
BOMB_BYTES, BOMB_RATIO = 2**28, 100  # what grows by more, to more than this, is no table of measurements

Names = tuple[str, ...] | None
Parsed = tuple[NDArray[Any], Names, Names]  # values, column names, row names


def parser(suffix: str, shown: str) -> Callable[[bytes, str], Parsed]:
    """Return what reads files of this ending.

    Examples
    --------
    >>> parser(".xlsx", "a.xlsx")
    Traceback (most recent call last):
    ...
    probae.checks.FileError: a.xlsx should end in .csv, .npy, .npz, .parquet, .tsv or .txt:
    save the table as CSV.
    """
    readers = {
        ".csv": parse_csv, ".tsv": parse_csv, ".txt": parse_csv, ".npy": parse_npy, ".npz": parse_npz,
        ".parquet": parse_parquet,
    }  # fmt: skip
    if suffix not in readers:
        *most, last = sorted(readers)
        raise FileError(f"{shown} should end in {', '.join(most)} or {last}: save the table as CSV.")
    return readers[suffix]


def label(values: NDArray[Any], names: Names, rows: Names, columns: Sequence[str] | None) -> xarray.DataArray:
    """Return the table with its names, the chosen columns only."""
    import xarray

    if columns:
        if names is None:
            raise DataError("Columns are chosen by their names, but the table has no line of names.")
        absent = [name for name in columns if name not in names]
        if absent:
            listed = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
            raise DataError(f"The table has no column {absent[0]!r}: it has {listed}.")
        values, names = values[:, [names.index(name) for name in columns]], tuple(columns)
    coordinates = {"samples": rows, "features": names}
    present = {dim: list(labels) for dim, labels in coordinates.items() if labels is not None}
    return xarray.DataArray(values, dims=("samples", "features"), coords=present)


def parse_csv(raw: bytes, shown: str) -> Parsed:
    r"""Read separated values: commas, semicolons or tabs, whichever the first line has most of.

    Raises
    ------
    FileError
        If it is no text, or a row has more or fewer cells than the first.
    DataError
        If a cell is neither a number nor missing.

    Examples
    --------
    >>> parse_csv(b"a;b\n1;2\n3;NA\n", "t.csv")
    (array([[ 1.,  2.],
           [ 3., nan]]), ('a', 'b'), None)
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(f"{shown} is not UTF-8 text: save it as CSV in UTF-8.") from None
    first_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = _lines(reader, shown)
    first = next(lines, None)
    if first is None:
        raise FileError(f"{shown} is empty: a table of numbers is needed.")
    header = [cell.strip() for cell in first[1]] if _is_header(first[1]) else None
    body = lines if header is not None else itertools.chain([first], lines)
    return _read_rows(body, header, shown)


def parse_npy(raw: bytes, shown: str) -> Parsed:
    """Read one numpy array; arrays of Python objects are refused, since reading them runs code."""
    stream = io.BytesIO(raw)
    _check_array_header(stream, len(raw), shown)
    stream.seek(0)
    return _two_dimensional(np.lib.format.read_array(stream, allow_pickle=False), shown), None, None


def parse_npz(raw: bytes, shown: str) -> Parsed:
    """Read the only array of an archive, or the one named x."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            sizes = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            name = "x" if "x" in sizes else next(iter(sizes), None)
            if name is None or (name != "x" and len(sizes) > 1):
                listed = ", ".join(repr(key)[:40] for key in list(sizes)[:8]) or "nothing"
                raise FileError(f"{shown} should hold one array, or one named 'x', got {listed}.")
            entry = sizes[name]
            if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * len(raw):
                raise FileError(f"{shown} would grow to {entry.file_size} bytes: save it uncompressed.")
            with archive.open(entry) as stream:
                _check_array_header(stream, entry.file_size, shown)
            return parse_npy(archive.read(entry), shown)
    except (FileError, DataError):
        raise
    except Exception as error:  # damaged archives raise errors of many kinds
        raise FileError(f"{shown} is not a readable .npz archive: {str(error)[:100]}.") from error


def parse_parquet(raw: bytes, shown: str) -> Parsed:
    """Read a Parquet table through pandas."""
    try:
        import pandas

        frame = pandas.read_parquet(io.BytesIO(raw))
    except ImportError:
        raise FileError(
            f"{shown} needs pandas and pyarrow to be read: install both, or save the table as CSV."
        ) from None
    except Exception as error:  # every engine has errors of its own
        raise FileError(f"{shown} is not a readable Parquet file: {str(error)[:100]}.") from error
    table = check_table(frame)
    return np.asarray(table.array, dtype=np.float64), table.names, table.rows


def _lines(reader: Any, shown: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not blank, with their numbers."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise FileError(f"{shown} is not readable as CSV near line {reader.line_num}: {error}.") from None


def _read_rows(lines: Iterator[tuple[int, list[str]]], header: list[str] | None, shown: str) -> Parsed:
    """Turn lines into numbers, block by block; the first column may hold row names."""
    blocks, labels = [], []
    width = labelled = None
    while block := list(itertools.islice(lines, BLOCK)):
        if width is None:
            width = len(block[0][1])
            labelled = header is not None and (header[0] in UNNAMED or len(header) == width - 1)
            header = header[1:] if header and header[0] in UNNAMED else header
            if header is not None and len(header) != width - labelled:
                raise FileError(f"{shown} has {len(header)} names, but {width} cells in line {block[0][0]}.")
        ragged = next((line for line in block if len(line[1]) != width), None)
        if ragged is not None:
            raise FileError(
                f"{shown} has {len(ragged[1])} cells in line {ragged[0]}, but {width} in the lines above."
            )
        if labelled:
            labels += [cells[0] for _, cells in block]
            block = [(number, cells[1:]) for number, cells in block]
        blocks.append(_numbers(block, header, shown))
    if not blocks:
        raise FileError(f"{shown} has a line of names but no rows of numbers.")
    names = None if header is None else tuple(header)
    return np.concatenate(blocks), names, tuple(labels) if labelled else None


def _numbers(block: list[tuple[int, list[str]]], header: list[str] | None, shown: str) -> NDArray[np.float64]:
    try:
        return np.array([cells for _, cells in block], dtype=np.float64)
    except ValueError:  # a missing value, or something that is no number
        return np.array([_number_row(cells, line, header, shown) for line, cells in block])


def _number_row(cells: list[str], line: int, header: list[str] | None, shown: str) -> list[float]:
    numbers = [_number(cell) for cell in cells]
    if None in numbers:
        bad = numbers.index(None)
        where = f"column {bad + 1}" if header is None else f"column {header[bad]!r}"
        advice = "leave that column out, or write a missing value as NA"
        if cells[bad].replace(",", "", 1).strip().lstrip("-").isdigit():
            advice = "write decimals with a point"
        raise DataError(
            f"{shown} should hold numbers, got {cells[bad][:40]!r} in {where}, line {line}: {advice}."
        )
    return numbers


def _number(cell: str) -> float | None:
    """Read a cell: NaN where it is missing, None where it is no number."""
    if cell.strip().lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _is_header(cells: list[str]) -> bool:
    """Whether a first line holds names: a cell that is no number, or the labels 0, 1, 2, ... of pandas."""
    stripped = [cell.strip() for cell in cells]
    counted = stripped[1:] if stripped[0] in UNNAMED else stripped
    counts_up = counted == [str(i) for i in range(len(counted))] and len(cells) > 2
    return counts_up or any(_number(cell) is None for cell in cells)


def _check_array_header(stream: Any, size: int, shown: str) -> None:
    """Refuse an array of objects, or of more bytes than there are, before taking memory for it."""
    try:
        version = np.lib.format.read_magic(stream)
        form = np.lib.format
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # a damaged header raises errors of many kinds
        reason = (str(error).splitlines() or [""])[0]
        raise FileError(f"{shown} is not a readable numpy array: {reason[:100].rstrip('.')}.") from error
    if dtype.hasobject:
        raise FileError(f"{shown} holds Python objects, which are not read because that could run code.")
    if math.prod(shape) * dtype.itemsize > size:
        raise FileError(f"{shown} claims an array of shape {str(shape)[:60]}, but has {size} bytes only.")


def _two_dimensional(array: NDArray[Any], shown: str) -> NDArray[Any]:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{shown} should hold a two-dimensional array of numbers, got {array.shape} of {array.dtype}."
        )
    return array
