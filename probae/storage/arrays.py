"""Tables from the bytes of numpy and Parquet files, none of which may run code or take memory it does not fill."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probae.checks import DataError, FileError, check_table
from probae.storage.tables import Names, Parsed, positions

BOMB_BYTES, BOMB_RATIO = 2**28, 100  # what grows by more, to more than this, is no table of measurements


def parse_npy(raw: bytes, shown: str, columns: Names = None) -> Parsed:
    """Read one numpy array; arrays of Python objects are refused, since reading them runs code."""
    positions(columns, None)
    stream = io.BytesIO(raw)
    _check_array_header(stream, len(raw), shown)
    stream.seek(0)
    return _two_dimensional(np.lib.format.read_array(stream, allow_pickle=False), shown), None, None


def parse_npz(raw: bytes, shown: str, columns: Names = None) -> Parsed:
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
            return parse_npy(archive.read(entry), shown, columns)
    except (FileError, DataError):
        raise
    except Exception as error:  # damaged archives raise errors of many kinds
        raise FileError(f"{shown} is not a readable .npz archive: {str(error)[:100]}.") from error


def parse_parquet(raw: bytes, shown: str, columns: Names = None) -> Parsed:
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
    table = check_table(frame.iloc[:, positions(columns, [str(name) for name in frame.columns])])
    return np.asarray(table.array, dtype=np.float64), table.names, table.rows


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
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - stream.tell():
        raise FileError(f"{shown} claims an array of shape {str(shape)[:60]}, but has {size} bytes only.")


def _two_dimensional(array: NDArray[Any], shown: str) -> NDArray[Any]:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{shown} should hold a two-dimensional array of numbers, got {array.shape} of {array.dtype}."
        )
    return array
