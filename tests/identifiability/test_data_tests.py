"""Identities of the statistics first; then the size and power of each test, at counts a binomial makes decidable.

The short runs leave a right test a chance of about 1e-4 to fail and find gross errors only; the long ones count finer.
"""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.decomposition import FactorAnalysis

from probae import priors
from probae.checks import DataError, FitError
from probae.identifiability import data_tests, rows
from probae.identifiability.data_test import DataTest
from probae.identifiability.data_tests import rotation_information
from probae.identifiability.noise import discrete_columns, noise_check
from probae.identifiability.planes import PlaneTest, RotationInformation
from probae.identifiability.rows import repeated_rows, row_dependence, variance_inflation
from probae.identifiability.spherical import (
    harmonic_statistic,
    moment_norm,
    plane_harmonics,
    radial_weights,
)
from probae.identifiability.tyler import Sphere, spherize, tyler_shape
from probae.linalg import givens, haar_rotation

LAWS = {
    "gaussian": lambda *shape: torch.randn(*shape, dtype=torch.float64),
    "multivariate t5": lambda *shape: priors.MultivariateStudentT(5.0).sample(*shape).double(),
    "multivariate t3": lambda *shape: priors.MultivariateStudentT(3.0).sample(*shape).double(),
    "laplace": lambda *shape: priors.Laplace().sample(*shape).double(),
    "t3": lambda *shape: priors.StudentT(3.0).sample(*shape).double(),
}
SPHERICAL = ("gaussian", "multivariate t5", "multivariate t3")


def draw(law, samples, latents, noise=0.0):
    """Give scores z + N(0, noise), noise a number or a vector of variances."""
    sd = torch.as_tensor(noise, dtype=torch.float64).sqrt()
    return LAWS[law](samples, latents) + sd * torch.randn(samples, latents, dtype=torch.float64)


def kernel_form(sphere, degree):
    """T_l as its definition says, over all pairs of rows."""
    u, h = sphere.directions.numpy(), radial_weights(sphere.radii).numpy()
    k = u.shape[1]
    cosine = np.clip(u @ u.T, -1, 1)
    if k == 2:
        kernel = np.cos(degree * np.arccos(cosine))
    else:
        order = k / 2 - 1
        kernel = special.eval_gegenbauer(degree, order, cosine) / special.eval_gegenbauer(degree, order, 1.0)
    freedom = math.comb(k + degree - 1, degree) - math.comb(k + degree - 3, degree - 2)
    return freedom * h @ kernel @ h / (h @ h), freedom


# --- location, shape, directions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [1, 2, 5, 64])
def test_tyler_shape_solves_its_two_equations(latents):
    y = draw("laplace", 700, latents) * torch.logspace(-3, 3, latents, dtype=torch.float64) + 5.0
    sphere = spherize(y)
    u = sphere.directions
    apart = int((sphere.radii > 0).sum())  # in one dimension the median is a row
    assert u.mean(0).abs().max() < (1e-9 if latents > 1 else 1.5 / 700)
    assert (latents * (u.T @ u) / apart - torch.eye(latents, dtype=torch.float64)).abs().max() < 1e-8
    assert torch.allclose(u.norm(dim=1)[sphere.radii > 0], torch.ones((), dtype=torch.float64))
    assert tyler_shape(y).shape.trace() == pytest.approx(latents, rel=1e-12)


def test_tyler_shape_follows_affine_maps():
    y = draw("multivariate t3", 400, 3)
    A, b = torch.randn(3, 3, dtype=torch.float64), torch.tensor([1e3, -2.0, 0.5], dtype=torch.float64)
    plain, mapped = tyler_shape(y), tyler_shape(y @ A.T + b)
    expected = A @ plain.shape @ A.T
    assert torch.allclose(mapped.location, A @ plain.location + b, atol=1e-7)
    assert torch.allclose(mapped.shape, expected * 3 / expected.trace(), atol=1e-7)


