"""A guide carried along a rotation: nothing for Gaussian factors, however bad it is; elsewhere the prior's change."""

import dataclasses

import pytest
import torch

import probae as pa
from probae import priors
from probae.identifiability.push_forward import _of_draws, _of_gaussian, carried_guide
from probae.identifiability.turned_models import turned
from probae.inference.gaussian_expectation import expectation_of
from probae.inference.refinement import Gaussians
from probae.inference.svi import EncoderPosterior
from probae.linalg import givens

ANGLES = torch.tensor([0.0, 20.0, 45.0, 90.0])


@pytest.fixture(scope="module")
def pupils():
    x = pa.datasets.holzinger_swineford().x
    return pa.fit(pa.FactorAnalysis(9, 3), x), x


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_gaussian_factors_know_no_axes_through_any_guide_however_bad(pupils, covariance):
    """z' A z = 0 for skew A, whatever q: only rounding of 301 rows of about 10 nats is left."""
    run, x = pupils
    torch.manual_seed(0)
    encoder = pa.MLPEncoder(9, 3, covariance=covariance).double()
    bad = dataclasses.replace(run, posterior=EncoderPosterior(encoder))
    found = carried_guide(bad, x, (0, 2), ANGLES)
    assert found.range < 1e-9
    assert found.error.max() == 0


def test_loadings_turned_alone_look_identified_in_a_model_that_is_not(pupils):
    run, x = pupils
    found = carried_guide(run, x, (0, 1), ANGLES)
    assert found.range < 1e-9
    assert found.alone[0].abs() < 1e-9
    assert (found.alone[1:] < -100).all()
    assert "means nothing" in found.describe()


def laplace_guide():
    model = pa.SparseCoding(4, 3)
    x = model.sample(20, seed=0)
    generator = torch.Generator().manual_seed(1)
    root = 0.3 * torch.randn(20, 3, 3, generator=generator, dtype=torch.float64).tril()
    mean = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    return model, x, Gaussians(mean, root, False)


def test_change_is_that_of_the_whole_bound_with_the_image_of_the_guide():
    """Entropy and E log p(x | z) are the same on both sides; computed here and not assumed."""
    model, x, q = laplace_guide()
    matrix = givens(3, 0, 2, 0.4)
    with torch.no_grad():
        carried, _, _ = _of_gaussian(model, x, q, matrix[None])
        here = expectation_of(model)(x, q.mean, q.root).value
        there = expectation_of(turned(model, matrix))(x, q.mean @ matrix, matrix.T @ q.root).value
    assert float(carried) == pytest.approx(float((there - here).sum()), rel=1e-9)


def test_draws_give_the_closed_form_within_their_error():
    model, x, q = laplace_guide()
    noise = torch.randn(4000, 20, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = q.mean + (q.root @ noise.unsqueeze(-1)).squeeze(-1)
    matrices = givens(3, 0, 1, torch.tensor([0.2, 0.7], dtype=torch.float64))
    with torch.no_grad():
        exact, exact_alone, _ = _of_gaussian(model, x, q, matrices)
        drawn, drawn_alone, error = _of_draws(model, x, z, matrices)
    assert ((drawn - exact).abs() < 5 * error).all()
    # each draw changes the log-likelihood of its row by some .3 nats: 20 rows of 4,000 draws to .02 or so
    assert torch.allclose(drawn_alone, exact_alone, atol=0.1)


def test_exchanging_two_factors_of_one_symmetric_law_changes_nothing():
    x = pa.datasets.linear_factors(150, 6, 2, noise=0.3, seed=0).x
    run = pa.fit(pa.LinearFactorModel(6, 2, priors.Laplace()), x)
    found = carried_guide(run, x, degrees=ANGLES)
    assert found.carried[[0, 3]].abs().max() < 1e-9
    assert found.carried[2] < -5 * found.error[2]
