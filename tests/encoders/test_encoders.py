"""Every encoder: a distribution over z, the same as a Pyro guide, exact where its family holds the posterior."""

import copy

import jaxtyping
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO

from probae import ParameterError
from probae.encoders import (
    BinaryCodeEncoder,
    ConvolutionalEncoder,
    Encoder,
    FlowEncoder,
    LaplaceEncoder,
    LinearGaussianEncoder,
    LISTAEncoder,
    MLPEncoder,
    OneLayerEncoder,
    SpikeSlabEncoder,
    TiedEncoder,
)
from probae.models import FactorAnalysis

ENCODERS = {
    "linear": lambda: LinearGaussianEncoder(5, 3),
    "linear-one-latent": lambda: LinearGaussianEncoder(5, 1),
    "mlp-full": lambda: MLPEncoder(5, 3, hidden=(8,)),
    "mlp-low-rank": lambda: MLPEncoder(5, 3, hidden=(8, 7), covariance="low_rank", rank=2),
    "mlp-diagonal": lambda: MLPEncoder(5, 3, hidden=(8,), covariance="diagonal"),
    "mlp-no-hidden-layer": lambda: MLPEncoder(5, 3, hidden=()),
    "one-layer-diagonal": lambda: OneLayerEncoder(5, 3),
    "one-layer-tanh-diagonal": lambda: OneLayerEncoder(5, 3, activation="tanh"),
    "lista-free-diagonal": lambda: LISTAEncoder(5, 3, layers=3),
    "lista-coupled-diagonal": lambda: LISTAEncoder(5, 3, layers=3, coupling="coupled"),
    "lista-analytic-diagonal": lambda: LISTAEncoder(5, 7, layers=3, coupling="analytic", solver="fista"),
    "lista-coordinate-diagonal": lambda: LISTAEncoder(5, 7, layers=3, solver="coordinate"),
    "mlp-one-latent": lambda: MLPEncoder(5, 1, hidden=(8,)),
    "mlp-residual": lambda: MLPEncoder(5, 3, hidden=(8, 8, 8), residual=True, normalize=True),
    "mlp-sigmoid": lambda: MLPEncoder(5, 3, hidden=(8, 6), activation="sigmoid"),
    "mlp-relu": lambda: MLPEncoder(5, 3, hidden=(8, 6), activation="relu"),
    "laplace": lambda: LaplaceEncoder(5, 3, hidden=(8,)),
    "spike-slab": lambda: SpikeSlabEncoder(5, 3, hidden=(8,), spike=0.3),
    "tied": lambda: TiedEncoder(5, 3),
    "tied-sigmoid": lambda: TiedEncoder(5, 3, activation="sigmoid"),
    "convolutional": lambda: ConvolutionalEncoder(9, 3, channels=(4, 6)),
    "flow": lambda: FlowEncoder(5, 3, hidden=(8,), width=8),
    "flow-one-latent": lambda: FlowEncoder(5, 1, hidden=(8,), width=8),
    "binary": lambda: BinaryCodeEncoder(5, 3, hidden=(8,), noise_std=0.5),
}
INDEPENDENT = {"laplace", "spike-slab", "binary"}  # and those whose names end in "diagonal"


@pytest.fixture
def as_installed(monkeypatch):
    """Switch the run-time type checks off: what does a user see who passes a wrong type?"""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def x(request):
    """Rows as wide as the encoder of the test, if it has one."""
    named = "name" in request.fixturenames
    features = ENCODERS[request.getfixturevalue("name")]().features if named else 5
    return 2 * torch.randn(40, features, dtype=torch.float64) + 7


@pytest.fixture(params=ENCODERS)
def name(request):
    return request.param


