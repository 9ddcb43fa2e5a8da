"""The adaptive frame: laws of their own for each axis are found, and nothing is found where nothing is."""

import math

import pytest
import torch

from probae.identifiability.frames import adaptive_frame, best_laws, candidate_laws, law_tables
from probae.linalg import givens
from probae.models.marginal import Scores
from probae.priors import Gaussian, GeneralizedNormal, Laplace, StudentT

NOISE = 0.1


def scores_of(laws, rows, seed, degrees=0.0):
    """Noisy scores of factors of these laws, seen from axes turned in the first plane."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        z = torch.stack([law.sample(rows, 1).squeeze(1).double() for law in laws], 1)
        y = z + math.sqrt(NOISE) * torch.randn(z.shape, dtype=torch.float64)
    covariance = NOISE * torch.eye(len(laws), dtype=torch.float64)
    return Scores(y @ givens(len(laws), 0, 1, math.radians(degrees)), covariance, torch.zeros(rows).double())


MIXED = [Laplace(), GeneralizedNormal(8.0)]


def test_the_best_law_of_a_column_is_the_law_it_was_drawn_from():
    laws = [StudentT(4.0), GeneralizedNormal(8.0), Laplace()]
    scores = scores_of(laws, 4000, 0)
    found = best_laws(
        law_tables(scores.values, scores.covariance, candidate_laws()), scores.values, scores.covariance
    )
    assert [repr(candidate_laws()[index]) for index in found] == [repr(law) for law in laws]


@pytest.mark.parametrize("degrees", [20.0, 45.0])
def test_axes_of_a_heavy_and_a_light_factor_are_found_from_wrong_ones(degrees):
    """The standard error of the angle is about 1.5 degrees for 1,000 rows that search: four of them are allowed."""
    found = adaptive_frame(scores_of(MIXED, 2000, 1, degrees), 0)
    assert found.degrees == pytest.approx(degrees, abs=6.0)
    assert found.wins(5.0)
    assert "GeneralizedNormal(shape=" in found.law
    assert found.law.startswith("Independent(")


@pytest.mark.parametrize("laws", [MIXED, [Laplace(), Laplace()]])
def test_right_axes_are_not_beaten(laws):
    assert not adaptive_frame(scores_of(laws, 2000, 2), 0).wins(5.0)


def test_gaussian_axes_stand_where_the_fitted_ones_do():
    """All axes are alike to Gaussian factors: two of them are no other frame, and beside a third they turn with it."""
    found = [adaptive_frame(scores_of([Gaussian()] * 2, 4000, seed), seed) for seed in range(4)]
    alone = [one for one in found if one.law == "Gaussian()"]
    assert len(alone) > 1
    assert max(one.degrees for one in alone) < 1e-6
    beside = adaptive_frame(scores_of([Laplace(), Gaussian(), Gaussian()], 4000, 0, 30.0), 0)
    assert beside.law.count("Gaussian()") == 2
    assert beside.degrees == pytest.approx(30.0, abs=4.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "laplace", "mixed", "light"])
def test_size_of_the_win(name):
    """Of 200 data sets at right or no axes at most what level .01 allows, binomial to a probability of .001."""
    laws = {"gaussian": [Gaussian()] * 2, "laplace": [Laplace()] * 2, "mixed": MIXED, "light": [MIXED[1]] * 2}
    won = sum(adaptive_frame(scores_of(laws[name], 600, seed), seed).wins(5.0) for seed in range(200))
    assert won <= 7
