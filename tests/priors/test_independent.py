"""Independent coordinates: every method is the coordinate's own, column by column."""

import copy

import pyro
import pytest
import torch
from pyro import poutine

from probae.checks import NotExactError, ParameterError
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    Scaled,
    SpikeSlab,
    StudentT,
)

LAWS = (Laplace(), Gaussian(), Scaled(StudentT(df=5), sd=2.0))


@pytest.fixture
def z():
    return torch.randn(6, 3, dtype=torch.float64)


def columns(method, z, *extra):
    return torch.stack([getattr(law, method)(z[:, k], *extra) for k, law in enumerate(LAWS)], -1)


def test_density_is_the_sum_and_the_rest_goes_by_columns(z):
    prior = Independent(LAWS)
    torch.testing.assert_close(prior.log_prob(z), columns("log_prob", z).sum(-1))
    torch.testing.assert_close(prior.joint_log_prob(z), prior.log_prob(z))
    torch.testing.assert_close(prior.score(z), columns("score", z))
    torch.testing.assert_close(prior.noisy_log_prob(z, 0.3), columns("noisy_log_prob", z, 0.3))
    torch.testing.assert_close(prior.noisy_score(z, 0.3), columns("noisy_score", z, 0.3))


def test_noise_and_steps_may_differ_between_columns(z):
    prior = Independent([Laplace(), Gaussian(), Logistic()])
    v = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    for method in (prior.noisy_log_prob, prior.prox):
        together = method(z, v)
        for k, law in enumerate(prior.coordinates(3)):
            torch.testing.assert_close(together[:, k], getattr(law, method.__name__)(z[:, k], float(v[k])))


def test_flags_follow_the_coordinates():
    assert Independent(LAWS).event_dim == 1
    assert Independent(LAWS).has_scale_mixture
    assert not Independent([Laplace(), Logistic()]).has_scale_mixture
    assert not Independent(LAWS).spherical
    assert Independent([Gaussian(), Gaussian()]).spherical
    assert Independent([Scaled(Gaussian(), 2.0), Scaled(Gaussian(), 2.0)]).spherical
    assert not Independent([Gaussian(), Scaled(Gaussian(), 2.0)]).spherical
    assert [repr(law) for law in Independent(LAWS).coordinates(3)] == [repr(law) for law in LAWS]


def test_distribution_and_draws(z):
    prior = Independent([*LAWS[:2], GeneralizedNormal(shape=4)])
    distribution = prior.distribution(3, like=torch.zeros(1))
    assert distribution.sample((5,)).shape == (5, 3)
    assert distribution.sample().dtype == distribution.variance.dtype == torch.float32
    torch.testing.assert_close(prior.distribution(3).log_prob(z), prior.log_prob(z))
    draws = Independent(LAWS).sample(40_000)
    # fourth moments of Laplace 6 and t5 9 times the square of the variance: four standard errors of each variance
    errors = torch.tensor([5.0, 2.0, 8 * 16.0]).sqrt() / 200
    assert bool(((draws.var(0) - torch.tensor([1.0, 1.0, 4.0])).abs() < 4 * errors).all())


def test_a_pyro_program_can_use_it():
    prior = Independent(LAWS)

    def program():
        with pyro.plate("samples", 7):
            return pyro.sample("z", prior.distribution(3))

    trace = poutine.trace(program).get_trace()
    z = trace.nodes["z"]["value"]
    assert z.shape == (7, 3)
    torch.testing.assert_close(trace.log_prob_sum(), prior.log_prob(z).sum())


def test_reparametrised_only_if_every_coordinate_is():
    assert Independent(LAWS).distribution(3).has_rsample
    mixed = Independent([Laplace(), SpikeSlab()]).distribution(2)
    assert not mixed.has_rsample
    assert mixed.sample((4,)).shape == (4, 2)


def test_scales_are_the_coordinates_own(z):
    prior = Independent(LAWS)
    torch.manual_seed(1)
    together = prior.sample_scales(z)
    torch.manual_seed(1)
    torch.testing.assert_close(together, columns("sample_scales", z))
    with pytest.raises(NotExactError, match=r"because Logistic\(\) has none"):
        Independent([Laplace(), Logistic()]).sample_scales(z[:, :2])


def test_copies_hold_the_laws(z):
    prior = Independent(LAWS)
    twin = copy.deepcopy(prior)
    twin.load_state_dict(prior.state_dict())
    assert torch.equal(twin.log_prob(z), prior.log_prob(z))
    assert repr(twin) == repr(prior) == "Independent([Laplace(), Gaussian(), Scaled(StudentT(df=5), sd=2)])"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [([], "an empty list"), ([Laplace(), MultivariateStudentT(df=5)], r"MultivariateStudentT\(df=5\) in it")],
)
def test_laws_have_to_be_coordinates(wrong, named):
    with pytest.raises(
        ParameterError, match=f"laws should be a list of priors of one coordinate.* got {named}"
    ):
        Independent(wrong)


def test_the_number_of_latents_is_that_of_the_laws(z):
    prior = Independent(LAWS)
    for call in (
        lambda: prior.log_prob(z[:, :2]),
        lambda: prior.distribution(4),
        lambda: prior.coordinates(1),
    ):
        with pytest.raises(ParameterError, match="latents should be 3, the number of laws"):
            call()
