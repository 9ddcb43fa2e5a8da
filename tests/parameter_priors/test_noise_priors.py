"""Every prior of noise variances: densities of the program, exact conditional draws, units.

A new prior is tested by one line of PRIORS.
"""

import pyro
import pyro.poutine as poutine
import pytest
import torch
from scipy import stats

import probae as pa
from probae.parameter_priors import HalfNormal, InverseGamma

SCALE = torch.tensor([1.0, 2.0, 0.5])
PRIORS = {"inverse gamma": InverseGamma(3.0, SCALE), "half normal": HalfNormal(SCALE)}
DRAWS = 20_000
CRITICAL = 1e-4  # level of each test; the seeds are fixed

every = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)


def from_program(prior, size):
    return prior.sites("noise_variance", torch.Size([3]))["noise_variance"].sample((size,))


@every
def test_the_density_is_that_of_the_programs_site(prior):
    pyro.set_rng_seed(0)
    program = pa.FactorAnalysis(3, 1).with_priors(noise_variance=prior)
    with pyro.settings.context(module_local_params=True):
        site = poutine.trace(program).get_trace(size=2).nodes["noise_variance"]
    expected = site["fn"].log_prob(site["value"])
    torch.testing.assert_close(prior.log_prob(site["value"]).sum(), expected)


@every
def test_the_density_integrates_to_1(prior):
    grid = torch.linspace(-40.0, 12.0, 20_001).double()[:, None]
    grid = grid.expand(-1, 3)  # of the logarithm; the tails hold below 1e-8
    mass = torch.trapezoid((prior.log_prob(grid.exp()) + grid).exp(), grid, dim=0)
    torch.testing.assert_close(mass, torch.ones(3).double(), rtol=0, atol=1e-6)


@every
@pytest.mark.parametrize(("count", "error"), [(1, 1.0), (6, 1.0), (6, 1.15)])
def test_a_draw_leaves_the_joint_law_as_it_is(prior, count, error):
    """Geweke's test; residuals that are off by 15 % are noticed."""
    torch.manual_seed(1)
    variance = from_program(prior, DRAWS)
    squares = variance * 2 * torch._standard_gamma(torch.full_like(variance, count / 2))
    moved = prior.draw(error * squares, count)
    reference = from_program(prior, DRAWS)
    levels = []
    for d in range(3):
        ratio = (squares / moved)[:, d].numpy()
        levels.append(stats.kstest(ratio, stats.chi2(count).cdf).pvalue)
        levels.append(stats.ks_2samp(moved[:, d].numpy(), reference[:, d].numpy(), method="asymp").pvalue)
    assert min(levels) > CRITICAL if error == 1.0 else min(levels) < CRITICAL**2


@every
def test_in_units_is_a_change_of_variables(prior):
    units = torch.tensor([0.5, 3.0, 10.0]).double()
    variance = torch.tensor([0.3, 1.0, 2.0]).double()
    inner = prior.in_units(units)
    scaled = inner.log_prob(variance / units.square()) - 2 * units.log()
    torch.testing.assert_close(scaled, prior.log_prob(variance))


@pytest.mark.parametrize("prior", [InverseGamma(3.0, 2.0), HalfNormal(2.0)], ids=PRIORS)
def test_one_scale_stays_one_in_a_common_unit(prior):
    inner = prior.in_units(torch.full((3,), 5.0).double())
    assert isinstance(inner.scale, float)
    variance = torch.tensor(2.0).double()
    expected = inner.log_prob(variance / 25) - 2 * torch.tensor(5.0).double().log()
    torch.testing.assert_close(expected, prior.log_prob(variance))


def test_the_root_of_a_half_normal_variance_is_half_normal():
    torch.manual_seed(2)
    roots = from_program(HalfNormal(SCALE), 4000).sqrt()
    for d in range(3):
        assert stats.kstest(roots[:, d].numpy(), stats.halfnorm(scale=float(SCALE[d])).cdf).pvalue > CRITICAL


@every
def test_without_residuals_the_draw_is_from_the_prior(prior):
    torch.manual_seed(3)
    draws, reference = prior.draw(torch.zeros(DRAWS, 3), 0), from_program(prior, DRAWS)
    for d in range(3):
        assert stats.ks_2samp(draws[:, d].numpy(), reference[:, d].numpy(), method="asymp").pvalue > CRITICAL


def test_residuals_of_0_are_refused_by_the_half_normal():
    with pytest.raises(pa.ParameterError, match="no proper posterior"):
        HalfNormal().draw(torch.tensor([1.0, 0.0]), 10)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(pa.ParameterError, match="finite numbers above 0"):
        HalfNormal(scale)
