"""The tied encoder: one parameter, whose gradient is the sum over both of its uses."""

import pytest
import torch
from torch import nn

from probae import ParameterError
from probae.encoders import MLPEncoder, TiedEncoder
from probae.inference import ELBO, SVI
from probae.inference.fit import fit
from probae.inference.regularizers.jacobian import rowwise_jacobian
from probae.models import FactorAnalysis, ProbabilisticPCA

SCALE = torch.tensor([1e-3, 1.0, 10.0, 1e2, 1e4], dtype=torch.float64)


@pytest.fixture
def x():
    z = torch.randn(80, 2, dtype=torch.float64)
    return z @ torch.randn(2, 5, dtype=torch.float64) + 0.3 * torch.randn(80, 5, dtype=torch.float64) + 2


def attached(x, **settings):
    model, encoder = FactorAnalysis(5, 2), TiedEncoder(5, 2, **settings).double()
    encoder.attach(model)
    encoder.start(x, torch.Generator().manual_seed(0))
    return model, encoder


def test_one_parameter_serves_both(x):
    model, encoder = attached(x)
    both = {*model.parameters(), *encoder.parameters()}
    assert encoder.weight is model.loadings
    assert len(both) == len([*model.parameters()]) + len([*encoder.parameters()]) - 1
    model.float()
    encoder.float()
    assert encoder.weight is model.loadings_unconstrained


def test_gradient_is_the_sum_of_both_paths(x):
    """Against the same pair with separate weights of equal value, one path each."""
    model, encoder = attached(x)
    torch.manual_seed(1)
    ELBO()(model, encoder, x).sum().backward()
    untied = TiedEncoder(5, 2).double()
    untied.load_state_dict(encoder.state_dict())
    other = FactorAnalysis(5, 2)
    other.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    ELBO()(other, untied, x).sum().backward()
    paths = untied.weight.grad, other.loadings_unconstrained.grad
    assert all(path.abs().max() > 1 for path in paths)
    assert torch.allclose(encoder.weight.grad, sum(paths), rtol=1e-10)


def test_the_code_is_the_transpose_on_standardised_columns(x):
    """And the plain transpose with standardize=False."""
    model, encoder = attached(x)
    centred, w = x - x.mean(0), model.loadings.detach()
    assert torch.allclose(encoder(x).mean, (centred / x.var(0)) @ w, rtol=1e-10, atol=1e-12)
    model, encoder = attached(x, standardize=False)
    assert torch.allclose(encoder(x).mean, centred @ w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("activation", ["linear", "tanh", "sigmoid"])
def test_the_jacobian_is_that_of_autograd(x, activation, standardize):
    _, encoder = attached(x, activation=activation, standardize=standardize)
    right = rowwise_jacobian(lambda rows: encoder(rows).mean, x)
    # 1 - h^2 of a saturated unit is rounding, 1e-16, times weights of order 1 to 10
    torch.testing.assert_close(encoder.jacobian(x), right, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(encoder.jacobian_norm(x), right.square().sum((1, 2)), rtol=1e-12, atol=1e-13)


def test_units_squash_the_same_signal(x):
    linear, sigmoid = (attached(x, activation=name)[1] for name in ("linear", "sigmoid"))
    sigmoid.load_state_dict(linear.state_dict())
    torch.testing.assert_close(sigmoid(x).mean, linear(x).mean.sigmoid(), rtol=1e-14, atol=0)


def test_start_leaves_shared_loadings_as_they_are(x):
    model = FactorAnalysis(5, 2)
    before = model.loadings.detach().clone()
    encoder = TiedEncoder(5, 2).double()
    encoder.attach(model)
    encoder.start(x, torch.Generator().manual_seed(0))
    assert torch.equal(model.loadings, before)


@pytest.mark.parametrize("standardize", [True, False])
def test_a_change_of_units_scales_the_shared_weights_once(x, standardize):
    model, encoder = attached(x, standardize=standardize)
    code, loadings = encoder(x).mean.detach(), model.loadings.detach().clone()
    model.rescale(SCALE)
    encoder.rescale(SCALE)
    assert encoder.weight is model.loadings
    assert torch.allclose(model.loadings, loadings * SCALE.unsqueeze(1), rtol=1e-14)
    assert torch.allclose(encoder(x * SCALE).mean, code, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_the_tie_survives_a_fit_in_extreme_units(x):
    """fit copies, trains in units near 1, and scales back: tied still, and the same codes as in other units."""
    encoder = TiedEncoder(5, 2)
    runs = [fit(FactorAnalysis(5, 2), rows, SVI(encoder, epochs=30)) for rows in (x, x * SCALE)]
    for run in runs:
        assert run.posterior.encoder.weight is run.model.loadings
    assert not encoder.attached
    one, other = (run.posterior(rows).mean for run, rows in zip(runs, (x, x * SCALE), strict=True))
    assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    again = fit(FactorAnalysis(5, 2), x, SVI(runs[0].posterior.encoder, epochs=2))
    assert again.posterior.encoder.weight is again.model.loadings
    assert again.model.loadings is not runs[0].model.loadings


def test_a_linear_decoder_is_shared(x):
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = nn.Linear(2, 5).double()

    model, encoder = Linear(), TiedEncoder(5, 2)
    encoder.attach(model)
    assert encoder.weight is model.decoder.weight


def test_a_decoder_in_units_of_its_spread_is_shared(x):
    """Its loadings are spread * weight; the code uses those, whichever units the parameter is in."""

    class InUnits(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 5).double()
            self.register_buffer("spread", SCALE.clone())

        @property
        def loadings(self):
            return self.spread.unsqueeze(1) * self.head.weight

    model = nn.Module()
    model.decoder = InUnits()
    for standardize in (True, False):
        encoder = TiedEncoder(5, 2, standardize=standardize).double()
        encoder.attach(model)
        encoder.start(x, torch.Generator().manual_seed(0))
        assert encoder.weight is model.decoder.head.weight
        unit = x.std(0) if standardize else torch.ones(5, dtype=torch.float64)
        code = ((x - x.mean(0)) / unit.square()) @ model.decoder.loadings
        assert torch.allclose(encoder(x).mean, code, rtol=1e-10, atol=1e-12)


def test_a_model_without_loadings_of_that_size_is_refused():
    with pytest.raises(ParameterError, match="shares the loadings \\(5, 2\\)"):
        TiedEncoder(5, 2).attach(FactorAnalysis(5, 3))
    with pytest.raises(ParameterError, match="has no such parameter"):
        TiedEncoder(5, 2).attach(nn.Linear(2, 5))


def test_attaching_changes_nothing_in_other_encoders():
    encoder = MLPEncoder(5, 2, hidden=(4,))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.attach(ProbabilisticPCA(5, 2))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
