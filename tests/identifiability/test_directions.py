"""T4: the statistics as identities and against finite differences; then sizes and counts, with and without moments."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.checks import DataError
from probae.identifiability import fobi
from probae.identifiability import robust_directions as robust
from probae.identifiability.fobi import kurtosis_spread, mixture_sf, non_gaussian_directions
from probae.identifiability.gaussian_scores import whiten
from probae.identifiability.robust_directions import _closest, _pull, robust_directions
from probae.identifiability.spherical import radial_weights
from probae.identifiability.tyler import Sphere, spherize
from probae.linalg import haar_rotation

BOTH = (non_gaussian_directions, robust_directions)


def table(draw, samples, counts, noise=0.0):
    """Rows with so many columns of each law, mixed at random, with Gaussian noise."""
    y = torch.cat([draw(law, samples, count) for law, count in counts.items() if count], 1)
    y = y + noise * torch.randn(y.shape, dtype=torch.float64)
    return y @ haar_rotation(y.shape[1]) @ torch.diag(torch.logspace(0, 2, y.shape[1], dtype=torch.float64))


# --- statistics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "first", "second"), [(0, 1.0, 2.0), (5, 1.0, 1.0), (14, 3.0, 7.0), (2, 10.0, 0.5)]
)
def test_mixture_is_the_law_of_the_weighted_sum(freedom, first, second):
    generator = np.random.default_rng(0)
    sums = first * generator.chisquare(freedom, 200_000) if freedom else np.zeros(200_000)
    sums = sums + second * generator.chisquare(1, 200_000)
    for quantile in (0.5, 0.95, 0.99):
        # the s.e. of a rate of 1 - q in 200,000 draws; four of them
        error = 4 * math.sqrt(quantile * (1 - quantile) / 200_000)
        assert mixture_sf(float(np.quantile(sums, quantile)), first, freedom, second) == pytest.approx(
            1 - quantile, abs=error
        )


@pytest.mark.parametrize("statistic", [0.0, 1.0, 10.0, 100.0, 1000.0])
def test_equal_weights_give_a_chi_square(statistic):
    # Simpson's rule with 2001 nodes over a smooth function
    assert mixture_sf(statistic, 2.0, 9, 2.0) == pytest.approx(stats.chi2.sf(statistic / 2, 10), rel=1e-6)


def test_kurtosis_deviations_are_zero_for_the_moments_of_a_normal_law():
    """A design with Gaussian moments up to the fourth: Gauss-Hermite products."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)  # sqrt(3) times -1, 0, 1 with weights 1, 4, 1
    grid = np.array(np.meshgrid(nodes, nodes, nodes)).reshape(3, -1).T
    repeats = np.round(
        np.prod(np.array(np.meshgrid(*[weights / weights.min()] * 3)).reshape(3, -1), 0)
    ).astype(int)
    y = torch.from_numpy(np.repeat(grid, repeats, 0))
    assert kurtosis_spread(y, 0) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("count", BOTH)
def test_tests_do_not_know_the_units_or_the_frame(count, draw):
    y = torch.cat([draw("laplace", 300, 1), draw("gaussian", 300, 3)], 1)
    A = torch.randn(4, 4, dtype=torch.float64)
    for one, other in zip(count(y).tests, count(y @ A + 3).tests, strict=True):
        assert one.statistic == pytest.approx(other.statistic, rel=1e-5)


def test_pull_is_what_estimating_the_shape_takes_away(draw):
    """b by finite differences: how mean h u u' and mean u u' move when the Gaussian part is stretched."""
    y = torch.cat([draw("t3", 200_000, 2), draw("gaussian", 200_000, 3)], 1)
    sphere = spherize(y)
    z = sphere.directions * sphere.radii[:, None]
    axes = torch.eye(5, dtype=torch.float64)[:, 2:]
    stretch = torch.zeros(5, dtype=torch.float64)
    stretch[2], stretch[3] = 1.0, -1.0

    def contrast(size, weighted):
        moved = z * (1 - size * stretch / 2)
        radii = moved.norm(dim=1)
        u = moved / radii[:, None]
        h = radial_weights(radii) if weighted else torch.ones_like(radii)
        return float((h * (u[:, 2].square() - u[:, 3].square())).mean())

    slopes = [(contrast(1e-3, w) - contrast(-1e-3, w)) / 2e-3 for w in (True, False)]
    # the formula averages over directions in the Gaussian part: a relative sampling error of some 1 / sqrt(200,000)
    assert _pull(sphere, axes) == pytest.approx(slopes[0] / slopes[1], rel=0.02)


def test_closest_eigenvalues_are_found():
    """Directions along axes with weights 1, 1, 1, 3: the three equal ones are the Gaussian part."""
    u = torch.eye(4, dtype=torch.float64).repeat(4, 1)
    radii = torch.ones(16, dtype=torch.float64)
    radii[u[:, 3] == 1] = 3.0
    spread, outer, inner = _closest(Sphere(u, radii), 1)
    assert spread == pytest.approx(0, abs=1e-20)
    assert outer.abs().T == pytest.approx(torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64))
    assert inner.shape == (4, 3)


@pytest.mark.parametrize("module", [fobi, robust])
def test_axes_put_the_non_gaussian_directions_first(module, draw):
    y = torch.cat([draw("gaussian", 20_000, 3), draw("laplace", 20_000, 1)], 1)
    x = whiten(y @ torch.randn(4, 4, dtype=torch.float64))
    first = whiten(x @ module._axes(x, 1))[:, 0]
    # eigenvectors turn by some 5 / (3 sqrt(20,000)) in each of three planes, a cosine of .999
    assert abs(float((first * y[:, 3]).mean())) > 0.98


