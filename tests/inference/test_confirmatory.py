"""Maximum likelihood with fixed zeros, against published fits, other models of which it is a case, and itself."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import probae as pa
from probae import (
    EM,
    BoundaryWarning,
    ConfirmatoryFactorAnalysis,
    DataError,
    FactorAnalysis,
    HeywoodWarning,
    LinearFactorModel,
    MaximumLikelihood,
    SufficientStatistics,
    UnderidentifiedWarning,
    fit,
)
from probae.inference.grouped import standardize
from probae.inference.masked import Group, Layout, evaluate, information
from probae.priors import CorrelatedGaussian

SIMPLE = np.kron(np.eye(3), np.ones((3, 1)))
BIFACTOR = np.hstack([np.ones((9, 1)), SIMPLE])
SCHOOL = pa.datasets.holzinger_swineford()


def saturated(x):
    """Log-likelihood of any covariance, complete rows."""
    n, features = x.shape
    covariance = np.cov(x.numpy().T, bias=True)
    return -0.5 * n * (features * (math.log(2 * math.pi) + 1) + np.linalg.slogdet(covariance)[1])


def chi_square(run, x):
    return 2 * (saturated(x) - run.model.log_likelihood(x).sum().item())


def simulated(pattern, phi=0.4, n=400, seed=0):
    """Rows of a confirmatory model with the given pattern and equal correlations, and the model."""
    generator = torch.Generator().manual_seed(seed)
    model = ConfirmatoryFactorAnalysis(pattern)
    size = model.pattern.shape
    model.loadings = model.pattern * (0.6 + 0.5 * torch.rand(size, generator=generator, dtype=torch.float64))
    model.noise_variance = 0.3 + torch.rand(size[0], generator=generator, dtype=torch.float64)
    if model.free_correlations:
        model.prior = CorrelatedGaussian((1 - phi) * np.eye(size[1]) + phi, learn=True)
    return model.sample(n, seed=seed), model


@pytest.fixture(scope="module")
def school_fit():
    return fit(ConfirmatoryFactorAnalysis(SIMPLE), SCHOOL.x)


# ------------------------------------------------------------------ published fits


def test_holzinger_swineford_is_the_fit_everyone_gets(school_fit):
    """lavaan's tutorial: chi2 85.306 on 24 degrees of freedom; std.all loadings and correlations to three decimals."""
    assert chi_square(school_fit, SCHOOL.x) == pytest.approx(85.306, abs=5e-4)
    assert school_fit.model.degrees_of_freedom == 24
    loadings = school_fit.model.loadings / SCHOOL.x.std(0, correction=0).unsqueeze(1)
    published = [0.772, 0.424, 0.581, 0.852, 0.855, 0.838, 0.570, 0.723, 0.665]
    assert loadings[school_fit.model.pattern].tolist() == pytest.approx(published, abs=6e-4)
    assert (loadings[~school_fit.model.pattern] == 0).all()
    phi = school_fit.model.factor_correlation
    assert [phi[0, 1], phi[0, 2], phi[1, 2]] == pytest.approx([0.459, 0.471, 0.283], abs=6e-4)


def test_a_cross_loading_and_a_bifactor_model_are_those_of_semopy():
    """semopy 2.3.11: Model("visual =~ x1+x2+x3+x9; textual =~ x4+x5+x6; speed =~ x7+x8+x9"): 52.3822 on 23;
    Model("g =~ x1+...+x9; t =~ x4+x5+x6; s =~ x7+x8+x9", g, t and s uncorrelated): 42.2914 on 21; chi2 = n F."""
    crossed = SIMPLE.copy()
    crossed[8, 0] = 1
    run = fit(ConfirmatoryFactorAnalysis(crossed), SCHOOL.x)
    assert chi_square(run, SCHOOL.x) == pytest.approx(52.3822, abs=5e-4)
    assert run.model.degrees_of_freedom == 23
    run = fit(ConfirmatoryFactorAnalysis(BIFACTOR[:, [0, 2, 3]], correlated=False), SCHOOL.x)
    assert chi_square(run, SCHOOL.x) == pytest.approx(42.2914, abs=5e-4)
    assert run.model.degrees_of_freedom == 21
    assert torch.equal(run.model.factor_correlation, torch.eye(3, dtype=torch.float64))


