"""The package keeps its shape: imports point down, without circles, and importing it is cheap.

Everything here reads source text with `ast`, so a lazy import inside a function counts like any other.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module may import from its own layer and from lower ones. `probae` itself, the door, is above them all.
LAYERS = (
    (
        *("errors", "tables", "containers", "degenerate", "checks", "compiled", "files", "strict"),
        *(
            "activations",
            "generalized_inverse_gaussian",
            "linalg",
            "matching",
            "agreement",
            "moments",
            "rotation",
            "statistics",
            "tucker",
        ),
    ),
    ("priors", "parameter_priors", "decoders", "likelihoods", "models", "codes", "encoders"),
    ("inference",),
    ("analysis", "factors", "identifiability", "retrieval"),
    ("plots", "datasets"),
    ("sklearn", "cli", "commands", "demo", "report", "io", "storage", "__main__"),
)
LAYER_OF = {unit: layer for layer, units in enumerate(LAYERS) for unit in units}
DOOR = len(LAYERS)

Sources = dict[str, str]  # full module name -> source; a package's name ends in ".__init__"


def read_package(folder: Path) -> Sources:
    """Read the source of every module of the package."""
    paths = {path.relative_to(folder.parent).with_suffix(""): path for path in sorted(folder.rglob("*.py"))}
    return {".".join(name.parts): path.read_text("utf-8") for name, path in paths.items()}


def plain(module: str) -> str:
    """Give the name a module is imported by."""
    return module.removesuffix(".__init__")


def unit(module: str) -> str:
    """Give the row of the table a module belongs to: the second part of its name, or "" for the door."""
    return (plain(module).split(".") + [""])[1]


def layer(module: str) -> int:
    """Give the layer of a module; a KeyError names a module without one."""
    return DOOR if unit(module) == "" else LAYER_OF[unit(module)]


def imported(module: str, source: str, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield each module of the package that a source imports, with its line."""
    modules = {plain(name) for name in known}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")[: -node.level]
                base = ".".join(parts + ([node.module] if node.module else []))
            # `from package import name` means the module of that name if there is one, else the package
            names = [f"{base}.{a.name}" if f"{base}.{a.name}" in modules else base for a in node.names]
            if base == "probae" and all(a.name == "__version__" for a in node.names):
                continue  # a constant, not a way up
        else:
            continue
        yield from ((name, node.lineno) for name in dict.fromkeys(names) if name.split(".")[0] == "probae")


def upward_imports(sources: Sources) -> list[str]:
    """Name every import that points to a higher layer."""
    return [
        f"{plain(module)}:{line} (layer {layer(module)}) imports {target} (layer {layer(target)})"
        for module, source in sources.items()
        for target, line in imported(module, source, sources)
        if layer(target) > layer(module)
    ]


