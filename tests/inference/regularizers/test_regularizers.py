"""Regularisers: corruption laws, Jacobian norms three ways, and how contraction differs from weight decay."""

import math

import pytest
import torch

from probae import (
    MAP,
    SVI,
    ContractiveEncoder,
    ContractiveReconstruction,
    Denoising,
    GaussianNoise,
    HigherOrderContraction,
    Masking,
    ParameterError,
    SaltAndPepper,
    SquaredError,
    WeightDecay,
    fit,
)
from probae.datasets import holzinger_swineford
from probae.encoders import (
    BinaryCodeEncoder,
    FlowEncoder,
    LaplaceEncoder,
    LinearGaussianEncoder,
    LISTAEncoder,
    MLPEncoder,
    OneLayerEncoder,
    SpikeSlabEncoder,
    TiedEncoder,
)
from probae.inference.regularizers.jacobian import (
    code_jacobian,
    hutchinson_norm,
    reconstruction,
    reconstruction_jacobian,
    rowwise_jacobian,
)
from probae.models import FactorAnalysis, ProbabilisticPCA, SparseCoding

ENCODERS = {
    "linear": lambda: LinearGaussianEncoder(5, 3),
    "sigmoid": lambda: OneLayerEncoder(5, 3, "sigmoid"),
    "tanh": lambda: OneLayerEncoder(5, 3, "tanh"),
    "one-layer-linear": lambda: OneLayerEncoder(5, 3, "linear"),
    "mlp": lambda: MLPEncoder(5, 3, hidden=(6,)),
}

ALL = ENCODERS | {
    "low-rank": lambda: MLPEncoder(5, 3, hidden=(6,), covariance="low_rank", rank=2),
    "laplace": lambda: LaplaceEncoder(5, 3, hidden=(6,)),
    "spike-slab": lambda: SpikeSlabEncoder(5, 3, hidden=(6,)),
    "tied": lambda: TiedEncoder(5, 3),
    "flow": lambda: FlowEncoder(5, 3, hidden=(6,), width=6),
    "binary": lambda: BinaryCodeEncoder(5, 3, hidden=(6,), noise_std=1.0),
}


@pytest.fixture(scope="module")
def rows():
    return 2 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1


@pytest.fixture(params=ENCODERS)
def encoder(request, rows):
    made = ENCODERS[request.param]().double()
    made.start(rows, torch.Generator().manual_seed(1))
    return made


def differences(function, x, step=1e-5):
    """Central differences of each row: error step^2 times third derivatives, plus rounding 1e-16 / step."""
    columns = []
    for axis in torch.eye(x.shape[1], dtype=x.dtype):
        columns.append((function(x + step * axis) - function(x - step * axis)) / (2 * step))
    return torch.stack(columns, -1)


def test_closed_form_autograd_and_differences_agree(encoder, rows):
    closed = code_jacobian(encoder, rows).expand(7, 3, 5)

    def code(x):
        return encoder(x).mean

    torch.testing.assert_close(closed, rowwise_jacobian(code, rows), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(closed, differences(code, rows), rtol=1e-6, atol=1e-8)
    if hasattr(encoder, "jacobian_norm"):
        torch.testing.assert_close(
            encoder.jacobian_norm(rows), closed.square().sum((1, 2)), rtol=1e-12, atol=0
        )


def test_the_reconstructions_jacobian_is_that_of_its_map(encoder, rows):
    model = FactorAnalysis(5, 3)
    closed = reconstruction_jacobian(model, encoder, rows).expand(7, 5, 5)
    torch.testing.assert_close(
        closed, rowwise_jacobian(reconstruction(model, encoder), rows), rtol=1e-12, atol=1e-14
    )


def test_hutchinson_is_unbiased(encoder, rows):
    """4 standard errors of 2,000 probes, for seven rows."""

    def code(x):
        return encoder(x).mean

    torch.manual_seed(0)
    draws = torch.stack([hutchinson_norm(code, rows, 10).detach() for _ in range(200)])
    exact = code_jacobian(encoder, rows).square().sum((1, 2)).expand(7)
    assert ((draws.mean(0) - exact).abs() <= 4 * draws.std(0) / 200**0.5 + 1e-12).all()


@pytest.mark.parametrize("probes", [None, 3])
@pytest.mark.parametrize("kind", [ContractiveEncoder, ContractiveReconstruction, HigherOrderContraction])
def test_penalties_have_gradients_in_what_they_penalise(kind, probes, rows):
    encoder, model = MLPEncoder(5, 3, hidden=(6,)).double(), FactorAnalysis(5, 3)
    encoder.start(rows, torch.Generator().manual_seed(1))
    value = kind(0.3, probes=probes).penalty(model, encoder, rows)
    assert value.shape == (7,)
    assert (value > 0).all()
    value.mean().backward()
    assert encoder.body[0].weight.grad.abs().max() > 0
    shaped = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in model.parameters() if p.ndim == 2]
    assert all(shaped) == (kind is ContractiveReconstruction)


