"""The experiment on encoders of sparse codes runs, and its answer points the way it says."""

import json
from dataclasses import replace

import pytest

from experiments import encoder_pareto as experiment

TINY = experiment.Settings(
    noises=(0.5,), training_rows=1000, epochs=6, hidden=16, rows=300, gap_rows=4, turns=1, temperatures=5
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def shares(rows):
    return {row["encoder"]: row["share of minimum"] for row in rows}


def test_nothing_is_below_the_lasso_and_longer_solvers_are_nearer(rows):
    """The lasso is solved to a relative gap of 1e-6, which is how far below it an encoder could be."""
    found = shares(rows["pareto"])
    assert set(found) == {*experiment.TRAINED, *experiment.SOLVERS}
    assert min(found.values()) > -1e-6
    assert abs(found["exact lasso"]) < 1e-12
    assert 0 < found["ISTA-100"] < found["ISTA-10"]
    assert found["LISTA-10"] < found["LISTA-3"] < found["linear"]


def test_supports_are_the_lassos_where_the_codes_are(rows):
    found = {row["encoder"]: row["support F1"] for row in rows["pareto"]}
    assert found["exact lasso"] == 1.0
    assert found["ISTA-100"] > 0.95 > found["linear"]  # a linear map has no zeros


def test_a_shift_hurts_what_was_trained(rows):
    none, twice, moved = (
        [row for row in rows["shift"] if row["shift"] == kind] for kind in experiment.SHIFTS
    )
    for shifted in (twice, moved):
        assert shares(shifted)["exact lasso"] == pytest.approx(0.0, abs=1e-12)
        assert shares(shifted)["LISTA-10"] > shares(none)["LISTA-10"]
        assert shares(shifted)["ISTA-100"] < 0.02


def test_refinement_closes_the_amortization_gap_and_no_other(rows):
    gaps = [row["amortization"] for row in rows["gap"]]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert 0 <= gaps[-1] < 1e-3
    for row in rows["gap"]:
        assert row["total"] == pytest.approx(row["approximation"] + row["amortization"], abs=1e-9)


def test_the_orthonormal_control_is_as_the_integrals_say(rows):
    """Within 4 standard errors of the rows: 16 comparisons on common rows, one run in 1,000 would miss one."""
    assert len(rows["control"]) == 16
    for row in rows["control"]:
        # an integral on a grid has an error of 1e-5, the best Gaussian of the grid one of 1e-6
        assert abs(row["measured"] - row["predicted"]) < 4 * row["standard error"] + 2e-5, row


def test_results_are_written_whole(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "measure", lambda settings: rows)
    settings = replace(TINY, output=tmp_path / "encoder_pareto")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == set(rows)
