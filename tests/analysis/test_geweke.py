"""Geweke's test: exact kernels pass, each planted error is seen, and its z is standard normal under an exact kernel."""

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.analysis.geweke import _compared

ROWS = 5


def parameters(chains):
    """Mean ~ N(0, 1) and variance ~ IG(3, 1) of a normal law."""
    return torch.randn(chains), 1 / torch._standard_gamma(torch.full((chains,), 3.0))


def data(theta):
    mean, variance = theta
    return mean[:, None] + variance.sqrt()[:, None] * torch.randn(len(mean), ROWS)


def kernel(prior_scale=1.0, freedom=0, swept=True):
    """Mean given variance, then variance given mean, for a prior of the mean that may be wrong."""

    def move(theta, x):
        mean, variance = theta
        precision = ROWS / variance + 1 / prior_scale**2
        mean = x.sum(1) / variance / precision + precision.rsqrt() * torch.randn(len(x))
        if swept:
            squares = (x - mean[:, None]).square().sum(1)
            shape = torch.full((len(x),), 3.0 + (ROWS + freedom) / 2)
            variance = (1 + squares / 2) / torch._standard_gamma(shape)
        return mean, variance

    return move


def functions(theta, x):
    mean, variance = theta
    return {
        "mean": mean,
        "log variance": variance.log(),
        "x[0]": x[:, 0].clamp(-5, 5),
        "mean of x, mean": x.mean(1).clamp(-5, 5) * mean,
    }


def compare(move, seed=0):
    return pa.joint_distribution_test(
        parameters, data, move, functions, iterations=200, chains=200, seed=seed
    )


def test_an_exact_kernel_passes_and_the_callers_random_state_is_left_alone():
    """Eight moments: |z| of 4 in one of 2,000 runs."""
    before = torch.get_rng_state()
    found = compare(kernel())
    assert torch.equal(torch.get_rng_state(), before)
    assert found.passed, str(found)
    assert len(found.names) == 8
    assert str(found).startswith("Joint distribution test: passed")


def test_so_does_one_that_moves_a_part_only():
    assert compare(kernel(swept=False)).passed


@pytest.mark.parametrize("error", [{"prior_scale": 1.1}, {"prior_scale": 0.9}, {"freedom": 1}])
def test_planted_errors_are_found(error):
    """|z| > 6 for a scale of the prior that is 10 % off, or a degree of freedom too many, at five rows."""
    found = compare(kernel(**error))
    assert found.z.abs().max() > 6, str(found)
    assert "differs" in str(found)


def test_z_is_standard_normal_for_an_autocorrelated_chain():
    """1,000 pairs of an AR(1) of coefficient .8 and white noise of the same law: the sd of z has error 1 / sqrt(2000).

    The error of a mean is an estimate of its own, which widens z a little: up to 5 % are allowed for it.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        white = generator.standard_normal((300, 4, 10))
        chain = np.empty_like(white)
        chain[0] = white[0]
        for t in range(1, len(chain)):
            chain[t] = 0.8 * chain[t - 1] + 0.6 * white[t]
        independent = generator.standard_normal(white.shape)
        found.append(_compared(("a",) * 10, torch.from_numpy(independent), torch.from_numpy(chain)).z[:10])
    z = torch.cat(found).numpy()
    assert 1 - 4 / 2000**0.5 < z.std() < 1.05 + 4 / 2000**0.5
    assert stats.kstest(z / z.std(), "norm").pvalue > 1e-4


def test_functions_that_do_not_give_a_number_for_each_chain_are_refused():
    with pytest.raises(pa.ParameterError, match=r"functions should give 3 numbers for 'x', .* \(3, 5\)"):
        pa.joint_distribution_test(
            parameters, data, kernel(), lambda theta, x: {"x": x}, iterations=10, chains=3
        )
