"""Numbers and tables as text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float, digits: int = 3) -> str:
    """Write a number with three decimals, or in powers of ten where those would hide it.

    Examples
    --------
    >>> number(0.51249), number(1234567.0), number(float("nan"))
    ('0.512', '1.23e+06', '-')
    """
    if math.isnan(value):
        return "-"
    if value == 0 or 10**-digits <= abs(value) < 10**5:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}g}"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right.

    Examples
    --------
    >>> print(grid(["", "size"], [["a", "1.5"], ["bc", "10.25"]]))
         size
    a     1.5
    bc  10.25
    """
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join(line.rstrip() for line in lines)
