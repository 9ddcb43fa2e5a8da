"""Every Python example in the documentation and the README runs, and prints what it says it prints."""

import doctest
import re
from pathlib import Path

import pytest

import probae

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for path in [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\b(?:tests|experiments|benchmarks)/[\w/]+\.py")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.REPORT_NDIFF


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Give each Python block of a Markdown page, with the line it starts on."""
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in BLOCK.finditer(text)]


def run_page(path: Path) -> str:
    """Run the blocks of a page in one namespace; return what is said of examples with prompts that differ."""
    names = {"__name__": "__main__"}
    said: list[str] = []
    for line, block in python_blocks(path.read_text("utf-8")):
        if ">>>" not in block:
            exec(compile("\n" * line + block, str(path), "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, {}, path.name, str(path), line)
        test.globs = names
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    return "".join(said)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if python_blocks(p.read_text("utf-8"))], ids=lambda p: p.name
)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example that writes a file writes it here
    assert run_page(page) == ""


def test_files_that_pages_name_are_there():
    named = [(page.name, path) for page in PAGES for path in FILE.findall(page.read_text("utf-8"))]
    assert named
    assert [(page, path) for page, path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("block", [">>> 1 + 1\n3\n", "assert 1 + 1 == 3\n", ">>> undefined\n0\n"])
def test_a_wrong_example_fails(block, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"text\n\n```python\n{block}```\n")
    with pytest.raises(AssertionError):
        assert run_page(page) == ""


def test_blocks_of_a_page_share_names(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n\n```python\n>>> a\n1\n```\n")
    assert run_page(page) == ""


def test_every_verdict_is_explained():
    page = (ROOT / "docs" / "identifiability.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    assert explained == {verdict.name for verdict in probae.Verdict}


NAME = re.compile(r"(?<!`)`(?:pa\.|probae\.)?([A-Z][a-z]\w+)(?:\([^`]*\))?`(?!`)")
NOT_OURS = {"NaN", "FastICA"}  # the second is of scikit-learn


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_classes_named_in_the_text_exist(page):
    known = {*dir(probae), *dir(probae.priors), *dir(probae.parameter_priors)} | NOT_OURS
    assert set(NAME.findall(page.read_text("utf-8"))) - known == set()
