"""The experiment on inference maps runs, and its answer points the way it says."""

import json
from dataclasses import replace

import pytest

from experiments import map_or_posterior as experiment

TINY = experiment.Settings(
    scales=(0.5, 1.0, 2.0),
    noises=(0.5, 1.0),
    dimension=3,
    features=3,
    latents=5,
    rows=200,
    wide_rows=40,
    draws=60,
    steps=20,
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def test_predictions_are_the_known_numbers():
    """Laplace scale 1: risks at noise 1, gaps of the best Gaussian, MAP energy and evidence at noise 1/2."""
    assert experiment.predicted_risks(1.0) == pytest.approx((0.70561, 0.66667, 0.63153), abs=5e-6)
    gaps = [experiment.predicted_gap(noise) for noise in (0.1, 0.5, 1.0, 2.0)]
    assert gaps == pytest.approx([0.00004, 0.00309, 0.01321, 0.03358], abs=2e-4)
    # these were averages over simulated rows: two digits after the point are theirs, the third nearly
    energies = [experiment.predicted_energy(w, 0.5) for w in (0.5, 1.0, 2.0, 4.0, 64.0)]
    assert energies == pytest.approx([1.750, 0.979, 0.518, 0.266, 0.017], abs=5e-3)
    values = [experiment.predicted_evidence(w, 0.5) for w in (0.5, 1.0, 2.0, 4.0, 64.0)]
    assert values == pytest.approx([-2.0049, -1.7796, -1.9520, -2.3681, -4.8704], abs=5e-3)


@pytest.mark.parametrize("kind", [experiment.SQUARE, experiment.WIDE])
def test_map_energy_falls_while_the_evidence_has_its_maximum_at_the_truth(rows, kind):
    some = [row for row in rows["scale"] if row["dictionary"] == kind]
    energies = [row["MAP energy"] for row in some]
    assert energies == sorted(energies, reverse=True)
    assert max(some, key=lambda row: row["log evidence"])["w"] == 1.0


def test_measurements_agree_with_their_predictions(rows):
    """Means over 200 rows; each within four standard errors."""
    for row in rows["scale"]:
        if row["predicted energy"] is not None:
            assert abs(row["MAP energy"] - row["predicted energy"]) < 4 * row["se energy"]
            assert abs(row["log evidence"] - row["predicted evidence"]) < 4 * row["se evidence"]
    for row in rows["risk"]:
        if row["predicted"] is not None:
            # the posterior mean of 240 draws has an error of its own, below a tenth of the risk
            assert abs(row["risk"] - row["predicted"]) < 4 * row["standard error"] + 0.1 * row["predicted"]
    for row in rows["gap"]:
        if row["predicted"] is not None:
            assert abs(row["gap"] - row["predicted"]) < 4 * row["standard error"] + 1e-6


def test_the_posterior_mean_has_the_least_risk(rows):
    for kind in (experiment.SQUARE, experiment.WIDE):
        for noise in TINY.noises:
            some = [row for row in rows["risk"] if (row["dictionary"], row["noise"]) == (kind, noise)]
            risk = {row["map"]: row["risk"] for row in some}
            assert risk["posterior mean"] < risk["MAP"]
            # ridge is close, and the rows are few
            mean = next(row for row in some if row["map"] == "posterior mean")
            assert mean["more than ridge"] < 2 * mean["se more"]


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, rows=50, wide_rows=10, output=tmp_path / "map_or_posterior")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    found = json.loads((settings.output / "rows.json").read_text("utf-8"))
    assert set(found) == {"scale", "risk", "gap"}
