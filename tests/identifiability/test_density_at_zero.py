"""The density at zero: exact where its line is exact, near the truth for laws with and without a kink."""

import math

import pytest
import torch

from probae import priors
from probae.checks import DataError
from probae.identifiability.density_at_zero import density_at_zero


def points(inverse, count=200_000):
    """Return the quantiles at the middles of equal steps: a sample without sampling error."""
    return inverse((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def draws(law, count, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return law.sample(count).double()


def test_a_density_that_falls_along_a_line_has_no_bias():
    # |s| triangular on [0, 1]: f(m) = 2 - 2 m, so p(0) = 1. Ends of the steps leave an error of order h^{-2} n^{-2}
    sizes = points(lambda q: 1 - (1 - q).sqrt())
    signs = torch.where(torch.arange(len(sizes)) % 2 == 0, 1.0, -1.0)
    assert density_at_zero(sizes * signs).value == pytest.approx(1.0, abs=1e-6)


def test_a_flat_density_is_exact():
    assert density_at_zero(points(lambda q: 2 * q - 1)).value == pytest.approx(0.5, abs=1e-6)


def test_value_follows_the_unit_of_s_and_forgets_signs_and_order():
    s = draws(priors.Laplace(), 500, 0)
    reference = density_at_zero(s)
    turned = density_at_zero(-s.flip(0) * 10)
    assert turned.value == pytest.approx(reference.value / 10, rel=1e-12)
    assert turned.bandwidth == pytest.approx(10 * reference.bandwidth, rel=1e-12)


@pytest.mark.parametrize(
    ("law", "density"),
    [
        (priors.Laplace(), math.sqrt(0.5)),
        (priors.StudentT(5.0), 0.379607 * math.sqrt(5 / 3)),
        (priors.Logistic(), math.pi / math.sqrt(48)),
        (priors.Gaussian(), 1 / math.sqrt(2 * math.pi)),
    ],
    ids=repr,
)
def test_bias_is_a_few_percent_and_the_error_is_the_spread_over_samples(law, density):
    found = [density_at_zero(draws(law, 2000, seed)) for seed in range(200)]
    values = torch.tensor([one.value for one in found])
    # a symmetric Gaussian kernel misses a third of the Laplace peak; one standard error of this mean is .5 %
    assert float(values.mean()) == pytest.approx(density, rel=0.04)
    stated = torch.tensor([one.error for one in found]).square().mean().sqrt()
    # 200 samples: the spread is known to 5 %, so 20 % is four standard errors
    assert float(values.std()) == pytest.approx(float(stated), rel=0.2)


def test_error_shrinks_with_rows_as_n_to_the_two_fifths():
    few, many = (density_at_zero(draws(priors.Logistic(), count, 3)) for count in (2000, 64_000))
    assert few.error / many.error == pytest.approx(32**0.4, rel=0.1)  # the kernel's own spread moves by 2 %


@pytest.mark.parametrize(
    ("s", "match"),
    [
        (torch.zeros(5), "at least 20"),
        (torch.full((50,), math.nan), "finite"),
        (torch.zeros(50), "exactly zero"),
    ],
)
def test_refuses_what_has_no_density(s, match):
    with pytest.raises(DataError, match=match):
        density_at_zero(s)
