"""The files around the package agree with it and with each other."""

import importlib.util
import inspect
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import probae

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for line in [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]]
PINS = {
    name.lower().replace("_", "-"): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )
}


def lower_bound(requirement: Requirement) -> Version | None:
    """Give the version after >= in a requirement."""
    return next((Version(s.version) for s in requirement.specifier if s.operator == ">="), None)


def test_torch_is_new_enough_to_read_files_safely():
    # CVE-2025-32434 (fixed in 2.6.0), CVE-2026-24747 (fixed in 2.10.0): reading a weight file could run code
    [torch] = [r for r in REQUIREMENTS if r.name == "torch"]
    assert lower_bound(torch) >= Version("2.10")


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_requirements_are_bounded_below_and_pinned_within_bounds(requirement):
    assert lower_bound(requirement) is not None
    if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.11"}):
        assert Version(PINS[requirement.name.lower()]) in requirement.specifier


def test_constraints_are_exact_public_versions():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [
        line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)
    ] == []  # "+cpu" is one machine's build
    assert len(PINS) == len(pins)  # no package twice


def test_one_version_everywhere():
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert {PROJECT["version"], citation[1], newest[1]} == {probae.__version__}


def load_listing() -> ModuleType:
    """Import docs/listing.py, which writes the reference pages."""
    spec = importlib.util.spec_from_file_location("listing", ROOT / "docs" / "listing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LISTING = load_listing()
try:
    PUBLIC = LISTING.public_names()
except (AttributeError, ImportError):  # test_public_names_exist says which name it was
    PUBLIC = {}


@pytest.mark.parametrize("name", probae.__all__)
def test_public_names_exist(name):
    assert getattr(probae, name) is not None


def test_public_names_are_listed_once():
    assert len(set(probae.__all__)) == len(probae.__all__)


def test_dir_shows_the_public_names():
    assert set(probae.__all__) <= set(dir(probae))


def test_every_public_object_is_in_the_reference():
    assert PUBLIC
    page = LISTING.api_page()
    listed = re.findall(r"^   (probae\.\S+)$", page, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {id(PUBLIC[name]) for name in listed} == {id(value) for value in PUBLIC.values()}
    assert "Other" not in page.splitlines()  # each stands under a heading that says what it is for


# Shown in the examples of the functions that return them, or made to be extended and not to be called.
WITHOUT_EXAMPLE = {
    *(
        "Calibration",
        "Codes",
        "Collapse",
        "CovarianceTable",
        "Decoder",
        "Encoder",
        "Fit",
        "Gap",
        "Gaps",
        "LatentModel",
    ),
    *("Likelihood", "Prior", "Regularizer", "Report", "Tangents", "Verdict"),
}


@pytest.mark.parametrize(
    "name", [n for n, v in PUBLIC.items() if inspect.isclass(v) or inspect.isfunction(v)]
)
def test_public_objects_are_documented_with_an_example(name):
    value = PUBLIC[name]
    own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    assert own, f"{name} has no docstring of its own"
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    assert is_error or value.__name__ in WITHOUT_EXAMPLE or ">>>" in own, f"{name} has no example"


MACHINE = re.compile(
    r"(?<![\w.~])/(?:root|work|Users|opt|mnt|home/\w+)/"  # an absolute path
    r"|\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b"  # a private address
    r"|\b[\w-]+\.(?:internal|intranet|corp|lan)\b"  # a private host
)


def project_files() -> list[Path]:
    """Give the files that belong to the project: all that git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not in a git checkout, so nothing says which files belong to the project")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_machine():
    found = []
    for path in project_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # an image
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("/" + "home/ada/data.csv", True),
        ("cd /" + "root/x", True),
        ("http://192." + "168.0.1/", True),
        ("http://10." + "1.2.3:80", True),
        ("https://mirror." + "internal/simple", True),
        ("~/data", False),
        ("docs/home/page", False),
        ("version 10.1.2", False),
        ("http://127.0.0.1/", False),
        ("an internal detail", False),
    ],
)
def test_the_pattern_finds_machines_and_nothing_else(text, is_found):
    assert bool(MACHINE.search(text)) == is_found


@pytest.mark.parametrize("target", ["demo", "test", "test-all", "lint", "docs", "bench", "clean"])
def test_make_knows_its_targets(target):
    asked = subprocess.run(["make", "-C", str(ROOT), "-n", target], capture_output=True, check=False)
    assert asked.returncode == 0, asked.stderr
