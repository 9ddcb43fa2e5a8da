"""Hamiltonian Monte Carlo over rows: reversible, exact on Gaussians, right moments for every law."""

import math

import pytest
import torch

from probae import DataError, ParameterError
from probae.inference import HMCPosterior
from probae.inference.hamiltonian import TARGET, adapted, start, transition
from probae.inference.reference import gaussian_reference
from probae.models import FactorAnalysis, IndependentComponents, LinearFactorModel, SparseCoding
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Laplace,
    MultivariateStudentT,
    Scaled,
    StudentT,
    Uniform,
)

PRIORS = [
    Laplace(),
    StudentT(5),
    GeneralizedNormal(0.7),
    GeneralizedNormal(4.0),
    Uniform(),
    Scaled(Laplace(), sd=3.0),
    MultivariateStudentT(5),
]


def model_with(prior, features=1, latents=2, noise=0.5):
    generator = torch.Generator().manual_seed(2)
    model = LinearFactorModel(features, latents, prior=prior, noise="isotropic")
    model.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    model.noise_variance = torch.tensor(noise, dtype=torch.float64)
    return model


def grid_moments(model, x, sd):
    """Mean and variance of two latents by the midpoint rule, 0.05 apart, with 0 between two points: errors of 1e-3."""
    points = sd * torch.arange(-9.975, 10, 0.05, dtype=torch.float64)
    z = torch.cartesian_prod(points, points)
    moments = []
    for row in x:
        weight = model.log_joint(row.expand(len(z), -1), z).softmax(0)
        mean = weight @ z
        moments.append((mean, weight @ (z - mean).square()))
    return tuple(torch.stack(part) for part in zip(*moments, strict=True))


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_moments_against_a_grid_with_more_latents_than_features(prior):
    model = model_with(prior)
    x = model.sample(3, seed=0)
    mean, variance = grid_moments(model, x, sd=3.0 if isinstance(prior, Scaled) else 1.0)
    law = HMCPosterior(model, draws=250, warmup=100, chains=10)(x)
    error = (variance / law.effective_sample_size).sqrt()
    # 6 means within 4.5 standard errors: 1 in 20,000 by chance; the grid adds less than 2e-3
    assert ((law.mean - mean).abs() < 4.5 * error + 2e-3).all()
    square = law.flat.square()
    spread = square.std(0) / (law.effective_sample_size / 4).sqrt()  # squares mix more slowly
    assert ((square.mean(0) - (variance + mean.square())).abs() < 4.5 * spread + 5e-3).all()
    assert law.effective_sample_size.min() > 50  # else the standard errors above are not worth much


def test_gaussian_factors_are_always_accepted_and_right():
    """With r = 1 the dynamics are a rotation, solved without error."""
    model = model_with(Gaussian(), features=3)
    x = model.sample(4, seed=1)
    law = HMCPosterior(model, draws=500, warmup=50, chains=8)(x)
    assert torch.allclose(law.acceptance, torch.ones(4, dtype=torch.float64), atol=1e-12)
    exact = model.posterior(x)
    error = (exact.variance / law.effective_sample_size).sqrt()
    assert ((law.mean - exact.mean).abs() < 4.5 * error).all()
    assert (
        (law.variance / exact.variance - 1).abs() < 4.5 * (2 / 2000) ** 0.5
    ).all()  # at least 2,000 effective


