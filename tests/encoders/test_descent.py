"""Layers of coordinate descent: down in energy, to the lasso; compiled gradients equal those of torch's operations."""

import math

import pytest
import torch

from probae.encoders import LISTAEncoder
from probae.encoders.descent import CoordinateDescent, coordinate_steps
from probae.inference.regularizers.jacobian import rowwise_jacobian
from probae.models import SparseCoding

PENALTY = 0.4


@pytest.fixture
def model():
    made = SparseCoding(6, 9)
    made.loadings = torch.randn(6, 9, dtype=torch.float64)  # atoms of different lengths
    made.noise_variance = torch.tensor(PENALTY / math.sqrt(2), dtype=torch.float64)
    return made


@pytest.fixture
def x():
    return 2 * torch.randn(50, 6, dtype=torch.float64)


def attached(model, layers, **settings):
    encoder = LISTAEncoder(6, 9, layers, "analytic", "coordinate", **settings).double()
    encoder.attach(model)
    return encoder


def energy(x, model, z):
    a = model.loadings.detach()
    return 0.5 * (x - z.detach() @ a.T).square().sum(1) + PENALTY * z.detach().abs().sum(1)


def arguments(dtype=torch.float64, layers=3, atoms=7):
    """Return weights of no lasso at all: B is not symmetric."""
    inner = torch.eye(atoms, dtype=dtype) + 0.3 * torch.randn(atoms, atoms, dtype=dtype)
    made = (
        torch.randn(20, atoms, dtype=dtype),
        inner,
        1 + 0.1 * torch.randn(layers, dtype=dtype),
        0.1 + 0.3 * torch.rand(layers, atoms, dtype=dtype),
    )
    return [a.requires_grad_() for a in made], torch.full((atoms,), 0.05, dtype=dtype)


@pytest.mark.parametrize("step", [0.3, 1.0, 1.9])
@pytest.mark.parametrize("least_move", [0.0, 0.1])
def test_no_layer_increases_the_energy_for_steps_below_two(model, x, step, least_move):
    """A coordinate's energy has curvature |a_k|^2, so proximal steps below 2 / |a_k|^2 go down; up to rounding."""
    values = []
    for layers in range(1, 9):
        encoder = attached(model, layers, least_move=least_move)
        with torch.no_grad():
            encoder.step.fill_(step)
            encoder.threshold.fill_(step)
            values.append(energy(x, model, encoder.codes(x)))
    values = torch.stack([energy(x, model, torch.zeros(50, 9, dtype=x.dtype)), *values])
    assert (values.diff(dim=0) <= 1e-12 * values[0]).all()
    assert (values[-1] < values[1] - 1e-6).any()


def test_many_layers_meet_the_conditions_of_the_lasso(model, x):
    """A'r = penalty sign(z) where z is not 0, and |A'r| <= penalty elsewhere; atoms are nearly dependent."""
    with torch.no_grad():
        z = attached(model, 50_000, least_move=0.0).codes(x)
    a = model.loadings.detach()
    c = (x - z @ a.T) @ a
    assert torch.allclose(c[z != 0], PENALTY * z[z != 0].sign(), atol=1e-6)
    assert (c.abs() <= PENALTY + 1e-6).all()


def test_what_is_left_out_is_a_tenth_of_a_level_at_most(model, x):
    """After many layers none has anything to do, though the lasso is not quite there."""
    with torch.no_grad():
        z = attached(model, 500, least_move=0.1).codes(x)
    a = model.loadings.detach()
    level = PENALTY / a.square().sum(0)
    u = z + (x - z @ a.T) @ a / a.square().sum(0)
    move = u - u.clamp(-level, level) - z
    assert (move.abs() <= 0.1 * level * (1 + 1e-9)).all()
    assert (move != 0).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_compiled_gradients_are_those_of_the_operations(dtype):
    """Sums of at most 20 x 21 terms of order 1: 1e-12 in float64, 1e-3 in float32."""
    inputs, least = arguments(dtype)
    compiled = CoordinateDescent.apply(*inputs, least)
    plain = coordinate_steps(*inputs, least)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-3
    assert torch.allclose(compiled, plain, rtol=0, atol=tolerance)
    assert 0.05 < float((plain == 0).double().mean()) < 0.95
    pull = torch.randn_like(plain)
    found = torch.autograd.grad(compiled, inputs, pull)
    for a, b in zip(found, torch.autograd.grad(plain, inputs, pull), strict=True):
        assert b.abs().max() > 0.1
        assert torch.allclose(a, b, rtol=0, atol=tolerance)


def test_gradients_are_differences():
    """Central differences; an entry that changes sign or is let in within 1e-6 of its place would show, none does."""
    inputs, least = arguments(layers=2, atoms=4)
    assert torch.autograd.gradcheck(
        lambda *a: CoordinateDescent.apply(*a, least), inputs, eps=1e-7, atol=1e-6
    )


def test_second_derivatives_are_those_of_the_operations():
    inputs, least = arguments()
    seconds = []
    for function in (CoordinateDescent.apply, coordinate_steps):
        z = function(*inputs, least)
        first = torch.autograd.grad(z.square().sum(), inputs, create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    for a, b in zip(*seconds, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_jacobians_of_rows_are_those_of_the_operations(model, x):
    encoder = attached(model, 3)
    jacobian = rowwise_jacobian(encoder.codes, x)
    rows = x.clone().requires_grad_()
    first = torch.autograd.grad(encoder.codes(rows)[:, 0].sum(), rows)[0]
    assert torch.allclose(jacobian[:, 0], first, rtol=0, atol=1e-12)


def test_atoms_of_length_zero_stay_out(model, x):
    loadings = model.loadings.detach().clone()
    loadings[:, 4] = 0
    model.loadings = loadings
    z = attached(model, 5)(x).mean
    assert z.isfinite().all()
    assert (z[:, 4] == 0).all()


def test_rows_with_nan_give_nan_and_leave_the_others(model, x):
    encoder = attached(model, 4)
    with torch.no_grad():
        wanted = encoder.codes(x)
        x[3, 2] = torch.nan
        z = encoder.codes(x)
    assert z[3].isnan().all()
    assert torch.equal(z[:3], wanted[:3])
    assert torch.equal(z[4:], wanted[4:])
