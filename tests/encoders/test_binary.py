"""Binary codes: an exact relaxed density, thresholds, and a report of how the bits are used."""

import numpy as np
import pytest
import torch

from probae import DataError, ParameterError, bit_report
from probae.encoders import BinaryCodeEncoder, BitReport
from probae.encoders.binary_law import BinaryCode


@pytest.fixture
def encoder():
    """Two bits that are linear in x: input 3 x_1 and input 1 whatever x."""
    made = BinaryCodeEncoder(2, 2, hidden=(), noise_std=2.0).double()
    with torch.no_grad():
        made.head.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
        made.head.bias.copy_(torch.tensor([0.0, 1.0]))
    return made


@pytest.mark.parametrize("noise_std", [0.5, 1.0, 4.0])
def test_density_and_moments_by_quadrature(noise_std):
    """Sums over u = logit z, where the integrands are smooth: dz = z (1 - z) du."""
    law = BinaryCode(torch.tensor([0.7], dtype=torch.float64), noise_std)
    u = 0.7 + noise_std * torch.linspace(
        -6, 6, 6001, dtype=torch.float64
    )  # density of z still to be told from 0 or 1
    z = u.sigmoid()
    density = law.log_prob(z.unsqueeze(-1)).exp() * z * (1 - z) * noise_std * 0.002
    # 2e-9 of the mass is beyond 6 standard deviations
    assert density.sum().item() == pytest.approx(1, abs=1e-8)
    mean = (density * z).sum().item()
    assert law.mean.item() == pytest.approx(mean, abs=1e-8)
    assert law.variance.item() == pytest.approx((density * (z - mean).square()).sum().item(), abs=1e-8)


def test_density_of_a_saturated_draw_is_finite_with_its_gradient():
    logits = torch.tensor([[60.0, -60.0, 0.0]], requires_grad=True)
    z, log_q = BinaryCode(logits, 4.0).rsample_and_log_prob((20,))
    assert ((z >= 0) & (z <= 1)).all()
    assert log_q.isfinite().all()
    log_q.sum().backward()
    assert logits.grad.isfinite().all()
    assert BinaryCode(logits, 4.0).log_prob(z).isfinite().all()


@pytest.mark.parametrize("logit", [-30.0, -12.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_of_a_saturated_draw_is_the_one_it_was_drawn_with(logit, dtype):
    """z near 0 knows its input to the precision of z: an error eps of it is eps (u - a) / s^2 and eps in log q.

    The next float above z = 1 / 2 still tells 1 - z to eps e^u: inputs up to 5 for logit 0 and s = 1.
    """
    torch.manual_seed(0)
    law = BinaryCode(torch.tensor([logit], dtype=dtype), 1.0)
    z, log_q = law.rsample_and_log_prob((2000,))
    bound = 1000 * torch.finfo(dtype).eps  # |log q| up to 40, |u - a| up to 5, e^5 = 150
    torch.testing.assert_close(law.log_prob(z), log_q, rtol=0, atol=max(bound, 1e-12))


def test_the_variance_of_a_saturated_code_is_not_negative():
    law = BinaryCode(torch.linspace(-40, 40, 41).unsqueeze(0), 1.0)
    assert (law.variance >= 0).all()


def test_bits_are_thresholds_of_the_unit_without_noise(encoder):
    x = torch.tensor([[1.0, 0.0], [-1.0, 5.0], [0.1, -3.0]], dtype=torch.float64)
    assert encoder.bits(x).tolist() == [[True, True], [False, True], [True, True]]
    assert torch.equal(encoder.bits(x), encoder(x).logits > 0)
    assert torch.equal(encoder.bits(x.numpy().astype(np.float32)), encoder.bits(x))


def test_report_counts_balance_and_saturation(encoder):
    """logistic(3 x) is outside (.1, .9) for |x| > log(9) / 3 = .732; logistic(1) = .731 never is."""
    x = torch.zeros(8, 2, dtype=torch.float64)
    x[:, 0] = torch.tensor([-1.0, -0.74, -0.72, -0.1, 0.1, 0.72, 0.74, 0.9])
    report = encoder.report(x)
    assert report.balance.tolist() == [0.5, 1.0]
    assert report.saturation.tolist() == [0.5, 0.0]
    assert repr(report).startswith("BitReport(2 bits, 1 dead, balance 0.50 to 1.00, saturation 0.25, ")
    assert isinstance(report, BitReport)


def test_report_is_that_of_the_activations(encoder):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        encoder.head.weight.copy_(torch.tensor([[3.0, 0.0], [1.0, 2.0]]))
        report, other = encoder.report(x), bit_report(encoder(x).logits.sigmoid())
    for name in ("balance", "saturation", "correlation"):
        torch.testing.assert_close(getattr(report, name), getattr(other, name))


def test_bad_rows_end_in_one_sentence(encoder):
    with pytest.raises(DataError):
        encoder.bits(np.zeros((3, 5)))
    with pytest.raises(DataError):
        encoder.bits([[1.0, float("nan")], [0.0, 1.0]])


def test_no_noise_is_refused():
    with pytest.raises(ParameterError, match="noise_std"):
        BinaryCodeEncoder(4, 2, noise_std=0.0)