def test_a_move_leaves_the_tempered_law_as_it_is():
    """Exact draws of N(z; m, Sigma) r(z)^beta stay such: prior draws with no data, where it is p^beta N^(1 - beta)."""
    model = SparseCoding(1, 1)
    model.loadings = torch.zeros(1, 1, dtype=torch.float64)
    reference = gaussian_reference(model, torch.zeros(1, 1))
    generator = torch.Generator().manual_seed(0)
    rank = torch.rand(1, 20_000, 1, generator=generator, dtype=torch.float64) - 0.5
    z = -rank.sign() * torch.log1p(-2 * rank.abs()) / math.sqrt(2)  # Laplace: beta = 1
    chains = start(reference, z)
    step = torch.full((1,), 0.9, dtype=torch.float64)
    moved, acceptance = transition(reference, chains, 1.0, step, 2, generator)
    assert 0.5 < float(acceptance) < 0.99  # it is no identity
    # E|z| = 1/sqrt 2, E z^2 = 1, P(|z| > 2); 20,000 independent draws, 4.5 standard errors
    for value, mean in [
        (moved.z.abs(), 2**-0.5),
        (moved.z.square(), 1.0),
        ((moved.z.abs() > 2).double(), math.exp(-2 * 2**0.5)),
    ]:
        assert abs(float(value.mean()) - mean) < 4.5 * float(value.std()) / 20_000**0.5
    assert torch.equal(moved.log_ratio, reference.log_ratio(moved.z))


def test_dynamics_are_reversible_to_rounding():
    """Many small steps conserve the energy: the acceptance tends to 1 as the square of the step."""
    model = model_with(StudentT(5))
    reference = gaussian_reference(model, model.sample(200, seed=0))
    loss = []
    for step in (0.2, 0.1):
        generator = torch.Generator().manual_seed(1)
        chains = start(reference, reference.draw(4, generator))
        steps = torch.full((200,), step, dtype=torch.float64)
        _, acceptance = transition(reference, chains, 1.0, steps, round(1 / step), generator)
        loss.append(1 - float(acceptance.mean()))
    assert 0 < loss[0] < 0.05
    assert loss[1] / loss[0] == pytest.approx(
        0.25, abs=0.08
    )  # second order; the next term is of order step^2


def test_steps_move_towards_the_target():
    step = torch.tensor([0.5, 0.5, 1.49], dtype=torch.float64)
    longer = adapted(step, torch.tensor([TARGET + 0.2, TARGET - 0.2, 1.0], dtype=torch.float64), 1.0)
    assert longer[0] > 0.5 > longer[1]
    assert longer[2] == 1.5


def test_acceptance_is_near_the_target_for_rows_of_any_size():
    model = SparseCoding(4, 8)
    x = model.sample(10, seed=0) * torch.logspace(-2, 2, 10, dtype=torch.float64).unsqueeze(1)
    law = HMCPosterior(model, draws=300, warmup=300)(x)
    assert ((law.acceptance > TARGET - 0.15) & (law.acceptance < TARGET + 0.15)).all()


def test_one_seed_one_answer_and_the_global_state_is_kept(random_state):
    model = SparseCoding(2, 3)
    x = model.sample(3, seed=0)
    before = random_state()
    first = HMCPosterior(model, draws=10, warmup=5, seed=3)(x)
    assert random_state() == before
    assert torch.equal(first.draws, HMCPosterior(model, draws=10, warmup=5, seed=3)(x).draws)
    assert not torch.equal(first.draws, HMCPosterior(model, draws=10, warmup=5, seed=4)(x).draws)


def test_blocks_do_not_change_shapes(monkeypatch):
    model = SparseCoding(2, 3)
    x = model.sample(5, seed=0).float()
    monkeypatch.setattr("probae.inference.reference.BLOCK", 24)  # two rows of four chains of three latents
    law = HMCPosterior(model, draws=6, warmup=5)(x)
    assert law.draws.shape == (4, 6, 5, 3)
    assert law.acceptance.shape == (5,)
    assert law.mean.dtype == torch.float32


def test_what_it_cannot_do_is_said():
    with pytest.raises(ParameterError, match="noise"):
        HMCPosterior(IndependentComponents(2, 2))(torch.zeros(1, 2))
    with pytest.raises(DataError):
        HMCPosterior(FactorAnalysis(2, 1))([[1.0, float("nan")]])
    with pytest.raises(ParameterError, match="draws"):
        HMCPosterior(FactorAnalysis(2, 1), draws=0)