def test_tyler_shape_needs_no_moments():
    y = draw("gaussian", 4000, 2) / draw("gaussian", 4000, 1).abs()  # a bivariate Cauchy law
    found = tyler_shape(y * torch.tensor([4.0, 1.0], dtype=torch.float64) + 10)
    ratio = (found.shape[0, 0] / found.shape[1, 1]).sqrt()
    # s.e. of the log ratio of axes is sqrt((K + 2) / (K n)) = .022; five of them
    assert abs(math.log(ratio / 4)) < 0.11
    assert "2 axes" in found.describe()


def test_tyler_shape_gets_past_repeated_rows():
    y = draw("laplace", 400, 2)
    y[:100] = y.median(0).values
    assert torch.isfinite(tyler_shape(y).shape).all()


@pytest.mark.parametrize(
    ("y", "error", "match"),
    [
        (torch.zeros(3, 2, dtype=torch.float64), DataError, "at least 4 rows for 2 columns, got 3"),
        (torch.full((9, 2), math.nan, dtype=torch.float64), DataError, "NaN"),
        (torch.ones(9, 2, dtype=torch.float64), DataError, "constant column 0"),
        (torch.arange(20.0, dtype=torch.float64).repeat(2, 1).T, DataError, "linearly independent"),
        (torch.eye(9, 2, dtype=torch.float64), DataError, "in one point"),
    ],
)
def test_tyler_shape_says_what_is_wrong(y, error, match):
    with pytest.raises(error, match=match):
        tyler_shape(y)


def test_tyler_shape_gives_up_in_words():
    with pytest.raises(FitError, match="not found in 2 iterations"):
        tyler_shape(draw("laplace", 100, 2), steps=2)


# --- harmonics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [2, 3, 4, 7])
@pytest.mark.parametrize("degree", [3, 4])
def test_tensor_form_is_the_kernel_form(latents, degree):
    sphere = spherize(draw("laplace", 60, latents, 0.1))
    statistic, freedom = harmonic_statistic(sphere, degree)
    expected, expected_freedom = kernel_form(sphere, degree)
    assert statistic == pytest.approx(expected, rel=1e-9)
    assert freedom == expected_freedom


def test_kernel_of_a_degree_has_that_many_dimensions():
    u = draw("gaussian", 200, 3)
    u = (u / u.norm(dim=1, keepdim=True)).numpy()
    for degree in (3, 4):
        kernel = special.eval_gegenbauer(degree, 0.5, u @ u.T)
        _, freedom = harmonic_statistic(spherize(draw("gaussian", 50, 3)), degree)
        assert np.linalg.matrix_rank(kernel, tol=1e-8) == freedom == 2 * degree + 1


def test_moments_do_not_depend_on_the_blocks(monkeypatch):
    u, h = draw("gaussian", 50, 3), torch.rand(50, dtype=torch.float64)
    whole = [moment_norm(u, order, h) for order in range(5)]
    expected = [float(h @ (u @ u.T) ** order @ h) for order in range(5)]
    monkeypatch.setattr("probae.identifiability.spherical.BLOCK", 40)
    assert whole == pytest.approx(expected, rel=1e-12)
    assert [moment_norm(u, order, h) for order in range(5)] == pytest.approx(expected, rel=1e-12)


def test_plane_statistic_is_the_tensor_form_in_two_dimensions():
    y = draw("laplace", 80, 2)
    sphere = spherize(y)
    plane = rotation_information(y).planes[0]
    assert plane.statistics == pytest.approx(
        [harmonic_statistic(sphere, 3)[0], harmonic_statistic(sphere, 4)[0]], rel=1e-9
    )


def test_turning_a_plane_turns_its_harmonics():
    angle = torch.rand(30, dtype=torch.float64) * 2 * math.pi
    u, r = torch.stack([angle.cos(), angle.sin()], 1), torch.rand(30, dtype=torch.float64)
    turn = givens(2, 0, 1, 0.3)
    for degree in (3, 4):
        plain = plane_harmonics(Sphere(u, r), degree)
        turned = plane_harmonics(Sphere(u @ turn.T, r), degree)
        expected = plain @ givens(2, 0, 1, degree * 0.3).T
        assert torch.allclose(turned, expected, atol=1e-12) or torch.allclose(
            plane_harmonics(Sphere(u @ turn, r), degree), expected, atol=1e-12
        )


