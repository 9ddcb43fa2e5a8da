"""active_factors: what is counted does not depend on rotation or units, and planted numbers are found."""

import dataclasses
import math

import pytest
import torch

import probae as pa
from probae.analysis.active_factors import noise_edge, signal_to_noise
from probae.linalg import haar_rotation


@pytest.fixture(name="drawn")
def drawn_fixture(factors, normal_mean):
    """A fit with given draws of the loadings and the noise."""

    def build(loadings, noise):
        features, latents = loadings.shape[-2:]
        model = factors(features, latents)
        run = pa.fit(model, model.sample(30, seed=0), normal_mean(draws=4))
        return dataclasses.replace(run, draws={"loadings": loadings, "noise_variance": noise})

    return build


def draws(chains=2, count=50, features=8, latents=4, active=2, seed=0):
    """Loadings of two factors that count and others that do not, in a frame of its own for each draw."""
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(chains, count, features, latents, generator=generator, dtype=torch.float64)
    loadings[..., active:] *= 1e-3
    turns = torch.stack([haar_rotation(latents, generator) for _ in range(chains * count)])
    loadings = loadings @ turns.reshape(chains, count, latents, latents)
    noise = 0.5 + torch.rand(chains, count, features, generator=generator, dtype=torch.float64)
    return loadings, noise


def test_the_planted_number_is_found_in_any_frame(drawn):
    loadings, noise = draws()
    found = pa.active_factors(drawn(loadings, noise), edge=0.2)
    assert found.probability.tolist() == [0, 0, 1, 0, 0]
    assert (found.mode, found.mean) == (2, 2.0)


def test_eigenvalues_are_those_of_the_definition(drawn):
    loadings, noise = draws()
    found = signal_to_noise(drawn(loadings, noise))
    expected = torch.linalg.eigvalsh((loadings.mT / noise.unsqueeze(-2)) @ loadings).flip(-1)
    assert torch.allclose(found, expected, atol=1e-9)


def test_rotation_and_units_change_nothing(drawn):
    loadings, noise = draws()
    rotation = haar_rotation(4, torch.Generator().manual_seed(1))
    units = torch.logspace(-3, 3, 8, dtype=torch.float64)
    found = signal_to_noise(drawn(loadings, noise))
    assert torch.allclose(signal_to_noise(drawn(loadings @ rotation, noise)), found, rtol=1e-9, atol=1e-12)
    turned = drawn(loadings * units.unsqueeze(1), noise * units.square())
    assert torch.allclose(signal_to_noise(turned), found, rtol=1e-9, atol=1e-12)


def test_rows_are_counted_however_they_are_given(drawn):
    run = drawn(*draws())
    x = torch.randn(50, 8, dtype=torch.float64)
    found = pa.active_factors(run, x)
    assert found.edge == pytest.approx((1 + math.sqrt(8 / 50)) ** 2 * (1 + 2 * math.sqrt(2 / 50)) - 1)
    assert pa.active_factors(run, pa.SufficientStatistics.from_data(x)).edge == found.edge


def test_the_covariance_of_noise_stays_below_the_edge():
    """At D / N from 1/40 to 1: the largest of 20 sample eigenvalues, and not by far."""
    generator = torch.Generator().manual_seed(0)
    for samples, features in ((400, 10), (100, 20), (60, 60)):
        x = torch.randn(20, samples, features, generator=generator, dtype=torch.float64)
        largest = torch.linalg.eigvalsh(x.mT @ x / samples)[:, -1] - 1
        edge = noise_edge(samples, features)
        assert float(largest.max()) < edge
        assert float(largest.mean()) > edge / 2


def test_sample_eigenvalues_of_weak_factors_are_those_of_noise():
    """Below sqrt(D / N) the largest sample eigenvalue stays at (1 + sqrt(D / N))^2.

    A spike of 1 + l is seen at (1 + l)(1 + D / (N l)): 2.25 at l = 1 for D / N = .125, and 1.83 for noise alone; the
    fluctuation at N = 1600 is of the order N^(-2/3) = .01 for noise and l sqrt(2 / N) = .05 for the spike.
    """
    generator = torch.Generator().manual_seed(0)
    largest = {}
    for spike in (0.0, 0.2, 1.0):
        x = torch.randn(1600, 200, generator=generator, dtype=torch.float64)
        x[:, 0] *= (1 + spike) ** 0.5
        largest[spike] = float(torch.linalg.eigvalsh(x.mT @ x / 1600)[-1])
    edge = (1 + (200 / 1600) ** 0.5) ** 2
    assert largest[0.0] == pytest.approx(edge, abs=0.06)
    assert largest[0.2] == pytest.approx(edge, abs=0.06)  # .2 < sqrt(.125) = .35
    assert largest[1.0] == pytest.approx(2.25, abs=0.25)


def test_probabilities_are_shares_of_the_draws(drawn):
    loadings, noise = draws()
    loadings[0, :20] *= 1e-4  # nothing in 20 of the 50 draws of a chain
    found = pa.active_factors(drawn(loadings, noise), edge=0.2)
    assert found.probability.tolist() == pytest.approx([0.2, 0, 0.8, 0, 0])
    assert found.chains[0].tolist() == pytest.approx([0.4, 0, 0.6, 0, 0])
    assert found.counts.shape == (2, 50)


def test_chains_that_disagree_and_counts_that_hang_on_the_edge_are_said(drawn):
    loadings, noise = draws()
    loadings[0] *= 1e-4
    assert "the chains disagree" in str(pa.active_factors(drawn(loadings, noise), edge=0.2))
    loadings, noise = draws()
    spread = signal_to_noise(drawn(loadings, noise))[..., 1]
    middling = float(spread.median())
    assert "it depends on where weak factors begin to count" in str(
        pa.active_factors(drawn(loadings, noise), edge=middling)
    )
    assert "Note" not in str(pa.active_factors(drawn(loadings, noise), edge=0.01))


def test_more_latents_than_features_and_one_noise_variance(drawn, normal_mean):
    model = pa.ProbabilisticPCA(3, 5)
    model.loadings = torch.eye(3, 5, dtype=torch.float64)
    run = pa.fit(model, torch.randn(20, 3, dtype=torch.float64), normal_mean(draws=4))
    values = torch.eye(3, 5, dtype=torch.float64).expand(2, 10, 3, 5)
    variance = torch.full((2, 10), 0.5, dtype=torch.float64)
    run = dataclasses.replace(run, draws={"loadings": values, "noise_variance": variance})
    assert pa.active_factors(run, edge=1.0).probability.tolist() == [0, 0, 0, 1, 0, 0]  # 1 / .5 three times


def test_what_is_refused(factors, drawn):
    model = factors()
    x = model.sample(30, seed=0)
    with pytest.raises(pa.ParameterError, match="ask number_of_factors"):
        pa.active_factors(pa.fit(model, x), x)
    with pytest.raises(pa.ParameterError, match="an edge to count from"):
        pa.active_factors(drawn(*draws()))
    with pytest.raises(pa.ParameterError, match="edge should be"):
        pa.active_factors(drawn(*draws()), edge=-1.0)
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.active_factors(model, x)
    with pytest.raises(pa.DataError, match="features"):
        pa.active_factors(drawn(*draws()), x[:, :3])
