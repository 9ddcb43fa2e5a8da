"""The phase diagram runs, and its answer points the way it says."""

import json
import math
from dataclasses import replace

import pytest

from experiments import phase_diagram as experiment
from probae.agreement import chance_level

TINY = experiment.Settings(
    shapes=(1.0, 2.0),
    freedoms=(),
    sizes=(200, 3000),
    noises=(0.0, 0.1),
    other_latents=(2,),
    model_shapes=(1.0,),
    model_rows=300,
)


@pytest.fixture(scope="module")
def recovered():
    return list(experiment.recovery(TINY))


def test_prediction_runs_from_chance_to_one():
    values = [experiment.predicted_recovery(at, 3) for at in (0.0, 0.1, 10.0, 1e4)]
    assert values[0] == 0.0
    assert (
        abs(values[1]) < 0.15
    )  # 1,000 draws: a standard error of .014; angles that wrap around are not quite even
    assert values[1] < values[2] < values[3]
    # small angles of variance 1 / I in two planes of each axis: mean cosine 1 - 1 / I
    chance = chance_level(3).mean
    assert 1 - values[3] == pytest.approx(1e-4 / (1 - chance), rel=0.25)


def test_axes_of_laplace_factors_are_found_and_those_of_gaussian_ones_are_chance(recovered):
    for row in recovered:
        if row["law"] == "b = 1" and row["information"] > 1000:
            assert row["corrected"] > 0.97  # predicted .99
        if row["law"] == "b = 2":
            assert row["information"] == 0.0
            assert row["predicted"] == 0.0
    chance = [row["corrected"] for row in recovered if row["law"] == "b = 2"]
    assert len(chance) == 5
    assert abs(sum(chance) / 5) < 0.75  # four standard errors: a spread of .45 at two factors, .35 at three


def test_the_plane_is_found_for_every_law(recovered):
    for row in recovered:
        if row["noise"] == 0:
            assert row["plane"] < 1e-4
        else:  # a root mean square over K^2 components: four standard errors of a chi-square with 4
            assert row["plane"] < row["plane predicted"] * math.sqrt(1 + 4 * math.sqrt(2 / 4))


def test_every_cell_is_there_once(recovered):
    cells = [(row["law"], row["rows"], row["noise"], row["latents"]) for row in recovered]
    assert len(cells) == len(set(cells)) == 2 * (2 * 2 + 1)


def test_no_two_cells_share_a_data_set(recovered):
    """The standard error of a band counts its data sets as independent."""
    assert len({row["seed"] for row in recovered}) == len(recovered)


def test_each_model_has_one_mean_for_each_shape_over_all_data_sets():
    row = {"best possible": 1.0, "Amari": 0.0, "plane": 1.0, "likelihood range": 0.0}
    rows = [
        row | {"shape": 1.0, "model": model, "seed": seed, "corrected": corrected}
        for seed, first, second in (
            (0, 0.2, 0.5),
            (1, 0.6, 0.7),
        )  # as `models` yields them: data set by data set
        for model, corrected in (("Laplace", first), ("Gaussian", second))
    ]
    found = [(line["model"], line["corrected"]) for line in experiment.by_model(rows)]
    assert len(found) == 2
    assert dict(found) == pytest.approx({"Laplace": 0.4, "Gaussian": 0.6})


def test_results_are_written_whole(tmp_path, monkeypatch):
    kept = dict(list(experiment.models_of(6, 3).items())[:2])  # Gaussian and Laplace
    monkeypatch.setattr(experiment, "models_of", lambda features, latents: kept)
    settings = replace(TINY, sizes=(200,), noises=(0.1,), other_latents=(), output=tmp_path / "phase")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    found = json.loads((settings.output / "rows.json").read_text("utf-8"))
    ranges = {row["model"]: row["likelihood range"] for row in found["models"]}
    assert ranges["Gaussian"] < 1e-9  # flat for every rotation
    assert ranges["Laplace"] > 1.0
