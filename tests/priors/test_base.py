"""Every law of the registry: density, score, information, draws, and what a module has to do."""

import copy
from math import inf, log, sqrt

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats

from probae.checks import NotExactError, ParameterError
from probae.priors import Laplace, Prior

FLOATS = (torch.float32, torch.float64)
CHANCE = 1e-4  # of failing a Kolmogorov-Smirnov test, were the seed not fixed


def inside(law, points):
    return points[points.abs() < 1.7] if law.name == "uniform" else points


# density and score


def test_log_prob_is_the_formula(law, points):
    expected = [law.log_density(float(z)) for z in points]
    assert law.prior.log_prob(points).tolist() == pytest.approx(expected, rel=1e-13, abs=1e-13)


def test_density_has_mass_one_and_the_variance_it_says(law):
    assert law.integral(lambda z: 1.0) == pytest.approx(1, rel=1e-8)
    assert law.integral(lambda z: z * z) == pytest.approx(law.variance, rel=1e-8)
    assert float(law.prior.distribution(1).variance.detach()) == pytest.approx(law.variance, rel=1e-12)


def test_score_is_the_derivative_of_the_density(law, points):
    z = inside(law, points)
    h = 1e-6 * z.abs()  # error h^2 of the third derivative plus 1e-16 / h: below 1e-9 of the slope
    with torch.no_grad():
        slope = (law.prior.log_prob(z + h) - law.prior.log_prob(z - h)) / (2 * h)
        torch.testing.assert_close(law.prior.score(z), -slope, rtol=1e-7, atol=1e-7)


