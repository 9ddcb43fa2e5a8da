"""Posteriors side by side: a posterior against itself, differences that were planted, and those of mean fields."""

import dataclasses

import pytest
import torch

import probae as pa

X = pa.datasets.holzinger_swineford().x.double()
MODEL = pa.FactorAnalysis(9, 2)


@pytest.fixture(scope="module")
def run():
    return pa.fit(MODEL, X, pa.LaplaceApproximation(draws=2000))


def changed(run, **draws):
    return dataclasses.replace(run, draws=run.draws | draws, sample_stats=None)


def test_a_posterior_does_not_differ_from_itself_turned(run):
    rotation = torch.linalg.qr(
        torch.randn(1, 2000, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    ).Q
    turned = changed(run, loadings=run.draws["loadings"] @ rotation)
    found = pa.compare_posteriors({"one": run, "other": turned}, pairs=True)
    assert len(found.quantities) == 9 + 9 + 36
    difference = found.differences["other"]
    torch.testing.assert_close(difference.shift, torch.zeros(54).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(difference.spread, torch.ones(54).double())
    # quantiles of 2,000 draws hold 90 % but for one draw at each end
    assert bool(((difference.coverage - 0.9).abs() <= 1.001 / 1000).all())
    assert difference.k_hat is None


def test_planted_differences_are_measured(run):
    """Noise variances moved by half a standard deviation and spread half as wide."""
    noise = run.draws["noise_variance"]
    mean, sd = noise.mean(1, keepdim=True), noise.std(1, keepdim=True)
    planted = changed(run, noise_variance=mean + 0.5 * (noise - mean) + 0.5 * sd)
    difference = pa.compare_posteriors({"planted": planted, "exact": run}, reference="exact").differences[
        "planted"
    ]
    torch.testing.assert_close(difference.shift[:9], torch.full((9,), 0.5).double())
    torch.testing.assert_close(difference.spread[:9], torch.full((9,), 0.5).double())
    # what the moved interval holds of the draws themselves; of a normal law Phi(1.322) - Phi(-.322) = .533
    ends = torch.tensor([0.05, 0.95]).double()
    low, high = (mean + 0.5 * (noise.quantile(end, 1, keepdim=True) - mean) + 0.5 * sd for end in ends)
    expected = ((noise >= low) & (noise <= high)).double().mean(1)[0]
    one = 1.001 / 2000  # a draw on an end
    torch.testing.assert_close(difference.coverage[:9], expected, rtol=0, atol=one)
    assert bool((difference.shift_error < 0.05).all())  # sqrt(1 / 2000 + ...), independent draws


def test_the_table_names_what_it_compares(run):
    weak = pa.fit(MODEL, X, pa.VariationalBayes("mean_field", steps=150, draws=1000))
    found = pa.compare_posteriors({"Laplace": run, "mean field": weak})
    assert found.reference == "Laplace"
    assert found.quantities[:2] == ("noise variance of x[0]", "noise variance of x[1]")
    assert found.differences["mean field"].k_hat is not None
    assert found.differences["mean field"].spread.median() < 0.95
    text = str(found)
    assert "18 quantities against Laplace" in text
    assert "mean field" in text
    columns = found.to_dict()
    assert {len(column) for column in columns.values()} == {18}
    assert columns["quantity"][-1] == "communality of x[8]"


def test_what_cannot_be_compared_is_refused(run):
    with pytest.raises(pa.ParameterError, match="two fits or more"):
        pa.compare_posteriors({"one": run})
    with pytest.raises(pa.ParameterError, match="fits by name, .* got list"):
        pa.compare_posteriors([run, run])
    with pytest.raises(pa.ParameterError, match="ml has no draws of the parameters"):
        pa.compare_posteriors({"one": run, "ml": pa.fit(MODEL, X)})
    with pytest.raises(pa.ParameterError, match="reference"):
        pa.compare_posteriors({"one": run, "other": run}, reference="exact")
    other = pa.fit(pa.FactorAnalysis(8, 2), X[:, :8], pa.LaplaceApproximation(draws=100))
    with pytest.raises(pa.ParameterError, match="the same features"):
        pa.compare_posteriors({"one": run, "other": other})
