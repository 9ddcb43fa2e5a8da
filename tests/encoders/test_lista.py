"""LISTA: exactly the solver at the start, the same codes compiled and under autograd, whatever the units."""

import math

import pytest
import torch

from probae import ParameterError
from probae.encoders import LISTAEncoder
from probae.inference import ELBO
from probae.models import SparseCoding

FORMS = ("free", "coupled", "analytic")
SOLVERS = ("ista", "fista", "coordinate")


@pytest.fixture
def model():
    made = SparseCoding(6, 9)
    made.loadings = torch.randn(6, 9, dtype=torch.float64)
    made.mean = torch.randn(6, dtype=torch.float64)
    made.noise_variance = torch.tensor(0.3, dtype=torch.float64)
    return made


@pytest.fixture
def x():
    return 2 * torch.randn(50, 6, dtype=torch.float64)


def attached(model, **settings):
    encoder = LISTAEncoder(model.features, model.latents, **settings).double()
    encoder.attach(model)
    return encoder


def moved(encoder):
    """Move all parameters off the start by a few per cent, so that nothing is symmetric."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.05 * parameter.abs().mean() * torch.randn_like(parameter)
    return encoder


def gradient_steps(x, model, steps, *, accelerated):
    """Take steps of ISTA or FISTA as their papers write them."""
    a, level = model.loadings.detach(), math.sqrt(2) * model.noise_variance.item()
    step = 1 / torch.linalg.matrix_norm(a, 2).item() ** 2
    z = ahead = torch.zeros(len(x), a.shape[1], dtype=x.dtype)
    t = 1.0
    for _ in range(steps):
        v = ahead + step * (x - model.mean.detach() - ahead @ a.T) @ a
        following = v.sign() * (v.abs() - step * level).clamp_min(0)
        t, last = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        ahead = following + (last - 1) / t * (following - z) if accelerated else following
        z = following
    return z


def coordinate_sweeps(x, model, sweeps):
    """Put atoms, active ones and those that at the start are not there, at their minima given the others."""
    a, level = model.loadings.detach(), math.sqrt(2) * model.noise_variance.item()
    power = a.square().sum(0)

    def minimum(row, z, k):
        along = a[:, k] @ (row - a @ z) + power[k] * z[k]
        return along.sign() * (along.abs() - level).clamp_min(0) / power[k]

    codes = torch.zeros(len(x), a.shape[1], dtype=x.dtype)
    for row, z in zip(x - model.mean.detach(), codes, strict=True):
        for _ in range(sweeps):
            moving = [k for k in range(len(z)) if z[k] != 0 or minimum(row, z, k) != 0]
            for k in moving:
                z[k] = minimum(row, z, k)
    return codes


@pytest.mark.parametrize("coupling", FORMS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("layers", [1, 2, 7])
def test_layers_at_the_start_are_steps_of_the_solver(model, x, coupling, solver, layers):
    """Codes of order 1 after seven steps of sums of nine terms: rounding stays below 1e-12."""
    encoder = attached(model, layers=layers, coupling=coupling, solver=solver, least_move=0.0)
    if solver == "coordinate":
        wanted = coordinate_sweeps(x, model, layers)
    else:
        wanted = gradient_steps(x, model, layers, accelerated=solver == "fista")
    assert wanted.abs().max() > 0.1
    with torch.no_grad():
        assert torch.allclose(encoder.codes(x), wanted, rtol=0, atol=1e-12)
    assert torch.allclose(encoder(x).mean, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coupling", FORMS)
@pytest.mark.parametrize("latents", [1, 9, 21])
@pytest.mark.parametrize("solver", ["fista", "coordinate"])
def test_compiled_layers_give_the_codes_of_the_layers_under_autograd(x, coupling, latents, solver):
    """Each is a sum of at most 21 terms of order 1 per layer: 1e-12 in float64, 1e-4 in float32.

    A move within rounding of the least one is made on one side only, which 1e-4 would not cover: every move is made.
    """
    model = SparseCoding(6, latents)
    encoder = moved(attached(model, layers=5, coupling=coupling, solver=solver, least_move=0.0))
    for rows, tolerance in ((x, 1e-12), (x.float(), 1e-4)):
        encoder = encoder.to(rows.dtype)
        wanted = encoder.codes(rows).detach()
        with torch.no_grad():
            found = encoder.codes(rows)
        assert found.dtype == rows.dtype
        assert torch.allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("coupling", FORMS)
@pytest.mark.parametrize("solver", ["ista", "coordinate"])
def test_a_change_of_units_leaves_the_codes(model, x, coupling, solver):
    encoder = moved(attached(model, layers=4, coupling=coupling, solver=solver))
    units = torch.tensor([1e-6, 1e-2, 1.0, 3.0, 1e2, 1e6], dtype=torch.float64)
    before = encoder(x).mean.detach()
    encoder.rescale(units)
    assert torch.allclose(encoder(x * units).mean, before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_codes_follow_the_scale_of_a_model(model, x, solver):
    """x and W in other units with noise variance in their square: the codes z have no units."""
    before = attached(model, layers=6, solver=solver)(x).mean.detach()
    model.loadings, model.mean = model.loadings.detach() * 1e3, model.mean.detach() * 1e3
    model.noise_variance = model.noise_variance.detach() * 1e6
    assert torch.allclose(
        attached(model, layers=6, solver=solver)(x * 1e3).mean, before, rtol=1e-10, atol=1e-12
    )


def test_many_layers_reach_the_lasso(model, x):
    """FISTA's bound 2 L |z*|^2 / (T + 1)^2 (Beck & Teboulle, 2009, theorem 4.4), per row."""
    from probae.codes import sparse_codes

    a, penalty = model.loadings.detach(), math.sqrt(2) * model.noise_variance.item()
    rows = x - model.mean.detach()
    best = sparse_codes(rows, a, penalty, tolerance=1e-12).z

    def value(z):
        return 0.5 * (rows - z @ a.T).square().sum(1) + penalty * z.abs().sum(1)

    z = attached(model, layers=100, coupling="analytic", solver="fista")(x).mean.detach()
    bound = 2 * torch.linalg.matrix_norm(a, 2) ** 2 * best.square().sum(1) / 101**2
    assert (value(z) - value(best) <= bound + 1e-9).all()


