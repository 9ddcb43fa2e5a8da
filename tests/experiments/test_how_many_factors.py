"""The experiment on the number of factors runs, and its answer points the way it says."""

import json
import math
from dataclasses import replace

import pytest

from experiments import how_many_factors as experiment

TINY = experiment.Settings(
    samples=200, features=8, planted=2, offered=4, tried=3, strengths=(1.0,), repeats=1, draws=60
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def test_strong_factors_are_counted_by_every_rule(rows):
    assert [row["rule"] for row in rows["answers"]] == list(experiment.RULES)
    named = {row["rule"]: row["answer"] for row in rows["answers"]}
    assert named.pop("LOO, best") >= 2  # a factor too many costs a prediction little
    assert set(named.values()) == {2}


def test_the_posterior_is_sure_of_strong_factors(rows):
    for row in rows["answers"]:
        if row["rule"] in ("ARD", "multiplicative gamma"):
            assert row["probability of planted"] > 0.5


def test_the_summary_counts_every_data_set(rows):
    for row in rows["summary"]:
        assert row["planted"] + row["too few"] + row["too many"] == row["data sets"] == 1


def test_the_planted_eigenvalue_is_that_of_the_last_factor():
    """A tenth of the loadings, a hundredth of the eigenvalue, but for what it shares with the others."""
    strong, weak = (experiment.data(replace(TINY, planted=1), size, 0)[1] for size in (1.0, 0.1))
    assert weak == pytest.approx(strong / 100)
    x, _ = experiment.data(TINY, 1.0, 0)
    assert x.std(0).tolist() == pytest.approx([1.0] * 8)


def test_results_are_saved(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "measure", lambda settings: rows)
    experiment.main(replace(TINY, output=tmp_path))
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    saved = json.loads((tmp_path / "rows.json").read_text())
    assert len(saved["summary"]) == len(experiment.RULES)
    assert all(math.isfinite(row["seconds"]) for row in saved["summary"])
