"""The table of loadings."""

import pandas as pd
import pytest
import torch

import probae as pa
from probae import fit, loadings_table, standard_errors


@pytest.fixture(scope="module")
def named(holzinger):
    frame = pd.DataFrame(holzinger.numpy(), columns=[f"x{i + 1}" for i in range(9)])
    return frame, fit(pa.FactorAnalysis(9, 3), frame)


def test_rows_carry_the_names_of_the_data(named):
    _, run = named
    table = loadings_table(run)
    frame = pd.DataFrame(table.to_dict(), index=table.names)
    assert frame.loc["x4", "z[0]"] == run.model.loadings[3, 0].item()
    assert frame.loc["x9", "noise variance"] == run.model.noise_variance[8].item()
    assert str(table).splitlines()[1].startswith("x1 ")
    torch.testing.assert_close(table.explained.sum(), table.communalities.sum())


def test_standardized_rows_add_up_to_one(named):
    table = loadings_table(named[1], standardized=True)
    torch.testing.assert_close(table.communalities + table.noise_variance, torch.ones(9).double())


def test_rotated(named):
    _, run = named
    rotation = pa.rotate(run, pa.rotation.Quartimin(), oblique=True)
    table = loadings_table(run, rotation=rotation)
    torch.testing.assert_close(table.loadings, rotation.loadings)
    torch.testing.assert_close(table.factor_correlation, rotation.factor_correlation)
    torch.testing.assert_close(table.communalities, run.model.communalities)
    assert "Factor correlations" in str(table)
    of_rotated = loadings_table(pa.rotated(run, rotation))
    torch.testing.assert_close(of_rotated.loadings, rotation.loadings)


def test_intervals(named):
    frame, run = named
    errors = standard_errors(run, frame, rotation=pa.rotate(run))
    table = loadings_table(run, standard_errors=errors, level=0.9)
    lower, upper = errors.interval(0.9)
    torch.testing.assert_close(torch.tensor(table.to_dict()["z[1] lower"]).double(), lower.loadings[:, 1])
    torch.testing.assert_close(torch.tensor(table.to_dict()["z[1] upper"]).double(), upper.loadings[:, 1])
    assert "90 % intervals" in str(table)
    relative = loadings_table(run, standard_errors=errors, standardized=True)
    torch.testing.assert_close(relative.communalities + relative.noise_variance, torch.ones(9).double())


def test_fixed_zeros_have_no_interval(confirmatory, holzinger):
    table = loadings_table(confirmatory, standard_errors=standard_errors(confirmatory, holzinger))
    first = next(line for line in str(table).splitlines() if line.startswith("column 0"))
    assert first.split(")")[1].split() == ["0.000", "0.000", "0.809", "0.549"]


def test_refusals(named, confirmatory, holzinger):
    frame, run = named
    errors = standard_errors(run, frame)
    with pytest.raises(pa.ParameterError, match="frame"):
        loadings_table(run, rotation=pa.rotate(run), standard_errors=errors)
    with pytest.raises(pa.ParameterError, match="communalities"):
        loadings_table(confirmatory, standard_errors=errors)
    with pytest.raises(pa.ParameterError, match="standard_errors"):
        loadings_table(run, standard_errors=0.1)
    with pytest.raises(pa.ParameterError, match="this fit"):
        loadings_table(run, rotation=pa.rotate(torch.randn(9, 3, dtype=torch.float64)))
    with pytest.raises(pa.ParameterError, match="fixed loadings"):
        loadings_table(confirmatory, rotation=pa.rotate(run))
    with pytest.raises(pa.ParameterError, match=r"pa\.fit"):
        loadings_table(run.model)
