"""Which reader a file's ending calls for."""

from __future__ import annotations

from collections.abc import Callable

from probae.checks import FileError
from probae.storage.arrays import parse_npy, parse_npz, parse_parquet
from probae.storage.separated import parse_csv
from probae.storage.tables import Names, Parsed

Parser = Callable[[bytes, str, Names], Parsed]  # from the bytes, the name to show, and the columns to keep


def parser(suffix: str, shown: str) -> Parser:
    """Return what reads files of this ending.

    Examples
    --------
    >>> parser(".xlsx", "a.xlsx")
    Traceback (most recent call last):
    ...
    probae.errors.FileError: a.xlsx should end in .csv, .npy, .npz, .parquet, .tsv or .txt:
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