def test_unrestricted_factors_fit_better_by_what_the_zeros_cost(school_fit):
    """Oracle: 85.306 - 22.897 = 62.4 on 12 degrees of freedom."""
    free = fit(FactorAnalysis(9, 3), SCHOOL.x)
    assert 2 * 301 * float(free.history[-1] - school_fit.history[-1]) == pytest.approx(62.4, abs=0.02)


# ------------------------------------------------------------------ models it is a case of, or that are a case of it


def test_one_factor_is_factor_analysis():
    free, masked = (
        fit(FactorAnalysis(9, 1), SCHOOL.x),
        fit(ConfirmatoryFactorAnalysis(np.ones((9, 1))), SCHOOL.x),
    )
    assert float(masked.history[-1]) == pytest.approx(float(free.history[-1]), abs=1e-12)
    assert (masked.model.loadings - free.model.loadings).abs().max() < 1e-6
    assert (masked.model.uniquenesses - free.model.uniquenesses).abs().max() < 1e-6


@pytest.mark.parametrize(("correlated", "flat"), [(False, 3), (True, 6)])
def test_without_zeros_it_is_factor_analysis(correlated, flat):
    """K (K - 1) / 2 rotations stay, or K (K - 1) oblique ones."""
    free = fit(FactorAnalysis(9, 3), SCHOOL.x)
    with pytest.warns(UnderidentifiedWarning, match=f"leave {flat} directions"):
        masked = fit(ConfirmatoryFactorAnalysis(np.ones((9, 3)), correlated), SCHOOL.x)
    assert float(masked.history[-1]) == pytest.approx(float(free.history[-1]), abs=1e-10)


def test_zeros_that_only_choose_axes_cost_nothing():
    """An anchor for each factor leaves no rotation and restricts nothing."""
    pattern = np.ones((9, 3))
    for row, factor in ((0, 0), (3, 1), (6, 2)):
        pattern[row] = 0
        pattern[row, factor] = 1
    run, free = fit(ConfirmatoryFactorAnalysis(pattern), SCHOOL.x), fit(FactorAnalysis(9, 3), SCHOOL.x)
    assert float(run.history[-1]) == pytest.approx(float(free.history[-1]), abs=1e-10)
    assert run.model.degrees_of_freedom == 12


def test_a_feature_on_no_factor_keeps_its_variance():
    pattern = np.ones((9, 1))
    pattern[4] = 0
    run = fit(ConfirmatoryFactorAnalysis(pattern), SCHOOL.x)
    assert run.model.loadings[4, 0] == 0
    assert float(run.model.uniquenesses[4]) == pytest.approx(
        float(SCHOOL.x[:, 4].var(correction=0)), rel=1e-9
    )


@pytest.mark.parametrize("method", [MaximumLikelihood(), EM()], ids=repr)
def test_fixed_correlations_without_zeros_change_nothing(method):
    """W L on uncorrelated factors is W on factors with correlations L L'."""
    phi = [[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]]
    run = fit(LinearFactorModel(9, 3, prior=CorrelatedGaussian(phi)), SCHOOL.x, method)
    free = fit(FactorAnalysis(9, 3), SCHOOL.x, method)
    assert run.model.factor_correlation.tolist() == phi
    ours, theirs = run.model.marginal().covariance_matrix, free.model.marginal().covariance_matrix
    assert (ours - theirs).abs().max() < 1e-6
    assert run.model.log_likelihood(SCHOOL.x).mean().item() == pytest.approx(
        float(free.history[-1]), abs=1e-8
    )


# ------------------------------------------------------------------ optimality


