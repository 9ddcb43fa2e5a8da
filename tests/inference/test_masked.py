"""Derivatives of the likelihood with fixed zeros, against differences, for complete and incomplete rows."""

import numpy as np
import pytest
from scipy import stats

from probae.inference.masked import Group, Layout, evaluate, hessian, information

PATTERN = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [1, 0]], dtype=bool)
MASKS = {
    "complete": [[1, 1, 1, 1, 1, 1]],
    "missing": [[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0]],
}


def rows_with(masks, seed=0):
    """Rows of each mask, as arrays with NaN, and their groups."""
    rng = np.random.default_rng(seed)
    rows, groups = [], []
    for mask in np.array(masks, dtype=bool):
        x = rng.normal(size=(9, 6)) @ rng.normal(size=(6, 6)) + 0.3
        rows.append(np.where(mask, x, np.nan))
        mean = np.where(mask, x.mean(axis=0), 0.0)
        centred = np.where(mask, x - mean, 0.0)
        groups.append(Group(1 / len(masks), mask, mean, centred.T @ centred / len(x)))
    return np.concatenate(rows), groups


@pytest.fixture(params=MASKS)
def case(request):
    rows, groups = rows_with(MASKS[request.param])
    rng = np.random.default_rng(1)
    layout = Layout(PATTERN, ((0, 1),))
    theta = layout.pack(
        rng.normal(size=(6, 2)) * PATTERN, np.array([[1, 0.4], [0.4, 1]]), rng.uniform(0.3, 1, 6)
    )
    return layout, groups, theta, rows


def test_value_is_the_density_of_the_observed_entries(case):
    layout, groups, theta, rows = case
    point = evaluate(layout, groups, theta)
    loadings, correlation, noise = layout.unpack(theta)
    covariance = loadings @ correlation @ loadings.T + np.diag(noise)
    total = 0.0
    for row in rows:
        seen = ~np.isnan(row)
        law = stats.multivariate_normal(point.mean[seen], covariance[np.ix_(seen, seen)])
        total += -2 * law.logpdf(row[seen]) - seen.sum() * np.log(2 * np.pi)
    assert point.value == pytest.approx(total / len(rows), rel=1e-12)


def test_gradient_and_hessian_are_differences(case):
    layout, groups, theta, _ = case
    point = evaluate(layout, groups, theta)
    second = hessian(layout, groups, point)
    for index in range(len(theta)):
        step = np.zeros_like(theta)
        step[index] = 1e-5
        above, below = evaluate(layout, groups, theta + step), evaluate(layout, groups, theta - step)
        assert (above.value - below.value) / 2e-5 == pytest.approx(point.gradient[index], abs=1e-8)
        np.testing.assert_allclose((above.gradient - below.gradient) / 2e-5, second[index], atol=1e-7)


def test_the_mean_is_the_best_one(case):
    layout, groups, theta, _ = case
    point = evaluate(layout, groups, theta)
    slope = sum(
        g.share * inverse @ shift
        for g, inverse, shift in zip(groups, point.inverses, point.shifts, strict=True)
    )
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_information_is_the_hessian_where_the_model_fits():
    """With the model's own moments the expected and the observed second derivatives agree."""
    layout = Layout(PATTERN, ((0, 1),))
    theta = layout.pack(PATTERN * 0.7, np.array([[1, 0.4], [0.4, 1]]), np.linspace(0.3, 1, 6))
    loadings, correlation, noise = layout.unpack(theta)
    covariance = loadings @ correlation @ loadings.T + np.diag(noise)
    group = Group(1.0, np.ones(6, dtype=bool), np.zeros(6), covariance)
    point = evaluate(layout, [group], theta)
    np.testing.assert_allclose(point.gradient, 0, atol=1e-13)
    np.testing.assert_allclose(
        hessian(layout, [group], point), information(layout, [group], point), atol=1e-12
    )


def test_a_covariance_that_is_none_is_no_point():
    layout = Layout(PATTERN, ((0, 1),))
    theta = layout.pack(PATTERN * 3.0, np.array([[1, -5.0], [-5.0, 1]]), np.full(6, 0.1))
    _, groups = rows_with(MASKS["complete"])
    assert evaluate(layout, groups, theta) is None


def test_layout_goes_there_and_back():
    layout = Layout(PATTERN, ())
    theta = np.arange(float(PATTERN.sum() + 6))
    assert np.array_equal(layout.pack(*layout.unpack(theta)), theta)
    assert np.array_equal(layout.unpack(theta)[1], np.eye(2))
