"""The experiment on the wrong prior runs, and its answer points the way it says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from experiments import wrong_prior as experiment

TINY = experiment.Settings(shapes=(1.0, 4.0), samples=20_000, repeats=2, angles=3)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def test_predicted_advantage_is_the_closed_form_for_laplace_and_nothing_for_normal_factors():
    """Laplace: E max of two exponentials of rate a is 3/(2a), so 3/sqrt(2) - 2; normal: no angle is special."""

    def advantage(shape):
        return experiment.predicted_loss(shape, 45.0) - experiment.predicted_loss(shape, 0.0)

    assert advantage(1.0) == pytest.approx(3 / math.sqrt(2) - 2, abs=1e-9)
    assert advantage(2.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "published"),
    [(0.7, 0.184), (1.0, 0.122), (1.5, 0.048), (1.9, 0.008), (2.1, -0.006), (3.0, -0.051), (8.0, -0.120)],
)
def test_predicted_advantage_is_that_of_one_large_simulation(shape, published):
    """200,000 rows: the standard error of the simulated mean is at most 0.001, and it was rounded to 0.001."""
    found = experiment.predicted_loss(shape, 45.0) - experiment.predicted_loss(shape, 0.0)
    assert found == pytest.approx(published, abs=3 * 0.001 + 0.0005)


def test_profiles_follow_their_prediction(rows):
    for row in rows["profiles"]:
        assert abs(row["change"] - row["predicted"]) <= 5 * row["standard error"] + 1e-12


def test_a_laplace_prior_turns_light_tailed_factors_by_45_degrees_and_a_learnt_shape_does_not(rows):
    found = {(row["prior"], row["shape"]): row for row in rows["fits"]}
    assert found["Laplace", 4.0]["smallest"] > 43  # oracle: 45 +- 2
    # five standard errors at the bound, which is reached within 40 % in variance
    for prior, shape in (("Laplace", 1.0), ("learnt", 1.0), ("learnt", 4.0)):
        row = found[prior, shape]
        assert row["largest"] < 5 * math.sqrt(1.4) * row["predicted"]
    assert found["learnt", 4.0]["shape found"] == pytest.approx(4.0, rel=0.1)


def test_sandwich_is_the_bound_where_the_prior_holds():
    assert experiment.sandwich(1.0, 100) == pytest.approx(math.degrees(1 / math.sqrt(100 * 2)), rel=1e-12)


@pytest.mark.parametrize(("turned", "expected"), [(10.0, 10.0), (80.0, 10.0), (-30.0, 30.0), (135.0, 45.0)])
def test_angles_forget_order_and_signs(turned, expected):
    axes = experiment.laplace_model(turned).loadings.detach()
    assert experiment.angle_off(experiment.MIXING @ axes) == pytest.approx(expected, abs=1e-9)


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, samples=500, repeats=1, output=tmp_path / "wrong_prior")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    found = json.loads((settings.output / "rows.json").read_text("utf-8"))
    assert set(found) == {"profiles", "advantage", "fits"}
    assert all(np.isfinite(row["angle"]) for row in found["fits"])
