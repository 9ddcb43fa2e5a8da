"""Denoising without draws: moments of the noises, and the mean loss of a linear map over them."""

from dataclasses import dataclass

import pytest
import torch

from probae import (
    Denoising,
    GaussianNoise,
    Masking,
    Reconstruction,
    SaltAndPepper,
    SquaredError,
    WeightDecay,
)
from probae.encoders import LinearGaussianEncoder, MLPEncoder
from probae.inference.regularizers import Regularizer, regularized
from probae.inference.regularizers.marginalized import marginal_noise
from probae.models import Autoencoder, FactorAnalysis

NOISES = [GaussianNoise(0.4), Masking(0.3, value=-0.5), SaltAndPepper(0.4, low=-1.0, high=2.0)]
DRAWS = 20_000


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    model, encoder = FactorAnalysis(4, 2), LinearGaussianEncoder(4, 2).double()
    encoder.start(torch.randn(9, 4, generator=generator, dtype=torch.float64), generator)
    model.loadings = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    return model, encoder


@pytest.fixture
def x():
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_moments_are_those_of_draws(noise, x):
    torch.manual_seed(0)
    draws = noise(x.expand(DRAWS, 3, 4).reshape(-1, 4)).reshape(DRAWS, 3, 4)
    mean, variance = noise.moments(x)
    assert mean.shape == variance.shape == x.shape
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / DRAWS).sqrt()).all()
    squares = (draws - mean).square()
    assert ((squares.mean(0) - variance).abs() < 5 * squares.std(0) / DRAWS**0.5).all()


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_the_loss_is_the_mean_of_drawn_losses(noise, pair, x):
    """A function without moments is drawn; 5 standard errors of the mean over draws."""
    decay = WeightDecay(0.1)
    known = regularized(SquaredError(), (Denoising(noise), decay), *pair)(x)
    drawn = regularized(SquaredError(), (Denoising(lambda rows: noise(rows)), decay), *pair)
    torch.manual_seed(0)
    losses = torch.stack([drawn(x.repeat(100, 1)) for _ in range(200)])
    assert (losses.mean() - known).abs() < 5 * losses.std() / 200**0.5
    assert losses.std() < 0.05 * known  # so that 5 of 200 ** .5 are 2 % at most


def test_gaussian_noise_is_ridge_on_the_whole_map(pair, x):
    """|x - r(x)|^2 + s^2 |B|^2, and no random number is used."""
    model, encoder = pair
    state = torch.get_rng_state()
    known = regularized(SquaredError(), (Denoising(GaussianNoise(0.4)),), *pair)(x)
    assert torch.equal(state, torch.get_rng_state())
    plain = -SquaredError()(model, encoder, x).mean()
    ridge = (model.loadings @ encoder.weight).square().sum()
    torch.testing.assert_close(known, plain + 0.5 * 0.16 * ridge, rtol=1e-12, atol=0)


def test_its_gradient_is_that_of_the_formula(pair, x):
    parameters = [pair[1].weight, pair[1].offset, *(one for one in pair[0].parameters() if one.ndim == 2)]
    loss = regularized(SquaredError(), (Denoising(Masking(0.3)),), *pair)
    slopes = torch.autograd.grad(loss(x), parameters)
    for parameter, slope in zip(parameters, slopes, strict=True):
        step = torch.zeros_like(parameter)
        step.view(-1)[1] = 1e-6
        with torch.no_grad():
            parameter.add_(step)
            above = loss(x)
            parameter.sub_(2 * step)
            difference = (above - loss(x)) / 2e-6
            parameter.add_(step)
        # central differences: rounding 1e-16 / 1e-6 times the loss, and 1e-12 of third derivatives
        assert slope.view(-1)[1].item() == pytest.approx(difference.item(), abs=1e-8)


@dataclass(frozen=True)
class Shifted(Regularizer):
    """A corruption of another kind."""

    def corrupt(self, x):
        return x + 1


@pytest.mark.parametrize(
    ("objective", "regularizers", "model", "encoder"),
    [
        (Reconstruction(), (), None, None),
        (SquaredError(), (Shifted(),), None, None),
        (SquaredError(), (Denoising(lambda rows: rows),), None, None),
        (SquaredError(), (), None, MLPEncoder(4, 2)),
        (SquaredError(), (), Autoencoder(4, 2), None),
    ],
)
def test_draws_are_kept_where_the_mean_is_not_known(objective, regularizers, model, encoder, pair):
    """Another objective, a second corruption, an unknown one, a network, a decoder that may bend."""
    regularizers = (Denoising(GaussianNoise(0.4)), *regularizers)
    assert marginal_noise(objective, regularizers, model or pair[0], encoder or pair[1]) is None
