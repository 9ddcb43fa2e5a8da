"""What meaningless columns score: closed forms, published means, and brute force."""

import math

import numpy as np
import pytest

from probae.agreement import chance_level, mean_correlation, mean_cosine
from probae.checks import ParameterError


@pytest.mark.parametrize(("latents", "mean"), [(2, 0.900), (3, 0.831), (5, 0.730), (8, 0.634), (10, 0.595)])
def test_rotations_score_the_published_means(latents, mean):
    found = chance_level(latents)
    assert found.mean == pytest.approx(mean, abs=4 * found.error + 0.002)  # both are simulated


def test_two_axes_are_exact():
    # the largest of |cos t| and |sin t|, t uniform: 4/pi sin(pi/4), and 95 % of the time below cos(.05 * 45 degrees)
    angles = (np.arange(100_000) + 0.5) / 100_000 * math.pi / 2
    scores = np.maximum(np.cos(angles), np.sin(angles))
    found = chance_level(2)
    assert found.error == 0.0
    assert found.mean == pytest.approx(scores.mean(), abs=1e-8)
    assert found.upper == pytest.approx(np.quantile(scores, 0.95), abs=1e-4)


@pytest.mark.parametrize("dimension", [2, 3, 50, 4000])
def test_one_column_is_the_cosine_of_a_random_direction(dimension):
    found = chance_level(1, dimension)
    draws = np.random.default_rng(0).standard_normal((20_000, 2))
    rest = np.random.default_rng(1).chisquare(dimension - 1, 20_000)
    scores = np.abs(draws[:, 0]) / np.sqrt(draws[:, 0] ** 2 + rest)
    assert found.mean == pytest.approx(
        scores.mean(), rel=0.025
    )  # sd / mean .75 at most: 4 errors of 20,000 draws
    assert (scores < found.upper).mean() == pytest.approx(0.95, abs=0.007)


@pytest.mark.parametrize(("latents", "dimension"), [(3, 4), (3, 6), (3, 7), (2, 199)])
def test_frames_score_what_unrelated_scores_do(latents, dimension):
    """Scores of ``dimension + 1`` rows, whitened: their correlations are those of two random frames."""
    rng = np.random.default_rng(2)
    scores = []
    for _ in range(400):
        pair = [np.linalg.qr(rng.standard_normal((dimension, latents)))[0] for _ in range(2)]
        centred = np.zeros((dimension + 1, dimension + 1))
        centred[:, 0] = 1
        centred[:, 1:] = rng.standard_normal((dimension + 1, dimension))
        basis = np.linalg.qr(centred)[0][:, 1:]  # rows to whom the mean is unknown have one dimension less
        scores.append(mean_correlation(basis @ pair[0], basis @ pair[1]).value)
    found = chance_level(latents, dimension)
    error = math.hypot(np.std(scores) / math.sqrt(len(scores)), found.error)
    assert found.mean == pytest.approx(np.mean(scores), abs=4 * error)


def test_chance_falls_with_dimensions_and_columns():
    means = [chance_level(3, dimension).mean for dimension in (3, 5, 20, 1000)]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.1


def test_the_level_stands_beside_every_score():
    rng = np.random.default_rng(3)
    a = rng.standard_normal((60, 3))
    for score in (mean_correlation, mean_cosine):
        assert "Monte Carlo" in str(score(a, a).chance)


def test_refuses_more_columns_than_dimensions():
    with pytest.raises(ParameterError, match="dimension"):
        chance_level(3, 2)