def test_the_higher_order_penalty_is_the_hessian_for_small_noise(rows):
    """E |J(x) - J(x + e)|^2 = sd^2 |H|^2 + O(sd^4), for one sigmoid unit with H = s'' w w': |H|^2 = s''^2 |w|^4."""
    encoder = OneLayerEncoder(5, 1, "sigmoid").double()
    encoder.start(rows, torch.Generator().manual_seed(1))
    x = rows[:1].expand(20_000, 5)
    h, w = encoder(rows[:1]).mean.item(), encoder.weight.detach()
    hessian = (h * (1 - h) * (1 - 2 * h)) ** 2 * w.square().sum().item() ** 2
    torch.manual_seed(0)
    found = HigherOrderContraction(1.0, sd=1e-3).penalty(None, encoder, x).mean().item() / 1e-6
    # e'w is normal, so the squares have sd sqrt 2: 4 standard errors are 4 (2 / 20,000)^.5 = 4 %
    assert found == pytest.approx(hessian, rel=0.05)


def unit(w):
    """One sigmoid unit with pre-activation w z."""
    encoder = OneLayerEncoder(1, 1, "sigmoid").double()
    with torch.no_grad():
        encoder.weight.fill_(w)
    return encoder


def test_contraction_is_weight_decay_for_small_weights():
    """(h (1 - h))^2 -> 1/16 as w -> 0: within w^2 / 8 of it at |z| = 1."""
    penalty = ContractiveEncoder(1.0).penalty(None, unit(0.01), torch.ones(1, 1, dtype=torch.float64)).item()
    assert penalty == pytest.approx(0.01**2 / 16, rel=0.01**2)


@pytest.mark.parametrize(
    ("w", "normal", "away"),
    [
        (1, 0.04484, 0.03866),
        (2, 0.1161, 0.04409),
        (4, 0.25595, 0.00499),
        (8, 0.52666, 7.2e-6),
        (16, 1.06118, 3e-12),
    ],
)
def test_saturated_units_contract_at_any_weight(w, normal, away):
    """Table of `questions.md` Q2: z ~ N(0, 1) by the trapezium rule, and |z| = 1, beside w^2 of weight decay."""
    z = torch.linspace(
        -9, 9, 20_001, dtype=torch.float64
    )  # a trapezium of smooth, vanishing values: no error to see
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    penalty = ContractiveEncoder(1.0).penalty(None, unit(w), z.unsqueeze(1)).detach()
    assert torch.trapezoid(penalty * density, z).item() == pytest.approx(normal, rel=1e-4)
    at_one = ContractiveEncoder(1.0).penalty(None, unit(w), torch.ones(1, 1, dtype=torch.float64)).item()
    assert at_one == pytest.approx(away, rel=0.1 if w == 16 else 5e-3)  # the table's digits


def test_contraction_grows_linearly_in_large_weights():
    """w / (6 sqrt(2 pi)) for z ~ N(0, 1): the integral of s'^2 is 1/6. The next term is smaller by about 1 / w^2."""
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    penalty = ContractiveEncoder(1.0).penalty(None, unit(64.0), z.unsqueeze(1)).detach()
    found = torch.trapezoid(penalty * density, z).item()
    assert found == pytest.approx(64 / (6 * math.sqrt(2 * math.pi)), rel=1e-3)


class TestCorruption:
    """Each law against its moments, 5 standard errors of 40,000 entries."""

    x = torch.full((4000, 10), 0.3, dtype=torch.float64)

    def test_gaussian(self):
        torch.manual_seed(0)
        noise = GaussianNoise(0.2)(self.x) - self.x
        assert abs(noise.mean().item()) < 5 * 0.2 / 200
        assert noise.var().item() == pytest.approx(0.04, rel=5 * math.sqrt(2) / 200)

    def test_masking(self):
        torch.manual_seed(0)
        seen = Masking(0.25, value=-1.0)(self.x)
        assert set(seen.unique().tolist()) == {-1.0, 0.3}
        assert (seen == -1).double().mean().item() == pytest.approx(0.25, abs=5 * 0.433 / 200)

    def test_salt_and_pepper(self):
        torch.manual_seed(0)
        seen = SaltAndPepper(0.4, low=-2.0, high=2.0)(self.x)
        for value, share in ((-2.0, 0.2), (2.0, 0.2), (0.3, 0.6)):
            assert (seen == value).double().mean().item() == pytest.approx(share, abs=5 * 0.5 / 200)

    def test_two_corruptions_follow_each_other(self):
        torch.manual_seed(0)
        seen = self.x
        for one in (Denoising(Masking(0.5)), Denoising(GaussianNoise(0.1))):
            seen = one.corrupt(seen)
        assert seen.std().item() > 0.1
        assert (seen != self.x).all()