def test_the_bound_of_an_attached_encoder_is_finite_and_trains_every_scale(model, x):
    encoder = attached(model, layers=4, coupling="analytic")
    ELBO()(model, encoder, x).mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("coupling", FORMS)
def test_what_is_learned_is_what_the_coupling_says(coupling):
    learned = {name for name, _ in LISTAEncoder(4, 6, coupling=coupling).named_parameters()}
    matrices = {"free": {"weight", "inner"}, "coupled": {"weight"}, "analytic": set()}[coupling]
    assert learned == {"step", "threshold", "log_scale"} | matrices


def test_attaching_to_another_size_or_kind_of_model_ends_in_one_sentence(model):
    with pytest.raises(ParameterError, match="the model has 6 and 9"):
        LISTAEncoder(6, 8).attach(model)
    with pytest.raises(ParameterError, match="needs a linear model with noise"):
        LISTAEncoder(6, 8).attach(object())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, "layers should be a whole number of at least 1"),
        ({"coupling": "tied"}, "coupling should be"),
        ({"solver": "newton"}, "solver should be"),
        ({"least_move": 1.0}, r"least_move should be a number in \[0, 1\)"),
        ({"least_move": "none"}, r"least_move should be a number in \[0, 1\)"),
    ],
)
def test_wrong_settings_end_in_one_sentence(settings, message, monkeypatch):
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ParameterError, match=message):
        LISTAEncoder(4, 6, **settings)