def find_circle(edges: dict[str, set[str]]) -> list[str]:
    """Give one circle of a directed graph, or an empty list."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for successor in sorted(edges.get(node, ())):
            if circle := walk(successor, [*path, node]):
                return circle
        done.add(node)
        return []

    return next((circle for node in sorted(edges) if (circle := walk(node, []))), [])


def circles(sources: Sources) -> list[str]:
    """Name a circle among files, and one among the rows of the table, if there are any."""
    files: dict[str, set[str]] = {plain(module): set() for module in sources}
    units: dict[str, set[str]] = {}
    for module, source in sources.items():
        for target, _ in imported(module, source, sources):
            if target != plain(module):
                files[plain(module)].add(target)
            if unit(target) != unit(module) and "" not in (unit(module), unit(target)):
                units.setdefault(unit(module), set()).add(unit(target))
    return [" -> ".join(circle) for circle in (find_circle(files), find_circle(units)) if circle]


def without_layer(sources: Sources) -> list[str]:
    """Name every module that is missing from the table."""
    return sorted(plain(module) for module in sources if unit(module) and unit(module) not in LAYER_OF)


def shadowed_modules(sources: Sources) -> list[str]:
    """Name every module whose full name a package also gives to something else, a function for instance.

    After `from probae.gaps import gaps` in `probae/__init__.py`, `probae.gaps` is the function or the module,
    depending on what was imported first.
    """
    modules = {plain(module) for module in sources}
    shadows = []
    for module, source in sources.items():
        if not module.endswith(".__init__"):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                bound = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound = {node.name: ""}
            else:
                continue
            full = {f"{plain(module)}.{name}": origin for name, origin in bound.items()}
            shadows += [name for name, origin in full.items() if name in modules and origin != name]
    return sorted(shadows)


SOURCES = read_package(ROOT / "probae")


def test_every_module_has_a_layer():
    assert without_layer(SOURCES) == []


def test_imports_point_down():
    assert upward_imports(SOURCES) == []


def test_imports_make_no_circle():
    assert circles(SOURCES) == []


def test_no_module_shares_its_name_with_something_else():
    assert shadowed_modules(SOURCES) == []


IMPORT = """
import sys, time
start = time.perf_counter()
import probae
seconds = time.perf_counter() - start
heavy = {"torch", "pyro", "numpy", "scipy", "sklearn", "xarray", "arviz", "matplotlib"} & set(sys.modules)
print(seconds, *sorted(heavy))
"""


def test_importing_the_package_is_light():
    outputs = [subprocess.check_output([sys.executable, "-c", IMPORT], text=True).split() for _ in range(3)]
    assert [heavy for _, *heavy in outputs] == [[], [], []]
    # an import that loads nothing takes milliseconds, torch alone a second: best of three tells them apart
    assert min(float(seconds) for seconds, *_ in outputs) < 0.3


@pytest.mark.parametrize(
    "source",
    [
        "import probae.inference.base",
        "from probae import inference",
        "from probae.inference import fit",
        "from ..inference.fit import fit",
        "def f():\n    from probae.inference.fit import fit",
        "if TYPE_CHECKING:\n    from probae.inference.base import Fit",
        "import probae",
        "from probae import fit",
    ],
)
def test_an_upward_import_is_found(source):
    sources = {"probae.models.linear": source, "probae.inference.__init__": "", "probae.inference.fit": ""}
    assert len(upward_imports(sources)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "from probae.checks import DataError",
        "from .base import LatentModel",
        "from probae import checks",
        "from probae import __version__",
    ],
)
def test_a_downward_import_is_allowed(source):
    sources = {"probae.models.linear": source, "probae.models.base": "", "probae.checks": ""}
    assert upward_imports(sources) == []


def test_a_circle_among_files_is_found():
    lazy = "def f():\n    from probae.models.linear import g"
    sources = {"probae.models.base": lazy, "probae.models.linear": "from .base import f"}
    assert circles(sources) == ["probae.models.base -> probae.models.linear -> probae.models.base"]
    assert circles(sources | {"probae.models.base": ""}) == []


def test_a_leaf_that_imports_its_own_package_is_a_circle():
    sources = {"probae.models.__init__": "from probae.models.linear import L", "probae.models.linear": ""}
    assert circles(sources) == []
    assert circles(sources | {"probae.models.linear": "from probae.models import L"})


def test_a_circle_among_units_is_found():
    sources = {
        "probae.models.base": "import probae.priors.base",
        "probae.priors.base": "",
        "probae.priors.extra": "import probae.models.linear",
        "probae.models.linear": "",
    }
    assert circles(sources) == ["models -> priors -> models"]


def test_a_module_outside_the_table_is_found():
    sources = {"probae.__init__": "", "probae.checks": "", "probae.utils.misc": ""}
    assert without_layer(sources) == ["probae.utils.misc"]


def test_a_shadowed_module_is_found():
    modules = {"probae.gaps": "", "probae.analysis.gaps": ""}
    bad = {"probae.__init__": "from probae.analysis.gaps import gaps"} | modules
    assert shadowed_modules(bad) == ["probae.gaps"]
    good = {"probae.__init__": "from probae import gaps\nfrom probae.gaps import f", "probae.gaps": ""}
    assert shadowed_modules(good) == []


def test_this_file_reads_the_whole_package():
    assert {"probae.__init__", "probae.checks", "probae.models.base"} <= set(SOURCES)
