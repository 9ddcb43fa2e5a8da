"""Each classical loss is minus the log-density of a likelihood; each likelihood takes its data and no other."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from probae.checks import DataError, ParameterError
from probae.likelihoods import Bernoulli, Gaussian, Multinomial, StudentT

ROUNDING = 1e-6  # the oracle's; sums of 6 terms of order 10 in float64 are good to 1e-14


@pytest.fixture
def output():
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def counts():
    return torch.poisson(torch.full((50, 6), 3.0, dtype=torch.float64), torch.Generator().manual_seed(2))


@torch.no_grad()
def test_squared_error_is_minus_the_log_density_of_gaussian_noise(output):
    law = Gaussian().double()
    law.start(3 * output)
    x = output.flip(0)
    loss = (x - output).square().sum(1) / (2 * law.noise_variance)
    constant = loss + law(output).log_prob(x)
    expected = -3 * torch.log(2 * math.pi * law.noise_variance)  # D / 2 = 3
    assert float((constant - expected).abs().max()) < ROUNDING


def test_cross_entropy_is_minus_the_log_density_of_a_bernoulli(output):
    x = (output.flip(0) > 0).double()
    loss = torch.nn.functional.binary_cross_entropy(output.sigmoid(), x, reduction="none").sum(1)
    assert float((loss + Bernoulli()(output).log_prob(x)).abs().max()) < ROUNDING


def test_soft_targets_give_the_cross_entropy(output):
    x = output.flip(0).sigmoid()
    loss = torch.nn.functional.binary_cross_entropy(output.sigmoid(), x, reduction="none").sum(1)
    assert float((loss + Bernoulli()(output).log_prob(x)).abs().max()) < ROUNDING


def test_softmax_loss_of_counts_is_minus_the_multinomial_log_density_up_to_a_constant_of_x(output, counts):
    """Two outputs for the same counts: the difference of losses is that of log-densities."""
    other = output.flip(0)
    law = Multinomial().double()

    def loss(logits):
        return -(counts * logits.softmax(-1).log()).sum(1)

    found = law(output).log_prob(counts) - law(other).log_prob(counts)
    assert float((loss(other) - loss(output) - found).abs().max()) < ROUNDING


def test_multinomial_agrees_with_scipy_for_rows_of_different_totals(output, counts):
    assert len(set(counts.sum(1).tolist())) > 5
    shares = output.softmax(-1).numpy()
    expected = [
        scipy.stats.multinomial.logpmf(x, int(x.sum()), p / p.sum())
        for x, p in zip(counts.numpy(), shares, strict=True)
    ]
    found = Multinomial().double()(output).log_prob(counts).numpy()
    assert np.abs(found - expected).max() < 1e-9  # lgamma of numbers below 50: relative error 1e-15 times 150


@pytest.mark.parametrize("learn", [False, True])
def test_student_t_agrees_with_scipy_and_its_parameter_is_the_variance(output, learn):
    law = StudentT(df=4.5, noise="diagonal", learn=learn).sized(6).double()
    law.start(output * torch.arange(1.0, 7.0))
    variance = law.noise_variance.detach().numpy()
    x = output.flip(0)
    reference = scipy.stats.t(4.5, output.numpy(), np.sqrt(variance * 2.5 / 4.5))
    assert np.abs(law(output).log_prob(x).detach().numpy() - reference.logpdf(x.numpy()).sum(1)).max() < 1e-9
    assert np.allclose(reference.var(), variance, rtol=1e-12)


@pytest.mark.parametrize("law", [Gaussian("diagonal"), Bernoulli(), StudentT(noise="diagonal")])
def test_mean_is_that_of_the_distribution(law, output):
    law = law.sized(6).double()
    assert torch.allclose(law.mean(output), law(output).mean, rtol=1e-12, atol=0)


def test_multinomial_draws_have_the_total_of_the_data_and_its_mean(output, counts):
    law = Multinomial().double()
    law.start(counts)
    total = int(counts.sum(1).mean().round())
    torch.manual_seed(0)
    draws = law(output[:2]).sample((4000,))
    assert bool((draws.sum(-1) == total).all())
    # variance of a count is at most total / 4: five standard errors of 12 means
    assert float((draws.mean(0) - law.mean(output[:2])).abs().max()) < 5 * (total / 4 / 4000) ** 0.5


@pytest.mark.parametrize("law", [Gaussian("diagonal"), StudentT(noise="diagonal"), StudentT(), Gaussian()])
def test_start_follows_the_units_of_x(law, output):
    one, other = law.sized(6).double(), law.sized(6).double()
    centre, spread = one.start(output)
    moved = other.start(8.0 * output + 1.0)  # a power of two: only the shift rounds
    assert torch.allclose(moved[0], 8 * centre + 1, rtol=1e-12)
    assert torch.allclose(moved[1], 8 * spread)
    assert torch.allclose(other.noise_variance, 64 * one.noise_variance)


@pytest.mark.parametrize("law", [Gaussian("diagonal"), StudentT(), Bernoulli(), Multinomial()])
def test_a_constant_column_has_a_finite_start(law):
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    law = law.sized(3).double()
    centre, spread = law.start(x)
    assert bool(centre.isfinite().all())
    assert bool((spread > 0).all())
    assert bool(law(centre).log_prob(x).isfinite().all())


@pytest.mark.parametrize(
    ("law", "value", "message"),
    [
        (Bernoulli(), -0.1, "between 0 and 1"),
        (Bernoulli(), 1.5, "between 0 and 1"),
        (Multinomial(), -1.0, "counts 0, 1, 2"),
        (Multinomial(), 0.5, "counts 0, 1, 2"),
    ],
)
def test_data_without_a_density_are_refused(law, value, message):
    with pytest.raises(DataError, match=message):
        law.check(torch.tensor([[1.0, value]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian("full"), "noise should be"),
        (lambda: StudentT(df=2.0), "df should be above 2"),
        (lambda: StudentT(df=-1.0), "df should be a finite number above 0"),
        (lambda: StudentT(learn=1), "learn should be True or False"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
