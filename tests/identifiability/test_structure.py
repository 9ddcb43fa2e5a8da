"""The structural group of a prior, against theory and against a Monte Carlo of the score information."""

import math

import pytest
import torch

from probae import priors
from probae.identifiability.structure import check_loadings, connected, structure
from probae.models import FactorAnalysis, LinearFactorModel

LAPLACE, GAUSSIAN = priors.Laplace(), priors.Gaussian()

CASES = [
    (GAUSSIAN, 3, "O(3)", 3),
    (LAPLACE, 3, "SP(3)", 0),
    (priors.Logistic(), 4, "SP(4)", 0),
    (priors.Uniform(), 2, "SP(2)", 0),
    (priors.SpikeSlab(), 2, "SP(2)", 0),
    (priors.StudentT(30.0), 3, "SP(3)", 0),
    (priors.MultivariateStudentT(6.0), 3, "O(3)", 3),
    (priors.Independent([LAPLACE, GAUSSIAN, GAUSSIAN]), 3, "SP(1) x O(2)", 1),
    (priors.Independent([GAUSSIAN, LAPLACE, GAUSSIAN, LAPLACE]), 4, "SP(2) x O(2)", 1),
    (priors.Independent([GAUSSIAN, LAPLACE]), 2, "SP(2)", 0),
    (GAUSSIAN, 1, "SP(1)", 0),
]


@pytest.mark.parametrize(("prior", "latents", "group", "null"), CASES, ids=lambda value: str(value))
def test_group_and_null_dimension(prior, latents, group, null):
    found = structure(prior, latents)
    assert (found.group, found.null_dimension) == (group, null)
    assert found.identified == (null == 0)


def test_known_unequal_variances_keep_the_full_group_conjugated():
    prior = priors.Independent([priors.Scaled(GAUSSIAN, sd) for sd in (1.0, 2.0, 5.0)])
    found = structure(prior, 3)
    assert (found.group, found.equal_scales) == ("O(3)", False)


@pytest.mark.parametrize(
    ("law", "expected"),
    [(LAPLACE, 1 - 1 / 2), (priors.StudentT(6.0), 1 - 1 / (1 + 6 / (4 * 9)))],
    ids=["laplace", "t6"],
)
def test_information_of_a_plane_is_one_minus_inverse_kappa(law, expected):
    assert structure(law, 3).information == pytest.approx(expected, abs=1e-6)


def test_gaussian_with_laplace_plane_has_the_predicted_information():
    mixed = structure(priors.Independent([LAPLACE, GAUSSIAN, GAUSSIAN]), 3)
    assert mixed.information == pytest.approx(1 - 1 / math.sqrt(2), abs=1e-6)


@pytest.mark.parametrize(
    ("prior", "latents", "modes"),
    [
        (LAPLACE, 3, 48),  # 3! orders, 2^3 signs
        (
            priors.Independent([LAPLACE, priors.StudentT(5.0), priors.Logistic()]),
            3,
            8,
        ),  # no two laws change places
        (priors.Independent([LAPLACE, LAPLACE, priors.StudentT(5.0)]), 3, 16),
        (priors.Independent([LAPLACE, GAUSSIAN, GAUSSIAN]), 3, 2),
        (GAUSSIAN, 3, 1),
        (GAUSSIAN, 1, 2),
    ],
)
def test_equal_laws_change_places_and_symmetric_ones_their_sign(prior, latents, modes):
    assert structure(prior, latents).modes == modes


def test_parallel_and_empty_columns_are_named():
    model = LinearFactorModel(3, 4, LAPLACE)
    loadings = model.loadings.detach().clone()
    assert (check_loadings(model).parallel, check_loadings(model).empty) == ((), ())
    loadings[:, 3] = -0.5 * loadings[:, 1]
    loadings[:, 0] = 0.0
    model.loadings = loadings
    found = check_loadings(model)
    assert (found.parallel, found.empty, found.rank) == (((1, 3),), (0,), 2)


def test_connected_components():
    assert connected(5, {(0, 3), (3, 4)}) == ((0, 3, 4), (1,), (2,))


def test_rank_and_separability_of_loadings():
    model = FactorAnalysis(6, 2)
    assert check_loadings(model).rank == 2
    model.loadings = torch.ones(6, 2, dtype=torch.float64)
    assert (check_loadings(model).rank, check_loadings(model).separable) == (1, False)
    assert check_loadings(LinearFactorModel(2, 3, LAPLACE)).separable is False


def test_heywood_columns_are_named_and_degrees_of_freedom_counted():
    model = FactorAnalysis(5, 3)
    noise = torch.ones(5, dtype=torch.float64)
    noise[2] = 1e-9
    model.noise_variance = noise
    assert check_loadings(model).heywood == (2,)
    assert check_loadings(model).degrees_of_freedom == ((5 - 3) ** 2 - (5 + 3)) / 2
