"""EM: never downhill, the same top as other roads, and missing entries integrated out."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.datasets import load_iris

from probae import ConvergenceWarning, DataError, HeywoodWarning, MissingRowWarning, ProbaeWarning, fit
from probae.datasets import holzinger_swineford
from probae.inference import EM, MaximumLikelihood
from probae.models import FactorAnalysis, ProbabilisticPCA, patterns


def random_problem(seed, rows=60):
    generator = np.random.default_rng(seed)
    features, latents = int(generator.integers(3, 8)), int(generator.integers(1, 3))
    W = generator.normal(size=(features, latents))
    x = generator.normal(size=(rows, latents)) @ W.T + generator.normal(
        size=(rows, features)
    ) * generator.uniform(0.1, 2, features)
    build = FactorAnalysis if seed % 2 else ProbabilisticPCA
    return build(features, latents), torch.from_numpy(x * 10 ** generator.uniform(-4, 4))


def planted(rows=120, columns=4):
    """Rows of one strong factor with uniquenesses far from zero: EM gets there in tens of steps."""
    truth = FactorAnalysis(columns, 1)
    truth.loadings = torch.tensor([[1.0], [-0.8], [1.2], [0.9], [1.1]], dtype=torch.float64)[:columns]
    truth.mean = torch.tensor([10.0, -3.0, 0.0, 1.0, 2.0], dtype=torch.float64)[:columns]
    truth.uniquenesses = torch.tensor([0.5, 0.8, 0.6, 1.0, 0.7], dtype=torch.float64)[:columns]
    return truth.sample(rows, seed=2)


def em(model, x, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)
        return fit(model, x, EM(**settings))


def with_holes(x, share, seed=0):
    x = x.clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share] = torch.nan
    return x


def test_the_likelihood_never_falls():
    """A hundred random fits, every step, 1e-10 nats per row for rounding."""
    for seed in range(100):
        run = em(*random_problem(seed), steps=40)
        assert run.history.isfinite().all()
        assert (run.history.diff() > -1e-10).all(), seed


def test_the_likelihood_never_falls_with_missing_entries():
    """And a hundred with missing entries."""
    for seed in range(100):
        model, x = random_problem(seed, rows=30)
        run = em(model, with_holes(x, 0.2, seed), steps=40)
        assert run.history.isfinite().all()
        assert (run.history.diff() > -1e-10).all(), seed


def test_the_likelihood_never_falls_with_a_constant_column():
    """Its noise variance shrinks forever; a floor must not undo a step."""
    model, x = FactorAnalysis(4, 1), random_problem(1)[1][:, :3]
    x = torch.cat([x, torch.full((len(x), 1), 2.0, dtype=torch.float64)], 1)
    run = em(model, x, steps=60)
    assert run.history.isfinite().all()
    assert (run.history.diff() > -1e-10).all()


def test_history_is_the_likelihood_of_the_model():
    x = holzinger_swineford().x
    run = em(FactorAnalysis(9, 2), x, steps=30)
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-12)
    holes = with_holes(x, 0.1) * 7.0  # in units that a fit divides by
    incomplete = em(FactorAnalysis(9, 2), holes, steps=5)
    value = incomplete.log_likelihood(holes).mean().item()
    assert incomplete.history[-1].item() == pytest.approx(value, rel=1e-12)


def test_nothing_missing_is_plain_em():
    """Bitwise, since the same code runs."""
    x = holzinger_swineford().x
    one, two = em(FactorAnalysis(9, 2), x, steps=20), em(FactorAnalysis(9, 2), x.numpy(), steps=20)
    assert torch.equal(one.model.loadings, two.model.loadings)
    assert torch.equal(one.history, two.history)


@pytest.mark.parametrize("build", [FactorAnalysis, ProbabilisticPCA])
def test_a_row_without_values_changes_nothing(build):
    """The steps for incomplete rows end where those for complete rows do."""
    x = planted()
    padded = torch.cat([x, torch.full((1, 4), torch.nan, dtype=torch.float64)])
    plain, with_row = em(build(4, 1), x, tol=1e-10), em(build(4, 1), padded, tol=1e-10)
    assert torch.allclose(plain.model.noise_variance, with_row.model.noise_variance, rtol=1e-4)
    implied = [m.loadings @ m.loadings.mT for m in (plain.model, with_row.model)]
    assert torch.allclose(implied[0], implied[1], rtol=1e-4)
    assert torch.allclose(plain.model.mean, with_row.model.mean, rtol=1e-9)


def covariance(model):
    noise = model.noise_variance.detach().expand(model.features)
    return (model.loadings @ model.loadings.mT).detach() + noise.diag()


def observed_likelihood(x, mean, loadings, noise):
    """Sum over rows of log N(observed; ...), through dense matrices, differentiable."""
    total = 0.0
    sigma = loadings @ loadings.mT + noise.diag()
    for row in x:
        seen = ~row.isnan()
        if seen.any():
            law = torch.distributions.MultivariateNormal(mean[seen], sigma[seen][:, seen])
            total = total + law.log_prob(row[seen])
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("build", [FactorAnalysis, ProbabilisticPCA])
def test_no_direct_climb_of_the_observed_likelihood_ends_higher(build, seed):
    """Full-information maximum likelihood by L-BFGS-B on dense densities, from the truth."""
    latents = 1 + seed % 2
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(6, latents, generator=generator, dtype=torch.float64)
    x = torch.randn(50, latents, generator=generator, dtype=torch.float64) @ W.T
    x = with_holes(x + 0.7 * torch.randn(50, 6, generator=generator, dtype=torch.float64), 0.2, seed)
    run = em(build(6, latents), x)
    size, noises = 6 * latents, 6 if build is FactorAnalysis else 1

    def deviance(theta):
        theta = torch.tensor(theta, requires_grad=True)
        noise = theta[size : size + noises].exp().expand(6)
        value = -observed_likelihood(x, theta[-6:], theta[:size].view(6, latents), noise) / 50
        value.backward()
        return value.item(), theta.grad.numpy()

    start = np.concatenate([W.flatten().numpy(), np.full(noises, np.log(0.49)), np.zeros(6)])
    bounds = [(None, None)] * size + [(np.log(1e-6), None)] * noises + [(None, None)] * 6
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-8}
    climbed = optimize.minimize(deviance, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    assert run.converged
    assert run.history[-1].item() >= -climbed.fun - 1e-6
    assert run.history[-1].item() == pytest.approx(-climbed.fun, abs=1e-5)


@pytest.mark.parametrize("build", [FactorAnalysis, ProbabilisticPCA])
def test_the_gradient_vanishes_where_em_ends(build):
    x = with_holes(holzinger_swineford().x, 0.2)
    run = em(build(9, 2), x)
    parameters = [run.model.mean, run.model.loadings, run.model.noise_variance]
    free = [value.detach().clone().requires_grad_() for value in parameters]
    value = observed_likelihood(x, free[0], free[1], free[2].expand(9)) / len(x)
    assert run.history[-1].item() == pytest.approx(value.item(), rel=1e-12)
    for gradient in torch.autograd.grad(value, free):
        assert gradient.abs().max() < 1e-6


def test_plain_steps_would_take_far_longer():
    """What acceleration is for: three factors of nine tests, where plain EM creeps for thousands of steps."""
    x = holzinger_swineford().x
    best = fit(FactorAnalysis(9, 3), x, MaximumLikelihood())
    for rows, target in ((x, best.history[-1].item()), (with_holes(x, 0.1), None)):
        run = em(FactorAnalysis(9, 3), rows)
        assert run.converged
        assert len(run.history) < 200
        if target is not None:
            assert run.history[-1].item() == pytest.approx(target, abs=1e-9)


def test_loadings_come_in_the_canonical_frame():
    """W' Psi^{-1} W is diagonal, largest first, as from maximum likelihood; the largest entry is positive."""
    run = em(FactorAnalysis(9, 3), with_holes(holzinger_swineford().x, 0.1))
    W, psi = run.model.loadings.detach(), run.model.uniquenesses.detach()
    G = W.T @ (W / psi.unsqueeze(1))
    assert torch.allclose(G, G.diagonal().diag(), atol=1e-9 * G.max().item())
    assert (G.diagonal().diff() < 0).all()
    assert (W.gather(0, W.abs().argmax(0, keepdim=True)) > 0).all()


