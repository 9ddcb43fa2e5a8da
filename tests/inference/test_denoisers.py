"""Denoisers against what is best: Wiener for Gaussian data, the posterior mean for a mixture; and the score they give.

`oracles.md` 3, `dae_gaussian_tie` and `dae_score_gmm`. For rows x + s e the best map is E[x | y] = y + s^2 grad log
p_s(y), and any other map r loses E |r(y) - E[x | y]|^2 more. In one dimension both are integrals on a grid, so nothing
here but the training has an error.
"""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from probae import MAP, Denoising, GaussianNoise, SquaredError, denoising_score, fit
from probae.encoders import MLPEncoder
from probae.linalg import haar_rotation
from probae.models import LinearFactorModel, ProbabilisticPCA

pytestmark = pytest.mark.filterwarnings(
    "ignore::probae.ProbaeWarning"
)  # of diagonal laws and ends of training

MIXTURE = ((-2.0, 0.5), (2.0, 0.5))  # mean and standard deviation of each half
GAUSSIAN = ((0.0, 2.0),)


def law(parts, sd):
    """The density of the rows with Gaussian noise of this sd."""
    means, sds = torch.tensor(parts, dtype=torch.float64).mT
    components = torch.distributions.Normal(means, (sds.square() + sd**2).sqrt())
    shares = torch.distributions.Categorical(torch.ones(len(parts), dtype=torch.float64))
    return torch.distributions.MixtureSameFamily(shares, components)


class Grid:
    """Points, their masses under the noisy density, its score, and the least error of any denoiser."""

    def __init__(self, parts, sd):
        y = torch.linspace(-20, 20, 40_001, dtype=torch.float64, requires_grad=True)
        density = law(parts, sd).log_prob(y)
        (self.score,) = torch.autograd.grad(density.sum(), y)
        self.y, self.mass = y.detach(), density.detach().exp() * (40 / 40_000)
        self.power = float(self.mass @ self.score.square())
        self.least = sd**2 - sd**4 * self.power  # E |x - y|^2 less what moving by s^2 score saves

    def excess(self, run, sd):
        """By what share the error of a fit exceeds the least one."""
        return sd**4 * float(self.mass @ (self.found(run) - self.score).square()) / self.least

    def distance(self, run):
        """Relative error of the score of a fit, root mean square under the noisy density."""
        return math.sqrt(float(self.mass @ (self.found(run) - self.score).square()) / self.power)

    def found(self, run):
        return denoising_score(run, self.y.unsqueeze(1))[:, 0]


def rows(parts, count, seed=0):
    torch.manual_seed(seed)
    return law(parts, 0.0).sample((count, 1))


def denoiser(x, sd, hidden=(32, 32), activation="tanh", **settings):
    method = MAP(
        encoder=MLPEncoder(1, 8, hidden=hidden, covariance="diagonal", activation=activation),
        objective=SquaredError(),
        regularizers=(Denoising(GaussianNoise(sd)),),
        **({"epochs": 40, "batch": 500, "lr": 0.01} | settings),
    )
    return fit(LinearFactorModel(1, 8, noise="isotropic"), x, method)


def test_the_grid_knows_the_values_of_the_table():
    """`questions.md` Q1: MMSE .13218 for the mixture at s = .5 and .48211 at 1; Wiener for a Gaussian; Tweedie."""
    assert Grid(MIXTURE, 0.5).least == pytest.approx(0.13218, abs=5e-6)
    assert Grid(MIXTURE, 1.0).least == pytest.approx(0.48211, abs=5e-6)
    assert Grid(GAUSSIAN, 1.0).least == pytest.approx(0.8, rel=1e-10)
    grid = Grid(MIXTURE, 0.1)
    mean = torch.zeros_like(grid.y)  # E[x | y] by Bayes rule, component by component
    for (m, sd), other in ((MIXTURE[0], MIXTURE[1][0]), (MIXTURE[1], MIXTURE[0][0])):
        variance = sd**2 + 0.01
        share = torch.sigmoid((m - other) * grid.y / variance)
        mean += share * (m + sd**2 / variance * (grid.y - m))
    torch.testing.assert_close((mean - grid.y) / 0.01, grid.score, rtol=1e-12, atol=1e-11)


def test_a_denoiser_of_gaussian_data_is_within_2_percent_of_wiener_and_not_below():
    found = Grid(GAUSSIAN, 1.0).excess(denoiser(rows(GAUSSIAN, 5000), 1.0, epochs=30), 1.0)
    assert 0 < found < 0.02


def test_a_denoiser_of_the_mixture_is_within_5_percent_of_the_posterior_mean():
    """s = .5: best .13218, while no linear map is below Wiener, .23611."""
    grid, run = Grid(MIXTURE, 0.5), denoiser(rows(MIXTURE, 10_000), 0.5)
    assert grid.excess(run, 0.5) < 0.05
    wiener = 4.25 * 0.25 / 4.5
    assert wiener == pytest.approx(0.23611, abs=5e-6)
    assert grid.least * 1.05 < 0.6 * wiener


@pytest.mark.slow
def test_the_score_of_a_trained_denoiser_is_that_of_the_smoothed_mixture():
    """s = .1: within a tenth, root mean square. Rectified units go on straight beyond the rows, as the score does."""
    x = rows(MIXTURE, 200_000).float()
    run = denoiser(x, 0.1, hidden=(128,), activation="relu", epochs=40, batch=2000)
    assert Grid(MIXTURE, 0.1).distance(run) < 0.1


@pytest.mark.slow
def test_a_denoiser_of_gaussian_rows_with_the_covariance_of_digits_is_within_2_percent_of_wiener():
    """64 columns at s^2 = .1: the sum of l s^2 / (l + s^2), 1.54861 in `oracles.md` 1, #9. Axes are random: some pixels
    hardly vary, and a network that standardises them would see noise of 30 standard deviations there.
    """
    pixels = torch.from_numpy(load_digits().data) / 16
    values = torch.linalg.eigvalsh(torch.cov(pixels.mT, correction=0)).clamp_min(0.0)
    torch.manual_seed(0)
    axes = haar_rotation(64, torch.Generator().manual_seed(0))
    draw = torch.randn(70_000, 64, dtype=torch.float64) * values.sqrt() @ axes.mT
    x, fresh = draw[:50_000], draw[50_000:]
    wiener = (values * 0.1 / (values + 0.1)).sum().item()
    assert wiener == pytest.approx(1.54861, abs=5e-6)
    method = MAP(
        encoder=MLPEncoder(64, 64, hidden=(128,), covariance="diagonal"),
        objective=SquaredError(),
        regularizers=(Denoising(GaussianNoise(0.1**0.5)),),
        epochs=25,
        batch=500,
        lr=0.003,
    )
    run = fit(ProbabilisticPCA(64, 64), x.float(), method)
    seen = fresh + 0.1**0.5 * torch.randn_like(fresh)
    best = seen @ axes * (values / (values + 0.1)) @ axes.mT
    with torch.no_grad():
        rebuilt = run.model.likelihood(run.posterior(seen).mean).mean
    excess = (rebuilt - best).square().sum(1)  # by which E |x - r|^2 exceeds that of the best map
    print(f"excess {excess.mean() / wiener:.4f} +- {excess.std() / 20_000**0.5 / wiener:.4f} of {wiener:.5f}")
    assert excess.mean() < 0.02 * wiener
