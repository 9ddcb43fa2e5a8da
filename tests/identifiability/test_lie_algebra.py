"""The score information on gl(K): its null space against groups that leave laws unchanged, its sizes against theory."""

import json
import math

import numpy as np
import pytest
import torch

import probae as pa
from probae import NotExactError, ParameterError, gl_information, priors
from probae.identifiability.lie_algebra import noisy_information, prior_information
from probae.identifiability.likelihood_ratio import paired_change
from probae.linalg import givens
from probae.priors.information import information_of, is_positive, spread_of

GAUSSIAN, LAPLACE = priors.Gaussian(), priors.Laplace()
UNEQUAL = priors.Independent([priors.Scaled(GAUSSIAN, sd) for sd in (1.0, 2.0, 5.0)])
CORRELATED = priors.CorrelatedGaussian([[1.0, 0.5, 0.2], [0.5, 1.0, 0.0], [0.2, 0.0, 1.0]])
MIXED = priors.Independent([LAPLACE, GAUSSIAN, GAUSSIAN])
STUDENT = priors.MultivariateStudentT(6.0)
NULLS = [(GAUSSIAN, 3), (UNEQUAL, 3), (CORRELATED, 3), (MIXED, 1), (STUDENT, 3), (LAPLACE, 0)]


@pytest.mark.parametrize(("prior", "dimension"), NULLS, ids=lambda value: str(value)[:30])
def test_the_algebra_leaves_the_law_of_the_factors_unchanged(prior, dimension):
    """log p(e^{tB} z) + t tr B = log p(z), for each B of the basis and for a combination of them, at t far from 0."""
    found = prior_information(prior, 3, draws=5000)
    assert (found.dimension, found.algebra.shape) == (dimension, (dimension, 3, 3))
    assert found.conclusive
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.linspace(-1, 1, dimension, dtype=torch.float64)
    combined = torch.einsum("m,mij->ij", weights, found.algebra)
    for B in [*found.algebra, combined]:
        turned = z @ torch.matrix_exp(0.7 * B).T
        change = prior.joint_log_prob(turned) + 0.7 * torch.trace(B) - prior.joint_log_prob(z)
        assert change.abs().max() < 1e-8 * prior.joint_log_prob(z).abs().max()


@pytest.mark.parametrize(
    ("prior", "covariance"),
    [(UNEQUAL, torch.diag(torch.tensor([1.0, 4.0, 25.0]))), (CORRELATED, CORRELATED.matrix)],
)
def test_the_algebra_leaves_a_gaussian_covariance_unchanged_where_plain_rotations_do_not(prior, covariance):
    model = pa.LinearFactorModel(7, 3, prior)
    loadings, covariance = model.loadings.detach(), covariance.double()
    for B in gl_information(model).algebra:
        turned, plain = (loadings @ torch.matrix_exp(0.4 * change) for change in (B, B - B.T))
        before = loadings @ covariance @ loadings.T
        assert torch.allclose(turned @ covariance @ turned.T, before, atol=1e-10)
        assert not torch.allclose(plain @ covariance @ plain.T, before, atol=1e-2)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (LAPLACE, 1 - 1 / 2),
        (priors.StudentT(6.0), 1 - 6 / 7),
        (MIXED, 1 - 1 / math.sqrt(2)),
        (priors.Logistic(), 1 - 9 / math.pi**2),
    ],
)
def test_smallest_information_is_that_of_theory(prior, expected):
    found = prior_information(prior, 3)
    assert found.smallest_other == pytest.approx(expected, abs=1e-6)
    assert found.draws == 0


def test_closed_forms_are_the_monte_carlo_of_their_definition():
    """E S S' of vec S = vec(psi z' - I), normalised; 4 errors of 200,000 draws, fourth moments below 100."""
    prior = priors.Independent([LAPLACE, priors.Scaled(priors.StudentT(10.0), 2.0)])
    torch.manual_seed(0)
    z = prior.sample(200_000, 2).double()
    flat = (prior.score(z).unsqueeze(2) * z.unsqueeze(1) - torch.eye(2)).flatten(1)
    size = flat.square().mean(0).sqrt()
    values = torch.linalg.eigvalsh(flat.T @ flat / len(flat) / torch.outer(size, size))
    assert torch.allclose(values, prior_information(prior, 2).eigenvalues, atol=4 * 10 / math.sqrt(200_000))


def test_laws_that_are_zero_somewhere_are_smoothed_whatever_their_scale():
    for sd in (0.1, 1.0, 10.0):
        found = prior_information(priors.Scaled(priors.Uniform(), sd), 2)
        assert (found.dimension, found.smoothed) == (0, 0.05)
        law = priors.Scaled(priors.Uniform(), sd)
        assert information_of(law) * spread_of(law) ** 2 == pytest.approx(information_of(priors.Uniform()))
    assert not is_positive(priors.Scaled(priors.Uniform(), 3.0))
    assert prior_information(priors.GeneralizedNormal(0.4), 2).dimension == 0


class Box(priors.Prior):
    """A joint law on a box: its score is zero, and says nothing of the walls."""

    event_dim = 1

    def log_prob(self, z):
        return priors.Uniform().log_prob(z).sum(-1)

    def score(self, z):
        return torch.zeros_like(z)

    def distribution(self, latents, like=None):
        return priors.Uniform().distribution(latents, like)

    def coordinates(self, latents):
        return None


def test_a_joint_law_whose_score_does_not_say_all_is_refused():
    with pytest.raises(NotExactError, match="does not integrate to zero"):
        prior_information(Box(), 2, draws=2000)