def test_many_patterns_in_blocks_are_few_patterns(monkeypatch):
    """The same rows, walked over in one block or in many."""
    x = with_holes(planted(150), 0.3)
    x = x[~x.isnan().all(1)]
    one = em(FactorAnalysis(4, 1), x)
    monkeypatch.setattr(patterns, "BLOCK", 60)
    other = em(FactorAnalysis(4, 1), x)
    assert torch.allclose(covariance(one.model), covariance(other.model), rtol=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_equivariance_with_missing_entries(seed):
    """Rows in another order change nothing; columns, units and shifts are carried along."""
    generator = torch.Generator().manual_seed(seed)
    x = with_holes(planted(80, 5), 0.1, seed % 7)
    x = x[~x.isnan().all(1)]
    base = em(FactorAnalysis(5, 1), x)
    order = torch.randperm(len(x), generator=generator)
    columns = torch.randperm(5, generator=generator)
    units = torch.exp(2 * torch.randn(5, generator=generator, dtype=torch.float64))
    shift = 10 * torch.randn(5, generator=generator, dtype=torch.float64)
    moved = em(FactorAnalysis(5, 1), (x[order] * units + shift)[:, columns])
    expected = (covariance(base.model) * torch.outer(units, units))[columns][:, columns]
    assert torch.allclose(covariance(moved.model), expected, rtol=1e-6)
    assert torch.allclose(moved.model.mean, (base.model.mean * units + shift)[columns], rtol=1e-6, atol=1e-6)
    logs = float(((~x.isnan()).double() @ units.log()).mean())
    assert moved.history[-1].item() == pytest.approx(base.history[-1].item() - logs, rel=1e-9)


def test_columns_never_seen_together_are_tied_through_the_factor():
    """Their covariance is w_1 w_2, learned from the columns that both go with."""
    x = planted(4000, 5)
    truth = torch.tensor([1.0, -0.8, 1.2, 0.9, 1.1], dtype=torch.float64)
    x[:2000, 0] = x[2000:, 1] = torch.nan
    run = em(FactorAnalysis(5, 1), x)
    assert run.converged
    found = covariance(run.model)[0, 1].item()
    assert found == pytest.approx(float(truth[0] * truth[1]), abs=0.15)  # sd .05: 2000 rows, correlation .5


def test_more_columns_than_rows_with_missing_entries():
    """300 columns, 40 rows: the likelihood of the fit is that of the dense covariance."""
    generator = torch.Generator().manual_seed(3)
    W = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64) @ W.T
    x = with_holes(x + torch.randn(40, 300, generator=generator, dtype=torch.float64), 0.1)
    run = em(FactorAnalysis(300, 2), x)
    m = run.model
    dense = observed_likelihood(x, m.mean, m.loadings.detach(), m.uniquenesses.detach()) / 40
    assert run.converged
    assert run.history[-1].item() == pytest.approx(dense.item(), rel=1e-9)


