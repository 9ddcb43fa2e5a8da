"""Tables from text with separated values (CSV)."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probae.checks import DataError, FileError
from probae.storage.tables import Names, Parsed, positions

MISSING = {"", "na", "n/a", "nan", "null", "none", ".", "?"}  # lower case
UNNAMED = ("", "Unnamed: 0")  # headings of a column of row names
BLOCK = 10_000  # lines turned into numbers at a time: text takes far more memory

Line = tuple[int, list[str]]  # number in the file, and cells


@dataclass(frozen=True)
class Layout:
    """How lines are cut: their cells, whether the first holds a row name, the columns kept and their names."""

    shown: str
    width: int
    labelled: bool
    kept: list[int]
    names: list[str] | None


def parse_csv(raw: bytes, shown: str, columns: Names = None) -> Parsed:
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
    return _read_rows(body, header, shown, columns)


def _lines(reader: Any, shown: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not blank, with their numbers."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise FileError(f"{shown} is not readable as CSV near line {reader.line_num}: {error}.") from None


def _read_rows(lines: Iterator[Line], header: list[str] | None, shown: str, columns: Names) -> Parsed:
    """Turn lines into numbers, block by block."""
    layout, blocks, labels = None, [], []
    while block := list(itertools.islice(lines, BLOCK)):
        layout = layout or _layout(block[0], header, shown, columns)
        ragged = next((line for line in block if len(line[1]) != layout.width), None)
        if ragged is not None:
            raise FileError(
                f"{shown} has {len(ragged[1])} cells in line {ragged[0]}, but {layout.width} in the lines above."
            )
        labels += [cells[0] for _, cells in block] if layout.labelled else []
        blocks.append(_numbers([(line, [cells[j] for j in layout.kept]) for line, cells in block], layout))
    if layout is None:
        raise FileError(f"{shown} has a line of names but no rows of numbers.")
    names = None if layout.names is None else tuple(layout.names)
    return np.concatenate(blocks), names, tuple(labels) if layout.labelled else None


def _layout(first: Line, header: list[str] | None, shown: str, columns: Names) -> Layout:
    """Compare the names with the first line of numbers: a column without a name holds row names."""
    line, width = first[0], len(first[1])
    labelled = header is not None and (header[0] in UNNAMED or len(header) == width - 1)
    names = header[1:] if header and header[0] in UNNAMED else header
    if names is not None and len(names) != width - labelled:
        raise FileError(f"{shown} has {len(names)} names, but {width - labelled} cells in line {line}.")
    places = positions(columns, names) if columns or names else list(range(width))
    chosen = None if names is None else [names[j] for j in places]
    return Layout(shown, width, labelled, [j + labelled for j in places], chosen)


def _numbers(block: list[Line], layout: Layout) -> NDArray[np.float64]:
    try:
        return np.array([cells for _, cells in block], dtype=np.float64)
    except ValueError:  # a missing value, or something that is no number
        return np.array([_number_row(cells, line, layout) for line, cells in block])


def _number_row(cells: list[str], line: int, layout: Layout) -> list[float]:
    numbers = [_number(cell) for cell in cells]
    bad = next((j for j, number in enumerate(numbers) if number is None), None)
    if bad is not None:
        where = f"column {layout.kept[bad] + 1}" if layout.names is None else f"column {layout.names[bad]!r}"
        advice = "choose other columns, or write a missing value as NA"
        if cells[bad].replace(",", "", 1).strip().lstrip("-").isdigit():
            advice = "write decimals with a point"
        raise DataError(
            f"{layout.shown} should hold numbers, got {cells[bad][:40]!r} in {where}, line {line}: {advice}."
        )
    return [number for number in numbers if number is not None]


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
