"""T2: what makes it exact, as identities; then its size, with fewer rows than features too, and its power."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.checks import DataError, ParameterError
from probae.identifiability.data_test import monte_carlo_p
from probae.identifiability.gaussian_scores import gaussian_frames, whiten, whitened_scores
from probae.identifiability.gaussian_test import _statistics, gaussian_test
from probae.identifiability.spherical import harmonic_statistic
from probae.identifiability.tyler import Sphere
from probae.linalg import haar_rotation


def mixed(z, features, noise=0.5):
    W = torch.randn(features, z.shape[1], dtype=torch.float64)
    return z @ W.T + noise * torch.randn(len(z), features, dtype=torch.float64)


def turn_of_rows(samples):
    """An orthogonal matrix that keeps the vector of ones."""
    basis = torch.linalg.qr(
        torch.cat(
            [
                torch.ones(samples, 1, dtype=torch.float64),
                torch.randn(samples, samples - 1, dtype=torch.float64),
            ],
            1,
        )
    ).Q
    inner = torch.eye(samples, dtype=torch.float64)
    inner[1:, 1:] = haar_rotation(samples - 1)
    return basis @ inner @ basis.T


# --- what makes it exact ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "features", "noise"),
    [(60, 8, "diagonal"), (60, 8, "isotropic"), (40, 90, "diagonal"), (60, 3, "none")],
)
def test_turning_the_rows_turns_the_scores(samples, features, noise, draw):
    """The proof: a turn of the rows keeps mean and covariance, so it keeps the fit and only turns the scores."""
    x = mixed(draw("laplace", samples, 3), features)
    turn = turn_of_rows(samples)
    latents = 3 if noise == "none" else 2
    plain, turned = whitened_scores(x, latents, noise), whitened_scores(turn @ x, latents, noise)
    # the fit stops at a gradient of 1e-8 or so, on either side
    assert torch.allclose(turned, turn @ plain, atol=1e-4)


def test_scores_are_whitened_and_do_not_know_the_units(draw):
    x = mixed(draw("laplace", 200, 2), 7)
    y = whitened_scores(x, 2)
    assert torch.allclose(y.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(y.T @ y / 200, torch.eye(2, dtype=torch.float64), atol=1e-12)
    units = torch.logspace(-3, 3, 7, dtype=torch.float64)
    found = gaussian_test(x * units + 5, 2, replicates=99)
    plain = gaussian_test(x, 2, replicates=99)
    for one, other in zip(found.parts, plain.parts, strict=True):
        assert one.statistic == pytest.approx(other.statistic, rel=1e-4)


@pytest.mark.parametrize("latents", [1, 2, 5, 14])
def test_statistics_do_not_know_the_frame_or_the_order(latents, draw):
    y = whiten(draw("laplace", 300, latents))
    turned = y[torch.randperm(300)] @ haar_rotation(latents)
    assert torch.allclose(_statistics(turned[None]), _statistics(y[None]), rtol=1e-9)


def test_parts_are_their_definitions(draw):
    y = whiten(draw("laplace", 80, 3))
    skewness, directions, radius = _statistics(y[None])[0].tolist()
    length = y.norm(dim=1)
    expected, freedom = harmonic_statistic(Sphere(y / length[:, None], length), 4)
    assert freedom * directions == pytest.approx(expected, rel=1e-10)
    gram = (y @ y.T).numpy()
    assert skewness == pytest.approx((gram**3).mean(), rel=1e-10)
    assert radius == pytest.approx((np.diag(gram) ** 2).mean(), rel=1e-10)


def test_a_row_at_the_mean_has_no_direction_and_counts_as_none(draw):
    """Whole numbers with their mirror images and a row of zeros: the mean is exactly zero, and so is that row."""
    half = (3 * draw("gaussian", 60, 3)).round()
    y = whiten(torch.cat([half, -half, torch.zeros(1, 3, dtype=torch.float64)]))
    assert bool((y[-1] == 0).all())
    skewness, directions, radius = _statistics(y[None])[0].tolist()
    length = y.norm(dim=1)
    sphere = Sphere(y / torch.where(length > 0, length, 1.0)[:, None], length)
    expected, freedom = harmonic_statistic(sphere, 4)
    assert freedom * directions == pytest.approx(expected, rel=1e-10)
    found = gaussian_test(y, 3, "none", replicates=99)
    assert all(0.01 <= part.p_value <= 1 for part in found.parts)


@pytest.mark.parametrize("features", [6, 80])
def test_scores_of_gaussian_rows_have_the_law_of_the_replicates(features):
    """Mean of Mardia's kurtosis, exactly k (k + 2) (n - 1) / (n + 1) on whitened rows, and equality in law."""
    n, k, runs = 40, 2, 50
    root = torch.randn(features, features, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    frames = _statistics(gaussian_frames(runs, n, k, generator))[:, 2].numpy()
    scores = [whitened_scores(torch.randn(n, features, dtype=torch.float64) @ root, k) for _ in range(runs)]
    rows = _statistics(torch.stack(scores))[:, 2].numpy()
    for sample in (frames, rows):
        error = np.std(sample) / np.sqrt(runs)
        assert abs(np.mean(sample) - k * (k + 2) * (n - 1) / (n + 1)) < 4 * error
    assert stats.ks_2samp(frames, rows).pvalue > 1e-4


def test_p_counts_the_observation_and_ties():
    assert monte_carlo_p(torch.tensor([3.0, 1.0, 3.0, 2.0])) == 0.5
    assert monte_carlo_p(torch.tensor([9.0, 1.0, 3.0, 2.0])) == 0.25
    assert monte_carlo_p(torch.tensor([0.0, 1.0, 3.0, 2.0])) == 1.0


# --- results ------------------------------------------------------------------------------------------------------


def test_parts_tell_tails_from_axes_and_skewness(draw):
    axes = gaussian_test(draw("laplace", 1000, 3), 3, "none", replicates=199)
    tails = gaussian_test(draw("multivariate t5", 1000, 3), 3, "none", replicates=199)
    skewed = gaussian_test(draw("exponential", 1000, 3), 3, "none", replicates=199)
    assert axes.p_value == tails.p_value == skewed.p_value == 1 / 200
    assert {part.name: part.p_value for part in axes.parts}["Directions"] == 1 / 200
    assert {part.name: part.p_value for part in tails.parts}["Directions"] > 0.01
    assert {part.name: part.p_value for part in skewed.parts}["Skewness"] == 1 / 200


def test_result_is_said_with_its_error_and_power(draw):
    x = mixed(draw("gaussian", 200, 2), 6)
    found = gaussian_test(x, 2, replicates=99, seed=3)
    assert found == gaussian_test(x, 2, replicates=99, seed=3)
    assert found.error == pytest.approx((found.p_value * (1 - found.p_value) / 100) ** 0.5)
    assert "exact, 99 replicates" in found.describe()
    assert found.power in found.describe()
    assert json.loads(json.dumps(found.to_dict()))["p"] == found.p_value
    assert found.power not in gaussian_test(draw("t3", 500, 2), 2, "none", replicates=199).describe()


def test_stated_power_is_reached(draw):
    """Scale mixtures of the stated excess kurtosis are found at a rate of .8 or so."""
    stated = gaussian_test(draw("gaussian", 500, 3), 3, "none", replicates=199).detectable
    # excess kurtosis of a scale mixture: E r^4 = k (k + 2) (1 + e / 3) for each score of excess e, so that the excess
    # of E r^4, shared by k scores, is (k + 2) e / 3
    excess = 3 * stated / 5
    scales = torch.where(
        torch.rand(20, 500, 1) < 0.5, 1 - (excess / 3) ** 0.5, 1 + (excess / 3) ** 0.5
    ).double()
    runs = [gaussian_test(s.sqrt() * draw("gaussian", 500, 3), 3, "none", replicates=199) for s in scales]
    # binomial(20, .8): 9 or fewer with probability 6e-4; the direction of the power is what is tested
    assert sum(run.p_value <= 0.01 for run in runs) >= 10


def test_many_latents_and_one(draw):
    assert len(gaussian_test(draw("gaussian", 100, 1), 1, "none", replicates=99).parts) == 2
    many = gaussian_test(draw("gaussian", 200, 14), 14, "none", replicates=99)
    assert many.latents == 14
    assert many.p_value > 0.01


def test_replicates_follow_the_cost(draw, monkeypatch):
    x = draw("gaussian", 50, 1)
    assert gaussian_test(x, 1, "none").replicates == 999
    monkeypatch.setattr("probae.identifiability.gaussian_test.NUMBERS", 1e4)
    assert gaussian_test(x, 1, "none").replicates == 200


def test_random_state_is_left_alone(draw):
    x = mixed(draw("gaussian", 60, 2), 6)
    state = torch.get_rng_state()
    pa.gaussian_test(x, 2, replicates=99)
    assert torch.equal(state, torch.get_rng_state())


def test_bad_tables_are_refused_in_words(draw):
    x = draw("gaussian", 60, 5)
    with pytest.raises(DataError, match="at least 30 rows"):
        gaussian_test(x[:20], 2)
    with pytest.raises(DataError, match="no 6 scores"):
        gaussian_test(x, 6)
    with pytest.raises(DataError, match="linearly independent"):
        gaussian_test(torch.cat([x, x[:, :1]], 1), 6, "none")
    with pytest.raises(DataError, match="NaN"):
        gaussian_test(torch.where(x > 2, torch.nan, x), 2)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"replicates": 0}, "replicates should be a whole number of at least 2, got 0"),
        ({"seed": "a"}, "seed should be a whole number"),
        ({"noise": "diagnoal"}, "noise should be 'diagonal'"),
        ({"latents": 2.5}, "latents should be a whole number"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, match, draw):
    with pytest.raises(ParameterError, match=match):
        gaussian_test(draw("gaussian", 60, 5), **{"latents": 2, **settings})


