"""The experiment on rotating chains runs, and its answer points the way it says."""

import json
from dataclasses import replace

import pytest

from experiments import rotating_chains as experiment

TINY = experiment.Settings(
    samples=300, features=10, latents=2, draws=1600, pupils_draws=0, looked_at=800, warmup=100, repeats=1
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def of(rows, move):
    [row] = [row for row in rows["runs"] if row["move"] == move]
    return row


def test_without_the_move_raw_loadings_have_not_mixed_and_all_else_has(rows):
    off = of(rows, "off")
    assert off["W"] > 1.5
    # of eight half chains worth S draws together R-hat - 1 is 4 / S times a chi-square with 7 degrees over 7: for the
    # noise variances, worth five hundred and the rest thousands, it exceeds .03 once in two thousand numbers
    assert max(off["W W'"], off["noise"], off["W rotated"]) < 1.03


def test_with_the_move_raw_loadings_mix_and_their_mean_is_that_of_independent_frames(rows):
    on = of(rows, "on")
    assert on["W"] < 1.03
    assert on["predicted"] == pytest.approx(3200**-0.5)
    # made by the four entries of the mean rotation: chi-square with 4 degrees is in (.16, 18.5) but for 1 in 200
    assert 0.2 * on["predicted"] < on["mean / sd"] < 2.15 * on["predicted"]
    assert on["W rotated"] < 1.03


def test_points_fill_the_orbit_only_with_the_move(rows):
    drawn = {
        move: [
            (p["first"], p["second"]) for p in rows["points"] if (p["move"], p["kind"]) == (move, "as drawn")
        ]
        for move in ("off", "on")
    }
    quadrants = {move: {(a > 0, b > 0) for a, b in places} for move, places in drawn.items()}
    assert len(quadrants["on"]) == 4
    aligned = [(p["first"], p["second"]) for p in rows["points"] if p["kind"] == "aligned"]
    assert len(aligned) == 800


def test_results_are_written(tmp_path):
    tiny = replace(TINY, draws=20, warmup=5, looked_at=20, output=tmp_path)
    experiment.main(tiny)
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert len(json.loads((tmp_path / "rows.json").read_text())["runs"]) == 2