def test_weight_decay_counts_weights_once_and_no_offsets():
    encoder, model = MLPEncoder(4, 2, hidden=(3,)), FactorAnalysis(4, 2)
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *model.parameters()):
            parameter.fill_(1.0)
    x = torch.zeros(2, 4)
    weights = 4 * 3 + 3 * 5 + 4 * 2  # body, head with 2 means, 2 scales and 1 off-diagonal entry, loadings
    assert WeightDecay(0.5).penalty(model, encoder, x).item() == pytest.approx(0.5 * weights)
    encoder.shared = model  # now it reaches the loadings too
    assert WeightDecay(0.5).penalty(model, encoder, x).item() == pytest.approx(0.5 * weights)


@pytest.mark.parametrize(
    "regularizer",
    [
        Denoising(GaussianNoise(0.3)),
        Denoising(Masking(0.3)),
        ContractiveEncoder(0.1, probes=1),
        ContractiveReconstruction(0.1),
        HigherOrderContraction(0.1),
        WeightDecay(0.1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", [SVI, MAP])
@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_they_compose_with_both_methods_and_change_the_answer(method, regularizer):
    x = holzinger_swineford().x[:50]
    plain = fit(FactorAnalysis(9, 2), x, method(encoder=MLPEncoder(9, 2, hidden=(5,)), epochs=5))
    run = fit(
        FactorAnalysis(9, 2),
        x,
        method(
            encoder=MLPEncoder(9, 2, hidden=(5,)), epochs=5, regularizers=(regularizer, WeightDecay(1e-6))
        ),
    )
    assert run.history.isfinite().all()
    assert not torch.equal(run.posterior(x).mean, plain.posterior(x).mean)


def test_the_units_of_the_noise_are_those_of_x():
    """Data ten times as large with noise ten times as large: the same reconstruction, ten times as large."""
    x = ProbabilisticPCA(5, 2).sample(100, seed=0)
    found = []
    for scale in (1.0, 10.0):
        method = MAP(
            encoder=LinearGaussianEncoder(5, 2),
            objective=SquaredError(),
            regularizers=(ContractiveReconstruction(0.5 * scale**2),),
            epochs=600,
            lr=0.05,
        )
        run = fit(ProbabilisticPCA(5, 2), scale * x, method)
        found.append(run.model.likelihood(run.posterior(scale * x).mean).mean / scale)
    torch.testing.assert_close(found[0], found[1], atol=2e-2, rtol=0)


def test_settings_are_checked():
    for make in (
        GaussianNoise,
        WeightDecay,
        ContractiveEncoder,
        ContractiveReconstruction,
        HigherOrderContraction,
    ):
        with pytest.raises(ParameterError, match="a finite number above 0"):
            make(-1.0)
    for make in (Masking, SaltAndPepper):
        with pytest.raises(ParameterError, match="fraction should be between 0 and 1"):
            make(1.5)
    with pytest.raises(ParameterError, match="noise should be a value such as GaussianNoise"):
        Denoising(0.1)
    with pytest.raises(ParameterError, match="probes should be a whole number"):
        ContractiveEncoder(0.1, probes=0)


@pytest.mark.parametrize(
    "regularizer", [ContractiveEncoder(), ContractiveReconstruction(), HigherOrderContraction()], ids=repr
)
def test_every_encoder_can_be_contracted(regularizer, rows):
    """And the Jacobian is that of the code, by differences."""
    model = SparseCoding(5, 3)
    for made in ALL.values():
        encoder = made().double()
        encoder.attach(model)
        encoder.start(rows, torch.Generator().manual_seed(1))
        value = regularizer.penalty(model, encoder, rows)
        assert value.shape == (7,), encoder
        assert value.isfinite().all(), encoder
        if isinstance(regularizer, ContractiveEncoder):
            found = code_jacobian(encoder, rows).expand(7, 3, 5)
            expected = differences(lambda x, encoder=encoder: encoder(x).mean, rows)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("coupling", ["free", "analytic"])
def test_weight_decay_leaves_thresholds_and_scales_of_lista_alone(coupling, rows):
    model, encoder = SparseCoding(5, 3), LISTAEncoder(5, 3, layers=2, coupling=coupling).double()
    encoder.attach(model)
    encoder.start(rows, torch.Generator().manual_seed(1))
    learned = [encoder.weight, encoder.inner] if coupling == "free" else []
    expected = sum(one.square().sum() for one in (model.loadings, *learned))
    torch.testing.assert_close(WeightDecay(1.0).penalty(model, encoder, rows), expected, rtol=1e-12, atol=0)