def test_score_is_the_gradient_autograd_finds(law, points):
    z = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(law.prior.log_prob(z).clamp(min=-1e300).sum(), z)
    torch.testing.assert_close(law.prior.score(points).detach(), -slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_is_nan_at_zero(law, dtype):
    z = torch.zeros(2, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(law.prior.log_prob(z).sum(), z)
    assert slope.tolist() == law.prior.score(z).tolist() == [0, 0]
    for parameter in law.prior.parameters():
        assert torch.autograd.grad(law.prior.log_prob(z).sum(), parameter)[0].isfinite()


def test_nan_stays_nan(law):
    z = torch.tensor([float("nan"), 0.1], dtype=torch.float64)
    assert law.prior.log_prob(z).isnan().tolist() == [True, False]


def test_kappa_is_the_one_of_the_table(law):
    if law.kappa is not None:
        last_digit = 1e-3 if law.kappa in (4.222, 1.371) else 1e-4
        assert law.prior.fisher_information() == pytest.approx(law.kappa, abs=last_digit)


def test_kappa_is_the_mean_square_of_the_score(law):
    if law.prior.fisher_information() < inf:
        kappa = law.mean(lambda z: law.prior.score(z).square())
        assert law.prior.fisher_information() == pytest.approx(kappa, rel=1e-5)


def test_the_quadrature_of_the_base_class_finds_the_closed_kappa(law):
    if law.prior.fisher_information() < 4:  # the steep ones would need finer panels at 0
        assert Prior.fisher_information(law.prior) == pytest.approx(law.prior.fisher_information(), rel=1e-6)


def test_joint_log_prob_sums_the_coordinates(law, points):
    z = points[:10].reshape(5, 2)
    expected = law.prior.log_prob(z[:, 0]) + law.prior.log_prob(z[:, 1])
    torch.testing.assert_close(law.prior.joint_log_prob(z), expected)
    assert law.prior.event_dim == 0


def test_coordinates_are_the_law_again(law):
    assert law.prior.event_dim == 0
    assert [float(c.distribution(1).variance.detach()) for c in law.prior.coordinates(3)] == pytest.approx(
        [law.variance] * 3
    )
    assert law.prior.spherical == (law.name == "gaussian")


# draws and distributions


def test_draws_follow_the_law(law):
    draws = law.prior.sample(20_000)
    assert draws.shape == (20_000,)
    assert stats.kstest(draws.numpy(), law.distribution_function()).pvalue > CHANCE


def test_draws_have_the_shape_asked_for_and_follow_the_seed(law):
    torch.manual_seed(3)
    draws = law.prior.sample(5, 2)
    torch.manual_seed(3)
    assert draws.shape == (5, 2)
    assert torch.equal(draws, law.prior.sample(5, 2))
    assert draws.unique().numel() == 10
    assert not draws.requires_grad


@pytest.mark.parametrize("dtype", FLOATS)
def test_distribution_is_the_law_in_the_dtype_asked_for(law, dtype, points):
    x = torch.zeros(1, dtype=dtype)
    distribution = law.prior.distribution(3, like=x)
    assert (distribution.batch_shape, distribution.event_shape) == ((), (3,))
    assert distribution.sample((4,)).dtype == distribution.mean.dtype == dtype
    assert distribution.mean.tolist() == [0, 0, 0]
    z = points[:9].reshape(3, 3).to(dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    value = distribution.expand([3]).log_prob(z)
    torch.testing.assert_close(value, law.prior.joint_log_prob(z).to(dtype), **tolerance)


def test_a_pyro_program_can_use_it(law):
    def program(x):
        with pyro.plate("samples", len(x)):
            return pyro.sample("z", law.prior.distribution(2, like=x))

    trace = poutine.trace(program).get_trace(torch.zeros(7, 3, dtype=torch.float64))
    z = trace.nodes["z"]["value"]
    assert z.shape == (7, 2)
    torch.testing.assert_close(trace.log_prob_sum(), law.prior.joint_log_prob(z).sum())


@pytest.mark.parametrize("wrong", [0, -1, True])
def test_sizes_are_whole_numbers(wrong):
    with pytest.raises(ParameterError, match="size should be a whole number of at least 1"):
        Laplace().sample(wrong)
    with pytest.raises(ParameterError, match="latents should be a whole number of at least 1"):
        Laplace().sample(3, wrong)


# prox


def test_prox_is_the_minimiser(convex):
    v = torch.tensor([-30.0, -2.0, -0.6, -1e-3, 0.0, 0.01, 0.5, 1.0, 4.0], dtype=torch.float64)
    for step in (0.05, 0.7, 20.0):
        z = convex.prior.prox(v, step).detach()
        # the objective is strongly convex with modulus 1: at a distance d from its minimiser it is d^2 / 2 higher
        for distance in (-1e-3, -1e-5, 1e-5, 1e-3):
            gain = objective(convex, z + distance, v, step) - objective(convex, z, v, step)
            rounding = 1e-15 * (1 + objective(convex, z, v, step))
            assert bool((gain >= 0.499 * distance**2 - rounding).all()), (step, distance)


def objective(law, z, v, step):
    minus_log = torch.tensor([-law.log_density(float(point)) for point in z], dtype=torch.float64)
    return 0.5 * (z - v).square() + step * minus_log


def test_prox_is_found_by_brute_force(convex):
    v, step = torch.tensor([1.3, -3.0], dtype=torch.float64), 0.4
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    for point, z in zip(v, convex.prior.prox(v, step).detach(), strict=True):
        best = grid[objective(convex, grid, point, step).argmin()]
        assert float(z) == pytest.approx(float(best), abs=0.0005 + 1e-9)  # half a cell


def test_prox_has_the_derivative_of_the_implicit_function(convex):
    v = torch.tensor([-3.1, -1.4, 0.9, 1.6, 2.5], dtype=torch.float64, requires_grad=True)
    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    prox = lambda v, step: convex.prior.prox(v, step)  # noqa: E731
    assert torch.autograd.gradcheck(prox, (v, step), eps=1e-6, atol=1e-6, rtol=1e-6)


def test_prox_keeps_shape_and_dtype(convex):
    z = convex.prior.prox(torch.zeros(2, 3), torch.tensor([0.1, 0.2, 0.3]))
    assert z.shape == (2, 3)
    assert z.dtype == torch.float32


def test_prox_refuses_what_it_cannot_do(not_convex):
    with pytest.raises(NotExactError, match="has no prox: .* is not convex"):
        not_convex.prior.prox(torch.zeros(2), 1.0)


def test_prox_refuses_a_step_that_is_not_positive(convex):
    for step in (0.0, -1.0, inf):
        with pytest.raises(ParameterError, match="step should be finite and above 0"):
            convex.prior.prox(torch.zeros(2), step)


# scale mixtures


def test_scales_given_z_make_the_mixture(mixture):
    """With z from the law and tau from p(tau | z): z / sqrt(tau) is N(0, 1), free of tau, and z' | tau has the law."""
    z = mixture.prior.sample(20_000)
    tau = mixture.prior.sample_scales(z)
    assert tau.shape == z.shape
    assert bool((tau > 0).all())
    standard = (z / tau.sqrt()).numpy()
    assert stats.kstest(standard, "norm").pvalue > CHANCE
    again = (tau.sqrt() * torch.randn_like(tau)).numpy()
    assert stats.kstest(again, mixture.distribution_function()).pvalue > CHANCE
    if mixture.name != "gaussian":  # whose tau is constant
        for statistic in (np.abs(standard), standard):
            assert stats.spearmanr(statistic, tau.numpy()).pvalue > CHANCE


@pytest.mark.parametrize("dtype", FLOATS)
def test_scales_are_finite_near_zero(mixture, dtype):
    z = torch.tensor([0.0, 1e-30, -1e-8, 1e-3] * 500, dtype=dtype)
    tau = mixture.prior.sample_scales(z)
    assert tau.dtype == dtype
    assert bool((tau.isfinite() & (tau > 0)).all())


def test_laws_without_a_mixture_say_so(law):
    if not law.prior.has_scale_mixture:
        with pytest.raises(NotExactError, match="has no Gaussian scale mixture"):
            law.prior.sample_scales(torch.zeros(2))


# a module


def test_copies_and_states_hold_the_law(law, points):
    twin = copy.deepcopy(law.prior)
    assert torch.equal(twin.log_prob(points), law.prior.log_prob(points))
    state = law.prior.state_dict()
    assert all(value.dtype == torch.float64 for value in state.values())
    twin.load_state_dict(state)
    assert repr(twin) == repr(law.prior)
    for value in twin.state_dict().values():
        value.mul_(1.1)
    assert torch.equal(law.prior.state_dict().get("sd", torch.ones(1)), state.get("sd", torch.ones(1)))


def test_shape_of_another_law_can_be_loaded(points):
    from probae.priors import GeneralizedNormal, StudentT

    for first, second in ((StudentT(3), StudentT(7)), (GeneralizedNormal(1.5), GeneralizedNormal(0.7))):
        first.load_state_dict(second.state_dict())
        assert torch.equal(first.log_prob(points), second.log_prob(points))
        assert repr(first) == repr(second)


def test_float32_in_float32_out(law, points):
    z = points.float()
    results = {
        "log_prob": law.prior.log_prob(z),
        "joint_log_prob": law.prior.joint_log_prob(z),
        "score": law.prior.score(z),
        "noisy_log_prob": law.prior.noisy_log_prob(z, 0.3),
        "noisy_score": law.prior.noisy_score(z, 0.3),
        "scalar": law.prior.log_prob(z[0]),
    }
    assert {name: value.dtype for name, value in results.items()} == dict.fromkeys(results, torch.float32)
    torch.testing.assert_close(
        results["log_prob"].double(), law.prior.log_prob(z.double()), rtol=1e-5, atol=1e-5
    )


def test_learnt_shapes_are_parameters_with_a_gradient(learnt, points):
    (parameter,) = learnt.prior.parameters()
    h = 1e-6
    slopes = []
    for value in (learnt.prior.log_prob, lambda z: learnt.prior.noisy_log_prob(z, 0.3)):
        (slope,) = torch.autograd.grad(value(points).sum(), parameter)
        with torch.no_grad():
            parameter += h
            above = value(points).sum()
            parameter -= 2 * h
            below = value(points).sum()
            parameter += h
        slopes.append((float(slope), float(above - below) / (2 * h)))
    for slope, difference in slopes:
        assert slope == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_a_learnt_shape_finds_its_maximum():
    from probae.priors import StudentT

    z = StudentT(df=5).sample(4000)
    prior = StudentT(df=30, learn=True)
    optimiser = torch.optim.LBFGS(prior.parameters(), line_search_fn="strong_wolfe", max_iter=20)

    def loss():
        optimiser.zero_grad()
        value = -prior.log_prob(z).mean()
        value.backward()
        return value

    optimiser.step(loss)
    # the information of df at 5, the variance held at 1, leaves a standard error of 0.29 after 4000 draws
    assert float(prior.df.detach()) == pytest.approx(5, abs=4 * 0.29)
    assert prior.log_prob(z).mean() > StudentT(df=5).log_prob(z).mean()


def test_repr_is_the_constructor(law):
    assert repr(law.prior).startswith(type(law.prior).__name__ + "(")
    assert repr(Laplace()) == "Laplace()"


def test_a_prior_without_density_says_what_is_missing():
    for method in ("log_prob", "score", "distribution"):
        with pytest.raises(NotImplementedError, match=f"Prior should define {method}"):
            getattr(Prior(), method)(2 if method == "distribution" else torch.zeros(2))


def test_laplace_is_sqrt_two_wide():
    assert float(Laplace().log_prob(torch.zeros((), dtype=torch.float64))) == pytest.approx(log(1 / sqrt(2)))
