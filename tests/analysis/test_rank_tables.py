"""The tables hold the ranks, in the forms that ArviZ and R expect."""

import csv

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa


@pytest.fixture(scope="module")
def found():
    theta = torch.randn(100, 500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return pa.Calibration.from_draws(["a", "b, c", 'd"'], theta[0], theta[1:])


def test_the_csv_reads_back(found, tmp_path):
    path = pa.ranks_to_csv(found, tmp_path / "ranks.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1500
    assert [row["variable"] for row in rows[:3]] == ["a", "b, c", 'd"']
    assert [int(row["rank"]) for row in rows] == found.ranks.flatten().tolist()
    assert [float(row["z_score"]) for row in rows] == found.deviations.flatten().tolist()
    assert {row["max_rank"] for row in rows} == {"99"}
    assert rows[-1]["sim_id"] == "500"


def test_quantities_without_a_deviation_have_an_empty_field(tmp_path):
    run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    path = pa.ranks_to_csv(pa.simulation_based_calibration(run, 100), tmp_path / "ranks.csv")
    assert path.read_text().splitlines()[4].startswith('1,"log p(x, z)",')
    assert path.read_text().splitlines()[4].endswith(",99,")


def test_the_group_holds_uniform_values_that_give_the_ranks_back(found):
    tree = pa.ranks_to_datatree(found)
    values = tree["prior_sbc"]["a"].values[0]
    assert np.array_equal((values * 100).astype(int), found.ranks[:, 0].numpy())
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_arviz_draws_it(found):
    plots = pytest.importorskip("arviz_plots")
    drawn = plots.plot_ecdf_pit(pa.ranks_to_datatree(found), backend="matplotlib")
    assert set(drawn.viz["ecdf_lines"].data_vars) == {"a", "b, c", 'd"'}
