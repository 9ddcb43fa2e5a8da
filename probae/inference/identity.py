"""What a state of training belongs to: its settings, as text that differs wherever they do."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import fields
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from probae.checks import ParameterError
from probae.inference.base import Method
from probae.inference.checkpoint import digest

LONGEST = 200  # characters of a setting, above which its SHA-256 stands for it
MACHINERY = set(vars(nn.Module()))  # attributes of every module: its parts are described by themselves


def settings_of(method: Method, model: nn.Module) -> dict[str, str]:
    """Return the model and each setting of the method, but for its checkpoint, as text.

    Raises
    ------
    ParameterError
        If a setting holds something that cannot be told from others, such as a function made within another.

    Examples
    --------
    >>> import probae as pa
    >>> settings_of(pa.SVI(pa.MLPEncoder(9, 2), lr=0.1), pa.FactorAnalysis(9, 2))["lr"]
    '0.1'
    """
    values = {one.name: getattr(method, one.name) for one in fields(method) if one.name != "checkpoint"}
    values["model"], found = model, {}
    for name, value in values.items():
        try:
            text = described(value)
        except (TypeError, RecursionError, ParameterError) as error:
            raise ParameterError(
                f"A checkpoint has to tell settings apart, but {name} holds what it cannot compare ({error}): use "
                "frozen dataclasses defined at the top of a module, with what varies as their fields."
            ) from None
        found[name] = text if len(text) <= LONGEST else hashlib.sha256(text.encode()).hexdigest()
    return found


def described(value: Any) -> str:
    """Describe a value with all it holds: tensors by their digest, classes and functions by their names.

    Other objects are taken apart as pickle takes them apart; nothing is ever built from the text.

    Examples
    --------
    >>> from probae.inference import Constant
    >>> described((Constant(warmup=5), None))
    "tuple(tuple(copyreg.__newobj__, tuple(probae.inference.schedule.Constant), {'warmup': 5}), None)"
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor):
        return digest({"": value})
    if isinstance(value, nn.Module):
        return described_module(value)
    if isinstance(value, type | FunctionType):
        return name_of(value)
    kind = type(value)
    if kind in (tuple, list):
        return f"{kind.__name__}({', '.join(map(described, value))})"
    if kind in (set, frozenset):
        return f"{kind.__name__}({', '.join(sorted(map(described, value)))})"
    if kind is dict:
        return f"{{{', '.join(f'{described(key)}: {described(part)}' for key, part in value.items())}}}"
    parts = value.__reduce_ex__(4)
    if isinstance(parts, str):
        return f"{kind.__qualname__} {parts}"
    items = [list(part) for part in parts[3:5] if part is not None]  # of what is a list or dict, and more
    return described((*parts[:3], *items))


def described_module(module: nn.Module) -> str:
    """Describe a module by its class, attributes, tensors and parts."""
    own = {
        name: value
        for name, value in vars(module).items()
        if name not in MACHINERY and not name.startswith("_pyro")
    }
    tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    parts = dict(module.named_children())
    return f"{name_of(type(module))}({described(own)}, {digest(tensors)}, {described(parts)})"


def name_of(value: type | FunctionType) -> str:
    """Return the name under which a class or function is found again, or refuse what has none of its own."""
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not value:
        raise ParameterError(f"{value.__qualname__} of {value.__module__} is not found under that name")
    return f"{value.__module__}.{value.__qualname__}"
