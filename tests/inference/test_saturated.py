"""The unrestricted Gaussian with missing entries: closed forms where there are any, else the top of the likelihood."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, sparse, stats

from probae import ConvergenceWarning, DataError, FactorAnalysis, ParameterError, SufficientStatistics, fit
from probae.datasets import holzinger_swineford
from probae.inference import EM
from probae.inference.saturated import saturated
from probae.inference.unrestricted import UnrestrictedGaussian
from probae.models import patterns as patterns_module
from probae.models.patterns import Patterns


def correlated(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    shift = 10 * torch.randn(columns, generator=generator, dtype=torch.float64)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) @ mixing + shift


def with_holes(x, share, seed=0):
    x = x.clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share] = torch.nan
    return x


def log_likelihood(x, mean, covariance):
    """Row by row with scipy."""
    total = 0.0
    for row in np.asarray(x):
        seen = ~np.isnan(row)
        if seen.any():
            block = np.asarray(covariance)[np.ix_(seen, seen)]
            total += stats.multivariate_normal(np.asarray(mean)[seen], block).logpdf(row[seen])
    return total


def test_complete_rows_have_their_own_moments():
    x = holzinger_swineford().x
    best = saturated(x)
    expected = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x).sum()
    assert best.log_likelihood == pytest.approx(expected, rel=1e-12)
    assert torch.allclose(best.statistics.covariance, torch.cov(x.T, correction=0), rtol=1e-10)
    moments = SufficientStatistics.from_data(x)
    assert saturated(moments).log_likelihood == pytest.approx(expected, rel=1e-12)
    assert best.converged


def test_a_row_without_values_brings_the_incomplete_road_to_the_closed_form():
    x = correlated(80, 4)
    padded = torch.cat([x, torch.full((2, 4), torch.nan, dtype=torch.float64)])
    with pytest.warns(match="without any observed value"):
        incomplete = saturated(padded)
    assert incomplete.log_likelihood == pytest.approx(saturated(x).log_likelihood, rel=1e-12)
    assert torch.allclose(incomplete.statistics.covariance, torch.cov(x.T, correction=0), rtol=1e-7)


def monotone_maximum(x):
    """Anderson (1957): where a row misses a column it misses all later ones, the factors of p(x) are regressions."""
    x = np.asarray(x)
    columns = x.shape[1]
    mean, covariance = np.zeros(columns), np.zeros((columns, columns))
    for d in range(columns):
        own = x[~np.isnan(x[:, d])]
        design = np.column_stack([np.ones(len(own)), own[:, :d]])
        weights = np.linalg.lstsq(design, own[:, d], rcond=None)[0]
        residual = np.mean((own[:, d] - design @ weights) ** 2)
        slope = weights[1:]
        mean[d] = weights[0] + slope @ mean[:d]
        covariance[d, :d] = covariance[:d, d] = covariance[:d, :d] @ slope
        covariance[d, d] = residual + slope @ covariance[:d, :d] @ slope
    return mean, covariance


@pytest.mark.parametrize("seed", range(5))
def test_monotone_patterns_have_the_closed_form_of_anderson(seed):
    x = correlated(120, 5, seed)
    for column, stop in zip(range(1, 5), (110, 90, 60, 40), strict=True):
        x[stop:, column] = torch.nan
    mean, covariance = monotone_maximum(x)
    best = saturated(x)
    assert best.converged
    assert best.log_likelihood == pytest.approx(log_likelihood(x, mean, covariance), rel=1e-11)
    np.testing.assert_allclose(best.statistics.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(best.statistics.covariance, covariance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_no_direct_climb_ends_higher(seed):
    x = with_holes(correlated(40, 3, seed), 0.25, seed)
    x = x[~x.isnan().all(1)]
    best = saturated(x)
    assert best.log_likelihood == pytest.approx(
        log_likelihood(x, best.statistics.mean, best.statistics.covariance), rel=1e-12
    )
    below = np.tril_indices(3)

    def deviance(theta):
        lower = np.zeros((3, 3))
        lower[below] = theta[3:]
        np.fill_diagonal(lower, np.exp(lower.diagonal()))
        return -log_likelihood(x, theta[:3], lower @ lower.T)

    start = np.concatenate([np.nanmean(x, 0), np.diag(np.log(np.nanstd(x, 0)))[below]])
    climbed = optimize.minimize(deviance, start, method="BFGS", options={"gtol": 1e-4})
    assert best.log_likelihood >= -climbed.fun - 1e-6
    assert best.log_likelihood == pytest.approx(-climbed.fun, abs=1e-4)


def test_the_gradient_is_that_of_differences():
    problem = UnrestrictedGaussian(Patterns.of(with_holes(correlated(60, 4), 0.3) / 3.0))
    generator = torch.Generator().manual_seed(1)
    theta = 0.3 * torch.randn(len(problem.start()), generator=generator, dtype=torch.float64)
    gradient = problem.evaluate(theta).gradient
    for i in range(len(theta)):
        step = torch.zeros_like(theta)
        step[i] = 1e-5
        slope = (problem.evaluate(theta + step).value - problem.evaluate(theta - step).value) / 2e-5
        assert gradient[i].item() == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_the_plain_step_never_goes_down():
    problem = UnrestrictedGaussian(Patterns.of(with_holes(correlated(60, 4), 0.3) / 3.0))
    point, values = problem.evaluate(problem.start()), []
    for _ in range(100):
        values.append(point.value)
        point = problem.evaluate(point.following)
    assert np.diff(values).min() > -1e-12


def test_blocks_and_the_order_of_rows_change_nothing(monkeypatch):
    x = with_holes(correlated(200, 6), 0.4)
    x = x[~x.isnan().all(1)]
    one = saturated(x)
    monkeypatch.setattr(patterns_module, "BLOCK", 100)
    other = saturated(x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))])
    assert other.log_likelihood == pytest.approx(one.log_likelihood, rel=1e-11)
    assert torch.allclose(one.statistics.covariance, other.statistics.covariance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e8, 1e-140, 1e140])
def test_units_and_shifts_are_carried_along(scale):
    x = with_holes(correlated(100, 4), 0.2)
    x = x[~x.isnan().all(1)]
    units = torch.tensor([1.0, 3.0, 0.1, 1.0], dtype=torch.float64) * scale
    one, other = saturated(x), saturated((x + 5.0) * units)
    moved = -float(((~x.isnan()).double() @ units.log()).sum())
    assert other.log_likelihood == pytest.approx(one.log_likelihood + moved, rel=1e-10)
    assert torch.allclose(other.statistics.mean / units, one.statistics.mean + 5.0, rtol=1e-6)
    assert torch.allclose(
        (other.statistics.covariance / units).T / units, one.statistics.covariance, rtol=1e-4
    )


def test_no_model_of_the_same_rows_fits_better():
    x = with_holes(holzinger_swineford().x, 0.15)
    run = fit(FactorAnalysis(9, 3), x, EM())
    assert saturated(x).log_likelihood > run.log_likelihood(x).sum()


def test_columns_never_seen_together_leave_the_likelihood_determined():
    x = correlated(90, 3)
    x[:45, 0] = x[45:, 2] = torch.nan
    best = saturated(x)
    other = saturated(x.flip(1))
    assert best.converged
    assert best.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-10)
    assert torch.linalg.eigvalsh(best.statistics.covariance)[0] > 0


def test_names_and_containers():
    frame = pd.DataFrame(with_holes(correlated(50, 3), 0.2).numpy(), columns=["a", "b", "c"])
    frame = frame.dropna(how="all")
    assert saturated(frame).statistics.names == ("a", "b", "c")
    complete = correlated(50, 3)
    assert saturated(sparse.csr_array(complete.numpy())).log_likelihood == pytest.approx(
        saturated(complete).log_likelihood, rel=1e-9
    )


def changed(row, column, value):
    x = with_holes(correlated(40, 3), 0.1)
    x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda: changed(slice(None), 1, torch.nan), "none in column 1"),
        (lambda: changed(slice(None), 1, 2.0), "constant one in column 1"),
        (lambda: changed(0, 1, torch.inf), "inf at row 0, column 1"),
        (lambda: with_holes(correlated(3, 3), 0.1), "no maximum"),
        (lambda: correlated(3, 3), "no maximum"),
        (lambda: correlated(40, 3)[:, [0, 1, 1]], "no maximum"),
        (lambda: with_holes(correlated(40, 3), 0.1)[:, [0, 1, 1]], "no maximum"),
        (lambda: torch.zeros(5), "two-dimensional"),
        (lambda: torch.zeros(0, 3), "at least 2 rows"),
        (lambda: np.array([["a", "b"]] * 4), "real numbers"),
    ],
)
def test_refused(x, message):
    with pytest.raises(DataError, match=message):
        saturated(x())


def test_settings_are_checked():
    with pytest.raises(ParameterError, match="steps"):
        saturated(correlated(9, 2), steps=0)
    with pytest.raises(ParameterError, match="tol"):
        saturated(correlated(9, 2), tol=0.0)


def test_steps_that_run_out_are_reported():
    with pytest.warns(ConvergenceWarning, match="saturated stopped"):
        assert not saturated(with_holes(correlated(60, 5), 0.3)[1:], steps=2).converged