# --- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", BOTH)
@pytest.mark.parametrize(
    ("counts", "expected", "group"),
    [
        ({"laplace": 2, "gaussian": 3}, 2, "SP(2) x O(3)"),
        ({"uniform": 1, "gaussian": 3}, 1, "SP(1) x O(3)"),
        ({"t3": 1, "laplace": 1, "gaussian": 2}, 2, "SP(2) x O(2)"),
    ],
)
def test_directions_are_counted_through_noise(count, counts, expected, group, draw):
    found = count(table(draw, 6000, counts, noise=0.2))
    assert (found.count(), found.group()) == (expected, group)


def test_one_gaussian_direction_leaves_nothing_free(draw):
    found = non_gaussian_directions(table(draw, 6000, {"laplace": 3, "gaussian": 1}))
    assert (found.count(), found.group(), found.group(latents=3)) == (3, "SP(4)", "SP(3)")


def test_factors_of_one_law_need_more_gaussian_directions(draw):
    """What `robust_directions` says of its limits: three equal factors among one Gaussian direction, and among five."""
    few, many = (table(draw, 4000, {"laplace": 3, "gaussian": count}) for count in (1, 5))
    assert robust_directions(few).count() < 3
    assert (robust_directions(many).count(), robust_directions(many).group(latents=3)) == (3, "SP(3)")


def test_elliptical_tails_are_told_from_axes_by_the_robust_tests_alone(draw):
    y = table(draw, 2000, {"multivariate t3": 4})
    assert robust_directions(y).count() == 0
    assert non_gaussian_directions(y).count() > 0  # why T4 never suffices alone


@pytest.mark.parametrize("count", BOTH)
def test_bootstrap_agrees_with_the_asymptotic_law(count, draw):
    y = table(draw, 300, {"laplace": 1, "gaussian": 3})
    asymptotic, bootstrap = count(y), count(y, bootstrap=29, seed=1)
    assert bootstrap.tests[0].p_value == 1 / 30
    # two estimates of one p-value: the bootstrap's s.e. is at most .093, the asymptotic law is off by some .1
    assert abs(bootstrap.tests[1].p_value - asymptotic.tests[1].p_value) < 0.35
    assert bootstrap.tests == count(y, bootstrap=29, seed=1).tests
    assert len(bootstrap.tests) == 2  # further numbers are not looked at
    assert "bootstrap of 29" in bootstrap.describe()


def test_results_are_said_and_written(draw):
    found = pa.non_gaussian_directions(table(draw, 500, {"laplace": 2, "gaussian": 2}))
    assert "of 4 at level .01" in found.describe()
    assert json.loads(json.dumps(found.to_dict()))["count"] == found.count()
    assert "largest set" in pa.robust_directions(draw("gaussian", 100, 3)).describe()


@pytest.mark.parametrize("count", BOTH)
def test_bad_tables_are_refused_in_words(count, draw):
    y = draw("gaussian", 100, 3)
    with pytest.raises(DataError, match="at least 30 rows"):
        count(y[:20])
    with pytest.raises(DataError, match="linearly independent"):
        count(torch.cat([y, y[:, :1]], 1))


# --- size and power -----------------------------------------------------------------------------------------------

NULLS = {
    "gaussian": ({"gaussian": 5}, 0, BOTH),
    "laplace": ({"laplace": 2, "gaussian": 3}, 2, BOTH),
    "t3": ({"t3": 2, "gaussian": 3}, 2, (robust_directions,)),
    "multivariate t3": ({"multivariate t3": 5}, 0, (robust_directions,)),
    "elliptical part": ({"multivariate t3": 2, "gaussian": 3}, 2, (robust_directions,)),
}


@pytest.mark.parametrize("law", ["gaussian", "multivariate t3"])
def test_true_numbers_reject_at_their_level(law, draw, rejections):
    counts, number, tests = NULLS[law]
    for count in tests:
        rejected = rejections(lambda _, c=count: c(table(draw, 500, counts)).tests[number].p_value, 40)
        assert rejected <= 4  # binomial(40, .01): beyond with probability 6e-5


@pytest.mark.slow
@pytest.mark.parametrize("law", NULLS)
def test_long_size_at_the_true_number(law, draw, rejections, interval):
    """The level of every scatter at the true number of directions, n = 2,000; choosing them only lowers it."""
    counts, number, tests = NULLS[law]
    for count in tests:
        rejected = rejections(
            lambda _, c=count: c(table(draw, 2000, counts)).tests[number].p_value, 500, level=0.05
        )
        low, _ = interval(rejected, 500)
        assert low <= 0.06  # the asymptotic law is off by some .01 where directions have to be found


@pytest.mark.slow
@pytest.mark.parametrize("count", BOTH)
def test_long_power_before_the_true_number(count, draw, rejections, interval):
    """Two Laplace directions of five at n = 500: q = 1 rejects at .05 in .95 (kurtosis) and .97 (shapes) of runs."""
    counts = {"laplace": 2, "gaussian": 3}
    rejected = rejections(lambda _: count(table(draw, 500, counts)).tests[1].p_value, 200, level=0.05)
    assert interval(rejected, 200)[1] >= 0.95
