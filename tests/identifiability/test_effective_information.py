"""Information with nuisances: closed forms of independent noise, of Gaussian factors, and limits."""

import itertools
import math

import pytest
import torch

import probae as pa
from probae import priors
from probae.checks import ParameterError
from probae.identifiability.effective_information import effective_information
from probae.linalg import haar_rotation


def model_of(law, loadings, noise, kind="diagonal"):
    features, latents = loadings.shape
    model = pa.LinearFactorModel(features, latents, prior=law, noise=kind)
    model.loadings = loadings
    if kind != "none":
        model.noise_variance = torch.as_tensor(noise, dtype=torch.float64)
    return model


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("law", [priors.Laplace(), priors.StudentT(5.0), priors.Logistic()], ids=repr)
@pytest.mark.parametrize("noise", [0.01, 0.25, 1.0])
def test_orthonormal_loadings_give_the_closed_form(law, noise):
    loadings = haar_rotation(6, torch.Generator().manual_seed(1))[:, :2]
    found = effective_information(model_of(law, loadings, noise, "isotropic"))
    # with s = E[psi | y], m = y - v s: E s^2 E m^2 - (E s m)^2 = kappa_v - 1, an identity in v
    assert found.exact
    assert found.planes[0].value == pytest.approx(2 * law.noisy_fisher_information(noise) - 2, rel=1e-8)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_simulation_meets_the_closed_form_where_noise_is_all_but_independent(kind):
    loadings = haar_rotation(6, torch.Generator().manual_seed(1))[:, :2]
    loadings = loadings @ torch.tensor([[1.0, 1e-4], [0.0, 1.0]], dtype=torch.float64)
    noise = 0.1 if kind == "isotropic" else torch.full((6,), 0.1)
    found = effective_information(model_of(priors.Laplace(), loadings, noise, kind))
    assert not found.exact
    (plane,) = found.planes
    expected = 2 * priors.Laplace().noisy_fisher_information(0.1) - 2
    assert plane.value == pytest.approx(expected, abs=4 * plane.error)
    assert plane.error < 0.03 * expected


def test_matrix_of_gaussian_factors_is_the_fisher_information_of_their_covariance():
    """J_eff against tr(S^-1 dS S^-1 dS) / 2 with the noise variances and the rest of W projected out."""
    loadings, noise = normal(7, 2, seed=3), torch.linspace(0.3, 1.5, 7, dtype=torch.float64)
    found = effective_information(model_of(priors.Gaussian(), loadings, noise), rows=8_000)
    inverse = torch.linalg.inv(loadings @ loadings.T + noise.diag())
    complement = torch.linalg.svd(loadings / noise.sqrt().unsqueeze(1))[0][:, 2:] * noise.sqrt().unsqueeze(1)
    changes = []
    for basis in (loadings, complement):  # W (I + E), then W + Psi^{1/2} Q F
        for i, j in itertools.product(range(basis.shape[1]), range(2)):
            half = torch.outer(basis[:, i], loadings[:, j])
            changes.append(half + half.T)
    changes += [noise[d] * torch.eye(7, dtype=torch.float64)[d].diag() for d in range(7)]
    shifted = torch.stack([inverse @ change for change in changes])
    information = 0.5 * torch.einsum("aij,bji->ab", shifted, shifted)
    own, cross, rest = information[:4, :4], information[:4, 4:], information[4:, 4:]
    expected = own - cross @ torch.linalg.pinv(rest, hermitian=True) @ cross.T
    # fourth moments of normal scores from 8,000 rows: relative standard error 3 % of the largest entry
    assert (found.matrix - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("law", [priors.Gaussian(), priors.MultivariateStudentT(5.0)], ids=repr)
def test_spherical_factors_have_no_information(law):
    found = effective_information(model_of(law, normal(8, 3), torch.full((8,), 0.2)), rows=400)
    assert [plane.value for plane in found.planes] == [0.0, 0.0, 0.0]
    assert found.weakest.degrees(10**6) == math.inf
    assert found.weakest.samples_for(5.0) == math.inf


def test_only_the_plane_of_two_gaussian_factors_has_none():
    law = priors.Independent([priors.Gaussian(), priors.Gaussian(), priors.Laplace()])
    found = effective_information(model_of(law, normal(9, 3), torch.full((9,), 0.2)), rows=1000)
    assert [plane.value > 0 for plane in found.planes] == [False, True, True]


def test_noise_and_correlated_scores_take_information_away():
    loadings = normal(8, 2, seed=4)
    values = [
        effective_information(model_of(priors.Laplace(), loadings, torch.full((8,), noise)), rows=1000)
        .planes[0]
        .value
        for noise in (1e-4, 0.1, 1.0)
    ]
    assert 2.0 > values[0] > values[1] > values[2] > 0  # 2 kappa - 2 = 2 without noise


def test_units_of_x_and_of_the_factors_do_not_matter():
    loadings, noise = normal(6, 2, seed=5), torch.full((6,), 0.3, dtype=torch.float64)
    (plane,) = effective_information(model_of(priors.Laplace(), loadings, noise), rows=200).planes
    units = torch.logspace(-2, 2, 6, dtype=torch.float64)
    scaled = model_of(priors.Laplace(), units.unsqueeze(1) * loadings, units**2 * noise)
    assert effective_information(scaled, rows=200).planes[0].value == pytest.approx(plane.value, rel=1e-6)
    wide = priors.Independent([priors.Scaled(priors.Laplace(), 2.0), priors.Laplace()])
    nothing = model_of(wide, loadings[:2], 0.0, "none")
    assert effective_information(nothing).planes[0].value == pytest.approx(2.0, rel=1e-9)


def test_a_law_without_finite_information_says_that_it_is_approximate():
    found = effective_information(model_of(priors.Uniform(), normal(6, 2), torch.full((6,), 0.2)))
    assert not found.exact
    assert "approximate" in found.describe()
    assert found.planes[0].value > 0


def test_one_seed_gives_one_answer_and_leaves_the_callers_state():
    model = model_of(priors.Laplace(), normal(6, 2), torch.full((6,), 0.2))
    state = torch.random.get_rng_state()
    one, two = (effective_information(model, seed=7, rows=200).to_dict() for _ in range(2))
    assert one == two
    assert torch.equal(torch.random.get_rng_state(), state)


def test_refuses_one_factor():
    with pytest.raises(ParameterError, match="at least 2 latents"):
        effective_information(pa.FactorAnalysis(5, 1))
