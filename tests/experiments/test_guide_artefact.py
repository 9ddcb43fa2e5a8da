"""The experiment on the guide's artefact runs, and its answer points the way it says."""

import json
from dataclasses import replace

import pytest

from experiments import guide_artefact as experiment

TINY = experiment.Settings(angles=(35.0,), samples=150, step=22.5, repeats=2)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def of(rows, law):
    return [row for row in rows["runs"] if row["law"] == law]


def test_gaussian_factors_are_flat_but_for_the_mean_field_bound_which_hadamard_predicts(rows):
    """58.2 nats at 300 rows, so 29.1 at 150; bounds stop within 1e-9 nats a row."""
    [row] = of(rows, "Gaussian")
    assert max(row["range, likelihood"], row["range, full"], row["range, clean"]) < 150 * 1e-9
    assert row["range, mean-field"] == pytest.approx(row["range, Hadamard"], abs=150 * 1e-9)
    assert row["range, mean-field"] == pytest.approx(29.1, abs=0.03)
    assert abs(row["best, mean-field"]) == 45


def test_laplace_factors_are_pulled_from_their_axes_by_a_mean_field_guide_alone(rows):
    for row in of(rows, "Laplace"):
        assert abs(row["best, mean-field"]) == 45
        assert row["range, mean-field"] > 3 * row["range, likelihood"]
        assert row["range, full"] < 0.5 * row["range, mean-field"]


def test_curves_are_nothing_at_the_true_axes(rows):
    here = [row for row in rows["curves"] if row["degrees"] == 0]
    assert len(here) == 3
    assert all(abs(row[curve]) < 1e-6 for row in here for curve in ("likelihood", "full", "mean-field"))


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, samples=20, repeats=1, step=45.0, output=tmp_path / "guide_artefact")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {
        "runs",
        "averages",
        "curves",
    }
