"""Layer-wise pre-training: what it starts from, what a fit keeps of it, what it refuses."""

import pytest
import torch

import probae as pa
from probae.encoders import MLPEncoder, mirrored
from probae.inference.pretraining import GreedyLayers, PrincipalLayers, pretrain
from probae.likelihoods import Bernoulli

HOW = {"greedy": GreedyLayers(epochs=40, batch=50), "principal": PrincipalLayers()}


@pytest.fixture
def x():
    """Two latents in eight columns of different units, with little noise."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    loadings = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    return (z @ loadings + 0.1 * noise) * torch.logspace(-2, 2, 8).double()


def error(encoder, model, x):
    """Share of the variance that is not reconstructed."""
    with torch.no_grad():
        rest = (x - model.reconstruct(encoder(x).mean)) / x.std(0)
    return float(rest.square().mean())


@pytest.fixture(params=HOW)
def pair(request, x):
    return pretrain(*mirrored(8, 2, hidden=(6, 4)), x, HOW[request.param], seed=1)


def test_two_latents_are_found(pair, x):
    """A mean explains nothing: an untrained pair leaves about all. Both latents explained leave .02 or less.

    tanh bends codes beyond its linear part, and one latent alone leaves about half.
    """
    assert error(*pair, x) < 0.25


def test_codes_have_mean_zero_and_variance_one(pair, x):
    with torch.no_grad():
        z = pair[0](x).mean
    assert torch.allclose(z.mean(0), torch.zeros(2).double(), atol=1e-8)
    assert torch.allclose(z.std(0), torch.ones(2).double(), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning", "ignore::probae.GuideWarning")
def test_a_fit_goes_on_from_the_weights(pair, x):
    """One step of Adam moves no weight by more than its learning rate."""
    run = pa.fit(pair[1], x, pa.SVI(pair[0], epochs=1, lr=1e-4))
    before = {**pair[1].state_dict(), **pair[0].state_dict()}
    after = {**run.model.state_dict(), **run.posterior.encoder.state_dict()}
    assert all(float((after[name] - before[name]).abs().max()) <= 1.001e-4 for name in before)


def test_the_pair_given_is_left_as_it_was_and_the_seed_decides(x):
    pair = mirrored(8, 2, hidden=(6,))
    before = [value.clone() for part in pair for value in part.state_dict().values()]
    state = torch.get_rng_state()
    one, other = (pretrain(*pair, x, GreedyLayers(epochs=2), seed=3)[0] for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    after = [value for part in pair for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(one(x).mean, other(x).mean)


def test_layers_wider_than_the_data_are_filled_with_components_first(x):
    pair = pretrain(*mirrored(8, 2, hidden=(12,)), x, PrincipalLayers())
    assert error(*pair, x) < 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": MLPEncoder(8, 2, hidden=(5,))}, "widths reversed"),
        ({"model": pa.FactorAnalysis(8, 2)}, "widths reversed"),
        ({"how": "pca"}, "how should be"),
    ],
)
def test_what_does_not_mirror_is_refused(change, message, x, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    encoder, model = mirrored(8, 2, hidden=(6,))
    with pytest.raises(pa.ParameterError, match=message):
        pretrain(**({"encoder": encoder, "model": model, "x": x} | change))


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch": 0}, {"lr": -1.0}, {"decay": -1.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(pa.ParameterError, match=next(iter(settings))):
        GreedyLayers(**settings)


def test_data_the_likelihood_has_no_density_for_are_refused(x):
    with pytest.raises(pa.DataError, match="between 0 and 1"):
        pretrain(*mirrored(8, 2, hidden=(6,), likelihood=Bernoulli()), x)
