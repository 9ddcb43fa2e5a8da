"""The experiment on rotation runs, and its answer points the way it says."""

import json
import math
from dataclasses import replace

import pytest
import torch

from experiments import rotation

TINY = rotation.Settings(rows=5000, step=15.0, sizes=(200, 2000), repeats=3, noisy_repeats=3)


@pytest.fixture(scope="module")
def rows():
    return rotation.measure(TINY)


def select(some, **wanted):
    return [row for row in some if all(row[name] == value for name, value in wanted.items())]


def test_gaussian_likelihood_is_flat_for_diagonal_and_full_covariance(rows):
    assert {row["covariance"] for row in rows["covariances"]} == {"diagonal", "full"}
    for row in rows["covariances"]:
        # a sum of 2,000 terms near 10 nats, each right to some units of rounding
        assert row["largest change"] <= 1e-12 * abs(row["log-likelihood"])


def test_rows_have_the_covariance_asked_for():
    wanted = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    x = rotation.rows_with(wanted, 50, torch.Generator().manual_seed(0))
    assert torch.allclose(x.T @ x / 50, wanted, rtol=0, atol=1e-12)
    assert x.mean(0).abs().max() < 1e-12


@pytest.mark.parametrize("degrees", [5.0, 20.0, 45.0, 75.0])
def test_predicted_change_is_the_closed_form_of_laplace_factors(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    exact = -2 * ((1 + c * s) / (c + s) - 1)  # E |c z_1 + s z_2| = (c^2 + c s + s^2) / (c + s) E |z|
    # the grid has spacing 1.2e-3 and the narrowest law scale .06: a kink costs (1.2e-3 / .06)^2 / 12 = 3e-5 of E |z|
    assert rotation.predicted_change("Laplace", "Laplace", degrees) == pytest.approx(exact, abs=1e-4)


def test_changes_agree_with_their_predictions(rows):
    for row in rows["profiles"]:
        # about 40 comparisons: 4.5 standard errors are passed by chance once in 4,000 runs
        assert abs(row["change"] - row["predicted"]) <= 4.5 * row["error"] + 1e-12
    for row in rows["information"]:
        assert abs(row["information"] - row["predicted"]) <= 4.5 * row["error"] + 1e-12


def test_only_laws_with_axes_notice_a_rotation(rows):
    at_45 = {(row["sources"], row["model"]): row for row in select(rows["profiles"], degrees=45.0)}
    for law in ("Laplace", "t5", "generalised normal 3"):
        assert at_45[law, law]["change"] < -4 * at_45[law, law]["error"]
    for law in ("Gaussian", "multivariate t5"):
        assert abs(at_45[law, law]["change"]) < 1e-12
    wrong = at_45[rotation.WRONG]
    assert wrong["change"] > 4 * wrong["error"]


def test_axes_are_found_by_the_right_law_and_by_no_other(rows):
    found = {
        (line["sources"], line["model"]): line for line in rotation.summary(select(rows["axes"], rows=2000))
    }
    for law in ("Laplace", "t5", "generalised normal 3"):
        assert found[law, law]["degrees"] < 4 * found[law, law]["predicted"]
        assert found[law, law]["cosine"] > found[law, law]["chance"]
    # the wrong law goes to 45 degrees; three arbitrary angles average below 9 degrees once in 100 times
    assert found[rotation.WRONG]["degrees"] > 35
    assert found["Gaussian", "Laplace"]["degrees"] > 9


def test_the_plane_is_found_without_the_axes(rows):
    few, many = rotation.summary(select(rows["plane"], model="factor analysis"))
    assert many["degrees"] > 9
    # ten times the rows: a third of the error, within a factor of two for three data sets
    assert many["plane"] < few["plane"] / math.sqrt(10) * 2
    [laplace] = rotation.summary(select(rows["plane"], model="Laplace factors", rows=2000))
    assert laplace["degrees"] < 4 * laplace["predicted"]


def test_every_restart_is_reported_with_seeds_of_its_own(rows):
    for row in rows["axes"]:
        assert len(row["restarts"]) > 1
        assert row["data seed"] != row["restart seed"]


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, rows=200, sizes=(100,), repeats=1, noisy_repeats=1, output=tmp_path / "rotation")
    rotation.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    stored = json.loads((settings.output / "settings.json").read_text("utf-8"))
    assert stored["settings"]["data_seed"] == settings.data_seed
    assert {"python", "probae", "torch"} <= set(stored["versions"])
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {
        "covariances", "information", "profiles", "axes", "plane",
    }  # fmt: skip