def test_a_lower_top_at_the_floor_is_left_for_a_higher_one():
    """A draw with two uniquenesses at the floor wherever a climb ends, and tops of different heights."""
    generator = np.random.default_rng(67)
    features, rows = int(generator.integers(5, 10)), int(generator.integers(15, 60))
    W = generator.normal(size=(features, 3))
    x = generator.normal(size=(rows, 3)) @ W.T
    x += generator.normal(size=(rows, features)) * generator.uniform(0.3, 1.5, features)
    x[generator.random((rows, features)) < 0.1] = np.nan
    with pytest.warns(HeywoodWarning):
        run = fit(FactorAnalysis(features, 3), x, EM())
    shortfalls = [report["shortfall"] for report in run.restarts]
    assert shortfalls[0] > 1e-3
    assert min(shortfalls) == 0.0
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-12)


def test_a_row_without_values_is_reported_once():
    x = torch.cat([random_problem(1)[1], random_problem(1)[1][:1] * torch.nan])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FactorAnalysis(x.shape[1], 1), x, EM(steps=5, tol=1.0))
    assert sum(w.category is MissingRowWarning for w in caught) == 1


@pytest.mark.parametrize("build", [FactorAnalysis, ProbabilisticPCA])
def test_missing_at_random_recovers_the_parameters(build):
    """A fifth missing of n = 3000: n psi / sd(psi) has n (1 - .2) rows behind it, so 5 sd is 5 * 2 sqrt(2 / 2400)."""
    truth = build(4, 1)
    truth.loadings = torch.tensor([[1.0], [-0.8], [1.2], [0.9]], dtype=torch.float64)
    truth.mean = torch.tensor([10.0, -3.0, 0.0, 1.0], dtype=torch.float64)
    psi = torch.tensor([0.5, 0.8, 0.6, 1.0], dtype=torch.float64)
    truth.noise_variance = psi if build is FactorAnalysis else psi.mean()
    x = with_holes(truth.sample(3000, seed=2), 0.2, seed=1)
    run = em(build(4, 1), x, tol=1e-6)
    assert run.converged
    ratio = run.model.noise_variance / truth.noise_variance.detach()
    assert ((ratio - 1).abs() < 5 * 2 * (2 / 2400) ** 0.5).all()
    sign = (run.model.loadings * truth.loadings).sum().sign()
    assert torch.allclose(sign * run.model.loadings, truth.loadings.detach(), atol=5 * (2 / 2400) ** 0.5)
    assert torch.allclose(run.model.mean, truth.mean.detach(), atol=5 * (2.4 / 2400) ** 0.5)


