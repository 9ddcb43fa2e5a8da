"""Laws of codes: closed forms against torch's dense ones, and posteriors a family holds."""

import math

import torch

from probae.encoders import ConvolutionalEncoder, LaplaceEncoder, MLPEncoder
from probae.encoders.laws import LaplaceCode, LowRankCode
from probae.inference.objectives.closed_forms import moments
from probae.models import LinearFactorModel
from probae.priors import Laplace


def test_low_rank_density_is_that_of_the_dense_covariance():
    loc, factor = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, 2, dtype=torch.float64)
    diagonal = torch.rand(4, 6, dtype=torch.float64) + 0.1
    dense = torch.distributions.MultivariateNormal(loc, factor @ factor.mT + torch.diag_embed(diagonal))
    z, log_q = LowRankCode(loc, factor, diagonal).rsample_and_log_prob((3,))
    assert torch.allclose(log_q, dense.log_prob(z), rtol=1e-10)
    wide = LowRankCode(loc, factor, diagonal).expand((3, 4))
    assert torch.allclose(wide.log_prob(z), log_q, rtol=1e-12)


def test_laplace_codes_hold_the_posterior_where_x_says_nothing():
    """Without loadings the posterior is the prior, Laplace of variance 1: each draw's bound is log p(x)."""
    model = LinearFactorModel(4, 2, prior=Laplace())
    model.loadings = torch.zeros(4, 2, dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64)
    loc = torch.zeros(5, 2, dtype=torch.float64)
    z, log_q = LaplaceCode(loc, torch.full_like(loc, 0.5**0.5)).rsample_and_log_prob((7,))
    log_x = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    assert torch.allclose((model.log_joint(x, z) - log_q).detach(), log_x.expand(7, -1), rtol=1e-12)


def test_a_residual_layer_of_zero_weights_passes_its_input_on():
    """So a deep network with skips equals the shallow one; without skips it is constant."""
    x = torch.randn(6, 4, dtype=torch.float64)
    for residual in (True, False):
        deep = MLPEncoder(4, 2, hidden=(5, 5, 5), residual=residual).double()
        shallow = MLPEncoder(4, 2, hidden=(5,)).double()
        for encoder in (deep, shallow):
            encoder.start(x, torch.Generator().manual_seed(0))
        with torch.no_grad():
            for name, parameter in deep.body.named_parameters():
                if not name.startswith("0."):
                    parameter.zero_()
        shallow.body[0].load_state_dict(deep.body[0].state_dict())
        shallow.head.load_state_dict(deep.head.state_dict())
        assert torch.equal(deep(x).mean, shallow(x).mean) == residual


def test_layer_normalisation_works_row_by_row():
    encoder = MLPEncoder(4, 2, hidden=(5,), normalize=True).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    assert torch.allclose(encoder(x).mean[:2], encoder(x[:2]).mean, rtol=1e-12)
    values = encoder.body[1](encoder.body[0](x))
    assert torch.allclose(values.mean(1), torch.zeros(6, dtype=torch.float64), atol=1e-12)


def test_convolution_sees_the_row_as_a_square_patch():
    """One pixel moves only the units whose 3 x 3 window, at stride 2, holds it: pixel (0, 5) of 6 x 6, unit (0, 2)
    alone, because windows are centred at rows and columns 0, 2 and 4."""
    encoder = ConvolutionalEncoder(36, 2, channels=(1,)).double()
    x = torch.zeros(2, 36, dtype=torch.float64)
    x[1, 5] = 1.0
    moved = (encoder.body[1](encoder.body[0](x))[1] - encoder.body[1](encoder.body[0](x))[0])[0].abs() > 0
    assert moved.nonzero().tolist() == [[0, 2]]


def test_odd_sides_and_many_layers_fit():
    for features in (1, 25, 49):
        q = ConvolutionalEncoder(features, 2, channels=(2, 3, 4))(torch.zeros(3, features))
        assert q.mean.shape == (3, 2)


def test_laplace_encoder_starts_with_scales_near_one():
    """Log scales at the start are .01 of numbers of order 1."""
    encoder = LaplaceEncoder(4, 3, hidden=(6,)).double()
    x = torch.randn(50, 4, dtype=torch.float64)
    encoder.start(x, torch.Generator().manual_seed(0))
    assert (encoder(x).base_dist.scale.log().abs() < 0.1).all()


def test_the_density_of_a_low_rank_law_in_float32_is_that_in_float64():
    """Of the same numbers: what is left is the rounding of log q itself, about 100 nats times 6e-8."""
    torch.manual_seed(0)
    factor = torch.randn(50, 6, 2)
    law = LowRankCode(torch.zeros(50, 6), factor, torch.full((50, 6), math.exp(-20)))
    z, log_q = law.rsample_and_log_prob()
    wide = LowRankCode(torch.zeros(50, 6).double(), factor.double(), law.cov_diag.double())
    assert log_q.dtype == torch.float32
    torch.testing.assert_close(log_q.double(), wide.log_prob(z.double()), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(
        moments(law).half_log_det.double(), moments(wide).half_log_det, rtol=1e-6, atol=1e-5
    )
