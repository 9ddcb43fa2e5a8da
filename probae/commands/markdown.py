"""Markdown from values that may hold anything, such as column names out of a stranger's file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# What Markdown gives a meaning; an underscore or a hyphen inside a word is left, for the sake of names.
SPECIAL = re.compile(r"([\\`*\[\]|~!#]|(?<!\w)_|_(?!\w))")
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would run, were the table pasted into one


def clean(text: object) -> str:
    r"""Return text without what a terminal or a page would act on: control characters are written out.

    Examples
    --------
    >>> clean("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(text))


def escape(text: object) -> str:
    r"""Return text that a Markdown page shows as it is, and a spreadsheet does not run.

    Examples
    --------
    >>> escape("<b>|")
    '&lt;b&gt;\\|'
    >>> escape("=cmd()")
    "'=cmd()"
    >>> escape("-0.25")
    '-0.25'
    """
    plain = clean(str(text).replace("\r", " ").replace("\n", " "))
    if plain.startswith(FORMULA) and not _is_number(plain):
        plain = "'" + plain
    return SPECIAL.sub(r"\\\1", html.escape(plain, quote=False))


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; columns of numbers only are set to the right.

    Examples
    --------
    >>> print(table(["name", "value"], [["a", 1.5]]))
    | name | value |
    | --- | --: |
    | a | 1.5 |
    """
    cells = [[escape(cell) for cell in row] for row in rows]
    numeric = [bool(cells) and all(_is_number(row[j]) for row in cells) for j in range(len(header))]
    lines = [[escape(cell) for cell in header], ["--:" if right else "---" for right in numeric], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(items: Iterable[object]) -> str:
    """Return a list.

    Examples
    --------
    >>> print(bullets(["one", "two"]))
    - one
    - two
    """
    return "\n".join(f"- {escape(item)}" for item in items)


def block(text: object, language: str = "text") -> str:
    """Return text in a block that shows it letter by letter; its fence is longer than any in the text.

    Examples
    --------
    >>> block("a").split()
    ['```text', 'a', '```']
    """
    plain = clean(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{fence}{language}\n{plain}\n{fence}"


def picture(title: str, file: str) -> str:
    """Return an image that lies beside the page."""
    return f"![{escape(title)}]({file})"


def number(value: float | None) -> str:
    """Return a number to four digits.

    Examples
    --------
    >>> number(12.34567), number(None)
    ('12.35', '')
    """
    return "" if value is None else f"{value:.4g}"


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\u2212", "-") or "nan")  # an empty cell stands in a column of numbers
    except ValueError:
        return False
    return True
