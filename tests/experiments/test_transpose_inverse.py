"""The experiment on the transpose runs, and its answer points the way it says."""

import json
import math
from dataclasses import replace

import pytest
import torch

from experiments import transpose_inverse as experiment

TINY = experiment.Settings(ratios=(0.1, 0.25, 0.5, 1.0, 4.0), repeats=2)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)["errors"]


def select(rows, kind, density=1.0):
    return [row for row in rows if row["rows"] == kind and row["density"] == density]


@pytest.mark.parametrize("density", [1.0, 0.1])
def test_error_is_the_limit_of_random_matrices_whatever_the_density(rows, density):
    found = select(rows, "random signs", density)
    assert [row["ratio"] for row in found] == list(TINY.ratios)
    for row in found:
        assert row["error"] == pytest.approx(
            math.sqrt(1 - 1 / (1 + min(row["ratio"], 1 / row["ratio"]))), rel=0.05
        )
        assert row["error"] == pytest.approx(row["predicted"], rel=0.03)


def test_the_transpose_is_worst_for_a_square_matrix(rows):
    found = {row["ratio"]: row["error"] for row in select(rows, "random signs")}
    assert found[0.1] < found[0.25] < found[0.5] < found[1.0] > found[4.0]


def test_orthonormal_rows_are_undone_by_their_transpose(rows):
    found = select(rows, "orthonormal rows")
    assert [row["ratio"] for row in found] == [0.1, 0.25, 0.5, 1.0]
    assert all(row["error"] < 1e-13 for row in found)


def test_sparsity_helps_only_without_negative_weights(rows):
    dense, sparse = (select(rows, "no negative weights", density) for density in (1.0, 0.1))
    signed = select(rows, "random signs", 0.1)
    for one, other, third in zip(dense, sparse, signed, strict=True):
        assert one["error"] > other["error"] > third["error"]
        assert one["error"] == pytest.approx(one["predicted"], rel=0.01)
        assert other["error"] == pytest.approx(other["predicted"], rel=0.05)


def test_error_is_that_of_vectors_in_the_row_space():
    w = experiment.weights("random signs", 1.0, 20, 50, seed=0)
    basis = torch.linalg.svd(w, full_matrices=False).Vh
    x = torch.randn(20_000, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ basis
    through = x @ w.T @ w
    best = (through * x).sum() / through.square().sum()
    lost = (x - best * through).norm() / x.norm()
    # 20,000 rows of 20 coordinates: a relative error of a norm below 1 / sqrt(2 * 20,000 * 20)
    assert experiment.error_of(w) == pytest.approx(float(lost), rel=0.01)


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, features=40, repeats=1, output=tmp_path / "transpose_inverse")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {"errors"}
