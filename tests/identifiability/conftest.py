"""Shared by the calibration of every test: rows of known laws, counts of rejections, exact binomial gates."""

import warnings

import pytest
import torch
from scipy import stats

from probae import priors

LAWS = {
    "gaussian": priors.Gaussian(),
    "laplace": priors.Laplace(),
    "t3": priors.StudentT(3.0),
    "t5": priors.StudentT(5.0),
    "logistic": priors.Logistic(),
    "uniform": priors.Uniform(),
    "multivariate t5": priors.MultivariateStudentT(5.0),
    "multivariate t3": priors.MultivariateStudentT(3.0),
}


@pytest.fixture
def draw():
    """Give a function (law, samples, latents) -> rows; "exponential" is centred."""

    def rows(law, samples, latents):
        if law == "exponential":
            return torch.empty(samples, latents, dtype=torch.float64).exponential_() - 1
        return LAWS[law].sample(samples, latents).double()

    return rows


@pytest.fixture
def rejections():
    """Give a function that counts p-values below .01 over runs."""

    def count(make, runs, seed=0, level=0.01):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(make(run) <= level for run in range(runs))

    return count


@pytest.fixture
def interval():
    """Give a function (count, runs) -> the 99.9 % interval of Clopper and Pearson for a rate."""

    def bounds(count, runs):
        low = float(stats.beta.ppf(5e-4, count, runs - count + 1)) if count else 0.0
        high = float(stats.beta.ppf(1 - 5e-4, count + 1, runs - count)) if count < runs else 1.0
        return low, high

    return bounds
