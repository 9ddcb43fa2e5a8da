"""The table of loadings."""

import dataclasses

import pandas as pd
import pytest
import torch

import probae as pa
from probae import fit, loadings_table, standard_errors
from probae.linalg import haar_rotation


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


@pytest.fixture(scope="module")
def sampled(named):
    """The fit with draws about it, each in a frame of its own, as of a sampler that rotates."""
    _, run = named
    random = torch.Generator().manual_seed(0)
    W, noise = run.model.loadings.detach(), run.model.noise_variance.detach()
    spread = (0.1 * noise.sqrt()).unsqueeze(1)
    draws = W + spread * torch.randn(2, 200, 9, 3, generator=random, dtype=torch.float64)
    turned = draws @ haar_rotation(3, random, 400).view(2, 200, 3, 3)
    variance = noise * (0.1 * torch.randn(2, 200, 9, generator=random, dtype=torch.float64)).exp()
    return dataclasses.replace(run, draws={"loadings": turned, "noise_variance": variance})


def test_draws_give_posterior_means_with_intervals(named, sampled):
    frame, _ = named
    table = loadings_table(sampled, level=0.9)
    assert table.names == tuple(frame.columns)
    # the model's loadings are the centre of draws of spread .1 sd, of which there are 400, turned with an error of
    # the same size over sqrt(9)
    error = 0.1 * sampled.model.noise_variance.detach().sqrt().unsqueeze(1)
    assert bool(((table.loadings - sampled.model.loadings).abs() < 0.5 * error).all())
    width = (table.upper.loadings - table.lower.loadings) / (2 * 1.645 * error)
    # turning takes 3 of 27 directions away; quantiles of 400 draws are known to 8 % or so
    assert bool(((width > 0.5) & (width < 1.3)).all())
    W = sampled.draws["loadings"]
    torch.testing.assert_close(table.communalities, W.square().sum(-1).mean((0, 1)))
    torch.testing.assert_close(table.noise_variance, sampled.draws["noise_variance"].mean((0, 1)))
    text = str(table)
    assert "Loadings with 90 % intervals" in text
    assert text.endswith("Posterior means in a frame of convention: O(3) is free.")


def test_more_factors_than_features_keep_all_their_draws(sampled):
    """Without a rotation the table has the aligned draws as they are, however many columns they have."""
    random = torch.Generator().manual_seed(1)
    model = pa.FactorAnalysis(2, 4)
    W = torch.randn(2, 100, 2, 4, generator=random, dtype=torch.float64)
    wide = dataclasses.replace(
        sampled,
        model=model,
        program=model,
        names=None,
        draws={"loadings": W, "noise_variance": W.square().sum(-1)},
    )
    aligned = pa.align(wide)
    table = loadings_table(wide)
    torch.testing.assert_close(table.loadings, aligned.mean)
    torch.testing.assert_close(table.upper.loadings, aligned.interval(0.95)[1])


def test_standardized_draws_add_up_to_one(sampled):
    table = loadings_table(sampled, standardized=True)
    torch.testing.assert_close(table.communalities + table.noise_variance, torch.ones(9).double())
    torch.testing.assert_close(table.lower.communalities, 1 - table.upper.noise_variance)


def test_draws_take_the_turn_of_a_rotation(sampled):
    plain = dataclasses.replace(sampled, draws=None)
    rotation = pa.rotate(plain, pa.rotation.Quartimin(), oblique=True)
    table, point = loadings_table(sampled, rotation=rotation), loadings_table(plain, rotation=rotation)
    error = 0.1 * sampled.model.noise_variance.detach().sqrt().unsqueeze(1)
    assert bool(((table.loadings - point.loadings).abs() < 0.7 * error).all())
    torch.testing.assert_close(table.factor_correlation, rotation.factor_correlation)
    torch.testing.assert_close(table.communalities, loadings_table(sampled).communalities)