@pytest.mark.parametrize("degree", [0, 1])
def test_planes_are_invariant_to_affine_maps_of_the_plane(degree):
    y = draw("laplace", 300, 2, 0.1)
    A = torch.tensor([[3.0, 1.0], [-50.0, 20.0]], dtype=torch.float64)
    plain, mapped = (rotation_information(x).planes[0] for x in (y, y @ A.T + 7))
    assert mapped.statistics[degree] == pytest.approx(plain.statistics[degree], rel=1e-6)


def test_overall_tests_are_invariant_to_rotations_and_order():
    y = draw("laplace", 300, 4)
    turned = y[torch.randperm(300)] @ haar_rotation(4, torch.Generator().manual_seed(1))
    for one, other in zip(rotation_information(y).overall, rotation_information(turned).overall, strict=True):
        assert one.statistic == pytest.approx(other.statistic, rel=1e-6)


# --- T1 -----------------------------------------------------------------------------------------------------------


def made(p_values, samples=1000):
    """A result with given p-values, in the order of the planes."""
    latents = int((1 + math.sqrt(1 + 8 * len(p_values))) / 2)
    pairs = [(i, j) for i in range(latents) for j in range(i + 1, latents)]
    planes = tuple(
        PlaneTest(pair, (0.0, -2 * math.log(p / 2)), samples) for pair, p in zip(pairs, p_values, strict=True)
    )
    return RotationInformation(planes, (), latents, samples)


@pytest.mark.parametrize(
    ("p_values", "every", "rejected", "group"),
    [
        ((0.009, 0.009, 0.009), True, 0, "O(3)"),  # each rejects, none survives Holm's first gate of .0033
        ((0.001, 0.004, 0.009), True, 3, "SP(3)"),  # gates .0033, .005, .01
        ((0.004, 0.001, 0.5), False, 2, "SP(1) x O(2)"),
        ((0.006, 0.001, 0.5), False, 1, "O(3)"),  # .006 misses the second gate
        ((0.5, 0.5, 0.5), False, 0, "O(3)"),
        ((0.5, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9), False, 5, "SP(2) x O(2)"),
        ((0.5, 1e-9, 1e-9, 1e-9, 1e-9, 0.5), False, 4, "O(2) x O(2)"),
    ],
)
def test_planes_are_combined_by_intersection_and_by_holm(p_values, every, rejected, group):
    found = made(p_values)
    assert (found.every_plane(0.01), len(found.rejected(0.01)), found.group(0.01)) == (every, rejected, group)
    assert found.some_plane(0.01) == (rejected > 0)
    assert (found.smallest, found.largest) == (
        pytest.approx(min(p_values)),
        pytest.approx(max(p_values)),
    )


def test_p_values_are_those_of_the_limit():
    plane = PlaneTest((0, 1), (3.0, 11.0), 500)
    assert plane.degree_p_values == pytest.approx(stats.chi2.sf([3.0, 11.0], 2))
    assert plane.p_value == pytest.approx(2 * stats.chi2.sf(11.0, 2))
    assert plane.signal == pytest.approx(9 / 500)
    assert PlaneTest((0, 1), (1.0, 0.5), 500).signal == 0.0


@pytest.mark.parametrize("law", SPHERICAL)
def test_elliptical_planes_reject_at_their_level(law):
    A = torch.tensor([[1.0, 0.7], [0.0, 3.0]], dtype=torch.float64)
    p = [rotation_information(draw(law, 200, 2) @ A.T).planes[0].p_value for _ in range(60)]
    assert sum(value < 0.01 for value in p) <= 5  # binomial(60, .01): beyond with probability 3e-5
    # and not by refusing to reject: .44 of them at .5 (Bonferroni of two), below 12 of 60 with probability 4e-5
    assert sum(value < 0.5 for value in p) >= 12


