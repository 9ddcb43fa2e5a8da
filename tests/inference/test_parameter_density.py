"""The density of parameters with the factors integrated out: that of the rows, whatever is known of the mean."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from probae.checks import check_data
from probae.inference.frame import Frame
from probae.inference.parameter_coordinates import Coordinates
from probae.inference.parameter_density import CollapsedDensity
from probae.inference.parameter_draws import problem_of
from probae.inference.parameter_mode import _start as start_of
from probae.models import FactorAnalysis, ProbabilisticPCA
from probae.parameter_priors import ARD, Fixed, HalfNormal, Normal

N, D, K = 12, 4, 2


def rows(seed=0, count=N):
    x = torch.randn(count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x @ (torch.eye(D).double() + 0.5) + torch.arange(1.0, D + 1)


def parameters(draws=3):
    generator = torch.Generator().manual_seed(1)
    loadings = torch.randn(draws, D, K, generator=generator, dtype=torch.float64)
    return loadings, 0.3 + torch.rand(draws, D, generator=generator, dtype=torch.float64)


def problem(x=None, model=FactorAnalysis, **priors):
    x = rows() if x is None else x
    made = model(D, K).with_priors(**priors).point()
    return problem_of(made, check_data(x, missing="allow"), "Laplace")


def density_of_rows(x, mean, loadings, noise):
    """Log density of the observed entries of x, one row after the other."""
    total = 0.0
    for row in x:
        seen = ~row.isnan()
        covariance = (loadings @ loadings.T + noise.diag())[seen][:, seen]
        total = total + MultivariateNormal(mean[seen], covariance).log_prob(row[seen])
    return total


def test_with_a_fixed_mean_it_is_that_of_the_rows():
    given = problem(mean=Fixed())
    loadings, noise = parameters()
    found = CollapsedDensity(given).log_likelihood(loadings, noise)
    x = rows() / given.units
    for s in range(3):
        expected = density_of_rows(x, given.fixed_mean, loadings[s], noise[s])
        torch.testing.assert_close(found[s], expected)


def test_with_a_normal_mean_it_is_that_of_all_rows_at_once():
    given = problem(mean=Normal(2.0, torch.full((D,), 1.5)))
    loadings, noise = parameters()
    found = CollapsedDensity(given).log_likelihood(loadings, noise)
    x = rows() / given.units
    for s in range(3):
        within = torch.kron(torch.eye(N).double(), loadings[s] @ loadings[s].T + noise[s].diag())
        between = torch.kron(torch.ones(N, N).double(), given.mean.scale.square().diag())
        joint = MultivariateNormal(given.mean.loc.repeat(N), within + between)
        # the average of the rows and their contrasts are one rotation of them for each feature, but for a constant
        # of the rows, the same for all parameters
        if s == 0:
            constant = joint.log_prob(x.flatten()) - found[s]
        torch.testing.assert_close(found[s] + constant, joint.log_prob(x.flatten()))


def test_a_flat_mean_is_the_limit_of_a_wide_one():
    loadings, noise = parameters()
    flat = CollapsedDensity(problem()).log_likelihood(loadings, noise)
    wide = CollapsedDensity(problem(mean=Normal(1e5))).log_likelihood(loadings, noise)
    # the mean has variance 1e10 (in units near 1) beside about 1: differences agree to 1e-10 of their size
    torch.testing.assert_close(wide - wide[0], flat - flat[0], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("prior", [None, Normal(2.0)])
def test_with_missing_entries_it_is_that_of_the_observed_ones(prior):
    x = rows()
    x[::3, 0], x[1::4, 2], x[5, 1:] = torch.nan, torch.nan, torch.nan
    given = problem(x) if prior is None else problem(x, mean=prior)
    density = CollapsedDensity(given)
    assert density.samples_mean
    loadings, noise = parameters()
    mean = torch.randn(3, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = density.log_likelihood(loadings, noise, mean)
    for s in range(3):
        torch.testing.assert_close(found[s], density_of_rows(x / given.units, mean[s], loadings[s], noise[s]))
    law = density.log_prior(loadings, noise, mean) - density.log_prior(loadings, noise)
    if prior is None:
        assert torch.equal(law, torch.zeros(3).double())
    else:
        expected = torch.distributions.Normal(0.0, given.mean.scale).log_prob(mean).sum(-1)
        torch.testing.assert_close(law, expected)


@pytest.mark.parametrize("model", [FactorAnalysis, ProbabilisticPCA])
def test_gradient_and_hessian_are_those_of_differences(model):
    given = problem(model=model, loadings=ARD(), noise_variance=HalfNormal())
    density = CollapsedDensity(given)
    frame = Frame(parameters()[0][0], fixed=True)
    coordinates = Coordinates(density, frame)
    loadings, noise = parameters(1)
    theta = torch.cat([frame.coordinates(loadings), noise[:, : density.variances].log()], 1)[0]
    step = 1e-5
    _, gradient = coordinates.value_and_gradient(theta.numpy())
    moves = step * torch.eye(len(theta)).double()
    slopes = (coordinates.log_prob(theta + moves) - coordinates.log_prob(theta - moves)) / (2 * step)
    # differences of values near 100 in steps of 1e-5 hold to about 1e-14 * 100 / 1e-5 = 1e-7
    torch.testing.assert_close(-torch.from_numpy(gradient), slopes, rtol=1e-6, atol=1e-5)
    columns = [
        -(
            coordinates.value_and_gradient((theta + m).numpy())[1]
            - coordinates.value_and_gradient((theta - m).numpy())[1]
        )
        / (2 * step)
        for m in moves
    ]
    torch.testing.assert_close(
        coordinates.hessian(theta), torch.from_numpy(np.stack(columns)), rtol=1e-5, atol=1e-5
    )


def test_a_start_from_many_incomplete_rows_takes_the_memory_of_their_moments():
    """400,000 rows: an orthogonal matrix of their number would fill 1.3 terabytes."""
    x = rows(count=400_000)
    x[0, 0] = torch.nan
    found = start_of(CollapsedDensity(problem(x)))
    few = start_of(CollapsedDensity(problem(rows(count=400_000))))
    # an entry of some standard deviations moves moments by a few 400,000ths; loadings have either sign
    torch.testing.assert_close(found.noise, few.noise, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        found.loadings @ found.loadings.mT, few.loadings @ few.loadings.mT, rtol=1e-4, atol=1e-4
    )
    assert found.mean is not None


def test_a_mean_that_was_integrated_out_is_drawn_from_its_conditional_law():
    given = problem(mean=Normal(2.0, 1.5))
    loadings, noise = (part[:1].expand(20_000, *part.shape[1:]) for part in parameters())
    drawn = CollapsedDensity(given).draw_mean(loadings, noise, np.random.default_rng(0))
    covariance = (loadings[0] @ loadings[0].T + noise[0].diag()) / N
    precision = torch.linalg.inv(covariance) + given.mean.scale.pow(-2).diag()
    pull = (
        torch.linalg.solve(covariance, (rows() / given.units).mean(0))
        + given.mean.loc / given.mean.scale.square()
    )
    expected = torch.linalg.solve(precision, pull)
    error = torch.linalg.inv(precision).diagonal().sqrt() / math.sqrt(20_000)
    assert bool(((drawn.mean(0) - expected).abs() < 4.5 * error).all())  # normal: two-sided 1e-5 each
