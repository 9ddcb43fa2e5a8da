"""The experiment on growing weights runs, and its answer points the way it says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import probae as pa
from experiments import covariance_growth as experiment

TINY = experiment.Settings(rows=20_000, sizes=(20, 200), spreads=(0.35, 1.0, 10.0), repeats=6)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def column(rows, name):
    return np.array([row[name] for row in rows])


def test_x_widens_and_the_posterior_narrows(rows):
    some = rows["widening"]
    assert (np.diff(column(some, "entropy")) > 0).all()
    assert (np.diff(column(some, "log peak")) < 0).all()
    assert (np.diff(column(some, "posterior log det")) < 0).all()
    assert (np.diff(column(some, "information")) > 0).all()


def test_closed_forms_agree(rows):
    for row in rows["widening"]:
        for name in ("entropy", "log peak", "posterior log det", "information"):
            assert row[name] == pytest.approx(row[f"{name} predicted"], abs=1e-10)
        # seven scales of one sample: 4.5 standard errors are passed by chance once in 20,000 runs
        assert abs(row["log density"] - row["log density predicted"]) < 4.5 * row["standard error"]


def test_the_true_scale_is_the_likeliest(rows):
    best = max(rows["widening"], key=lambda row: row["log density predicted"])
    assert best["scale"] == 1.0
    assert max(rows["widening"], key=lambda row: row["log density"])["scale"] == 1.0


def test_a_point_off_the_plane_loses_what_the_volume_gains(rows):
    model = experiment.truth(TINY)
    for row in rows["orthogonal"]:
        grown = [
            experiment.scaled(model, c).marginal().covariance_matrix.logdet() for c in (row["scale"], 1.0)
        ]
        assert row["change"] == pytest.approx(-0.5 * float(grown[0] - grown[1]), abs=1e-10)
        assert row["change"] == pytest.approx(row["predicted"], abs=1e-10)


def test_evidence_peaks_at_the_truth_and_energy_falls_for_ever(rows):
    some = rows["codes"]
    assert max(some, key=lambda row: row["evidence"])["weight"] == 1.0
    assert (np.diff(column(some, "energy")) < 0).all()
    for row in some:
        assert abs(row["evidence"] - row["evidence predicted"]) < 4.5 * row["evidence error"]
        assert abs(row["energy"] - row["energy predicted"]) < 4.5 * row["energy error"]


def test_evidence_of_one_cause_is_the_published_number():
    # a Laplace cause of scale 1 in noise of sd .5: log p(1.3) = -1.8729957804, by quadrature to 1e-13
    assert experiment.log_evidence(1.3, 1.0) == pytest.approx(-1.8729957804, abs=1e-10)
    x = torch.tensor([[1.3]], dtype=torch.float64)
    assert float(experiment.one_cause(1.0).log_likelihood(x)) == pytest.approx(-1.8729957804, abs=1e-8)


def test_gradient_of_the_penalised_fit():
    generator = np.random.default_rng(0)
    parameters, table = generator.normal(size=24), generator.normal(size=(30, 8))
    sample = table.T @ table / 30
    _, gradient = experiment.energy(parameters, sample, 30, 0.7)
    for i in range(24):
        step = np.eye(24)[i] * 1e-6
        difference = [experiment.energy(parameters + s * step, sample, 30, 0.7)[0] for s in (1, -1)]
        assert gradient[i] == pytest.approx((difference[0] - difference[1]) / 2e-6, abs=1e-6)


def test_a_wide_prior_is_maximum_likelihood():
    x = experiment.truth(TINY).sample(200, seed=3)
    run = pa.fit(pa.FactorAnalysis(8, 2), x)
    statistics = pa.SufficientStatistics.from_data(x)
    loadings, noise, restarts = experiment.with_prior(statistics, 1e4, run.model, seed=0)
    assert torch.allclose(noise, run.model.noise_variance, atol=1e-4)
    assert torch.allclose(loadings @ loadings.T, run.model.loadings @ run.model.loadings.T, atol=1e-3)
    assert len(restarts) == 3


def test_a_prior_pays_for_few_rows_of_weak_factors_only(rows):
    found = {
        (line["strength"], line["size"], line["spread"]): line for line in experiment.gains(rows["penalised"])
    }
    few, many = found[0.3, 20, 0.35], found[0.3, 200, 0.35]
    assert few["gain"] > 2 * few["standard error"]
    assert many["gain"] < few["gain"] / 4
    for size in (20, 200):
        assert found[1.0, size, 0.35]["gain"] < 0
        assert abs(found[1.0, size, 10.0]["gain"]) < 0.01
    assert found[0.3, 20, math.inf]["at the boundary"] > found[0.3, 200, math.inf]["at the boundary"]


def test_every_restart_is_reported_with_a_seed_of_its_own(rows):
    for row in rows["penalised"]:
        assert row["data seed"] != row["restart seed"]
        assert len(row["restarts"]) == (0 if math.isinf(row["spread"]) else 3)


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, rows=200, sizes=(20,), repeats=1, output=tmp_path / "covariance_growth")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    stored = json.loads((settings.output / "rows.json").read_text("utf-8"))
    assert set(stored) == {"widening", "orthogonal", "codes", "penalised"}
