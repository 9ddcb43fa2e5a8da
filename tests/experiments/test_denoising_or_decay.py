"""Denoising against weight decay: the closed forms, and the gain where data are not normal and the model may bend."""

import json
from dataclasses import replace

import pytest
import torch

from experiments import denoising_or_decay as experiment

TINY = experiment.Settings(
    data=("clusters",), strengths=(1.0,), train=3000, test=1000, width=32, steps=250, long=250, lr=0.02
)


@pytest.fixture(scope="module")
def rows():
    return {(row["model"], row["penalty"]): row for row in experiment.measure(TINY)["errors"]}


def test_least_errors_are_those_of_the_table():
    assert experiment.least_error("laplace", 1.0) == pytest.approx(0.63153, abs=1e-5)
    assert experiment.least_error("clusters", 1.0) == pytest.approx(0.48211, abs=1e-5)
    assert experiment.least_error("clusters", 0.5) == pytest.approx(0.13218, abs=1e-5)


def test_wiener_of_the_digits_covariance_is_the_oracle():
    """Summed squared error 1.54861 at s^2 = .1, from other code."""
    problem = experiment.problems(replace(TINY, train=10, test=10), "normal")
    assert problem.least == pytest.approx(1.54861, abs=1e-5)


@pytest.mark.parametrize("name", ["normal", "laplace", "clusters"])
def test_drawn_rows_have_the_covariance_they_should(name):
    problem = experiment.problems(replace(TINY, train=20_000, test=10), name)
    found = torch.cov(problem.train.T, correction=0)
    # entries of a covariance of 20,000 rows: standard errors of at most sqrt(6 / 20,000) of the variance, 5 of them
    assert float((found - problem.covariance).abs().max()) < 0.09 * float(problem.covariance.diagonal().max())


@pytest.mark.parametrize(
    ("penalty", "gain"), [("input noise", 4 / 5), ("weight decay", 3 / 4), ("none", 1.0)]
)
def test_linear_maps_are_ridge_and_threshold(penalty, gain):
    found = experiment.linear_map(4 * torch.eye(2, dtype=torch.float64), penalty, 1.0)
    torch.testing.assert_close(found, gain * torch.eye(2, dtype=torch.float64))


def test_linear_models_reach_their_closed_forms(rows):
    for penalty in ("weight decay", "input noise", "reconstruction Jacobian"):
        row = rows["linear", penalty]
        # errors of 1,000 rows about the expected one: a standard error of 3 %, most of it shared with Wiener's
        assert row["over Wiener"] == pytest.approx(row["predicted"], rel=0.05)


def test_a_network_that_bends_beats_wieners_filter_on_clusters_by_noise_not_by_decay(rows):
    bent, decayed = rows["two layers", "input noise"], rows["two layers", "weight decay"]
    assert bent["over Wiener"] < 0.75  # the least is .60
    assert bent["over Wiener"] > bent["predicted"] - 3 * bent["standard error"]
    assert decayed["over Wiener"] > bent["over Wiener"] + 0.1
    assert rows["linear", "input noise"]["over Wiener"] > 0.99


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, steps=2, long=2, train=600, test=50, output=tmp_path / "denoising_or_decay")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {
        "errors",
        "best",
        "trained longer",
    }
