"""The spike-and-slab law: unbiased gradients through its draws, and the exact posterior of one latent."""

import math

import pytest
import torch

from probae import ParameterError
from probae.encoders import SpikeSlabEncoder
from probae.encoders.spike_slab_law import SpikeSlabCode
from probae.models import LinearFactorModel
from probae.priors import SpikeSlab

GRID = torch.linspace(
    -12, 12, 24_001, dtype=torch.float64
)  # step 1e-3: the rule is exact for sd of .1 and more


def parameters():
    """Logit, locations and scales (spike first) of one coordinate, the parts overlapping."""
    values = ([0.4], [[0.1, 0.9]], [[0.3, 1.1]])
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def functions():
    """A smooth function, one that is not a polynomial, and the log density that an ELBO has."""
    return {
        "square": lambda law, z: z.square().sum(-1),
        "sine": lambda law, z: (2 * z).sin().sum(-1),
        "log q": lambda law, z: law.log_prob(z),
    }


@pytest.mark.parametrize("name", functions())
def test_gradient_of_an_expectation_is_unbiased(name):
    """Each of the five derivatives is within five standard errors of that by quadrature, from 40,000 draws."""
    f, theta = functions()[name], parameters()
    law = SpikeSlabCode(*theta)
    z = GRID.unsqueeze(-1)
    exact = torch.autograd.grad((law.log_prob(z).exp() * f(law, z)).sum() * 1e-3, theta)
    n = 40_000
    rows = [part.detach().expand(n, *part.shape).clone().requires_grad_() for part in theta]
    wide = SpikeSlabCode(*rows)
    draws, _ = wide.rsample_and_log_prob()
    found = torch.autograd.grad(f(wide, draws).sum(), rows)
    for one, many in zip(exact, found, strict=True):
        many = many.reshape(n, -1)
        error = many.std(0) / n**0.5
        assert ((many.mean(0) - one.reshape(-1)).abs() < 5 * error).all()
        assert (error < 0.05).all()  # small beside the derivatives, which are of order 1


def test_draws_have_no_gradient_without_grad_and_the_same_values():
    theta = parameters()
    torch.manual_seed(3)
    z = SpikeSlabCode(*theta).rsample((5,))
    torch.manual_seed(3)
    with torch.no_grad():
        again = SpikeSlabCode(*theta).rsample((5,))
    assert torch.equal(z, again)
    assert not again.requires_grad


def test_moments_are_those_of_the_density():
    law = SpikeSlabCode(*(part.detach() for part in parameters()))
    z = GRID.unsqueeze(-1)
    density = law.log_prob(z).exp() * 1e-3
    mean = (density * GRID).sum()
    assert density.sum().item() == pytest.approx(1, abs=1e-12)
    assert law.mean.item() == pytest.approx(mean.item(), abs=1e-10)
    assert law.variance.item() == pytest.approx((density * (GRID - mean).square()).sum().item(), abs=1e-10)


def test_the_family_holds_the_posterior_of_one_latent():
    """At it, every draw has log p(x, z) - log q(z) = log p(x): the two parts are conjugate, one by one."""
    model = LinearFactorModel(4, 1, prior=SpikeSlab(0.3, 0.2), noise="isotropic")
    x = model.sample(6, seed=1)
    w, noise = model.loadings.detach()[:, 0], model.noise_variance.detach()
    prior = model.prior.variances
    precision = w.square().sum() / noise
    projected = (x - model.mean.detach()) @ w / noise
    variance = 1 / (1 / prior + precision)
    loc = projected[:, None] * variance
    log_evidence = 0.5 * (variance / prior).log() + 0.5 * loc.square() / variance
    log_parts = model.prior.weights.log() + log_evidence
    law = SpikeSlabCode(
        (log_parts[:, 1] - log_parts[:, 0])[:, None], loc[:, None], variance.sqrt().expand(6, 1, 2)
    )
    z, log_q = law.rsample_and_log_prob((4,))
    bound = (model.log_joint(x, z) - log_q).detach()
    outside = -0.5 * ((x - model.mean.detach()).square() / noise + (2 * math.pi * noise).log()).sum(1)
    assert torch.allclose(bound, (outside + log_parts.logsumexp(1)).expand(4, -1), rtol=1e-10)


def test_a_spike_of_no_width_is_refused():
    with pytest.raises(ParameterError, match="spike"):
        SpikeSlabEncoder(3, 1, spike=0.0)


def test_the_spike_starts_as_wide_as_asked():
    encoder = SpikeSlabEncoder(4, 3, hidden=(6,), spike=0.05).double()
    x = torch.randn(50, 4, dtype=torch.float64)
    encoder.start(x, torch.Generator().manual_seed(0))
    scale = encoder(x).scale
    # log scales at the start are .01 of numbers of order 1: a few hundredths
    assert ((scale[..., 0] / 0.05).log().abs() < 0.1).all()
    assert (scale[..., 1].log().abs() < 0.1).all()
