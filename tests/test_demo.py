"""The demonstration runs to its end, shows what it found, and does not hide a verdict that came out wrong."""

import dataclasses
import json
import re

import pytest

import probae as pa
from probae import demo
from probae.demo import cases, page, results
from probae.demo.cases import Expectation

KEPT = ("tests-gaussian", "digits", "patches-sparse", "laplace-gaussian", "laplace-laplace")


def small(case):
    """Return a case that takes a second at most."""
    if case.name != "patches-sparse":
        return case
    few = lambda seed: cases.Rows(pa.datasets.natural_patches(size=8, count=300, seed=seed).x, "patches")  # noqa: E731
    return dataclasses.replace(case, rows=few, method=pa.MAP(steps=3))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(cases, "ROWS", 600)
    monkeypatch.setattr(demo, "CASES", tuple(small(case) for case in cases.CASES if case.name in KEPT))


def test_the_demonstration_writes_what_it_says(quick, tmp_path):
    said, notes = [], []
    assert demo.run_demo(tmp_path / "demo", 0, said.append, notes.append) == 0
    folder = tmp_path / "demo"
    written = (folder / "report.md").read_text()
    for picture in re.findall(r"\]\(([\w-]+\.png)\)", written):
        assert (folder / picture).stat().st_size > 2000
    assert len(re.findall(r"\]\(([\w-]+\.png)\)", written)) == 8
    for name in KEPT:
        assert type(pa.load(folder / name)) is pa.Fit
    assert "mental tests / Gaussian factors: NOT_IDENTIFIED O(3)" in said
    assert "simulated, Laplace / Laplace factors: IDENTIFIED_SP SP(3), as expected" in said
    assert said[-2] == "All 2 verdicts that were known beforehand came out as expected."
    assert json.loads((folder / "settings.json").read_text())["status"] == "finished"
    [section] = [
        part for part in written.split("\n## ") if part.startswith("simulated, Laplace: Laplace factors")
    ]
    # from 600 rows each pair of axes is known to about two degrees, so fifteen are never reached
    assert float(re.search(r"worst column of the loadings is ([\d.]+) degrees", section)[1]) < 15


def test_a_wrong_verdict_is_said_plainly(quick, tmp_path):
    case = demo.CASES[0]
    never = Expectation("PARTIAL", lambda report: False)
    result = demo.run_case(dataclasses.replace(case, expected=never), tmp_path, 0)
    sentence = (
        "1 of 1 verdicts that were known beforehand came out DIFFERENT: mental tests with Gaussian factors"
    )
    assert results.summary([result]).startswith(sentence)
    said = []
    results.show([result], said.append)
    assert said == ["mental tests / Gaussian factors: NOT_IDENTIFIED O(3), but expected PARTIAL"]
    sections = page.sections([result], {})
    assert any("came out DIFFERENT" in section for section in sections)
    assert "**This differs from what was known beforehand: PARTIAL.**" in sections


def test_a_terminal_gets_a_table(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "CASES", demo.CASES[:1])
    result = demo.run_case(demo.CASES[0], tmp_path, 0)
    monkeypatch.setattr(results.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    results.show([result], pytest.fail)
    said = capsys.readouterr().out
    assert "NOT_IDENTIFIED" in said
    assert "mental tests" in said


def test_the_truth_is_known_where_a_verdict_is_expected():
    assert {case.name for case in cases.CASES if case.expected} == {
        "laplace-gaussian", "laplace-laplace", "gaussian-laplace", "student-laplace", "items-laplace",
    }  # fmt: skip
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)
