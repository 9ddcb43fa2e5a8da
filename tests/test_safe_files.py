"""Nothing in the package runs code from a file, and files are written in one place only.

Both rules are read off the source text with `ast`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "probae"
SOURCES = {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
WRITER = "files.py"  # writes to a temporary file and renames it, so a crash never leaves half a file

PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
RUN_CODE = {"eval", "exec", "torch.load", "joblib.load", "yaml.load", "yaml.unsafe_load"}
WRITERS = {"torch.save", "joblib.dump", "np.save", "np.savez", "np.savez_compressed", "np.savetxt"}
WRITING_METHODS = {"write_text", "write_bytes", "to_netcdf", "to_zarr", "to_csv", "to_parquet", "tofile"}


def full_names(tree: ast.AST) -> dict[str, str]:
    """Map each imported name to what it stands for: `t` to `torch` after `import torch as t`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def called(node: ast.Call, names: dict[str, str]) -> str:
    """Give the dotted name a call refers to, with import aliases resolved and numpy written np."""
    text = ast.unparse(node.func)
    head, dot, tail = text.partition(".")
    text = names.get(head, head) + dot + tail
    return "np." + text.removeprefix("numpy.") if text.startswith("numpy.") else text


def keyword(node: ast.Call, name: str, position: int | None = None) -> object:
    """Give the constant passed by keyword or position, True for a value that is no constant, else None."""
    values = [entry.value for entry in node.keywords if entry.arg == name]
    if position is not None and len(node.args) > position:
        values.append(node.args[position])
    return next((value.value if isinstance(value, ast.Constant) else True for value in values), None)


def opens_for_writing(node: ast.Call, name: str) -> bool:
    """Whether a call is `open(path, mode)` or `path.open(mode)` with a mode that can change a file."""
    if name == "os.open":
        target, flags = ast.unparse(node.args[0]), ast.unparse(node)
        return target != "os.devnull" and any(flag in flags for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name in ("open", "io.open", "os.fdopen"):
        mode = keyword(node, "mode", 1)
    elif name.endswith(
        ".open"
    ):  # of a path; an archive's open takes the name of a member instead, never a mode
        mode = keyword(node, "mode", 0 if node.args and isinstance(node.args[0], ast.Constant) else None)
    else:
        return False
    return mode is True or (
        isinstance(mode, str) and bool(re.fullmatch("[rwaxbtU+]*[wax+][rwaxbtU+]*", mode))
    )


def unsafe_reads(source: str) -> Iterator[str]:
    """Name each import or call through which a file could run code."""
    tree = ast.parse(source)
    names = full_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
            )
            yield from (f"line {node.lineno}: import {m}" for m in modules if m.split(".")[0] in PICKLERS)
        elif isinstance(node, ast.Call):
            name = called(node, names)
            store = name.endswith(".load") and ("param_store" in name.lower() or "paramstore" in name.lower())
            pickled = name == "np.load" and keyword(node, "allow_pickle") not in (None, False)
            if name in RUN_CODE or store or pickled:
                yield f"line {node.lineno}: {name}"


def unsafe_writes(source: str) -> Iterator[str]:
    """Name each call that writes a file directly, where a crash in the middle leaves half a file."""
    tree = ast.parse(source)
    names = full_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = called(node, names)
            method = isinstance(node.func, ast.Attribute) and node.func.attr in WRITING_METHODS
            if name in WRITERS or method or opens_for_writing(node, name):
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("module", SOURCES)
def test_reading_runs_no_code(module):
    assert list(unsafe_reads(SOURCES[module])) == []


@pytest.mark.parametrize("module", [module for module in SOURCES if module != WRITER])
def test_files_are_written_in_one_place(module):
    assert list(unsafe_writes(SOURCES[module])) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch as t\nt.load(p)",
        "from torch import load\nload(p)",
        "import pickle",
        "from cloudpickle import loads",
        "def f():\n    import joblib\n    joblib.load(p)",
        "eval('1')",
        "exec(text)",
        "import yaml\nyaml.load(f)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy\nnumpy.load(p, allow_pickle=flag)",
        "import pyro\npyro.get_param_store().load(p)",
        "store = ParamStoreDict()\nParamStoreDict.load(store, p)",
    ],
)
def test_an_unsafe_read_is_found(source):
    assert len(list(unsafe_reads(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "np.load(p)", "np.load(p, allow_pickle=False)", "json.load(f)", "probae.load(p)"],
)
def test_a_safe_read_passes(source):
    assert list(unsafe_reads(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "open(p, 'w')",
        "open(p, mode='ab')",
        "open(p, mode)",
        "path.open('r+')",
        "path.open(mode=mode)",
        "os.open(p, os.O_WRONLY | os.O_CREAT)",
        "path.write_text(s)",
        "path.write_bytes(b)",
        "import numpy\nnumpy.save(p, a)",
        "from torch import save\nsave(a, p)",
        "tree.to_netcdf(p)",
    ],
)
def test_an_unsafe_write_is_found(source):
    assert len(list(unsafe_writes(source))) == 1


@pytest.mark.parametrize(
    "source", ["open(p)", "open(p, 'rb')", "path.open()", "path.open('rb')", "path.read_text()"]
)
def test_a_read_is_no_write(source):
    assert list(unsafe_writes(source)) == []
