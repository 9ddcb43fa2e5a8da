"""The contractive guide: the closed form of its linear case, and the direction of its answer."""

import json
from dataclasses import replace

import pytest
import torch

import probae as pa
from experiments import contractive_guide as experiment

TINY = experiment.Settings(
    latents=2, hidden=(16,), weights=(0.0, 1.0), train=600, epochs=40, batch=200, repeats=1
)


@pytest.fixture(scope="module")
def rows():
    return {(row["place"], row["weight"]): row for row in experiment.measure(TINY)["gaps"]}


def test_the_linear_gap_is_that_of_a_trained_linear_encoder():
    """Train A on the expected bound with the penalty in closed form, and ask for its gap."""
    x = pa.datasets.digits().x[:400]
    run = pa.fit(pa.ProbabilisticPCA(64, 2), x)
    law = run.posterior(x)
    precision = torch.linalg.inv(law.covariance_matrix[0])
    centred, weight = x - x.mean(0), 0.5
    best = torch.linalg.lstsq(centred, law.mean).solution.T
    cov = centred.T @ centred / len(x)
    # stationary: P (A - A*) S + 2 weight A = 0, a linear equation in A
    system = torch.kron(precision, cov) + 2 * weight * torch.eye(128, dtype=x.dtype)
    found = torch.linalg.solve(system, (precision @ best @ cov).reshape(-1)).reshape(2, 64)
    change = centred @ (found - best).T
    gap = 0.5 * float(((change @ precision) * change).sum(1).mean())
    assert experiment.linear_gap(run.model, x, weight) == pytest.approx(gap, rel=1e-6)
    assert experiment.linear_gap(run.model, x, 0.0) == pytest.approx(0.0, abs=1e-12)


def test_a_strong_penalty_costs_at_the_data_what_it_costs_a_linear_encoder(rows):
    row = rows["held-out digits", 1.0]
    assert row["gap"] > rows["held-out digits", 0.0]["gap"]
    assert row["gap"] > 0


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, epochs=1, output=tmp_path / "contractive_guide")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {"gaps", "fits"}
