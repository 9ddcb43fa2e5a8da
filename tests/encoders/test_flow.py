"""The flow encoder: a Gaussian until trained, a density after, one sentence without zuko."""

import sys

import pytest
import torch

from probae import ParameterError
from probae.encoders import FlowEncoder
from probae.encoders.flow import spline_flow


@pytest.fixture
def x():
    return torch.randn(6, 4, dtype=torch.float64)


@pytest.fixture
def encoder(x):
    made = FlowEncoder(4, 2, hidden=(6,), width=6, bins=5).double()
    made.start(x, torch.Generator().manual_seed(0))
    return made


def bend(encoder, size=0.5):
    with torch.no_grad():
        for parameter in encoder.flow.parameters():
            parameter += size * torch.randn_like(parameter)


def test_untrained_it_is_its_gaussian(encoder, x):
    q = encoder(x)
    z, log_q = q.rsample_and_log_prob((50,))
    assert torch.allclose(log_q, q.gaussian.log_prob(z), rtol=1e-10, atol=1e-10)


def test_trained_it_is_not_gaussian_and_its_density_has_mass_one(encoder, x):
    """A sum over a square of half side 9 with step .03: the spline's kinks leave an error of about step^2.

    Bent more, a density may have ridges narrower than the step: its sum comes to 1 as the step is halved, slowly.
    """
    bend(encoder, size=0.3)
    with torch.no_grad():
        q = encoder(x[:1])
        z, log_q = q.rsample_and_log_prob((200,))
        assert (log_q - q.gaussian.log_prob(z)).abs().mean() > 0.05
        axis = torch.arange(-9, 9, 0.03, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis).unsqueeze(1)
        assert (q.log_prob(points).exp().sum() * 0.03**2).item() == pytest.approx(1, abs=1e-3)


def test_moments_are_those_of_many_draws(encoder, x):
    """The documented hundredth of a standard deviation, beside five standard errors of 40,000 draws (.025)."""
    bend(encoder)
    with torch.no_grad():
        q = encoder(x[:2])
        z = q.rsample((40_000,))
        sd = z.std(0)
        assert ((q.mean - z.mean(0)).abs() / sd < 0.01 + 5 / 40_000**0.5).all()
        assert torch.equal(q.mean, q.mean)
        assert (q.variance > 0).all()


def test_without_zuko_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ParameterError, match=r"FlowEncoder needs zuko: pip install 'probae\[flows\]'\."):
        FlowEncoder(4, 2)


def test_a_flow_of_impossible_size_is_refused_before_it_is_built():
    with pytest.raises(ParameterError, match="weights and masks"):
        spline_flow(2, 10**6, transforms=1, bins=8, width=10**6)