def test_laplace_factors_with_noise_reject_in_every_plane():
    # measured: .99 at n = 2000 with score noise .3; five misses of twenty have probability 2e-6
    found = [rotation_information(draw("laplace", 2000, 3, 0.3)).every_plane() for _ in range(20)]
    assert sum(found) >= 16


def test_one_laplace_among_gaussians_is_partial():
    y = torch.cat([draw("laplace", 3000, 1), draw("gaussian", 3000, 2)], 1)
    found = rotation_information(y)
    assert found.group() == "SP(1) x O(2)"
    assert (found.every_plane(), found.rejected()) == (False, ((0, 1), (0, 2)))


def test_unequal_noise_alone_makes_no_axes():
    noise = torch.tensor([0.05, 2.0, 0.05], dtype=torch.float64)
    y = draw("multivariate t5", 10_000, 3, noise)
    plain, equalised = (rotation_information(y, covariance) for covariance in (None, torch.diag(noise)))
    assert plain.planes[0].p_value < 1e-3  # the failure that equalising avoids
    assert [plane.equalised for plane in equalised.planes] == [True, False, True]
    assert equalised.planes[0].p_value > 1e-3
    assert equalised.overall[1].p_value > 1e-3


def test_equalising_keeps_most_of_the_power_and_repeats():
    noise = torch.tensor([0.2, 0.6], dtype=torch.float64)
    runs = [(draw("laplace", 2000, 2, noise), torch.diag(noise)) for _ in range(10)]
    found = [rotation_information(*run).planes[0] for run in runs]
    assert sum(plane.p_value < 0.01 for plane in found) >= 7  # measured .97
    assert found[0] == rotation_information(*runs[0]).planes[0]
    assert found[0].statistics != rotation_information(*runs[0], seed=1).planes[0].statistics


def test_equalised_noise_is_a_multiple_of_the_identity():
    block = torch.tensor([[0.5, 0.4], [0.4, 0.9]], dtype=torch.float64)
    root = data_tests._equaliser(block, 100)
    largest = torch.linalg.eigvalsh(block)[-1]
    assert torch.allclose(block + root @ root.T, largest * torch.eye(2, dtype=torch.float64), atol=1e-12)
    assert data_tests._equaliser(0.1 * block, 100) is None
    assert data_tests._equaliser(0.1 * block, 1_000_000) is not None


def test_random_state_is_left_alone():
    noise = torch.tensor([0.1, 2.0], dtype=torch.float64)
    y = draw("laplace", 200, 2, noise)
    state = torch.get_rng_state()
    rotation_information(y, torch.diag(noise))
    assert torch.equal(state, torch.get_rng_state())


def test_one_latent_has_no_plane():
    found = rotation_information(draw("gaussian", 100, 1))
    assert (found.planes, found.overall, found.group()) == ((), (), "SP(1)")
    assert found.every_plane()
    assert not found.some_plane()
    assert "no rotation" in found.describe()


def test_many_latents_skip_degree_four():
    found = rotation_information(draw("gaussian", 140, 13))
    assert [test.degrees_of_freedom for test in found.overall] == [math.comb(15, 3) - 13]
    assert "more planes" in found.describe()


def test_results_are_said_in_sentences():
    found = rotation_information(draw("laplace", 500, 3))
    assert "Plane (z[0], z[1]): p = " in found.describe()
    assert "degrees of freedom" in found.describe()
    assert "At 500 rows" in found.power
    assert "Student-t none" in made((0.5,), samples=100).power
    assert {"plane", "p"} <= set(found.to_rows()[0])
    assert DataTest("x", 1.0, None, 0.3, "exact").describe() == "x: 1, p = 0.3 (exact)."


@pytest.mark.parametrize("test", [rotation_information, row_dependence])
def test_scores_are_checked(test):
    with pytest.raises(DataError, match="at least 30 rows"):
        test(draw("gaussian", 20, 2))
    with pytest.raises(DataError, match="NaN"):
        test(torch.full((50, 2), math.nan, dtype=torch.float64))


