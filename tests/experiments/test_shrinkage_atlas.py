"""The atlas of shrinkage: every gain is its closed form, and losses without a minimum have none."""

import json
from dataclasses import replace

import pytest

from experiments import shrinkage_atlas as experiment

TINY = experiment.Settings(digits_latents=0, stops=(5, 20, 100))


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def test_every_gain_is_its_closed_form(rows):
    assert {row["penalty"] for row in rows["gains"]} == {
        "none",
        "input noise",
        "both factors",
        "tied",
        "probabilistic PCA",
    }
    for row in rows["gains"]:  # the target of the atlas, 1e-3
        assert row["gain"] == pytest.approx(row["predicted"], abs=1e-3)
        assert row["off the diagonal"] < 1e-3


def test_ridge_never_loses_a_direction_and_weight_decay_does(rows):
    def smallest(name):
        return min(row["gain"] for row in rows["gains"] if row["penalty"] == name)

    # eigenvalue 2, strength 2.5: 2 / 4.5 against max(1 - 2.5 / 2, 0)
    assert smallest("input noise") == pytest.approx(2 / 4.5, abs=1e-3)
    assert smallest("both factors") == pytest.approx(0, abs=1e-3)
    assert smallest("tied") == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("name", "small"), [("encoder only", "|W1|"), ("encoder noise", "|W2|")])
def test_a_penalty_on_one_factor_shrinks_it_without_end(rows, name, small):
    some = [row for row in rows["no minimum"] if row["penalty"] == name]
    norms, losses = [row[small] for row in some], [row["loss above PCA"] for row in some]
    assert losses[0] > losses[-1] > -1e-9
    assert norms[0] > 3 * norms[-1]


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, stops=(10,), iterations=20, output=tmp_path / "shrinkage_atlas")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {"gains", "no minimum"}
