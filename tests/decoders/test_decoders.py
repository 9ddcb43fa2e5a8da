"""Decoders: their maps, units, first values and bad settings."""

import pytest
import torch

from probae import fit
from probae.checks import ParameterError
from probae.decoders import ConvolutionalDecoder, Decoder, LinearDecoder, MLPDecoder
from probae.encoders import MLPEncoder
from probae.inference import SVI
from probae.models import Autoencoder

DECODERS = {
    "linear": lambda: LinearDecoder(3, 64),
    "mlp": lambda: MLPDecoder(3, 64, hidden=(32, 16)),
    "sigmoid": lambda: MLPDecoder(3, 64, hidden=(32, 16), activation="sigmoid"),
    "relu": lambda: MLPDecoder(3, 64, hidden=(32, 16), activation="relu"),
    "no hidden layer": lambda: MLPDecoder(3, 64, hidden=()),
    "convolutional": lambda: ConvolutionalDecoder(3, size=8, channels=(32, 16)),
}


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param]().double()


@pytest.fixture
def z():
    return torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_leading_dimensions_are_a_batch(decoder, z):
    assert torch.allclose(decoder(z)[1], decoder(z[1]), rtol=1e-10, atol=1e-12)
    assert decoder(z).shape == (2, 500, 64)


def test_gradients_match_finite_differences(decoder, z):
    assert torch.autograd.gradcheck(decoder, z[0, :2].clone().requires_grad_(True))


def test_start_puts_the_output_in_units_of_the_data(decoder, z):
    centre, spread = torch.linspace(-5, 5, 64).double(), torch.linspace(1, 9, 64).double()
    decoder.start(torch.zeros_like(centre), torch.ones_like(spread), torch.Generator().manual_seed(3))
    plain = decoder(z)
    decoder.start(centre, spread, torch.Generator().manual_seed(3))
    assert torch.allclose(decoder(z), centre + spread * plain, rtol=1e-12)


def test_first_outputs_have_at_most_half_the_variance_of_the_data(decoder, z):
    """Weights of variance 1 / fan-in keep a variance of one; units only lower it, to above a tenth here.

    Its average over 64 outputs of 3 random directions has a relative error of sqrt(2 / 3 / 64) at most: a sixth.
    """
    variance = decoder(z[0]).detach().var(0).mean().item()
    assert 0.05 < variance < 0.5 * (1 + 3 * 0.17)


def test_making_a_decoder_leaves_the_random_state_alone_and_is_repeatable():
    for make in DECODERS.values():
        state = torch.get_rng_state()
        one, other = make(), make()
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_linear_decoder_gives_its_loadings_and_mean(z):
    decoder = LinearDecoder(3, 64).double()
    decoder.start(torch.linspace(-5, 5, 64), torch.linspace(1, 9, 64), torch.Generator().manual_seed(3))
    assert torch.allclose(decoder(z), z @ decoder.loadings.mT + decoder.mean, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearDecoder(0, 3), "latents should be"),
        (lambda: MLPDecoder(2, 3, hidden=8), "hidden should be a tuple"),
        (lambda: MLPDecoder(2, 3, hidden=(0,)), "hidden should be a whole number"),
        (lambda: ConvolutionalDecoder(2, size=6), "multiple of 4"),
        (lambda: ConvolutionalDecoder(2, size=8, channels=()), "channels should be a tuple"),
        (lambda: ConvolutionalDecoder(2, size=2.5), "size should be a whole number"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


class Plain(Decoder):
    """A user's decoder, of one layer without offset."""

    def __init__(self):
        super().__init__(2, 9)
        self.layer = torch.nn.Linear(2, 9, bias=False)

    def network(self, z):
        return self.layer(z)


@pytest.mark.filterwarnings("ignore:.*before it converged")
def test_a_decoder_without_offsets_is_trained():
    x = torch.randn(30, 9, dtype=torch.float64)
    run = fit(Autoencoder(9, 2, Plain()), x, SVI(MLPEncoder(9, 2, hidden=(3,)), epochs=2))
    assert run.history.isfinite().all()
