"""probae: linear factor models, sparse coding and autoencoders as Pyro models, and what their axes mean.

Names are loaded on first use, so ``import probae`` is cheap. Which names there are, and where, stands once, in the stub
``__init__.pyi`` beside this file, which type checkers read too.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
_WHERE = {
    alias.name: node.module
    for node in _STUB.body
    if isinstance(node, ast.ImportFrom) and node.module is not None
    for alias in node.names
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'probae' has no attribute {name!r}")
    home = _WHERE[name]
    submodule = home == __name__
    value = (
        importlib.import_module(f"{home}.{name}")
        if submodule
        else getattr(importlib.import_module(home), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