@pytest.fixture
def encoder(name, x):
    """Each encoder in float64, started on x and moved off its symmetric start."""
    made = ENCODERS[name]().double()
    made.start(x, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


def test_making_an_encoder_leaves_the_callers_random_state(name):
    before = torch.get_rng_state()
    ENCODERS[name]()
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_and_dtype(encoder, x):
    q = encoder(x)
    assert q.batch_shape == (40,)
    assert q.event_shape == (encoder.latents,)
    assert q.mean.dtype == torch.float64
    z, log_q = q.rsample_and_log_prob()
    assert z.shape == (40, encoder.latents)
    assert log_q.shape == (40,)
    z, log_q = q.rsample_and_log_prob((6,))
    assert z.shape == (6, 40, encoder.latents)
    assert log_q.shape == (6, 40)


def test_density_drawn_with_z_is_the_density_of_z(encoder, x):
    q = encoder(x)
    for shape in ((), (6,), (2, 3)):
        z, log_q = q.rsample_and_log_prob(shape)
        assert torch.allclose(log_q, q.log_prob(z), rtol=1e-10, atol=1e-10)


def test_draws_have_the_moments_of_the_law(encoder, x):
    """Within five standard errors of n = 20,000 draws for one row; that of the variance has the fourth moment in it."""
    q, n = encoder(x[:1]), 20_000
    z = q.rsample_and_log_prob((n,))[0][:, 0].detach()
    sd = q.variance[0].detach().sqrt()
    assert ((z.mean(0) - q.mean[0].detach()).abs() < 5 * sd / n**0.5).all()
    kurtosis = (z - z.mean(0)).pow(4).mean(0) / z.var(0).square()
    assert ((z.var(0) / sd.square() - 1).abs() < 5 * ((kurtosis - 1) / n).sqrt()).all()


def test_every_parameter_gets_a_gradient(encoder, x):
    z, log_q = encoder(x).rsample_and_log_prob()
    (z.square().sum() + log_q.sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if encoder.latents > 1 or name != "lower":  # one latent has no entry below the diagonal
            assert parameter.grad.abs().max() > 0, name


def test_covariance_is_positive_definite(encoder, x):
    q = encoder(x)
    assert (q.variance > 0).all()
    if hasattr(q, "covariance_matrix"):
        assert (torch.linalg.eigvalsh(q.covariance_matrix) > 0).all()


def test_start_is_seeded_and_in_the_units_of_x(encoder, x):
    """A change of units and origin of x leaves the code of the started encoder as it was."""
    scale = torch.tensor([1e-6, 1.0, 1e3, 5.0, 1e6], dtype=torch.float64).repeat(2)[: encoder.features]
    means = []
    for rows in (x, x, x * scale + 1):
        made = copy.deepcopy(encoder)
        made.start(rows, torch.Generator().manual_seed(3))
        means.append(made(rows).mean.detach())
    assert torch.equal(means[0], means[1])
    assert torch.allclose(means[0], means[2], rtol=1e-6, atol=1e-6)
    assert means[0].std(0).max() > 0.05


def test_start_uses_no_global_random_state(encoder, x, random_state):
    before = random_state()
    encoder.start(x, torch.Generator().manual_seed(3))
    assert random_state() == before


def test_a_constant_column_gives_finite_codes(encoder, x):
    """Codes of standardised inputs are of order 1; one constant column must not blow them up."""
    x[:, 2] = 4.0
    encoder.start(x, torch.Generator().manual_seed(0))
    rows = x.clone()
    rows[:, 2] += 0.5
    for seen in (x, rows):
        q = encoder(seen)
        assert q.mean.isfinite().all()
        assert q.mean.abs().max() < 100
        z, log_q = q.rsample_and_log_prob()
        encoder.zero_grad()
        (z.sum() + log_q.sum()).backward()
        assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_guide_shares_the_encoders_parameters(encoder, x):
    guide = encoder.guide()
    assert {p.data_ptr() for p in guide.parameters()} == {p.data_ptr() for p in encoder.parameters()}
    trace = poutine.trace(guide).get_trace(x)
    trace.compute_log_prob()
    site = trace.nodes["z"]
    assert [frame.name for frame in site["cond_indep_stack"]] == ["samples"]
    assert torch.allclose(site["log_prob"], encoder(x).log_prob(site["value"]), rtol=1e-12)
    assert len(pyro.get_param_store()) == 0


def test_guide_scales_a_minibatch(encoder, x):
    with pyro.settings.context(module_local_params=True):
        guide = encoder.guide()
    trace = poutine.trace(guide).get_trace(x[:10], size=40)
    whole = encoder(x[:10]).log_prob(trace.nodes["z"]["value"]).sum()
    assert trace.log_prob_sum().item() == pytest.approx(4 * whole.item(), rel=1e-12)


def test_guide_and_model_form_a_bound(encoder, x):
    """Pyro's Trace_ELBO takes the pair; far from the posterior, the bound is many nats below log p(x)."""
    model = FactorAnalysis(encoder.features, encoder.latents)
    with pyro.settings.context(module_local_params=True):
        guide = encoder.guide()
        bound = -Trace_ELBO(num_particles=20).loss(model, guide, x)
    assert bound < model.log_likelihood(x).sum().item()


def test_linear_encoder_holds_the_exact_posterior(x):
    """At q(z given x) = p(z given x) every single draw has log p(x, z) - log q(z) = log p(x)."""
    model = FactorAnalysis(5, 2)
    model.uniquenesses = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0], dtype=torch.float64)
    posterior = model.posterior(x)
    encoder = LinearGaussianEncoder(5, 2).double()
    covariance = posterior.covariance_matrix[0].detach()
    root = torch.linalg.cholesky(covariance)
    with torch.no_grad():
        encoder.offset.copy_(model.mean)
        encoder.weight.copy_(covariance @ (model.loadings.detach().T / model.uniquenesses.detach()))
        encoder.log_scale.copy_(root.diagonal().log())
        encoder.lower.copy_(root.tril(-1))
    z, log_q = encoder(x).rsample_and_log_prob((3,))
    assert torch.allclose(model.log_joint(x, z) - log_q, model.log_likelihood(x).expand(3, -1), rtol=1e-10)
    assert torch.allclose(encoder(x).mean, posterior.mean, rtol=1e-10)