# --- size and power -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "features"), [(50, 6), (40, 60)])
def test_gaussian_rows_reject_at_their_level(samples, features, draw, rejections):
    def p_value(seed):
        return gaussian_test(
            mixed(draw("gaussian", samples, 2), features), 2, replicates=99, seed=seed
        ).p_value

    # exact level .1; binomial(50, .1): 14 or more with probability 3e-4, none with .005
    assert 0 < rejections(p_value, 50, level=0.1) < 14


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "features", "latents"), [(100, 8, 3), (50, 200, 3), (500, 12, 4)])
def test_long_size(samples, features, latents, draw, rejections, interval):
    """Exact, also with fewer rows than features and where the factors are Gaussian but the noise is one too."""
    runs = 500

    def p_value(seed):
        x = mixed(draw("gaussian", samples, latents), features)
        return gaussian_test(x, latents, replicates=199, seed=seed).p_value

    low, high = interval(rejections(p_value, runs, level=0.05), runs)
    assert low <= 0.05 <= high


@pytest.mark.slow
@pytest.mark.parametrize("law", ["laplace", "multivariate t5"])
def test_long_power(law, draw, rejections, interval):
    """Stated before: .997 and 1.000 at level .05 with 10 features, 3 factors and 200 rows, in 300 runs."""

    def p_value(seed):
        return gaussian_test(mixed(draw(law, 200, 3), 10, noise=0.45), 3, replicates=199, seed=seed).p_value

    assert interval(rejections(p_value, 100, level=0.05), 100)[1] >= 0.99
