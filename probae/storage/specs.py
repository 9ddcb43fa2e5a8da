"""Objects as plain JSON and back: a class by its name in a fixed table, and its constructor's arguments.

A name that is not in the table is refused, so a file can never choose what code runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from probae.checks import FileError
from probae.storage.registry import OWNERS, READERS, REGISTRY, table_name

MAX_DEPTH = 8  # of objects within objects
MAX_ITEMS = 1000  # in a list of arguments


def held_tensors(value: Any, name: str) -> dict[str, Tensor]:
    """Return the tensors among the fields of a dataclass, and of dataclasses in it, by the way to them.

    Examples
    --------
    >>> from probae.inference import SegmentedLikelihood
    >>> held_tensors(SegmentedLikelihood([4, 4, 7]), "method")
    {'method.segments.labels': tensor([4, 4, 7])}
    """
    found: dict[str, Tensor] = {}
    if isinstance(value, tuple):
        for place, part in enumerate(value):
            found |= held_tensors(part, f"{name}.{place}")
    known = REGISTRY.get(table_name(type(value)), (None,))[0] is type(value)
    if not known or not dataclasses.is_dataclass(value):
        return found
    for field in dataclasses.fields(value):
        part, way = getattr(value, field.name), f"{name}.{field.name}"
        found |= {way: part} if isinstance(part, Tensor) and part.ndim else held_tensors(part, way)
    return found


def to_spec(value: Any, shared: Mapping[str, Any], depth: int = 0) -> Any:
    """Describe a value as JSON.

    Parameters
    ----------
    value : object
        A number, text, None, a list of values, or an object whose class is in the table.
    shared : mapping of str to object
        Objects described once under a name; where one is met again it becomes ``{"ref": name}``, so that what
        was one object stays one.
    depth : int
        How many objects the value is within.

    Raises
    ------
    FileError
        For a class that is not in the table, or more nesting than a file may have.

    Examples
    --------
    >>> from probae.priors import Laplace, Scaled
    >>> to_spec(Scaled(Laplace(), sd=2.0), {})
    {'class': 'Scaled', 'law': {'class': 'Laplace'}, 'sd': 2.0}
    """
    name = next((name for name, known in shared.items() if value is known and depth > 0), None)
    if name is not None:
        return {"ref": name}
    if isinstance(value, Tensor):
        value = float(value.detach())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if depth > MAX_DEPTH:
        raise FileError(f"objects are nested more than {MAX_DEPTH} deep.")
    if isinstance(value, list | tuple | nn.ModuleList):
        if len(value) > MAX_ITEMS:
            raise FileError(f"a list has {len(value)} items, more than the {MAX_ITEMS} a file may hold.")
        return [to_spec(item, shared, depth + 1) for item in value]
    name = table_name(type(value))
    kind, arguments = REGISTRY.get(name, (None, ()))
    if type(value) is not kind or (depth > 0 and isinstance(value, OWNERS)):
        raise FileError(f"{name} is not among what a file can hold ({', '.join(REGISTRY)}).")
    found = {arg: READERS.get((kind, arg), attrgetter(arg))(value) for arg in arguments}
    return {"class": name} | {arg: to_spec(part, shared, depth + 1) for arg, part in found.items()}


def from_spec(spec: Any, kind: type | tuple[type, ...], shared: Mapping[str, Any]) -> Any:
    """Build the object of a spec, which must be of the given kind.

    Raises
    ------
    FileError
        For anything `to_spec` does not write, and arguments the constructor refuses.

    Examples
    --------
    >>> from probae.priors import Prior
    >>> from_spec({"class": "StudentT", "df": 5.0, "learn": False}, Prior, {})
    StudentT(df=5)
    >>> from_spec({"class": "os.system"}, Prior, {})
    Traceback (most recent call last):
    ...
    probae.errors.FileError: an object has the unknown class 'os.system'.
    """
    right = True
    if isinstance(spec, dict) and "class" in spec:
        right = issubclass(_look_up(spec)[0], kind)  # asked before anything is built
    value = _build(spec, shared, 0) if right else None
    if not isinstance(value, kind):
        raise FileError(f"{_short(spec)} stands where something else belongs.")
    return value


def _build(spec: Any, shared: Mapping[str, Any], depth: int) -> Any:
    if depth > MAX_DEPTH + 1:
        raise FileError(f"objects are nested more than {MAX_DEPTH} deep.")
    if isinstance(spec, list):
        if len(spec) > MAX_ITEMS:
            raise FileError(f"a list has {len(spec)} items, more than the {MAX_ITEMS} a file may hold.")
        return tuple(_build(item, shared, depth + 1) for item in spec)
    if not isinstance(spec, dict):
        return spec
    if set(spec) == {"ref"} and isinstance(spec["ref"], str) and spec["ref"] in shared:
        return shared[spec["ref"]]
    if set(spec) == {"float"} and spec["float"] in ("inf", "-inf", "nan"):
        return float(spec["float"])
    cls, arguments = _look_up(spec)
    if depth > 0 and issubclass(cls, OWNERS):
        raise FileError(f"{spec['class']} stands where only a number or a law belongs.")
    values = {name: _build(spec[name], shared, depth + 1) for name in arguments}
    try:
        return cls(**values)
    except Exception as error:  # whatever a constructor makes of a hostile argument
        raise FileError(f"{spec['class']} refuses its arguments: {str(error)[:200]}") from error


def _look_up(spec: dict[str, Any]) -> tuple[type, tuple[str, ...]]:
    name = spec.get("class")
    if not isinstance(name, str) or name not in REGISTRY:
        raise FileError(f"an object has the unknown class {_short(name)}.")
    cls, arguments = REGISTRY[name]
    if set(spec) != {"class", *arguments}:
        wrong = sorted(set(spec) ^ {"class", *arguments})
        raise FileError(f"{name} has missing or surplus arguments: {_short(wrong)}.")
    return cls, arguments


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