@pytest.mark.parametrize(
    ("pattern", "correlated"), [(SIMPLE, True), (SIMPLE, False), (BIFACTOR[:, [0, 2, 3]], False)]
)
def test_the_gradient_vanishes(pattern, correlated):
    run = fit(ConfirmatoryFactorAnalysis(pattern, correlated), SCHOOL.x)
    model = run.model.requires_grad_(True)
    (-model.marginal().log_prob(SCHOOL.x).mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() < 1e-7, name
    assert run.converged
    assert (run.history.diff() >= -1e-12).all()
    assert float(run.history[-1]) == pytest.approx(model.log_likelihood(SCHOOL.x).mean().item(), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_no_other_start_finds_better(seed):
    """Small samples, weak loadings, cross-loadings; 20 starts of a quasi-Newton search without second derivatives."""
    rng = np.random.default_rng(seed)
    pattern = np.kron(np.eye(2), np.ones((4, 1)))
    pattern[rng.integers(8), rng.integers(2)] = 1
    x, _ = simulated(pattern, phi=0.3, n=120, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        run = fit(ConfirmatoryFactorAnalysis(pattern), x)
    rows = standardize(SufficientStatistics.from_data(x))
    layout = Layout(pattern.astype(bool), ((0, 1),))

    def objective(theta):
        point = evaluate(layout, rows.groups, theta)
        return (1e6, np.zeros_like(theta)) if point is None else (point.value, point.gradient)

    first, second = layout.split
    bounds = [(None, None)] * first + [(-0.999, 0.999)] + [(math.log(1e-6), 3.0)] * 8
    loadings = (run.model.loadings / torch.as_tensor(rows.scale).unsqueeze(1)).numpy()
    noise = run.model.uniquenesses.numpy() / rows.scale**2
    ours = objective(layout.pack(loadings, run.model.factor_correlation.numpy(), noise))[0]
    for _ in range(20):
        start = np.concatenate(
            [rng.normal(size=first) * 0.6, rng.uniform(-0.8, 0.8, 1), rng.uniform(-2, 0, 8)]
        )
        found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
        assert ours <= found.fun + 1e-7


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.floats(-4, 4), min_size=9, max_size=9), st.permutations(range(9)))
def test_units_and_order_of_columns_only_rename(exponents, order):
    """Scaling x by c scales the loadings by c, the order of the columns is that of the rows of the loadings."""
    units = 10.0 ** torch.tensor(exponents, dtype=torch.float64)
    base = fit(ConfirmatoryFactorAnalysis(SIMPLE), SCHOOL.x).model
    other = fit(ConfirmatoryFactorAnalysis(SIMPLE[order]), (SCHOOL.x * units + 3)[:, order]).model
    assert ((other.loadings / units[order].unsqueeze(1)) - base.loadings[order]).abs().max() < 1e-9
    assert (other.uniquenesses / units[order].square() / base.uniquenesses[order] - 1).abs().max() < 1e-9
    assert (other.factor_correlation - base.factor_correlation).abs().max() < 1e-9


def test_rows_statistics_and_correlations_say_the_same(school_fit):
    statistics = SufficientStatistics.from_data(SCHOOL.x)
    for data in (statistics, SCHOOL.x.flip(0)):
        other = fit(ConfirmatoryFactorAnalysis(SIMPLE), data)
        assert (other.model.loadings - school_fit.model.loadings).abs().max() < 1e-9
    spread = SCHOOL.x.std(0, correction=0)
    correlation = statistics.covariance / torch.outer(spread, spread)
    published = fit(
        ConfirmatoryFactorAnalysis(SIMPLE), SufficientStatistics.from_covariance(correlation, count=301)
    )
    scaled = school_fit.model.loadings / spread.unsqueeze(1)
    assert (published.model.loadings - scaled).abs().max() < 1e-9


def test_columns_sum_to_something_positive():
    """Signs are free: the columns' are fixed, the correlations follow."""
    signs = torch.tensor([-1.0] * 3 + [1.0] * 6, dtype=torch.float64)
    base = fit(ConfirmatoryFactorAnalysis(SIMPLE), SCHOOL.x).model
    turned = fit(ConfirmatoryFactorAnalysis(SIMPLE), SCHOOL.x * signs).model
    assert (turned.loadings.sum(0) > 0).all()
    assert (turned.loadings - base.loadings).abs().max() < 1e-9
    assert turned.factor_correlation[0, 1] == pytest.approx(-base.factor_correlation[0, 1].item(), abs=1e-9)


# ------------------------------------------------------------------ missing entries


@pytest.fixture(scope="module")
def holes():
    x = SCHOOL.x.clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.15] = torch.nan
    x[7] = torch.nan
    return x


