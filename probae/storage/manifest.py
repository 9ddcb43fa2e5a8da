"""The manifest of a saved fit, as strict JSON with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from probae.checks import FileError
from probae.strict import MAX_BRACKETS, is_count, is_digest, strict_json

# what each adds; 2 is of models with priors, and of samplers, whose program has some
SCHEMAS = {1: frozenset(), 2: frozenset({"parameter_priors", "model_priors"})}
MAX_BYTES = 4_000_000  # of the manifest; feature names are most of it
KEYS = frozenset(
    {
        "format", "schema", "model", "encoder", "method", "posterior", "seed", "names", "converged",
        "interrupted", "seconds", "warnings", "restarts", "draws", "sample_stats", "tensors", "weights",
        "versions", "checksum",
    }
)  # fmt: skip


def dump(content: dict[str, Any]) -> bytes:
    r"""Write the manifest, with a checksum over all the rest.

    Raises
    ------
    FileError
        If it would be larger than `parse` accepts.

    Examples
    --------
    >>> dump({"seed": 0})[:11]
    b'{\n "seed": '
    """
    raw = json.dumps(content | {"checksum": checksum(content)}, indent=1, allow_nan=False).encode("ascii")
    if len(raw) > MAX_BYTES or raw.count(b"[") + raw.count(b"{") > MAX_BRACKETS:
        raise FileError(f"its manifest of {len(raw)} bytes would be too large to load: shorten the names.")
    return raw


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content in one fixed spelling of JSON."""
    plain = {key: value for key, value in content.items() if key != "checksum"}
    spelt = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(spelt.encode("ascii")).hexdigest()


def parse(raw: bytes) -> dict[str, Any]:
    """Read a manifest, refusing whatever `dump` does not write.

    Raises
    ------
    FileError
        With what is wrong.

    Examples
    --------
    >>> parse(b"[]")
    Traceback (most recent call last):
    ...
    probae.errors.FileError: the manifest is not a JSON object.
    """
    content = strict_json(raw, "the manifest")
    if not isinstance(content, dict):
        raise FileError("the manifest is not a JSON object.")
    if content.get("format") != "probae.fit":
        raise FileError("the manifest does not say that it belongs to a fit of probae.")
    check_schema(content.get("schema"))
    keys = KEYS | SCHEMAS[content["schema"]]
    if set(content) != keys:
        raise FileError(f"the manifest has missing or surplus entries: {sorted(set(content) ^ keys)[:5]}.")
    if content["checksum"] != checksum(content):
        raise FileError("the manifest was changed after it was written (its checksum differs).")
    _check_types(content)
    return content


def check_schema(schema: Any) -> None:
    """Accept the schemas this version reads.

    Examples
    --------
    >>> check_schema(3)
    Traceback (most recent call last):
    ...
    probae.errors.FileError: the manifest has schema 3, and this version of probae reads up to 2: update probae.
    """
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise FileError(f"the manifest has schema {repr(schema)[:40]}, which is no version number.")
    if schema not in SCHEMAS:
        newest = max(SCHEMAS)
        advice = "update probae" if schema > newest else "no version of probae wrote it"
        raise FileError(
            f"the manifest has schema {schema}, and this version of probae reads up to {newest}: {advice}."
        )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_types(content: dict[str, Any]) -> None:
    """Check the entries that are no objects of the registry."""
    weights, seconds, restarts = content["weights"], content["seconds"], content["restarts"]
    right = {
        "seed": is_count(content["seed"]),
        "names": content["names"] is None or _texts(content["names"]),
        "converged": isinstance(content["converged"], bool),
        "interrupted": isinstance(content["interrupted"], bool),
        "draws": isinstance(content["draws"], bool),
        "sample_stats": isinstance(content["sample_stats"], bool),
        "seconds": isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0,
        "warnings": _texts(content["warnings"]),
        "restarts": isinstance(restarts, list) and all(isinstance(one, dict) for one in restarts),
        "tensors": isinstance(content["tensors"], dict),
        "weights": isinstance(weights, dict)
        and set(weights) == {"sha256", "bytes"}
        and is_digest(weights["sha256"])
        and is_count(weights["bytes"]),
        "versions": isinstance(content["versions"], dict),
        "parameter_priors": isinstance(content.get("parameter_priors", {}), dict | None),
        "model_priors": isinstance(content.get("model_priors", {}), dict),
    }
    wrong = [name for name, passed in right.items() if not passed]
    if wrong:
        raise FileError(f"the manifest has a malformed entry {wrong[0]!r}.")
