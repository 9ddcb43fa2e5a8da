"""What an assumed law makes of the data: identities of a right law, known values of wrong ones."""

import math

import pytest
import torch

from probae import priors
from probae.identifiability.contrast import contrast_moments
from probae.priors.information import spread_of

COUNT = 50_000


def draws(law, seed, count=COUNT, noise=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = law.sample(count).double()
        return z + math.sqrt(noise) * torch.randn(count, dtype=torch.float64)


@pytest.mark.parametrize(
    "law",
    [
        priors.Gaussian(),
        priors.Laplace(),
        priors.StudentT(5.0),
        priors.Logistic(),
        priors.GeneralizedNormal(1.0),
        priors.GeneralizedNormal(1.3),
        priors.GeneralizedNormal(1.5),
        priors.GeneralizedNormal(4.0),
        priors.Scaled(priors.Laplace(), 3.0),
        priors.Scaled(priors.Logistic(), 0.2),
    ],
    ids=repr,
)
def test_curvature_is_kappa_where_the_law_is_right(law):
    # E psi' = E psi^2 = kappa and E[s psi] = 1. A density at a kink is known to 1.7 % from 50,000 rows, so 7 % is four
    # standard errors; smooth laws are known better
    found = contrast_moments(law, draws(law, 1), 0.0)
    kappa = law.fisher_information() * spread_of(law) ** 2
    assert found.curvature == pytest.approx(kappa, rel=0.07)
    assert found.power == pytest.approx(kappa, rel=0.07)
    assert found.slope == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize(
    ("law", "noise"),
    [
        (priors.Laplace(), 0.002),
        (priors.Laplace(), 0.5),
        (priors.StudentT(5.0), 0.05),
        (priors.Uniform(), 0.05),
    ],
    ids=repr,
)
def test_curvature_is_kappa_of_the_noisy_law(law, noise):
    # the slope of psi has a standard deviation of up to (2 kappa)^2 / 4 in a window of sqrt(noise): 2.5 % at .002
    found = contrast_moments(law, draws(law, 2, noise=noise), noise)
    assert found.curvature == pytest.approx(law.noisy_fisher_information(noise), rel=0.1)


def test_grid_and_rows_give_the_same_moments():
    y = draws(priors.Laplace(), 3, noise=0.1)
    few = [contrast_moments(priors.Laplace(), part, 0.1) for part in y[:40_000].split(8_000)]
    whole = contrast_moments(priors.Laplace(), y[:40_000], 0.1)
    # each part is brought to unit variance by itself: 1 / sqrt(8,000) of the spread
    assert sum(one.curvature for one in few) / 5 == pytest.approx(whole.curvature, rel=0.01)


def test_a_law_without_finite_information_is_smoothed():
    law = priors.Uniform()
    found = contrast_moments(law, draws(law, 4), 0.0)
    assert found.curvature == pytest.approx(law.noisy_fisher_information(0.05), rel=0.05)


@pytest.mark.parametrize(
    ("law", "alpha"),
    [  # 2 sqrt2 p(0) - sqrt2 E|s| of the theory's table, Laplace assumed
        (priors.StudentT(3.0), 0.900),
        (priors.StudentT(5.0), 0.347),
        (priors.Logistic(), 0.202),
        (priors.StudentT(10.0), 0.137),
        (priors.Gaussian(), 0.0),
        (priors.Uniform(), -0.408),
    ],
    ids=repr,
)
def test_alpha_of_a_laplace_model_on_other_sources(law, alpha):
    # the density at zero is known to 1.7 % of at most .65, times 2 sqrt2: a standard error of .03 at most
    assert contrast_moments(priors.Laplace(), draws(law, 5), 0.0).alpha == pytest.approx(alpha, abs=0.09)


def test_centred_exponential_gives_a_laplace_model_nothing():
    s = (
        torch.distributions.Exponential(1.0).icdf((torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT)
        - 1
    )
    # alpha is exactly 0; quantiles have no sampling error, the line of |s| leaves a bias of order h^2 = .05
    assert contrast_moments(priors.Laplace(), s, 0.0).alpha == pytest.approx(0.0, abs=0.03)