def test_missing_entries_are_better_integrated_out_than_filled_in():
    """The fitted likelihood of the observed entries is at least that of the mean-filled maximum."""
    holes = with_holes(planted(200), 0.25)
    filled = torch.where(holes.isnan(), holes.nanmean(0), holes)
    integrated = em(FactorAnalysis(4, 1), holes, tol=1e-6)
    naive = fit(FactorAnalysis(4, 1), filled, MaximumLikelihood())
    assert integrated.log_likelihood(holes).mean() > naive.model.log_likelihood(holes).mean() + 1e-3


@pytest.mark.parametrize("scale", [1e-8, 1e8, 1e-140, 1e140])
def test_missing_entries_in_any_unit(scale):
    x = with_holes(planted(60, 3), 0.1)
    one, other = em(FactorAnalysis(3, 1), x, steps=20), em(FactorAnalysis(3, 1), x * scale, steps=20)
    assert torch.allclose(other.model.noise_variance / scale / scale, one.model.noise_variance, rtol=1e-8)
    assert torch.allclose(other.model.mean / scale, one.model.mean, rtol=1e-8)


def test_columns_in_unlike_units():
    """EM for factor analysis follows the unit of each column, with or without missing entries."""
    x = planted()
    scale = torch.tensor([1e6, 1.0, 1e-6, 1e2], dtype=torch.float64)
    for rows in (x, with_holes(x, 0.05)):
        one, other = (em(FactorAnalysis(4, 1), r, tol=1e-8, steps=200) for r in (rows, rows * scale))
        assert torch.allclose(other.model.uniquenesses / scale.square(), one.model.uniquenesses, rtol=1e-3)


def test_more_latents_than_columns():
    x = holzinger_swineford().x[:, :3]
    run = em(FactorAnalysis(3, 5), x, steps=200)
    assert run.model.loadings.shape == (3, 5)
    assert run.model.loadings.isfinite().all()
    saturated = (
        torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0)).log_prob(x).mean()
    )
    assert run.history[-1] <= saturated + 1e-9


def test_steps_that_run_out_are_reported():
    with pytest.warns(ConvergenceWarning, match="EM"):
        run = fit(FactorAnalysis(9, 3), holzinger_swineford().x, EM(steps=3))
    assert not run.converged
    assert len(run.history) in (3, 4)


def test_a_vanishing_uniqueness_is_reported():
    """Iris with one factor, by EM: the third uniqueness heads for zero, slowly. Silence would be wrong."""
    with pytest.warns((HeywoodWarning, ConvergenceWarning)):
        fit(FactorAnalysis(4, 1), load_iris().data, EM(steps=300))


def test_convergence_is_as_asked():
    x = holzinger_swineford().x
    run = em(FactorAnalysis(9, 1), x, tol=1e-6)
    assert run.converged
    assert abs(run.history[-2] - run.history[-1]) < 1e-6 * 1.01
    best = fit(FactorAnalysis(9, 1), x).history[-1]
    assert em(FactorAnalysis(9, 1), x, tol=1e-12).history[-1].item() == pytest.approx(best.item(), abs=1e-7)


def test_small_awkward_tables_end_well_or_are_refused_in_words():
    """Few rows, many holes, copies and constants: finite numbers that belong together, or a sentence."""
    fitted = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        rows, features, latents = (int(generator.integers(*ends)) for ends in ((2, 12), (1, 6), (1, 4)))
        x = generator.normal(size=(rows, features)) * 10.0 ** generator.uniform(-3, 3)
        x[:, -1] = {0: x[:, -1], 1: x[:, 0], 2: np.full(rows, 3.0)}[seed % 3]
        x[generator.random((rows, features)) < generator.uniform(0, 0.8)] = np.nan
        build = (FactorAnalysis, ProbabilisticPCA)[seed % 2]
        try:
            run = em(build(features, latents), x, steps=60)
        except DataError:
            continue
        fitted += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingRowWarning)
            value = run.log_likelihood(x).mean().item()
        assert all(p.isfinite().all() for p in run.model.parameters())
        assert (run.history.diff() >= 0).all()
        assert run.history[-1].item() == pytest.approx(value, rel=1e-6, abs=1e-6), seed
    assert fitted > 30


def test_a_table_of_constants_with_holes_is_refused():
    x = torch.full((6, 3), 2.0, dtype=torch.float64)
    x[0, 0] = x[3, 1] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbaeWarning)
        with pytest.raises(DataError, match="at least one column that varies"):
            fit(FactorAnalysis(3, 1), x)