@pytest.mark.filterwarnings("ignore::probae.MissingRowWarning")
@pytest.mark.parametrize(("pattern", "correlated"), [(SIMPLE, True), (SIMPLE, False)])
def test_missing_entries_by_newton_and_by_em(holes, pattern, correlated):
    model = ConfirmatoryFactorAnalysis(pattern, correlated)
    newton, em = fit(model, holes), fit(model, holes, EM(tol=1e-13))
    assert isinstance(newton.method, MaximumLikelihood)
    assert newton.model.log_likelihood(holes).mean().item() == pytest.approx(
        float(newton.history[-1]), abs=1e-12
    )
    assert float(em.history[-1]) == pytest.approx(float(newton.history[-1]), abs=1e-9)
    assert float(em.history[-1]) <= float(newton.history[-1]) + 1e-12
    assert (em.history.diff() > -1e-12).all()  # EM never falls
    for name in ("loadings", "mean", "uniquenesses", "factor_correlation"):
        assert (getattr(em.model, name) - getattr(newton.model, name)).abs().max() < 1e-4, name


def test_more_entries_missing_than_not():
    """More entries missing than not: the pairwise moments of a start need not be those of any rows."""
    x, _ = simulated(SIMPLE, n=60, seed=8)
    rng = np.random.default_rng(0)
    x[torch.from_numpy(rng.random(x.shape) < 0.55)] = torch.nan
    x = x[~x.isnan().all(1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        run = fit(ConfirmatoryFactorAnalysis(SIMPLE), x)
        em = fit(ConfirmatoryFactorAnalysis(SIMPLE), x, EM(steps=300))
    assert run.model.log_likelihood(x).isfinite().all()
    assert float(run.history[-1]) >= float(em.history[-1]) - 1e-9


@pytest.mark.filterwarnings("ignore::probae.MissingRowWarning")
def test_the_gradient_vanishes_with_missing_entries(holes):
    model = fit(ConfirmatoryFactorAnalysis(SIMPLE), holes).model
    rows = [(row[~row.isnan()], ~row.isnan()) for row in holes if not row.isnan().all()]
    model.requires_grad_(True)
    law = model.marginal()
    covariance, mean = law.covariance_matrix, law.mean
    total = sum(
        torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen]).log_prob(values)
        for values, seen in rows
    )
    gradients = torch.autograd.grad(total / len(holes), list(model.parameters()))
    assert all(gradient.abs().max() < 1e-7 for gradient in gradients)


def test_em_of_complete_rows_is_maximum_likelihood(school_fit):
    run = fit(ConfirmatoryFactorAnalysis(SIMPLE), SCHOOL.x, EM(tol=1e-13))
    assert float(run.history[-1]) == pytest.approx(float(school_fit.history[-1]), abs=1e-9)
    assert (run.history.diff() > -1e-12).all()


def test_recovery_within_the_standard_errors():
    """Loadings, correlations and log-uniquenesses over their errors: 21 normal numbers."""
    x, truth = simulated(SIMPLE, phi=0.4, n=4000, seed=5)
    run = fit(ConfirmatoryFactorAnalysis(SIMPLE), x)
    layout = Layout(SIMPLE.astype(bool), ((0, 1), (0, 2), (1, 2)))
    found, true = (
        layout.pack(
            m.loadings.detach().numpy(), m.factor_correlation.numpy(), m.uniquenesses.detach().numpy()
        )
        for m in (run.model, truth)
    )
    groups = [Group(1.0, np.ones(9, dtype=bool), x.mean(0).numpy(), np.cov(x.numpy().T, bias=True))]
    inverse = np.linalg.inv(0.5 * information(layout, groups, evaluate(layout, groups, found)))
    deviates = (found - true) / np.sqrt(inverse.diagonal() / 4000)
    assert np.abs(deviates).max() < 4.5
    distance = 4000 * (found - true) @ np.linalg.solve(inverse, found - true)
    assert stats.chi2(21).cdf(distance) < 0.9999  # no larger than chance
    assert stats.chi2(21).cdf(distance) > 0.0001  # nor smaller: the errors are not too large
    assert stats.chi2(24).sf(chi_square(run, x)) > 1e-4