def test_low_rank_covariance_is_diagonal_plus_low_rank(x):
    """Off the diagonal, an outer product u u' has no 2 x 2 minor with four distinct indices."""
    encoder = MLPEncoder(5, 4, hidden=(6,), covariance="low_rank", rank=1).double()
    encoder.start(x, torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoder.head.weight += 0.3 * torch.randn_like(encoder.head.weight)
    c = encoder(x).covariance_matrix.detach()
    one, other = c[:, 0, 1] * c[:, 2, 3], c[:, 0, 3] * c[:, 2, 1]
    assert one.abs().max() > 1e-6
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_rank_beyond_the_latents_is_the_number_of_latents():
    assert MLPEncoder(5, 2, covariance="low_rank", rank=9).rank == 2


def test_state_can_be_saved_and_loaded(encoder, x):
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(x).mean, encoder(x).mean)


def test_only_independent_coordinates_carry_a_warning():
    for name, build in ENCODERS.items():
        independent = name.endswith("diagonal") or name in INDEPENDENT  # such laws prefer some axes
        assert (build().warning is not None) == independent


def test_full_covariance_of_many_latents_asks_for_a_choice():
    assert MLPEncoder(5, 32).covariance == "full"
    with pytest.raises(ParameterError, match='covariance="low_rank" or covariance="diagonal"'):
        MLPEncoder(5, 33)
    assert MLPEncoder(5, 33, covariance="diagonal").latents == 33


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearGaussianEncoder(0, 2), "features should be a whole number of at least 1"),
        (lambda: LinearGaussianEncoder(3, -1), "latents should be a whole number of at least 1"),
        (lambda: MLPEncoder(3, 1.5), "latents should be a whole number"),
        (lambda: MLPEncoder(3, 1, covariance="banded"), "covariance should be"),
        (lambda: MLPEncoder(3, 1, hidden=(0,)), "hidden should be a whole number of at least 1"),
        (lambda: MLPEncoder(3, 1, hidden=64), "hidden"),
        (
            lambda: MLPEncoder(3, 2, covariance="low_rank", rank=0),
            "rank should be a whole number of at least 1",
        ),
    ],
)
def test_wrong_settings_end_in_one_sentence(build, message, as_installed):
    with pytest.raises(ParameterError, match=message):
        build()


def test_the_abstract_encoder_says_what_is_missing():
    with pytest.raises(NotImplementedError):
        Encoder(3, 1)(torch.zeros(2, 3))