# --- T0 -----------------------------------------------------------------------------------------------------------


def naive_mardia(e):
    """Mardia's two sums over rows and pairs of rows, on rows with identity covariance."""
    e = e - e.mean(0)
    gram = e @ np.linalg.solve(e.T @ e / len(e), e.T)
    return (gram**3).sum() / len(e), (np.diag(gram) ** 2).mean()


def test_mardia_is_the_sum_over_pairs():
    e = draw("laplace", 120, 4)
    found = noise_check(torch.cat([draw("gaussian", 120, 1), e], 1), *reached(5, 1))
    n, q = 120, 4
    skewness, kurtosis = naive_mardia(e.numpy())
    correction = (q + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (q + 1) - 6))
    variance = 8 * q * (q + 2) * (n - 3) * (n - q - 1) * (n - q + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    assert found.skewness.statistic == pytest.approx(correction * skewness / 6, rel=1e-10)
    assert found.skewness.degrees_of_freedom == 20
    assert found.kurtosis.statistic == pytest.approx(
        (kurtosis - q * (q + 2) * (n - 1) / (n + 1)) / math.sqrt(variance), rel=1e-9
    )


def reached(features, latents):
    """Loadings that reach the first coordinates only, and unit noise."""
    return torch.eye(features, latents, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)


def test_mardia_moments_are_those_of_gaussian_rows():
    # the formulas are exact for the mean, and the average of 200 has an s.e. of .07 deviations: four of them
    n, q = 40, 3
    found = [noise_check(draw("gaussian", n, q + 1), *reached(q + 1, 1)) for _ in range(200)]
    kurtosis = torch.tensor([check.kurtosis.statistic for check in found])
    skewness = torch.tensor([check.skewness.statistic for check in found])
    assert abs(kurtosis.mean()) < 0.28
    assert 0.75 < kurtosis.std() < 1.25
    assert abs(skewness.mean() - 10) < 4 * math.sqrt(20 / 200)


@pytest.mark.parametrize("features", [8, 20])
def test_noise_check_does_not_see_the_factors(features):
    """Adding any signal along the loadings changes nothing, nor do the units of the features."""
    W = torch.randn(features, 2, dtype=torch.float64)
    psi = torch.rand(features, dtype=torch.float64) + 0.1
    noise = draw("laplace", 200, features) * psi.sqrt()
    units = torch.logspace(-4, 4, features, dtype=torch.float64)
    plain = noise_check(noise, W, psi)
    signal = noise_check(noise + 100 * draw("t3", 200, 2) @ W.T, W, psi)
    scaled = noise_check(noise * units + 3, W * units[:, None], psi * units.square())
    for other in (signal, scaled):
        assert other.skewness.statistic == pytest.approx(plain.skewness.statistic, rel=1e-6)
        assert other.kurtosis.statistic == pytest.approx(plain.kurtosis.statistic, rel=1e-6)
    assert plain.dimensions == features - 2


def estimated(x, latents):
    model = FactorAnalysis(latents, tol=1e-4, max_iter=5000, svd_method="lapack").fit(x.numpy())
    return x - x.mean(0), torch.tensor(model.components_.T.copy()), torch.tensor(model.noise_variance_)


def mixed(z, features):
    W = torch.randn(features, z.shape[1], dtype=torch.float64)
    return z @ W.T + torch.randn(len(z), features, dtype=torch.float64) * 0.5


@pytest.mark.parametrize(
    ("law", "features"), [("laplace", 9), ("multivariate t5", 9), ("multivariate t5", 20)]
)
def test_noise_check_keeps_its_level_after_a_fit(law, features):
    p = [noise_check(*estimated(mixed(draw(law, 400, 3), features), 3)).p_value for _ in range(40)]
    assert sum(value < 0.01 for value in p) <= 4  # binomial(40, .01): beyond with probability 6e-5


@pytest.mark.parametrize("features", [9, 20])
def test_noise_check_finds_items_cut_from_gaussian_factors(features):
    cuts = torch.tensor([-2.0, -1.4, -0.8, 0.0], dtype=torch.float64)
    for _ in range(2):
        x = mixed(draw("gaussian", 500, 3), features)
        x = torch.bucketize((x - x.mean(0)) / x.std(0), cuts).double()
        assert noise_check(*estimated(x, 3)).p_value < 0.01


def test_noise_check_needs_more_features_than_factors():
    assert noise_check(draw("gaussian", 50, 3), *reached(3, 3)) is None
    one = noise_check(draw("gaussian", 50, 4), *reached(4, 3))
    assert (one.dimensions, one.skewness.degrees_of_freedom) == (1, 1)


def test_noise_check_takes_features_without_noise():
    """Twenty features, one of them (nearly) equal to a factor: it has no residual to test."""
    W, psi = torch.randn(20, 2, dtype=torch.float64), torch.ones(20, dtype=torch.float64)
    W[0], psi[0] = torch.tensor([1.0, 0.0]), 1e-14
    found = noise_check(draw("laplace", 300, 2) @ W.T + draw("gaussian", 300, 20) * psi.sqrt(), W, psi)
    assert found.skewness.degrees_of_freedom == 19
    assert found.p_value > 1e-3


def test_noise_check_says_what_is_wrong():
    x = draw("gaussian", 50, 4)
    with pytest.raises(DataError, match="above 0"):
        noise_check(x, torch.eye(4, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    with pytest.raises(DataError, match="at least 30 rows"):
        noise_check(x[:20], *reached(4, 1))
    with pytest.raises(DataError, match="full rank"):
        noise_check(torch.cat([x[:, :3], x[:, 2:3]], 1), *reached(4, 1))


# --- columns and rows ---------------------------------------------------------------------------------------------


def test_discrete_columns():
    x = draw("gaussian", 1000, 8)
    x[:, 1] = x[:, 1].round()  # 7 or 8 values
    x[:, 2] = (x[:, 2] * 10).round() / 10  # one decimal: some 65 values, single rows at the ends
    x[:, 3] = x[:, 3].clamp(max=2.0)  # 23 rows at a ceiling
    x[:, 4] = x[:, 4].clamp(min=-2.0)  # and at a floor
    x[:, 5] = x[:, 5].relu()
    x[:, 6] = 1.0
    x[::2, 7] = math.nan
    assert discrete_columns(x) == (1, 3, 4, 5, 6)
    assert discrete_columns(x[:40]) == ()  # too few rows to tell


@pytest.mark.parametrize("law", ["gaussian", "laplace", "t3"])
def test_independent_rows_reject_at_their_level(law):
    p = [row_dependence(draw(law, 100, 3)).p_value for _ in range(60)]
    assert sum(value < 0.01 for value in p) <= 5  # binomial(60, .01): beyond with probability 3e-5


def autoregressive(coefficients, samples):
    phi = torch.tensor(coefficients, dtype=torch.float64)
    rows = [torch.randn(len(phi), dtype=torch.float64)]
    for step in torch.randn(samples - 1, len(phi), dtype=torch.float64):
        rows.append(phi * rows[-1] + (1 - phi**2).sqrt() * step)
    return torch.stack(rows)


@pytest.mark.parametrize("coefficients", [(0.8, 0.47, 0.32), (0.32, 0.32, 0.32)])
def test_autoregressive_rows_reject(coefficients):
    # rank autocorrelation .3 against an s.e. of .032, so the deviate is some nine at lag 1
    found = row_dependence(autoregressive(coefficients, 1000))
    assert found.p_value < 1e-4
    assert "lag" in found.describe()


def test_one_score_following_another_rejects():
    y = draw("gaussian", 2000, 3)
    y[1:, 0] += 0.3 * y[:-1, 1]
    found = row_dependence(y)
    assert min(test.p_value for test in found.tests[:3]) > 1e-3  # no score remembers itself
    assert "Directions at lag 1" in found.describe()
    assert found.p_value < 0.01


@pytest.mark.parametrize(("phi", "latents"), [(0.5, 1), (0.3, 3)])
def test_inflation_is_that_of_the_variance_of_a_product(phi, latents):
    """1 + 2 sum_l phi^2l = (1 + phi^2) / (1 - phi^2) if all scores remember alike; ranks remember a little less."""
    found = row_dependence(autoregressive((phi,) * latents, 20_000))
    # standard error of one score .02, the largest of three counts, and ranks lose 3 % of .67 and .20
    expected = (1 + phi**2) / (1 - phi**2)
    by_directions = 1 + latents * (expected - 1)  # the sum over all directions, not the largest
    assert expected - 0.08 < found.inflation < max(expected, by_directions) + 0.08


def test_inflation_of_independent_rows_has_the_stated_error():
    columns, samples = 400, 500
    values = variance_inflation(torch.randn(samples, columns, dtype=torch.float64))
    error = row_dependence(draw("gaussian", samples, 1)).inflation_error
    assert abs(values.mean().item() - 1) < 5 * error / math.sqrt(columns) + 1 / samples  # its bias is of order 1 / n
    assert values.std().item() == pytest.approx(error, rel=5 / math.sqrt(2 * columns))  # five errors of a deviation


def test_inflation_foretells_the_variance_of_a_mean_of_products():
    """Over 400 pairs of columns: a variance has an error of 7 per cent, five of them allowed."""
    phi, samples, pairs = 0.6, 1000, 400
    y = autoregressive((phi,) * (2 * pairs), samples)
    observed = samples * (y[:, :pairs] * y[:, pairs:]).mean(0).var().item()
    assert observed == pytest.approx((1 + phi**2) / (1 - phi**2), rel=0.35)
    assert variance_inflation(y).mean().item() == pytest.approx(observed, rel=0.35)


def test_dependence_without_effect_stops_nothing():
    """r = .1 in 5,000 rows is seven standard errors, and makes variances of products 1.02 times as large."""
    found = row_dependence(autoregressive((0.1, 0.1), 5000))
    assert found.p_value < 1e-6
    assert not found.dependent
    assert "Too weak to matter" in found.describe()


def test_so_few_rows_cannot_show_that_dependence_has_no_effect():
    found = replace(row_dependence(draw("gaussian", 100, 1)), inflation=1.0)
    assert not found.dependent
    weak = replace(found, tests=(replace(found.tests[0], p_value=1e-3),))
    assert weak.dependent  # the standard error is .14
    assert not replace(weak, inflation_error=0.09).dependent


@pytest.mark.parametrize("pattern", ["two groups", "drift", "season"])
def test_dependence_over_long_stretches_counts_however_weak(pattern):
    """Correlations of .04 at each lag: of ten lags they would make 1.03, of all of them hundreds."""
    samples = 20_000
    row = torch.arange(samples, dtype=torch.float64)
    added = {
        "two groups": (row >= samples / 2).double(),
        "drift": row / samples,
        "season": torch.sin(row / 50),
    }[pattern]
    y = draw("gaussian", samples, 2)
    y[:, 0] += 0.2 * (added - added.mean()) / added.std()
    found = row_dependence(y)
    assert found.inflation > 2
    assert found.dependent


def test_rank_moments_are_those_over_all_orders():
    """Mean and variance of a lag's rank autocorrelation over the 720 orders of six rows: 0 and 1 once standardised."""
    import itertools

    orders = torch.tensor(list(itertools.permutations(range(6))), dtype=torch.float64).T - 2.5
    for lag in (1, 2, 3):
        deviates = rows._rank_deviate(orders, orders.square().sum(0), lag)
        assert float(deviates.mean()) == pytest.approx(0, abs=1e-12)
        assert float(deviates.square().mean()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, 0.0),
        (lambda x: x[torch.arange(999) // 3], 2.0),
        (lambda x: ((1000 * x).round() / 1000)[torch.arange(1000) % 500], 1.0),
        (
            lambda x: (2 * x[:, :2]).round(),
            0.0,
        ),  # rounding alone: half of a standard deviation, in two columns
        (lambda x: x.sign(), 0.0),
        (lambda x: torch.cat([x, x[:1]]), 2 / 1001),
    ],
    ids=["continuous", "thrice", "rounded, twice", "rounded", "signs", "one row twice"],
)
def test_copies_of_rows_are_told_from_rounding(change, expected):
    x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert repeated_rows(change(x)) == pytest.approx(expected)


def test_a_bootstrap_sample_is_not_taken_for_rows():
    """Drawn with replacement a row has (n - 1) / n copies on average, whose order no lag gives away."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 4, generator=g, dtype=torch.float64)[torch.randint(1000, (1000,), generator=g)]
    found = replace(row_dependence(x), repeats=repeated_rows(x))
    assert found.repeats == pytest.approx(0.999, abs=0.2)  # standard deviation sqrt(2) / sqrt(1000)
    assert found.p_value > 0.01
    assert found.dependent
    assert "Repeated rows" in found.why


def test_rows_of_ties_and_few_rows_are_handled():
    found = row_dependence(draw("gaussian", 35, 5).round())
    assert len(found.tests) == 5  # too few rows for the directions
    assert found.lags == 7
    with pytest.raises(DataError, match="constant column 1"):
        row_dependence(torch.stack([torch.arange(40.0), torch.ones(40)], 1).double())


# --- long runs ----------------------------------------------------------------------------------------------------


def rejections(make, runs, seed=0):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(make(run) < 0.01 for run in range(runs))


def is_level(count, runs, level=0.01):
    """Whether a level of .01 lies in the 99.9 % interval of Clopper and Pearson."""
    low = stats.beta.ppf(5e-4, count, runs - count + 1) if count else 0.0
    return low <= level <= stats.beta.ppf(1 - 5e-4, count + 1, runs - count)


@pytest.mark.slow
@pytest.mark.parametrize("law", SPHERICAL)
@pytest.mark.parametrize("samples", [500, 2000])
def test_long_size_of_a_plane(law, samples):
    assert is_level(
        rejections(lambda _: rotation_information(draw(law, samples, 2)).planes[0].p_value, 2000), 2000
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "latents"), [("multivariate t3", 3), ("multivariate t5", 5), ("multivariate t3", 5)]
)
def test_long_size_over_all_latents_under_heavy_tails(law, latents):
    """With the covariance instead of Tyler's shape degree 4 rejects multivariate t3 at .18 for a level of .05."""
    for degree in (0, 1):
        count = rejections(
            lambda _, d=degree: rotation_information(draw(law, 500, latents)).overall[d].p_value, 500
        )
        assert is_level(count, 500)


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "runs"), [(2000, 1000), (20_000, 200)])
def test_long_size_under_unequal_noise(samples, runs):
    noise = torch.tensor([0.05, 2.0], dtype=torch.float64)

    def p_value(run):
        y = draw("multivariate t5", samples, 2, noise)
        return rotation_information(y, torch.diag(noise), seed=run).planes[0].p_value

    # keeping the smaller of two statistics can only lower the level
    assert rejections(p_value, runs) <= stats.binom.ppf(0.999, runs, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "least"), [(0.3, 0.95), (0.5, 0.8)])
def test_long_power_in_every_plane(noise, least):
    count = rejections(lambda _: rotation_information(draw("laplace", 2000, 3, noise)).largest, 200)
    assert stats.beta.ppf(0.999, count + 1, max(200 - count, 1e-9)) > least


@pytest.mark.slow
@pytest.mark.parametrize("law", ["laplace", "multivariate t5"])
@pytest.mark.parametrize(("features", "samples"), [(9, 500), (12, 2000), (30, 500)])
def test_long_size_of_the_noise_check(law, features, samples):
    def p_value(_):
        return noise_check(*estimated(mixed(draw(law, samples, 3), features), 3)).p_value

    assert is_level(rejections(p_value, 200), 200)
