"""The ladder of restarts: each class explains its own changes and no smaller one does."""

import dataclasses
import math
import warnings

import pytest
import torch

import probae as pa
from probae.checks import GuideWarning, ParameterError
from probae.identifiability.guide import InferenceEvidence, guide_reason
from probae.identifiability.hadamard import guide_gap
from probae.identifiability.restarts import CLASSES, _residuals, refits, restart_ladder
from probae.linalg import givens, haar_rotation


@pytest.fixture(scope="module")
def gaussian():
    x = pa.datasets.linear_factors(300, 6, 2, prior=pa.priors.Gaussian(), noise=0.3, seed=0).x
    return pa.fit(pa.FactorAnalysis(6, 2), x), x


def changed(run, matrix):
    """The same fit with loadings W A."""
    model = pa.FactorAnalysis(6, 2)
    model.loadings = run.model.loadings.detach() @ matrix
    model.noise_variance = run.model.noise_variance.detach().clone()
    model.mean = run.model.mean.detach().clone()
    return dataclasses.replace(run, model=model)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (torch.eye(2), "identity"),
        (torch.tensor([[0.0, -1.0], [1.0, 0.0]]), "signed permutation"),
        (givens(2, 0, 1, 0.6), "orthogonal"),
    ],
)
def test_the_smallest_class_that_explains_is_the_one_that_was_applied(gaussian, matrix, expected):
    run, x = gaussian
    found = restart_ladder([run, changed(run, matrix.double())], x)
    assert found.kept == (0, 1)
    assert found.shortfall.max() < 1e-9
    assert found.explained_by == expected
    assert found.subspace < 1e-4
    if expected == "orthogonal":
        assert found.turn == pytest.approx(math.degrees(0.6), abs=1e-6)


def test_a_linear_change_costs_likelihood_so_that_class_is_seen_on_matrices():
    W = torch.randn(6, 2, dtype=torch.float64)
    angles = _residuals(W, W @ torch.tensor([[1.0, 0.4], [0.0, 0.7]]).double())
    assert angles["linear"] < 1e-6
    assert angles["orthogonal"] > 5
    other = _residuals(W, torch.randn(6, 2, dtype=torch.float64))
    assert other["linear"] > 5


@pytest.mark.parametrize("seed", range(20))
def test_larger_classes_never_leave_more(seed):
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    angles = list(_residuals(one, two).values())
    assert angles == sorted(angles, reverse=True)
    turned = _residuals(one, one @ haar_rotation(3, generator))
    assert turned["orthogonal"] < 1e-6


def test_fits_far_below_the_best_are_left_out(gaussian):
    run, x = gaussian
    bad = changed(run, torch.tensor([[1.0, 0.0], [0.0, 0.5]]).double())
    found = restart_ladder([run, bad], x)
    assert found.kept == (0,)
    expected = run.model.log_likelihood(x) - bad.model.log_likelihood(x)
    assert float(found.shortfall[1]) == pytest.approx(float(expected.sum()), rel=1e-9)
    assert "nothing to compare" in found.describe()


def test_random_axes_in_a_plane_are_22_and_a_half_degrees_apart(gaussian):
    """Uniform on 0 to 45 degrees: sd 13, so the mean of 200 is known to .92; five of those."""
    run, x = gaussian
    assert restart_ladder([run, run], x).chance == pytest.approx(22.5, abs=4.6)


def test_estimated_likelihoods_are_paired_by_their_draws():
    x = pa.datasets.linear_factors(300, 7, 2, noise=0.3, seed=1).x
    run = pa.fit(pa.LinearFactorModel(7, 2, pa.priors.Laplace()), x)
    model = pa.LinearFactorModel(7, 2, pa.priors.Laplace())
    model.loadings = run.model.loadings.detach()[:, [1, 0]] * torch.tensor([1.0, -1.0])
    model.noise_variance, model.mean = run.model.noise_variance.detach(), run.model.mean.detach()
    found = restart_ladder([run, dataclasses.replace(run, model=model)], x)
    assert found.kept == (0, 1)
    assert (found.shortfall <= 2 + 2 * found.error).all()
    assert found.explained_by == "signed permutation"
    assert found.to_dict()["explained_by"] == "signed permutation"


def test_refits_start_elsewhere_and_leave_the_given_seed_out(gaussian):
    run, x = gaussian
    assert [one.seed for one in refits(run, x, 2, seed=0)] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("covariance", "expected"), [("diagonal", "signed permutation"), ("full", "orthogonal")]
)
def test_a_mean_field_guide_makes_fits_of_gaussian_factors_agree_and_a_full_one_does_not(
    covariance, expected
):
    """Case 17: agreement is necessary and never sufficient. Columns of lengths 3 and 1 make the guide sure of itself.

    Three frames of the full guide agree within 6 of 90 degrees by chance with probability 3 (6 / 90)^2 = .013.
    """
    columns = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64)).Q * torch.tensor([3.0, 1.0])
    law = pa.priors.Gaussian()
    x = pa.datasets.linear_factors(300, 6, 2, prior=law, noise=0.5, loadings=columns, seed=2).x
    method = pa.SVI(pa.MLPEncoder(6, 2, hidden=(), covariance=covariance), epochs=800, lr=0.03)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuideWarning)  # it warns of what is measured here
        run = pa.fit(pa.ProbabilisticPCA(6, 2), x, method)
        found = restart_ladder(refits(run, x, 2), x, tolerance=6.0)
    assert len(found.kept) == 3
    assert found.explained_by == expected
    restricted = InferenceEvidence(covariance == "diagonal", guide_gap(run.model, len(x)))
    driven = guide_reason(restricted, None, math.inf, identified=False)
    assert (driven is not None) is (covariance == "diagonal")


def test_what_cannot_be_compared_is_refused(gaussian):
    run, x = gaussian
    with pytest.raises(ParameterError, match="at least two fits"):
        restart_ladder([run], x)
    with pytest.raises(ParameterError, match="different models"):
        restart_ladder([run, pa.fit(pa.FactorAnalysis(6, 1), x)], x)
    assert set(restart_ladder([run, run], x).spread) == set(CLASSES)
