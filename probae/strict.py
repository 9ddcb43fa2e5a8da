"""JSON and the headers of safetensors files, read without trust in who wrote them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from probae.checks import FileError

MAX_BRACKETS = (
    50_000  # objects and lists take far more memory and time than their text; 10,000 tensors need 30,000
)
MAX_HEADER = 1_000_000  # bytes
MAX_TENSORS = 10_000


def strict_json(raw: bytes, what: str) -> Any:
    """Parse JSON in UTF-8, without repeated keys, numbers that are not finite, or deep or endless nesting.

    Examples
    --------
    >>> strict_json(b'{"a": 1, "a": 2}', "it")
    Traceback (most recent call last):
    ...
    probae.errors.FileError: it is not JSON: the key 'a' is repeated.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_BRACKETS:
        raise FileError(f"{what} has more than {MAX_BRACKETS} brackets.")
    try:
        text = raw.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise FileError(f"{what} is not UTF-8 text.") from None
    except RecursionError:
        raise FileError(f"{what} is not JSON: it is nested too deep.") from None
    except ValueError as error:
        raise FileError(f"{what} is not JSON: {str(error)[:100].rstrip('.')}.") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:40]!r} is repeated")
        found[key] = value
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is out of range")
    return number


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 0 (True is not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_digest(value: Any) -> bool:
    """Whether a value is a SHA-256 in hexadecimal; nothing else ever becomes part of a file name."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def check_header(raw: bytes) -> dict[str, Any]:
    """Return the header of a safetensors file, having bounded its size before it is parsed.

    Examples
    --------
    >>> check_header(b"")
    Traceback (most recent call last):
    ...
    probae.errors.FileError: the weights are no safetensors file: they end before their header.
    """
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or size > len(raw) - 8:
        raise FileError("the weights are no safetensors file: they end before their header.")
    if size > MAX_HEADER:
        raise FileError(f"the weights have a header of {size} bytes, more than the {MAX_HEADER} it may have.")
    header = strict_json(raw[8 : 8 + size], "the header of the weights")
    if not isinstance(header, dict):
        raise FileError("the header of the weights is not a JSON object.")
    if len(header) > MAX_TENSORS:
        raise FileError(f"the weights hold {len(header)} tensors, more than the {MAX_TENSORS} they may.")
    return header