# ------------------------------------------------------------------ boundaries and bad data


def test_a_heywood_case_is_named():
    """The first feature is the factor itself, but for a sample correlation that one factor cannot reach."""
    correlation = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, 0.7], [0.9, 0.7, 1.0]])
    frame = SufficientStatistics.from_covariance(pd.DataFrame(correlation, columns=list("abc")), count=100)
    with pytest.warns(HeywoodWarning, match="uniqueness of a reached its floor"):
        run = fit(ConfirmatoryFactorAnalysis(np.ones((3, 1))), frame)
    assert run.converged
    assert float(run.model.uniquenesses[0]) == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_factors_that_are_one_are_named(seed):
    """Two factors of one-factor data whose best correlation is 1 are that one factor."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, 1)) @ rng.uniform(0.3, 0.8, (1, 6)) + 0.8 * rng.normal(size=(80, 6))
    model = ConfirmatoryFactorAnalysis.from_groups({"one": [0, 1, 2], "two": [3, 4, 5]}, 6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(model, x)
    single = fit(ConfirmatoryFactorAnalysis(np.ones((6, 1))), x)
    phi = run.model.factor_correlation
    assert float(run.history[-1]) >= float(single.history[-1]) - 1e-7
    assert torch.linalg.eigvalsh(phi)[0] > 0
    if float(phi[0, 1]) > 0.9999:
        assert [w.category for w in caught if "one, two reached the boundary" in str(w.message)] == [
            BoundaryWarning
        ]
        assert float(run.history[-1]) == pytest.approx(float(single.history[-1]), abs=1e-7)
    else:
        assert float(run.history[-1]) > float(single.history[-1])


def test_the_boundary_cases_above_contain_a_boundary():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1)) @ rng.uniform(0.5, 1, (1, 6)) + 0.6 * rng.normal(size=(300, 6))
    with pytest.warns(BoundaryWarning, match=r"z\[0\], z\[1\] reached the boundary"):
        run = fit(ConfirmatoryFactorAnalysis(np.kron(np.eye(2), np.ones((3, 1)))), x)
    single = fit(ConfirmatoryFactorAnalysis(np.ones((6, 1))), x)
    assert float(run.history[-1]) == pytest.approx(float(single.history[-1]), abs=1e-7)
    assert run.posterior(x).mean.isfinite().all()


def test_a_doublet_is_reported_as_flat():
    with pytest.warns(UnderidentifiedWarning, match="leave 2 directions"):
        fit(
            ConfirmatoryFactorAnalysis(np.kron(np.eye(2), np.ones((2, 1))), correlated=False),
            SCHOOL.x[:, [0, 1, 3, 4]],
        )


def test_constant_columns_keep_their_place():
    x = SCHOOL.x.clone()
    x[:, 4] = 2.5
    with pytest.warns(pa.ConstantColumnWarning):
        run = fit(ConfirmatoryFactorAnalysis(SIMPLE), x)
    assert (run.model.loadings[4] == 0).all()
    assert run.model.mean[4] == 2.5
    x[:, 3:6] = 1.0
    with pytest.raises(DataError, match=r"Every column that measures z\[1\] is constant"):
        fit(ConfirmatoryFactorAnalysis(SIMPLE), x)


def test_fewer_rows_than_features():
    x, _ = simulated(np.kron(np.eye(2), np.ones((15, 1))), n=20, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        run = fit(ConfirmatoryFactorAnalysis(np.kron(np.eye(2), np.ones((15, 1)))), x)
    assert run.converged
    assert run.model.loadings.isfinite().all()