def fitted(prior, features=8, noise=0.2, samples=1500, seed=1):
    model = pa.LinearFactorModel(features, 3, prior)
    model.noise_variance = torch.full((features,), noise, dtype=torch.float64)
    return model, model.sample(samples, seed=seed)


def test_noisy_information_is_less_and_falls_with_the_noise():
    limit = prior_information(LAPLACE, 3).smallest_other
    smallest = [gl_information(*fitted(LAPLACE, noise=noise)).smallest_other for noise in (0.01, 0.5, 4.0)]
    assert limit + 0.1 > smallest[0] > smallest[1] > smallest[2]  # errors of about .03


@pytest.mark.parametrize("variance", [0.1, 1.0])
def test_noisy_information_of_equal_columns_is_that_of_the_noisy_law(variance):
    """Orthonormal W and isotropic noise: a plane's rotation has 2 (kappa_v - 1) with kappa_v of the law of y."""
    model = pa.LinearFactorModel(4, 2, LAPLACE, noise="isotropic")
    model.loadings = torch.linalg.qr(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double())[
        0
    ]
    model.noise_variance = torch.tensor(variance, dtype=torch.float64)
    rows = model.sample(4000, seed=0)
    skew = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    from probae.identifiability.lie_algebra import _posterior_scores

    first, second = _posterior_scores(model, model.sufficient_scores(rows), 0)
    product = (first @ skew.flatten()) * (second @ skew.flatten())
    # the rotation turns y = z + noise as a whole: Var = 2 (kappa_v - 1), kappa_v of the unit-variance noisy law
    expected = 2 * (LAPLACE.noisy_fisher_information(variance) - 1)
    assert float(product.mean()) == pytest.approx(expected, abs=4 * float(product.std()) / math.sqrt(4000))


def test_noise_keeps_the_group():
    for prior, dimension in ((GAUSSIAN, 3), (MIXED, 1), (CORRELATED, 3)):
        found = gl_information(*fitted(prior))
        assert (found.dimension, found.noisy) == (dimension, True)
        assert found.eigenvalues[:dimension].abs().max() == 0
        assert found.smallest_other > 3 * found.error > 0


def test_gaussian_scores_vanish_along_the_group_row_by_row():
    """The score of B is <B, E[psi z' | x] - I>, exactly zero for every row."""
    from probae.identifiability.lie_algebra import _gaussian_scores

    model, x = fitted(CORRELATED, samples=50)
    scores = _gaussian_scores(model, x)
    for B in gl_information(model).algebra:
        assert (scores @ B.flatten()).abs().max() < 1e-10 * scores.abs().max()


def test_sources_without_noise_have_the_information_of_their_law():
    for prior, limit in (
        (LAPLACE, 0.5),
        (priors.Uniform(), prior_information(priors.Uniform(), 3).smallest_other),
    ):
        model = pa.IndependentComponents(3, 3, prior)
        found = gl_information(model, model.sample(4000, seed=2))
        assert found.smallest_other == pytest.approx(limit, abs=5 * found.error)


def test_sources_without_noise_are_smoothed_whatever_their_scale_and_only_where_they_need_it():
    """Uniform sources take noise of .05 of their variance; a Laplace source beside them keeps all it knows."""
    mixed = priors.Independent([priors.Laplace(), priors.Scaled(priors.Uniform(), 3.0)])
    for prior in (priors.Scaled(priors.Uniform(), 0.1), priors.Scaled(priors.Uniform(), 10.0), mixed):
        model = pa.IndependentComponents(2, 2, prior)
        found, limit = gl_information(model, model.sample(4000, seed=2)), gl_information(model)
        assert found.smoothed == limit.smoothed == 0.05
        assert found.smallest_other == pytest.approx(limit.smallest_other, abs=5 * found.error)
    model = pa.IndependentComponents(2, 2, LAPLACE)
    assert gl_information(model, model.sample(100, seed=2)).smoothed == 0.0


def test_paired_ratio_of_a_law_with_walls_is_the_exact_one():
    """Uniform factors, noise .05: theory names +92.2 at 30 degrees as exact where the naive identity gave -36.4."""
    model = pa.LinearFactorModel(2, 2, priors.Uniform(), noise="isotropic")
    model.loadings, model.noise_variance = torch.eye(2).double(), torch.tensor(0.05).double()
    x = model.sample(300, seed=0)
    rotations = givens(2, 0, 1, torch.deg2rad(torch.tensor([1.0, 10.0, 30.0], dtype=torch.float64)))
    change, error = paired_change(model, x, rotations, 0)
    for rotation, found, spread in zip(rotations, change.tolist(), error.tolist(), strict=True):
        turned = pa.LinearFactorModel(2, 2, priors.Uniform(), noise="isotropic")
        turned.loadings, turned.noise_variance = rotation, torch.tensor(0.05).double()
        exact = float((turned.log_likelihood(x) - model.log_likelihood(x)).sum())
        assert found == pytest.approx(
            exact, abs=5 * spread + 0.1
        )  # and the bias of 64 draws, O(300 / 64) of a variance


def test_result_is_plain_json_and_refusals_say_why():
    found = gl_information(pa.FactorAnalysis(6, 2))
    assert json.loads(json.dumps(found.to_dict()))["dimension"] == 1
    assert "1 null directions" in found.describe()
    with pytest.raises(ParameterError, match="needs a linear factor model, got int"):
        gl_information(3)
    one, other = (gl_information(*fitted(LAPLACE, samples=200)).eigenvalues for _ in range(2))
    assert torch.equal(one, other)
    assert np.isfinite(one.numpy()).all()
    model, x = fitted(priors.Uniform(), samples=300)
    assert noisy_information(model, x).eigenvalues.isfinite().all()
